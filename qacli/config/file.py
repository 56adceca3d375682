"""The configuration file: TOML with a table for each profile, edited in place.

This module checks only the shape of the file; `qacli.config.loader` checks the values. Reading
needs the standard library; only an edit loads `tomlkit`, which keeps comments and order.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qacli.errors import NotConfigured
from qacli.private_files import write_private
from qacli.suggestions import did_you_mean

PROFILES = "profiles"
CORRECT = "Correct it or remove it."


def default_directory() -> Path:
    """Where the configuration file is unless the environment names another place."""
    from platformdirs import user_config_path

    return user_config_path("qa", appauthor=False)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The file as it was read; one that does not exist is empty."""

    path: Path
    text: str
    tables: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """Read the file.

        Raises:
            NotConfigured: It is not text, not TOML, or may not be read.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls(path, "", {})
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(f"The file {path} cannot be read: {error}.", CORRECT) from error
        try:
            return cls(path, text, tomllib.loads(text))
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, great depth
            raise NotConfigured(f"The file {path} is not TOML: {error}.", CORRECT) from error

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """The profiles by name."""
        found: Mapping[str, Mapping[str, Any]] = self.tables.get(PROFILES, {})
        return found

    def table(self, profile: str | None) -> Mapping[str, Any]:
        """What stands at the top of the file, or in the profile."""
        return self.tables if profile is None else self.profiles.get(profile, {})

    def check(self, known: Collection[str], outside_profiles: Collection[str]) -> None:
        """See that every name in the file is one of a setting.

        Args:
            known: The names of all settings.
            outside_profiles: Those that no profile can hold.

        Raises:
            NotConfigured: One is not; it says which, and on which line.
        """
        for name in self.tables:
            if name != PROFILES and name not in known:
                raise self._unknown(name, (name,), known)
        if not isinstance(self.profiles, dict):
            raise self._no_table((PROFILES,))
        for profile, table in self.profiles.items():
            if not isinstance(table, dict):
                raise self._no_table((PROFILES, profile))
            allowed = [name for name in known if name not in outside_profiles]
            for name in table:
                if name not in allowed:
                    raise self._unknown(
                        f"{name} in the profile {profile}", (PROFILES, profile, name), allowed
                    )

    def line(self, *keys: str) -> int:
        """The line on which a value begins: the first that the file up to it cannot do without.

        Nothing here parses TOML a second time: of all beginnings of the file that are TOML
        themselves, the last without the value ends on the line before.
        """
        before = 0
        lines = self.text.splitlines(keepends=True)
        for number in range(1, len(lines) + 1):
            try:
                found: Any = tomllib.loads("".join(lines[:number]))
            except (ValueError, RecursionError):
                continue
            for key in keys:
                found = found.get(key) if isinstance(found, dict) else None
            if found is not None:
                break
            before = number
        return before + 1

    def _unknown(self, said: str, keys: tuple[str, ...], known: Collection[str]) -> NotConfigured:
        return NotConfigured(
            f"Line {self.line(*keys)} of {self.path} sets {said}, which is not a setting.",
            did_you_mean(keys[-1], known) + f"The settings are {', '.join(sorted(known))}.",
        )

    def _no_table(self, keys: tuple[str, ...]) -> NotConfigured:
        return NotConfigured(
            f"Line {self.line(*keys)} of {self.path} sets {'.'.join(keys)} to something that is "
            "not a table.",
            "Write a profile as a table: [profiles.work], and its settings below it.",
        )

    def changed(self, profile: str | None, name: str, value: object) -> str:
        """The file's text with the setting changed, or without it where the value is None.

        Raises:
            NotConfigured: The file is written in a way that cannot be edited here.
        """
        wanted = _nested(self.tables, profile, name, value)
        try:
            if profile is None:
                text = _edit_top_level(self.text, name, value)
            else:
                text = _edit_profile(self.text, profile, name, value)
            right = tomllib.loads(text) == wanted
        except Exception as error:  # whatever is wrong in an edit, the file stays as it is
            raise self._not_editable() from error
        if not right:
            raise self._not_editable()
        return text

    def _not_editable(self) -> NotConfigured:
        return NotConfigured(
            f"The file {self.path} is written in a way that qa cannot edit.", "Edit it by hand."
        )

    def write(self, text: str) -> None:
        """Put the text in the file's place at once, for its owner's eyes alone.

        Raises:
            NotConfigured: The directory cannot be written.
        """
        # A link, into a collection of dotfiles say, stays one.
        target = self.path.resolve()
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.parent == default_directory():
                self.path.parent.chmod(0o700)
            write_private(target, text.encode())
        except OSError as error:
            raise NotConfigured(
                f"The file {self.path} cannot be written: {error.strerror}.",
                "Make its directory writable, or name another file in QA_CONFIG.",
            ) from error


def _nested(
    tables: Mapping[str, Any], profile: str | None, name: str, value: object
) -> dict[str, Any]:
    """The tables as they are to be after a change."""
    if profile is None:
        rest = {key: old for key, old in tables.items() if key != name}
        return rest if value is None else {**rest, name: value}
    profiles = tables.get(PROFILES, {})
    table = _nested(profiles.get(profile, {}), None, name, value)
    return {**tables, PROFILES: {**profiles, profile: table}}


def _edit_top_level(text: str, name: str, value: object) -> str:
    import tomlkit

    # Alone what stands above the first table is edited, so that a new setting does not come
    # between a table and the comment above it.
    top, tables = _split_lines(text)
    document = tomlkit.parse(top)
    _put(document, name, value)
    top = tomlkit.dumps(document)
    return f"{top}\n{tables}" if tables.strip() and not tables.startswith("\n") else top + tables


def _edit_profile(text: str, profile: str, name: str, value: object) -> str:
    import tomlkit
    from tomlkit.items import InlineTable

    document = tomlkit.parse(text)
    if PROFILES not in document:
        document[PROFILES] = tomlkit.table(is_super_table=True)
    profiles: Any = document[PROFILES]
    if profile not in profiles:
        inline = isinstance(profiles, InlineTable)
        profiles[profile] = tomlkit.inline_table() if inline else tomlkit.table()
    _put(profiles[profile], name, value)
    return tomlkit.dumps(document)


def _put(table: Any, name: str, value: object) -> None:  # noqa: ANN401 - one of tomlkit's many tables
    if value is not None:
        table[name] = value
    else:
        del table[name]


def _split_lines(text: str) -> tuple[str, str]:
    """What stands above the first table, and the rest, with the comment that introduces it."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith("[") and _is_toml("".join(lines[:number])):
            while number and lines[number - 1].startswith("#"):
                number -= 1  # noqa: PLW2901 - the loop ends here
            while number and not lines[number - 1].strip():
                number -= 1  # noqa: PLW2901
            return "".join(lines[:number]), "".join(lines[number:])
    return text, ""


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
