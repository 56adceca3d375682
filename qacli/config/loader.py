"""Where the settings come from.

A flag beats the environment, which beats `.env` in the working directory, which beats the chosen
profile of the configuration file, which beats the top of that file, which beats the default. A
`.env` that the user does not trust (see `qacli.config.env_file`) counts for nothing.
Nothing else in the package reads the environment. A key is never sent to an endpoint that it was
not meant for: the last two functions see to that.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any

from qacli.config.database_url import with_whole_path
from qacli.config.env_file import EnvFile, IgnoredEnvFile, Trust, trust_of
from qacli.config.file import CORRECT, ConfigFile, default_directory
from qacli.config.settings import (
    DEFAULT_MODEL,
    OPENAI_BASE_URL,
    PARSER_EXPECTATIONS,
    Settings,
    parse_setting,
    setting_field,
    setting_fields,
)
from qacli.errors import NotConfigured
from qacli.suggestions import similar_name

__all__ = [
    "DEFAULT_MODEL",
    "OPENAI_BASE_URL",
    "PARSER_EXPECTATIONS",
    "Settings",
    "choose_profile",
    "chosen_profile",
    "config_file",
    "env_file_settings",
    "environment",
    "load_settings",
    "parse_setting",
    "setting_field",
    "setting_fields",
    "share_metrics",
    "wants_traces",
]


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where the configuration file is, whether or not it exists."""
    if named := (os.environ if environ is None else environ).get("QA_CONFIG"):
        return Path(named).expanduser()
    return default_directory() / "config.toml"


def choose_profile(name: str) -> None:
    """Choose the profile for this process, and for those that it starts."""
    os.environ["QA_PROFILE"] = name


def chosen_profile() -> str | None:
    """The profile that this run was started with, whether or not there is one of that name."""
    return os.environ.get("QA_PROFILE") or None


def environment(**otherwise: str) -> dict[str, str]:
    """The environment for a program that this one starts.

    Args:
        otherwise: What is to be in it where it has nothing of that name.
    """
    return {**otherwise, **os.environ}


def share_metrics(directory: Path) -> None:
    """Have this process count in files that others count in too; before the first metric is made.

    The package for Prometheus asks the environment for the directory.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)


def wants_traces() -> bool:
    """Whether the environment says where traces go, by OpenTelemetry's own names."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One of the places that settings come from; the higher the rank, the less it counts."""

    rank: int
    values: Mapping[str, Any]
    source: Callable[[str], str]
    line: Callable[[str], int | None] = lambda _name: None


_ENVIRONMENT, _DOTENV, _PROFILE, _TOP = range(4)
OTHER_VARIABLES = frozenset({"QA_CONFIG", "QA_BIND", "QA_PORT", "QA_COMPOSE_URL"})
"""Variables that begin with `QA_` and are no settings: the file's place, and docker compose's."""

SIMILAR = 0.75
"""How much of a name must be the same, as `difflib` measures it, for it to be a misspelling."""

KEYS = ("api_key", "key_command", "keyring")
"""The settings that a key comes from; of two in one place the first counts."""


def load_settings(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> Settings:
    """Read the settings from the environment, `.env` and the configuration file.

    An empty value is the same as none, so that `.env.example` can list every name.

    Args:
        environ: The environment; the process's own where None.
        directory: Where `.env` is looked for; the working directory where None.

    Raises:
        NotConfigured: A value has the wrong type, a name is unknown, or a file cannot be read.
            An untrusted `.env` is not read for values, so that nothing in it is an error.
    """
    environ = os.environ if environ is None else environ
    dotenv = (directory or Path()) / ".env"
    file = ConfigFile.read(config_file(environ))
    file.check({item.name for item in setting_fields()}, {"profile"})
    env_file = EnvFile.read(dotenv)
    layers = [_environment(environ), _table(file, None)]
    ignored = None
    misspelled = _misspelled(environ, "the environment")
    if env_file is not None and trust_of(env_file) is Trust.TRUSTED:
        layers.insert(_DOTENV, _dotenv(env_file))
        misspelled += _misspelled(env_file.values(), str(env_file.path))
    elif env_file is not None:
        ignored = _ignored(env_file, environ)
    found = {item.name: _find(item, layers) for item in setting_fields()}
    if (profile := found["profile"]) is not None:
        name = str(profile[0])
        _refuse_unknown_profile(name, profile[1], file)
        layers.insert(-1, _table(file, name))
        found = {item.name: _find(item, layers) for item in setting_fields()}
    values = {name: pair[0] for name, pair in found.items() if pair is not None}
    sources = {name: pair[1].source(name) for name, pair in found.items() if pair is not None}
    ranks = {name: pair[1].rank for name, pair in found.items() if pair is not None}
    for name, why in _keys_not_used(values, sources, ranks).items():
        del values[name]
        sources[name] += f", not used: {why}"
    _refuse_borrowed_key(values, ranks, dotenv)
    if "database_url" in values:
        directories = {_DOTENV: dotenv.parent, _PROFILE: file.path.parent, _TOP: file.path.parent}
        directory = directories.get(ranks["database_url"])
        values["database_url"] = _whole_database_url(values["database_url"], directory)
    return Settings(
        **values,
        sources=sources,
        config_path=file.path,
        ignored_env_file=ignored,
        misspelled=misspelled,
    )


def env_file_settings(file: EnvFile) -> Settings:
    """Return the settings that a `.env` file alone would make, trusted or not.

    Raises:
        NotConfigured: It cannot be read, has a wrong value, or sets what no `.env` may set.
    """
    layer = _dotenv(file)
    found = {item.name: _find(item, [layer]) for item in setting_fields()}
    values = {name: pair[0] for name, pair in found.items() if pair is not None}
    return Settings(
        **values,
        sources={name: layer.source(name) for name in values},
        misspelled=_misspelled(file.values(), str(file.path)),
    )


def _misspelled(variables: Mapping[str, str | None], place: str) -> tuple[str, ...]:
    """Return a sentence on each variable whose name is almost that of a setting.

    `QA_` is a common beginning, of variables for quality assurance for example. So a name that
    is like no setting is not mentioned, nor one that is like a setting which is there as well.
    """
    unknown = [name for name, value in variables.items() if name.startswith("QA_") and value]
    settings = {item.metadata["env"] for item in setting_fields()}
    unknown = [name for name in unknown if name not in settings | OTHER_VARIABLES]
    if not unknown:
        return ()
    candidates = {
        name.removeprefix("QA_"): name
        for name in {*settings, "QA_CONFIG"}
        if name.startswith("QA_") and not variables.get(name)
    }
    similar = {
        name: similar_name(name.removeprefix("QA_"), candidates, SIMILAR) for name in unknown
    }
    return tuple(
        f"{name} in {place} is not a setting of qa. Did you mean {candidates[match]}?"
        for name, match in similar.items()
        if match
    )


def _ignored(file: EnvFile, environ: Mapping[str, str]) -> IgnoredEnvFile | None:
    """Return the file as an ignored one; None where ignoring it changes nothing."""
    names = file.names_of(item.metadata["env"] for item in setting_fields())
    names = tuple(name for name in names if not environ.get(name))
    if not names and file.data is not None:
        return None
    return IgnoredEnvFile(file.location, names, trust_of(file))


def _whole_database_url(url: str, directory: Path | None) -> str:
    """Resolve a relative path of a SQLite file against the directory of the file that names it."""
    if (whole := with_whole_path(url, directory)) is None:
        raise NotConfigured(
            "DATABASE_URL in the environment has a relative path, which would be another history "
            "in each directory.",
            "Write the whole path, with four slashes: sqlite:////home/me/history.db",
        )
    return whole


def _environment(environ: Mapping[str, str]) -> _Layer:
    names = {item.name: item.metadata["env"] for item in setting_fields()}
    values = {name: environ.get(env) for name, env in names.items()}
    return _Layer(_ENVIRONMENT, values, lambda name: f"the environment variable {names[name]}")


def _dotenv(file: EnvFile) -> _Layer:
    names = {item.name: item.metadata["env"] for item in setting_fields()}
    read = file.values()
    layer = _Layer(
        _DOTENV,
        {name: read.get(env) for name, env in names.items()},
        lambda name: f"{names[name]} in {file.path}",
        lambda name: file.line(names[name]),
    )
    for item in setting_fields():
        if layer.values[item.name] and not item.metadata["in_dotenv"]:
            raise NotConfigured(
                f"{layer.source(item.name)}, line {layer.line(item.name)}, is refused: a project's "
                ".env must not say where keys come from, or which programs run.",
                "Set it in the environment or in the configuration file.",
            )
    return layer


def _table(file: ConfigFile, profile: str | None) -> _Layer:
    of_profile = f" of profile {profile}" if profile is not None else ""
    path = () if profile is None else ("profiles", profile)
    return _Layer(
        _TOP if profile is None else _PROFILE,
        file.table(profile),
        lambda name: f"{name}{of_profile} in {file.path}",
        lambda name: file.line(*path, name),
    )


def _find(item: Field[Any], layers: list[_Layer]) -> tuple[Any, _Layer] | None:
    """The setting's value in the first place that has one, and that place."""
    for layer in layers:
        value = layer.values.get(item.name)
        if value is not None and value != "":
            return _parsed(item, value, layer), layer
    return None


def _parsed(item: Field[Any], value: object, layer: _Layer) -> object:
    try:
        return parse_setting(item, value)
    except ValueError:
        line = layer.line(item.name)
        source = layer.source(item.name) + (f", line {line}" if line else "")
        shown = "its value" if item.metadata["secret"] else repr(value)
        raise NotConfigured(
            f"A setting is wrong, {source}: {shown} is not "
            f"{PARSER_EXPECTATIONS[item.metadata['parse']]}.",
            CORRECT,
        ) from None


def _refuse_unknown_profile(name: str, layer: _Layer, file: ConfigFile) -> None:
    if name not in file.profiles:
        line = layer.line("profile")
        source = f"{layer.source('profile')}, line {line}," if line else "--profile or QA_PROFILE"
        raise NotConfigured(
            f"{source} names the profile {name!r}, which {file.path} does not have.",
            f"The profiles there are {', '.join(file.profiles)}."
            if file.profiles
            else f"It has none yet; this makes one: qa --profile {shlex.quote(name)} config set "
            "model NAME",
        )


def _keys_not_used(
    values: Mapping[str, Any], sources: Mapping[str, str], ranks: Mapping[str, int]
) -> dict[str, str]:
    """Which of the settings that a key could come from do not count, and why.

    The one in the highest place counts. A profile with an endpoint of its own does not get the
    key that stands at the top of the file: that one is for the endpoint there.
    """
    there = [name for name in KEYS if values.get(name)]
    if not there:
        return {}
    used = min(there, key=ranks.__getitem__)
    if (ranks[used], ranks.get("base_url")) == (_TOP, _PROFILE):
        return dict.fromkeys(there, "the profile has an endpoint of its own, and no key")
    return {name: f"{sources[used]} counts" for name in there if name != used}


def _refuse_borrowed_key(values: Mapping[str, Any], ranks: Mapping[str, int], dotenv: Path) -> None:
    """A `.env` that came with somebody's project must not send our key to their endpoint."""
    if ranks.get("base_url") == _DOTENV and any(
        values.get(name) and ranks[name] != _DOTENV for name in KEYS
    ):
        raise NotConfigured(
            f"OPENAI_BASE_URL comes from {dotenv}, but the key does not, "
            "and a key is only sent to an endpoint named beside it or by the environment.",
            "Set OPENAI_BASE_URL in the environment, or both in the same file.",
        )
