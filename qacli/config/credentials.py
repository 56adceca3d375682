"""Get the provider's key from a command or from the system's keyring.

Either is read when a key is first needed, once in a process. No error contains a command's output
or a keyring's content. `keyring` is an optional dependency that only this module imports.
"""

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from qacli.config.defaults import OPENAI_BASE_URL
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest, NotConfigured

COMMAND_SECONDS = 60.0
"""Time limit of a key command: enough for a person to unlock a password store."""

MAX_OUTPUT_BYTES = 65536
"""Maximum size of a key command's output that is read."""


def get_api_key(settings: Settings, *, seconds: float = COMMAND_SECONDS) -> str:
    """Return the key from the settings, a command or the keyring; empty if none is configured.

    Args:
        settings: The key, or the way to get it.
        seconds: Time limit of the command.

    Raises:
        NotConfigured: The key has characters that cannot be sent in a header, or the command or
            the keyring provides no usable key.
    """
    if settings.api_key:
        try:
            return parse_key(settings.api_key)
        except ValueError:
            raise NotConfigured(
                f"The key from {settings.sources.get('api_key', 'OPENAI_API_KEY')} has a line end, "
                "a blank or another character that no key has.",
                "Correct it; no part of it was sent.",
            ) from None
    if settings.key_command:
        name = settings.redact(shlex.split(settings.key_command)[0])
        return _read_command(settings.key_command, name, seconds)
    if settings.keyring:
        return _read_keyring(*keyring_entry(settings))
    if settings.key_variable:
        raise NotConfigured(
            f"The environment variable {settings.key_variable} has no key.",
            "Set it, or save the key in the system's keyring: qa config key set",
        )
    return ""


def is_configured(settings: Settings) -> bool:
    """Return whether the settings name a source of a key; the source is not read."""
    sources = (settings.api_key, settings.key_command, settings.keyring, settings.key_variable)
    return any(sources)


def keyring_entry(settings: Settings) -> tuple[str, str]:
    """Return the service and the user of the key's entry in the keyring.

    If the settings do not name them, the endpoint's host is the user, so that a key is never sent
    to another endpoint.
    """
    if settings.keyring and "/" in settings.keyring:
        service, _, user = settings.keyring.partition("/")
        return service, user
    return "qa", urlsplit(settings.base_url or OPENAI_BASE_URL).netloc.rpartition("@")[2].lower()


def parse_line(text: str) -> str:
    """Return the first line of the text as a key, without blanks around it.

    Raises:
        ValueError: See `parse_key`.
    """
    return parse_key(text.partition("\n")[0].strip())


def parse_typed_key(text: str) -> str:
    """Return the key that a user has typed or piped in; see `parse_line`.

    Raises:
        InvalidRequest: The text is not a key.
    """
    try:
        return parse_line(text)
    except ValueError:
        raise InvalidRequest(
            "Invalid key: it is empty, or has spaces or other characters that no key has.",
            "Enter only the key, in one line.",
        ) from None


def parse_key(key: str) -> str:
    """Return a key that can be sent in a header.

    Raises:
        ValueError: The key is empty, or has a blank, a control character or a character outside
            ASCII.
    """
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError
    return key


def save_key(settings: Settings, key: str) -> None:
    """Store the key in the keyring.

    Raises:
        NotConfigured: There is no keyring, or it does not accept the key.
    """
    service, user = keyring_entry(settings)
    with _keyring() as keyring:
        keyring.set_password(service, user, key)
    _read_keyring.cache_clear()


def delete_key(settings: Settings) -> bool:
    """Delete the key from the keyring; return whether it existed.

    Raises:
        NotConfigured: There is no keyring, or it does not delete the key.
    """
    service, user = keyring_entry(settings)
    _read_keyring.cache_clear()
    with _keyring() as keyring:
        exists = keyring.get_password(service, user) is not None
        if exists:
            keyring.delete_password(service, user)
    return exists


@cache
def _read_keyring(service: str, user: str) -> str:
    with _keyring() as keyring:
        text = keyring.get_password(service, user) or ""
    try:
        return parse_line(text)
    except ValueError:
        raise NotConfigured(
            f"The keyring has no usable key for {service}/{user}.",
            "Store one with qa config key set, or unset the setting keyring.",
        ) from None


@contextmanager
def _keyring() -> Iterator[ModuleType]:
    """Load the package `keyring`; its errors become NotConfigured."""
    try:
        import keyring

        yield keyring
    except ImportError:
        from qacli.installation import extra_command

        raise NotConfigured(
            "The setting keyring needs the package keyring, which is not installed.",
            f"Run: {extra_command('keyring')}",
        ) from None
    except Exception as error:  # noqa: BLE001 - each system's keyring has its own errors
        raise NotConfigured(
            f"The system's keyring cannot be used: {type(error).__name__}.",
            "Run python -m keyring diagnose, or use key_command.",
        ) from None


@cache
def _read_command(command: str, name: str, seconds: float) -> str:
    """Return the first line that the command prints; errors call the command `name`."""
    program, *arguments = shlex.split(command)
    advice = "Run it yourself to see the error, and correct the setting key_command."
    try:
        output, code = _run([str(Path(program).expanduser()), *arguments], seconds)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name is not valid"
        raise NotConfigured(
            f"The key command {name} cannot be run: {reason}.", "Correct the setting key_command."
        ) from None
    if code is None:
        raise NotConfigured(f"The key command {name} did not end within {seconds:g} s.", advice)
    if code != 0:
        raise NotConfigured(f"The key command {name} failed with exit code {code}.", advice)
    try:
        return parse_line(output.decode())
    except ValueError:
        raise NotConfigured(
            f"The first line that the key command {name} printed is not a key.", advice
        ) from None


def _run(arguments: list[str], seconds: float) -> tuple[bytes, int | None]:
    """Return a command's output and its exit code; the code is None after a timeout.

    The command gets no standard input, which may be the question. It stays in the session of the
    terminal, so that it can ask for a passphrase.
    """
    # Few commands need them, and the completion of the shell must be quick.
    import selectors
    import subprocess

    end = time.monotonic() + seconds
    output = b""
    with (
        # Safe with threads: without preexec_fn, no Python runs between the fork and the exec.
        subprocess.Popen(  # noqa: S603 - the user's own command, run without a shell
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while selector.select(max(end - time.monotonic(), 0)):
                chunk = os.read(process.stdout.fileno(), MAX_OUTPUT_BYTES)
                if not chunk:
                    return output, process.wait(max(end - time.monotonic(), 0))
                if time.monotonic() > end:
                    break
                output = (output + chunk)[:MAX_OUTPUT_BYTES]
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
    return b"", None
