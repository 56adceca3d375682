"""The declarations of settings, and the base class of their values.

It is a small `dataclass`: a shell loads the settings at each Tab, and `dataclasses` would take a
third of the time of that, because it imports `inspect` and compiles each class.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, dataclass_transform

from qacli.config.parsers import TEXT, Parser


class Setting:
    """The declaration of a setting.

    Attributes:
        name: The name of its attribute and in the configuration file.
        env: Its name in the environment.
        help: Its description, for the documentation.
        parser: The parser of its text.
        default: The value without any source.
        secret: The value is never shown.
        in_dotenv: A `.env` file may set it.
    """

    __slots__ = ("default", "env", "help", "in_dotenv", "name", "parser", "secret")

    def __init__(  # noqa: PLR0913 - the declaration of a setting, by name
        self,
        env: str,
        help_text: str,
        parser: Parser,
        *,
        default: object,
        secret: bool,
        in_dotenv: bool,
    ) -> None:
        self.name = ""
        self.env = env
        self.help = help_text
        self.parser = parser
        self.default = default
        self.secret = secret
        self.in_dotenv = in_dotenv

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the name of the attribute."""
        self.name = name


def setting(  # noqa: PLR0913 - as `Setting`
    env: str,
    help_text: str,
    parser: Parser = TEXT,
    *,
    default: object = None,
    secret: bool = False,
    in_dotenv: bool = True,
) -> Any:  # noqa: ANN401 - for a type checker, the value of the setting
    """Declare a setting."""
    return Setting(env, help_text, parser, default=default, secret=secret, in_dotenv=in_dotenv)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Values:
    """A value for each annotated name of a subclass; none can be changed.

    The value in the class is the default; a `Setting` there has its own.

    Args:
        values: The values that are not the default, by their names.

    Raises:
        TypeError: There is no such name.
    """

    NOT_COMPARED: ClassVar[frozenset[str]] = frozenset()
    """The names whose values do not matter for equality."""

    __hash__ = None  # type: ignore[assignment] # some values are mappings
    _defaults: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls) -> None:
        """Collect the defaults."""
        values = {name: getattr(cls, name) for name in cls.__annotations__}
        cls._defaults = {
            name: value.default if isinstance(value, Setting) else value
            for name, value in values.items()
        }

    def __init__(self, **values: object) -> None:
        if unknown := values.keys() - self._defaults.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        self.__dict__.update(self._defaults, **values)

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = self._defaults.keys() - self.NOT_COMPARED
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def replace(self, **changes: object) -> Self:
        """Return a copy with other values."""
        return type(self)(**{**self.__dict__, **changes})
