"""The configuration file: TOML with a table for each profile; edits keep comments and order.

This module checks only names and tables; `qacli.config.loader` checks the values. Only an edit
loads `tomlkit`.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qacli.errors import NotConfigured
from qacli.private_files import make_private_directory, write_private
from qacli.suggestions import did_you_mean

PROFILES = "profiles"
CORRECT = "Correct it or remove it."


def default_directory() -> Path:
    """Return the platform's directory for the configuration file."""
    from platformdirs import user_config_path

    return user_config_path("qa", appauthor=False)


class ConfigFile(NamedTuple):
    """The content of the configuration file; empty if the file does not exist."""

    path: Path
    text: str
    tables: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """Read the file.

        Raises:
            NotConfigured: The file is not UTF-8, not TOML, or cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls(path, "", {})
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(f"The file {path} cannot be read: {error}.", CORRECT) from error
        try:
            return cls(path, text, parse_toml(text))
        except (ValueError, RecursionError) as error:  # RecursionError: deep nesting
            raise NotConfigured(f"The file {path} is not TOML: {error}.", CORRECT) from error

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """The tables of the profiles, by name."""
        profiles: Mapping[str, Mapping[str, Any]] = self.tables.get(PROFILES, {})
        return profiles

    def table(self, profile: str | None) -> Mapping[str, Any]:
        """Return the settings of the profile; None means the top of the file."""
        return self.tables if profile is None else self.profiles.get(profile, {})

    def check(self, names: Collection[str], outside_profiles: Collection[str]) -> None:
        """Check that every name in the file is the name of a setting.

        Args:
            names: The names of all settings.
            outside_profiles: The settings that a profile cannot set.

        Raises:
            NotConfigured: A name is unknown; the error has the name and its line.
        """
        for name in self.tables:
            if name != PROFILES and name not in names:
                raise self._unknown_setting(name, (name,), names)
        if not isinstance(self.profiles, dict):
            raise self._not_a_table((PROFILES,))
        for profile, table in self.profiles.items():
            if not isinstance(table, dict):
                raise self._not_a_table((PROFILES, profile))
            allowed = [name for name in names if name not in outside_profiles]
            for name in table:
                if name not in allowed:
                    raise self._unknown_setting(
                        f"{name} in the profile {profile}", (PROFILES, profile, name), allowed
                    )

    def line(self, *keys: str) -> int:
        """Return the number of the line on which the value begins.

        The standard library's parser gives no positions. So the file is cut after each line: of the
        texts that are valid TOML and lack the value, the longest ends on the line before it.
        """
        before = 0
        lines = self.text.splitlines(keepends=True)
        for number in range(1, len(lines) + 1):
            try:
                value: Any = parse_toml("".join(lines[:number]))
            except (ValueError, RecursionError):
                continue
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                break
            before = number
        return before + 1

    def _unknown_setting(
        self, description: str, keys: tuple[str, ...], names: Collection[str]
    ) -> NotConfigured:
        return NotConfigured(
            f"Line {self.line(*keys)} of {self.path} sets {description}, which is not a setting.",
            did_you_mean(keys[-1], names) + f"The settings are {', '.join(sorted(names))}.",
        )

    def _not_a_table(self, keys: tuple[str, ...]) -> NotConfigured:
        return NotConfigured(
            f"Line {self.line(*keys)} of {self.path} sets {'.'.join(keys)} to something that is "
            "not a table.",
            "Write a profile as a table: [profiles.work], and its settings below it.",
        )

    def changed(self, path: Sequence[str], value: object) -> str:
        """Return the file's text with the value of a setting changed; None removes it.

        Args:
            path: The tables that it is in, and its name: `("profiles", "work", "model")`.
            value: The new value.

        Raises:
            NotConfigured: The file has a structure that cannot be edited automatically.
        """
        expected = _nested(self.tables, path, value)
        try:
            if len(path) == 1:
                text = _edit_top_level(self.text, path[0], value)
            else:
                text = _edit_table(self.text, path, value)
            is_correct = parse_toml(text) == expected
        except Exception as error:  # any error in an edit leaves the file unchanged
            raise self._not_editable() from error
        if not is_correct:
            raise self._not_editable()
        return text

    def _not_editable(self) -> NotConfigured:
        return NotConfigured(f"qa cannot edit the file {self.path}.", "Edit it by hand.")

    def write(self, text: str) -> None:
        """Replace the file atomically; only its owner can read it.

        Raises:
            NotConfigured: The file cannot be written.
        """
        # Keep a symbolic link, for example into a collection of dotfiles.
        target = self.path.resolve()
        try:
            make_private_directory(target.parent)
            if self.path.parent == default_directory():
                self.path.parent.chmod(0o700)
            write_private(target, text.encode())
        except OSError as error:
            raise NotConfigured(
                f"The file {self.path} cannot be written: {error.strerror}.",
                "Make its directory writable, or name another file in QA_CONFIG.",
            ) from error


def _nested(tables: Mapping[str, Any], path: Sequence[str], value: object) -> dict[str, Any]:
    """Return the tables after the change."""
    name, *rest = path
    if rest:
        return {**tables, name: _nested(tables.get(name, {}), rest, value)}
    others = {key: old for key, old in tables.items() if key != name}
    return others if value is None else {**others, name: value}


def _edit_top_level(text: str, name: str, value: object) -> str:
    import tomlkit

    # Edit only the part above the first table, so that a new setting is not put between a table
    # and the comment above it.
    top, tables = _split_lines(text)
    document = tomlkit.parse(top)
    _set(document, name, value)
    top = tomlkit.dumps(document)
    return f"{top}\n{tables}" if tables.strip() and not tables.startswith("\n") else top + tables


def _edit_table(text: str, path: Sequence[str], value: object) -> str:
    import tomlkit
    from tomlkit.items import InlineTable

    document = tomlkit.parse(text)
    table: Any = document
    *parents, name = path
    for depth, parent in enumerate(parents, start=1):
        if parent not in table:
            inline = isinstance(table, InlineTable)
            # A table that has only tables needs no line of its own.
            is_super = depth < len(parents)
            table[parent] = tomlkit.inline_table() if inline else tomlkit.table(is_super)
        table = table[parent]
    _set(table, name, value)
    return tomlkit.dumps(document)


def _set(table: Any, name: str, value: object) -> None:  # noqa: ANN401 - any table of tomlkit
    if value is not None:
        table[name] = value
    else:
        del table[name]


def _split_lines(text: str) -> tuple[str, str]:
    """Split the file before the first table and the comment directly above it."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith("[") and _is_toml("".join(lines[:number])):
            while number and lines[number - 1].startswith("#"):
                number -= 1  # noqa: PLW2901 - the loop ends here
            while number and not lines[number - 1].strip():
                number -= 1  # noqa: PLW2901
            return "".join(lines[:number]), "".join(lines[number:])
    return text, ""


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text; the parser is loaded only where there is a file.

    Raises:
        ValueError: The text is not TOML.
        RecursionError: The text is nested too deeply.
    """
    import tomllib

    return tomllib.loads(text)


def _is_toml(text: str) -> bool:
    try:
        parse_toml(text)
    except (ValueError, RecursionError):
        return False
    return True
