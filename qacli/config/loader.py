"""Load the settings: read every source, resolve precedence, check the values.

From the highest precedence: a flag, the environment, `.env` in the working directory, the chosen
profile of the configuration file, the top of that file, the default. A `.env` file that the user
does not trust (see `qacli.config.env_file`) is ignored.
Nothing else in the package reads the environment. A key is sent only to the endpoint that it is
meant for: see `_unused_keys` and `_check_key_and_endpoint`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qacli.config.database_url import with_absolute_path
from qacli.config.declaration import Setting
from qacli.config.defaults import FLAG
from qacli.config.env_file import EnvFile, IgnoredEnvFile, Trust, trust_of
from qacli.config.file import CORRECT, PROFILES, ConfigFile, default_directory
from qacli.config.settings import Settings, setting_fields
from qacli.config.tables import (
    OUTSIDE_PROFILES,
    ROUTING_TABLES,
    TABLES,
    expand_headers,
    read_tables,
    table_source,
)
from qacli.errors import NotConfigured
from qacli.suggestions import similar_name


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the configuration file, which may not exist."""
    if path := (os.environ if environ is None else environ).get("QA_CONFIG"):
        return Path(path).expanduser()
    return default_directory() / "config.toml"


def choose_profile(name: str) -> None:
    """Choose the profile of this process and of the processes that it starts."""
    os.environ["QA_PROFILE"] = name


def chosen_profile() -> str | None:
    """Return the profile that was chosen for this process, which may not exist."""
    return os.environ.get("QA_PROFILE") or None


def environment(**defaults: str) -> dict[str, str]:
    """Return the variables of the environment, for example for a child process.

    Args:
        defaults: Used for variables that are not set.
    """
    return {**defaults, **os.environ}


def share_metrics(directory: Path) -> None:
    """Have prometheus_client share its counters between processes, in files in the directory.

    Call it before the first metric is created: the package reads the variable once.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)


def headers_of(settings: Settings) -> tuple[dict[str, str], frozenset[str]]:
    """Return the headers for the endpoint, and the secrets in them.

    Raises:
        NotConfigured: See `qacli.config.tables.expand_headers`.
    """
    return expand_headers(settings.headers, os.environ)


def has_trace_exporter() -> bool:
    """Return whether OpenTelemetry's environment variables name an exporter for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


class _Layer(NamedTuple):
    """One of the sources of settings; the lowest rank has the highest precedence."""

    rank: int
    values: Mapping[str, Any]
    source: Callable[[str], str]
    line: Callable[[str], int | None] = lambda _name: None


ENVIRONMENT_RANK, DOTENV_RANK, PROFILE_RANK, TOP_RANK = range(4)

OTHER_VARIABLES = frozenset({"QA_CONFIG", "QA_BIND", "QA_PORT", "QA_COMPOSE_URL"})
"""Variables that begin with `QA_` and are not settings: the file's path, and docker compose's."""

MIN_SIMILARITY = 0.75
"""The `difflib` ratio from which a name is taken for a misspelling of a setting's name."""

KEY_SETTINGS = ("api_key", "key_command", "keyring")
"""The settings that provide a key; within one source, the first has precedence."""


def load_settings(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> Settings:
    """Read the settings from the environment, `.env` and the configuration file.

    Empty values are ignored, so that `.env.example` can list every name.

    Args:
        environ: The environment; None means that of the process.
        directory: The directory of `.env`; None means the working directory.

    Raises:
        NotConfigured: A value is not acceptable, a name is unknown, or a file cannot be read.
            The values in an untrusted `.env` file are not read and cannot cause an error.
    """
    environ = os.environ if environ is None else environ
    dotenv = (directory or Path()) / ".env"
    file = ConfigFile.read(config_file(environ))
    names = {item.name for item in setting_fields()}
    file.check(names | TABLES, {"profile", *OUTSIDE_PROFILES})
    env_file = EnvFile.read(dotenv)
    layers = [_environment(environ), _table(file, None)]
    ignored = None
    misspelled = _misspelled(environ, "the environment")
    if env_file is not None and trust_of(env_file) is Trust.TRUSTED:
        layers.insert(DOTENV_RANK, _dotenv(env_file))
        misspelled += _misspelled(env_file.values(), str(env_file.path))
    elif env_file is not None:
        ignored = _ignored_file(env_file, environ)
    profile = _choose_profile(layers, file)
    if profile is not None:
        layers.insert(-1, _table(file, profile))
    resolved = _resolve(layers)
    values = {name: value for name, (value, _) in resolved.items()}
    sources = {name: layer.source(name) for name, (_, layer) in resolved.items()}
    ranks = {name: layer.rank for name, (_, layer) in resolved.items()}
    variables = {**(_trusted_values(env_file)), **environ}
    for name, reason in _unused_keys(values, sources, ranks).items():
        del values[name]
        sources[name] += f", not used: {reason}"
    if (variable := values.get("key_variable")) and variables.get(variable):
        values["api_key"] = variables[variable]
        sources["api_key"] = f"the environment variable {variable}"
        ranks["api_key"] = ENVIRONMENT_RANK
    _check_key_and_endpoint(values, ranks, dotenv)
    if "database_url" in values:
        base = {ENVIRONMENT_RANK: None, DOTENV_RANK: dotenv.parent}.get(
            ranks["database_url"], file.path.parent
        )
        values["database_url"] = _absolute_database_url(values["database_url"], base)
    in_file = ranks.get("base_url", TOP_RANK) in {PROFILE_RANK, TOP_RANK}
    tables = read_tables(file, profile, with_endpoint=in_file)
    rules = {name: table_source(file, name) for name in ROUTING_TABLES & tables.keys()}
    return Settings(
        **{**tables, **values},
        sources={**rules, **sources},
        config_path=file.path,
        ignored_env_file=ignored,
        misspelled=misspelled,
    )


def env_file_settings(file: EnvFile) -> Settings:
    """Return the settings of a `.env` file alone, trusted or not.

    Raises:
        NotConfigured: The file cannot be read, has a value that is not acceptable, or sets what a
            `.env` file must not set.
    """
    layer = _dotenv(file)
    values = {name: value for name, (value, _) in _resolve([layer]).items()}
    return Settings(
        **values,
        sources={name: layer.source(name) for name in values},
        misspelled=_misspelled(file.values(), str(file.path)),
    )


def with_profile(settings: Settings, profile: str) -> Settings:
    """Return the settings with another profile and the same flags; raise as `load_settings`."""
    flags = [name for name, source in settings.sources.items() if source == FLAG]
    loaded = load_settings({**os.environ, "QA_PROFILE": profile})
    return loaded.explicit_values({name: getattr(settings, name) for name in flags})


def profile_values(file: ConfigFile, profile: str) -> dict[str, Any]:
    """Return the settings that a profile itself has, by their names.

    Raises:
        NotConfigured: A value is not acceptable.
    """
    return {name: value for name, (value, _) in _resolve([_table(file, profile)]).items()}


def variables_of(environ: Mapping[str, str], directory: Path | None = None) -> dict[str, str]:
    """Return the variables of the environment and, below them, of a trusted `.env` file.

    Raises:
        NotConfigured: The file cannot be read.
    """
    return {**_trusted_values(EnvFile.read((directory or Path()) / ".env")), **environ}


def _trusted_values(file: EnvFile | None) -> dict[str, str]:
    """Return the variables of a trusted `.env` file that have a value."""
    if file is None or trust_of(file) is not Trust.TRUSTED:
        return {}
    return {name: value for name, value in file.values().items() if value}


def _misspelled(variables: Mapping[str, str | None], place: str) -> tuple[str, ...]:
    """Return a sentence for each variable whose name is similar to that of a setting.

    Other programs use the prefix `QA_` too, for quality assurance for example. So a name is not
    mentioned if it is similar to no setting, or only to a setting that has a value.
    """
    unknown = [name for name, value in variables.items() if name.startswith("QA_") and value]
    settings = {item.env for item in setting_fields()}
    unknown = [name for name in unknown if name not in settings | OTHER_VARIABLES]
    if not unknown:
        return ()
    candidates = {
        name.removeprefix("QA_"): name
        for name in {*settings, "QA_CONFIG"}
        if name.startswith("QA_") and not variables.get(name)
    }
    similar = {
        name: similar_name(name.removeprefix("QA_"), candidates, MIN_SIMILARITY) for name in unknown
    }
    return tuple(
        f"{name} in {place} is not a setting of qa. Did you mean {candidates[match]}?"
        for name, match in similar.items()
        if match
    )


def _ignored_file(file: EnvFile, environ: Mapping[str, str]) -> IgnoredEnvFile | None:
    """Return the file as an ignored one; None if ignoring it changes nothing."""
    names = file.names_in(item.env for item in setting_fields())
    names = tuple(name for name in names if not environ.get(name))
    if not names and file.data is not None:
        return None
    return IgnoredEnvFile(file.location, names, trust_of(file))


def _absolute_database_url(url: str, directory: Path | None) -> str:
    """Resolve a relative path of a SQLite file against the directory of the file that names it."""
    if (absolute := with_absolute_path(url, directory)) is None:
        raise NotConfigured(
            "DATABASE_URL in the environment has a relative path, which would mean a different "
            "history in each directory.",
            "Use an absolute path, with four slashes: sqlite:////home/me/history.db",
        )
    return absolute


def _environment(environ: Mapping[str, str]) -> _Layer:
    names = {item.name: item.env for item in setting_fields()}
    values = {name: environ.get(env) for name, env in names.items()}
    return _Layer(ENVIRONMENT_RANK, values, lambda name: f"the environment variable {names[name]}")


def _dotenv(file: EnvFile) -> _Layer:
    names = {item.name: item.env for item in setting_fields()}
    variables = file.values()
    layer = _Layer(
        DOTENV_RANK,
        {name: variables.get(env) for name, env in names.items()},
        lambda name: f"{names[name]} in {file.path}",
        lambda name: file.line(names[name]),
    )
    for item in setting_fields():
        if layer.values[item.name] and not item.in_dotenv:
            raise NotConfigured(
                f"{layer.source(item.name)}, line {layer.line(item.name)}, is not allowed: a "
                ".env file must not choose where keys come from or which programs run.",
                "Set it in the environment or in the configuration file.",
            )
    return layer


def _table(file: ConfigFile, profile: str | None) -> _Layer:
    of_profile = f" of profile {profile}" if profile is not None else ""
    path = () if profile is None else (PROFILES, profile)
    values = file.table(profile)
    if profile is None:
        # `read_tables` reads the rules that are tables.
        is_table = {name for name in ROUTING_TABLES if isinstance(values.get(name), dict)}
        values = {name: value for name, value in values.items() if name not in is_table}
    return _Layer(
        TOP_RANK if profile is None else PROFILE_RANK,
        values,
        lambda name: f"{name}{of_profile} in {file.path}",
        lambda name: file.line(*path, name),
    )


def _resolve(layers: list[_Layer]) -> dict[str, tuple[Any, _Layer]]:
    """Return the value and the source of each setting that has a value, by its name."""
    resolved = {}
    for item in setting_fields():
        for layer in layers:
            value = layer.values.get(item.name)
            if value is not None and value != "":
                resolved[item.name] = (_parse(item, value, layer), layer)
                break
    return resolved


def _parse(item: Setting, value: object, layer: _Layer) -> object:
    parser = item.parser
    try:
        return parser(value)
    except ValueError:
        line = layer.line(item.name)
        source = layer.source(item.name) + (f", line {line}" if line else "")
        text = "its value" if item.secret else repr(value)
        raise NotConfigured(
            f"Invalid setting, {source}: {text} is not {parser.expectation}.", CORRECT
        ) from None


def _choose_profile(layers: list[_Layer], file: ConfigFile) -> str | None:
    """Return the profile that the layers name, or None.

    Raises:
        NotConfigured: The file has no profile of that name.
    """
    resolved = _resolve(layers)
    if "profile" not in resolved:
        return None
    value, layer = resolved["profile"]
    name = str(value)
    if name in file.profiles:
        return name
    import shlex

    line = layer.line("profile")
    source = f"{layer.source('profile')}, line {line}," if line else "--profile or QA_PROFILE"
    raise NotConfigured(
        f"{source} names the profile {name!r}, which {file.path} does not have.",
        f"Its profiles are {', '.join(file.profiles)}."
        if file.profiles
        else f"It has no profiles; create this one: qa --profile {shlex.quote(name)} config set "
        "model NAME",
    )


def _unused_keys(
    values: Mapping[str, Any], sources: Mapping[str, str], ranks: Mapping[str, int]
) -> dict[str, str]:
    """Return the settings in `KEY_SETTINGS` that are not used, each with the reason.

    The source with the highest precedence is used. A profile that sets its own endpoint does not
    get the key at the top of the file, which is for another endpoint.
    """
    names = [name for name in KEY_SETTINGS if values.get(name)]
    unused = {}
    if "key_variable" in values:
        rank, endpoint = ranks["key_variable"], ranks.get("base_url")
        # A profile may use the endpoint at the top of the file.
        if endpoint is None or rank == endpoint or (rank, endpoint) == (PROFILE_RANK, TOP_RANK):
            unused = {
                name: f"{sources['key_variable']} names the key's variable"
                for name in names
                if ranks[name] != rank
            }
            names = [name for name in names if name not in unused]
        else:
            unused = {"key_variable": "the endpoint comes from elsewhere"}
    if not names:
        return unused
    used = min(names, key=ranks.__getitem__)
    if (ranks[used], ranks.get("base_url")) == (TOP_RANK, PROFILE_RANK):
        reason = "the profile has its own endpoint, but no key"
        return {**unused, **dict.fromkeys(names, reason)}
    others = {name: f"overridden by {sources[used]}" for name in names if name != used}
    return {**unused, **others}


def _check_key_and_endpoint(
    values: Mapping[str, Any], ranks: Mapping[str, int], dotenv: Path
) -> None:
    """Raise NotConfigured if a `.env` file would send a key from elsewhere to its endpoint."""
    if ranks.get("base_url") == DOTENV_RANK and any(
        values.get(name) and ranks[name] != DOTENV_RANK for name in KEY_SETTINGS
    ):
        raise NotConfigured(
            f"OPENAI_BASE_URL comes from {dotenv}, but the key does not, and a key is only sent to "
            "an endpoint from the same file or from the environment.",
            "Set OPENAI_BASE_URL in the environment, or both in the same file.",
        )
