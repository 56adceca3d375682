"""The key for the provider, where the settings do not hold it but say how to get it.

A command's output or the system's keyring is read when a key is needed and not before, once in a
process. What a command printed and what a keyring holds is in no message. `keyring` is an extra:
nothing but this module imports it.
"""

import os
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from qacli.config.settings import OPENAI_BASE_URL, Settings
from qacli.errors import NotConfigured

COMMAND_SECONDS = 60.0
"""Long enough for a person to unlock what keeps the key."""

MAX_LINE_LENGTH = 65536

Result = TypeVar("Result")


def get_api_key(settings: Settings, *, seconds: float = COMMAND_SECONDS) -> str:
    """The key that the settings lead to; empty where they lead to none.

    Args:
        settings: Where the key is, or how to get it.
        seconds: How long a command may take.

    Raises:
        NotConfigured: The command or the keyring has none to give.
    """
    if settings.api_key:
        return settings.api_key
    if settings.key_command:
        name = settings.redact(shlex.split(settings.key_command)[0])
        return _read_command(settings.key_command, name, seconds)
    if settings.keyring:
        return _read_keyring(*keyring_entry(settings))
    return ""


def is_configured(settings: Settings) -> bool:
    """Whether the settings lead to a key, as far as can be said without looking for it."""
    return bool(settings.api_key or settings.key_command or settings.keyring)


def keyring_entry(settings: Settings) -> tuple[str, str]:
    """The service and the user under which the keyring has the key.

    Unless the settings name them, there is an entry for each endpoint: so that no other is ever
    sent its key.
    """
    if settings.keyring and "/" in settings.keyring:
        service, _, user = settings.keyring.partition("/")
        return service, user
    return "qa", urlsplit(settings.base_url or OPENAI_BASE_URL).netloc.rpartition("@")[2].lower()


def parse_key(text: str) -> str:
    """The first line of a text as a key.

    Raises:
        ValueError: No request's header can hold it.
    """
    key = text.partition("\n")[0].strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError
    return key


def save_key(settings: Settings, key: str) -> None:
    """Put the key in the keyring.

    Raises:
        NotConfigured: There is no keyring, or it does not take it.
    """
    service, user = keyring_entry(settings)

    def store() -> None:
        import keyring

        keyring.set_password(service, user, key)

    _with_keyring(store)
    _read_keyring.cache_clear()


def delete_key(settings: Settings) -> bool:
    """Take the key out of the keyring; returns whether it was there.

    Raises:
        NotConfigured: There is no keyring, or it does not give it up.
    """
    service, user = keyring_entry(settings)

    def remove() -> bool:
        import keyring

        if keyring.get_password(service, user) is None:
            return False
        keyring.delete_password(service, user)
        return True

    _read_keyring.cache_clear()
    return _with_keyring(remove)


@cache
def _read_keyring(service: str, user: str) -> str:
    def look_up() -> str | None:
        import keyring

        return keyring.get_password(service, user)

    try:
        return parse_key(_with_keyring(look_up) or "")
    except ValueError:
        raise NotConfigured(
            f"The keyring has no key that can be used as {service}/{user}.",
            "Put it there with qa config key set, or unset the setting keyring.",
        ) from None


def _with_keyring(call: Callable[[], Result]) -> Result:
    try:
        return call()
    except ImportError:
        raise NotConfigured(
            "The setting keyring needs the package keyring, which is not installed.",
            "Run: pip install 'qacli[keyring]'",
        ) from None
    except Exception as error:  # noqa: BLE001 - each system's keyring has errors of its own
        raise NotConfigured(
            f"The system's keyring cannot be used: {type(error).__name__}.",
            "See what python -m keyring diagnose says, or use key_command.",
        ) from None


@cache
def _read_command(command: str, name: str, seconds: float) -> str:
    """The first line that the command prints; by `name` it is called in messages."""
    program, *arguments = shlex.split(command)
    again = "Run it by itself to see why, and correct the setting key_command."
    try:
        output, code = _run([str(Path(program).expanduser()), *arguments], seconds)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be one"
        raise NotConfigured(
            f"The key command {name} cannot be run: {reason}.", "Correct the setting key_command."
        ) from None
    if code is None:
        raise NotConfigured(f"The key command {name} did not end within {seconds:g} s.", again)
    if code != 0:
        raise NotConfigured(f"The key command {name} failed with exit code {code}.", again)
    try:
        return parse_key(output.decode())
    except ValueError:
        raise NotConfigured(
            f"The key command {name} printed nothing that can be a key in its first line.", again
        ) from None


def _run(arguments: list[str], seconds: float) -> tuple[bytes, int | None]:
    """What a command prints, as far as it can matter, and its exit code; None is too late.

    It gets no standard input: that may be the question. It stays in the terminal's session, where
    what unlocks a key may ask a person.
    """
    end = time.monotonic() + seconds
    output = b""
    with (
        # Safe beside threads: without preexec_fn, no Python runs between the fork and the exec.
        subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while selector.select(max(end - time.monotonic(), 0)):
                arrived = os.read(process.stdout.fileno(), MAX_LINE_LENGTH)
                if not arrived:
                    return output, process.wait(max(end - time.monotonic(), 0))
                if time.monotonic() > end:
                    break
                output = (output + arrived)[:MAX_LINE_LENGTH]
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
    return b"", None
