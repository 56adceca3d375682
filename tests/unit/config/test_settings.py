from pathlib import Path
from typing import Any

import pytest
from conftest import write_env_file

from qacli.config import credentials, parsers
from qacli.config.file import ConfigFile
from qacli.config.loader import choose_profile, config_file, load_settings
from qacli.config.settings import Settings, setting_fields
from qacli.errors import NotConfigured
from qacli.provider import endpoint
from qacli.redaction import without_password

SECRET = "hunter2-is-no-secret-0123"

# For every setting: a value as text, and the parsed value.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "api_key": (SECRET, SECRET),
    "key_command": ("pass show 'a b'", "pass show 'a b'"),
    "keyring": ("service/user", "service/user"),
    "key_variable": ("GROQ_API_KEY", "GROQ_API_KEY"),
    "pager": ("most -s", "most -s"),
    "show_reasoning": ("true", True),
    "temperature": ("0.5", 0.5),
    "max_tokens": ("9", 9),
    "stream": ("false", False),
    "raw": ("true", True),
    "auto_title": ("true", True),
    "title_model": ("small", "small"),
    "profile": ("work", "work"),
    "base_url": ("https://a.example/v1/", "https://a.example/v1"),
    "model": ("m", "m"),
    "local_model": ("/w.gguf", Path("/w.gguf")),
    "embedding_model": ("e", "e"),
    "shared_limits": ("5", 5.0),
    "system": ("Be brief.", "Be brief."),
    "database_url": ("sqlite:////tmp/h.db", "sqlite:////tmp/h.db"),
    "data_dir": ("/data", Path("/data")),
    "context_tokens": ("9", 9),
    "timeout": ("1.5", 1.5),
    "first_token_timeout": ("2", 2.0),
    "connect_timeout": ("3", 3.0),
    "lease": ("20", 20.0),
    "retries": ("0", 0),
    "host": ("::1", "::1"),
    "serve_port": ("0", 0),
    "workers": ("2", 2),
    "threads": ("3", 3),
    "grace": ("4", 4.0),
    "api": ("responses", "responses"),
    "on_disconnect": ("interrupt", "interrupt"),
    "max_body_mib": ("25", 25),
    "passthrough": ("true", True),
    "token": (SECRET, SECRET),
    "tokens": (f"alice={SECRET}1,bob=b", f"alice={SECRET}1,bob=b"),
    "allowed_hosts": ("a.example,b.example", "a.example,b.example"),
    "cors_origins": ("https://a.example", "https://a.example"),
    "rate_limit": ("60/minute,500/day", "60/minute,500/day"),
    "upstreams": ("groq, local", "groq, local"),
    "routes": ("a-*=groq, b = groq/m", {"a-*": "groq", "b": "groq/m"}),
    "fallbacks": ("groq=local  a/b,a=b", {"groq": ("local", "a/b"), "a": ("b",)}),
    "budgets": ("alice=5.00/day,*=20/month", "alice=5.00/day,*=20/month"),
    "proxies": ("1", 1),
}
ENV = {item.name: item.env for item in setting_fields()}
NOT_IN_DOTENV = {item.name for item in setting_fields() if not item.in_dotenv}
WORK = "[profiles.work]\n"


def load(environ: dict[str, str] | None = None, *, dotenv: str = "", config: str = "") -> Settings:
    """Load the settings from the environment, the `.env` file and the configuration file."""
    if dotenv:
        write_env_file(dotenv)
    file = Path("config.toml").absolute()
    if config:
        file.write_text(config, encoding="utf-8")
    return load_settings({"QA_CONFIG": str(file), **(environ or {})})


def refused(environ: dict[str, str] | None = None, **files: str) -> NotConfigured:
    with pytest.raises(NotConfigured) as caught:
        load(environ, **files)
    assert SECRET not in repr(caught.value.args)
    return caught.value


def test_settings_all_have_an_example_here() -> None:
    assert EXAMPLES.keys() == ENV.keys()
    assert len(set(ENV.values())) == len(ENV)
    assert Settings.__annotations__.keys() == {
        *ENV,
        *("sources", "config_path", "ignored_env_file", "misspelled"),
        *("aliases", "model_defaults", "headers", "extra_body"),
    }


def test_load_settings_without_values_returns_the_defaults() -> None:
    assert load() == Settings()


@pytest.mark.parametrize("name", EXAMPLES)
def test_load_settings_reads_each_setting_from_all_sources(name: str) -> None:
    text, value = EXAMPLES[name]
    assert getattr(load({ENV[name]: text}, config=WORK), name) == value
    if name not in NOT_IN_DOTENV:
        assert getattr(load(dotenv=f'{ENV[name]}="{text}"\n'), name) == value
        Path(".env").unlink()
    assert getattr(load(config=f'{name} = "{text}"\n{WORK}'), name) == value
    if name != "profile":
        given = load({"QA_PROFILE": "work"}, config=f'{WORK}{name} = "{text}"\n')
        assert getattr(given, name) == value


def test_load_settings_sources_override_in_order() -> None:
    config = "timeout = 1\nretries = 1\nmodel = 'file'\nsystem = 'file'\n"
    dotenv = "QA_RETRIES=2\nQA_MODEL=dotenv\nQA_SYSTEM=dotenv\n"
    environ = {"QA_MODEL": "environment", "QA_SYSTEM": "environment"}
    given = load(environ, dotenv=dotenv, config=config)
    given = given.explicit_values({"system": "flag", "model": None})
    assert (given.workers, given.timeout, given.retries) == (1, 1.0, 2)
    assert (given.model, given.system) == ("environment", "flag")
    assert given.sources["system"] == "a flag"
    assert given.sources["model"] == "the environment variable QA_MODEL"
    assert given.sources["retries"] == f"QA_RETRIES in {Path('.env')}"
    assert given.sources["timeout"] == f"timeout in {Path('config.toml').absolute()}"
    assert "workers" not in given.sources


def test_explicit_values_zero_overrides() -> None:
    assert load({"QA_RETRIES": "5"}).explicit_values({"retries": 0}).retries == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_load_settings_empty_value_equals_unset(name: str) -> None:
    dotenv = f"{ENV[name]}=\n"
    given = load({ENV[name]: ""}, dotenv=dotenv, config=f"{name} = ''\n")
    assert given == Settings()
    config = f'{name} = "{EXAMPLES[name][0]}"\n{WORK}'
    given = load({ENV[name]: ""}, dotenv=dotenv, config=config)
    assert getattr(given, name) == EXAMPLES[name][1]


def test_dotenv_name_without_value_is_unset() -> None:
    assert load(dotenv="QA_MODEL\n").model is None


def test_dotenv_value_is_not_expanded() -> None:
    assert load({"HOME": "/root"}, dotenv="QA_SYSTEM='costs ${HOME}'\n").system == "costs ${HOME}"


def test_dotenv_of_the_given_directory_is_read(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    write_env_file("QA_MODEL=other\n", other)
    assert load_settings({"QA_CONFIG": "/nowhere"}, other).model == "other"
    assert load_settings({"QA_CONFIG": "/nowhere"}).model is None


WRONG = [
    *(("timeout", text) for text in ("0", "-1", "soon", "nan", "inf", "1e9")),
    *(("first_token_timeout", text) for text in ("0", "x")),
    *(("connect_timeout", text) for text in ("-0.1", "x")),
    *(("retries", text) for text in ("-1", "1.5", "many")),
    *(("serve_port", text) for text in ("-1", "65536", "http")),
    *(("workers", text) for text in ("0", "1.0", "x")),
    *(("threads", text) for text in ("0", "x")),
    *(("base_url", text) for text in ("api.example/v1", "ftp://a.example", "http://", "http://[")),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_load_settings_invalid_value_names_its_source(name: str, text: str) -> None:
    parser = next(item.parser for item in setting_fields() if item.name == name)
    expected = parser.expectation
    for error, source in (
        (refused({ENV[name]: text}), f"the environment variable {ENV[name]}"),
        (refused(dotenv=f"A=1\n{ENV[name]}='{text}'\n"), f"{ENV[name]} in .env, line 2"),
    ):
        assert error.what == f"Invalid setting, {source}: {text!r} is not {expected}."
        assert error.todo
    Path(".env").unlink()
    error = refused(config=f"{name} = '{text}'\n")
    assert f"{name} in {Path('config.toml').absolute()}, line 1: " in error.what
    assert expected in error.what


def test_load_settings_overridden_invalid_value_is_ignored() -> None:
    assert load({"QA_RETRIES": "3"}, config="retries = 'x'\n").retries == 3


@pytest.mark.parametrize("value", ["true", "[1]", "{a = 1}"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_config_file_wrong_type_is_refused(name: str, value: str) -> None:
    true_or_false = {"auto_title", "keyring", "passthrough", "raw", "show_reasoning", "stream"}
    if value == "true" and name in true_or_false:
        return
    if value.startswith("{") and name in {"routes", "fallbacks"}:
        return  # each of them can be a table; tests/unit/config/test_upstreams.py has wrong ones
    error = refused(config=f"{name} = {value}\n")
    assert f"{name} in {Path('config.toml').absolute()}" in error.what


@pytest.mark.parametrize("name", ["api_key", "token", "database_url"])
def test_load_settings_invalid_secret_is_not_shown(name: str) -> None:
    error = refused(config=f"{name} = ['{SECRET}']\n")
    assert "its value" in error.what


@pytest.mark.parametrize(("name", "value"), [("timeout", "2.5"), ("retries", "4"), ("model", "7")])
def test_config_file_numbers_need_no_quotes(name: str, value: str) -> None:
    assert str(getattr(load(config=f"{name} = {value}\n"), name)) == value


@pytest.mark.parametrize(
    ("config", "line", "name"),
    [
        ("modell = 'x'\n", 1, "modell"),
        ("model = 'x'\n\n# api\n  apikey = '" + SECRET + "'\n", 4, "apikey"),
        ("model = 'x'\n'base-url' = 'x'\n", 2, "base-url"),
        ("model = 'x'\n[provider]\napi_key = '" + SECRET + "'\n", 2, "provider"),
        ("model = 'x'\n[[ servers ]]\nhost = 'x'\n", 2, "servers"),
        ("model = 'x'\nserver.host = 'x'\n", 2, "server"),
    ],
)
def test_config_file_unknown_name_is_refused_with_its_line(
    config: str, line: int, name: str
) -> None:
    error = refused(config=config)
    file = Path("config.toml").absolute()
    assert error.what == f"Line {line} of {file} sets {name}, which is not a setting."
    assert all(known in error.todo for known in ENV)


@pytest.mark.parametrize(
    "config", ["model = \n", "model 'x'\n", "[model\n", "model = 'a'\nmodel = 'b'\n", "\x00"]
)
def test_config_file_invalid_toml_is_refused_with_its_path(config: str) -> None:
    error = refused(config=f"api_key = '{SECRET}'\n{config}")
    assert f"{Path('config.toml').absolute()} is not TOML" in error.what


def test_config_file_unquoted_secret_is_not_shown() -> None:
    refused(config=f"api_key = {SECRET}\n")


def test_config_file_invalid_utf8_is_refused_with_its_path() -> None:
    Path("config.toml").write_bytes(b"model = '\xff'\n")
    assert str(Path("config.toml").absolute()) in refused().what


def test_config_file_that_is_a_directory_is_refused() -> None:
    Path("config.toml").mkdir()
    assert str(Path("config.toml").absolute()) in refused().what


def test_dotenv_invalid_utf8_is_refused_with_its_path() -> None:
    write_env_file(b"OPENAI_API_KEY=" + SECRET.encode() + b"\xff\n")
    error = refused()
    assert ".env cannot be read" in error.what


def test_config_file_path_is_taken_from_the_environment() -> None:
    assert config_file({"QA_CONFIG": "/a/b.toml"}) == Path("/a/b.toml")
    assert config_file({"QA_CONFIG": "~/b.toml"}) == Path.home() / "b.toml"
    assert config_file({}).name == "config.toml"
    assert config_file({"QA_CONFIG": ""}) == config_file({})


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        ("postgresql://u:p@h:5433/d?sslmode=require", None),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        ("sqlite:///history.db", "sqlite:///history.db"),
        ("sqlite:////var/history.db", "sqlite:////var/history.db"),
        ("sqlite:///history.db?mode=ro", "sqlite:///history.db?mode=ro"),
    ],
)
def test_database_url_is_rewritten_for_the_driver(url: str, database: str | None) -> None:
    rewritten = database or url.replace("postgresql:", "postgresql+psycopg2:")
    assert Settings(database_url=url).database == rewritten


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a.example/v1/", "https://a.example/v1"),
        (" https://a.example/v1 ", "https://a.example/v1"),
        ("https://a.example/v1/chat/completions", "https://a.example/v1"),
        (
            "https://a.example/v1/chat/completions/?api-version=1",
            "https://a.example/v1?api-version=1",
        ),
        ("https://a.example/v1/responses", "https://a.example/v1"),
        ("https://a.example/v1/completions", "https://a.example/v1"),
        ("https://a.example/models", "https://a.example/models"),
        ("https://a.example/chat", "https://a.example/chat"),
    ],
)
def test_base_url_of_a_request_is_that_of_the_api(text: str, url: str) -> None:
    assert parsers.URL(text) == url


def test_database_url_unset_is_a_file_in_the_data_directory() -> None:
    settings = Settings(data_dir=Path("/d"))
    assert settings.database == "sqlite:////d/history.db"
    assert settings.outbox_path == Path("/d/history.db.outbox")


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:history.db", "sqlite://h/x.db"),
        *("mysql://u:p@h/d", "oracle://h", "history.db", "postgresql:d", "postgres://", "://x"),
        *("postgresql+asyncpg://h/d", "sqlite+aiosqlite:///x.db", "POSTGRES:/d"),
    ],
)
def test_database_url_of_another_database_is_refused_and_not_shown(url: str) -> None:
    settings = load({"DATABASE_URL": url})
    with pytest.raises(NotConfigured) as caught:
        _ = settings.database
    assert "the environment variable DATABASE_URL" in caught.value.what
    assert url not in caught.value.what


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///:memory:?cache=shared",
        "sqlite:///?cache=shared",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///file::memory:?uri=true",
    ],
)
def test_database_url_in_memory_is_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(NotConfigured):
        _ = Settings(database_url=url).database


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2/is@host/name",
        "postgresql://user:hunter2#is@host/name",
        "postgresql://host:hunter2/name",
        "postgresql://user:hunter2@[host/name",
    ],
)
def test_database_url_unparsable_raises_not_configured(url: str) -> None:
    settings = Settings(database_url=url)
    with pytest.raises(NotConfigured) as caught:
        _ = settings.database, settings.outbox_path, settings.redact("x")
    assert "hunter2" not in str(caught.value)


def outbox_of(url: str) -> Path:
    return Settings(data_dir=Path("/d"), database_url=url).outbox_path


def test_outbox_path_differs_for_each_database() -> None:
    urls = [
        *("sqlite:////a/history.db", "sqlite:////b/history.db", "sqlite:////a/other.db"),
        *("postgresql://h/d", "postgresql://h/e", "postgresql://i/d", "postgresql://h:5433/d"),
        "postgresql:///d?host=/run/a",
        "postgresql:///d?host=/run/b",
    ]
    assert len({outbox_of(url) for url in urls}) == len(urls)


def test_outbox_path_of_a_sqlite_file_is_beside_it() -> None:
    assert outbox_of("sqlite:////a/history.db") == Path("/a/history.db.outbox")
    assert outbox_of("sqlite:////a/history.db?timeout=3") == Path("/a/history.db.outbox")


def test_outbox_path_is_independent_of_password_and_spelling() -> None:
    urls = [
        *("postgresql://u:one@h/d", "postgresql://u:two@h/d", "postgres://u:p%40%2F@h/d"),
        *("postgresql://u@h:5432/d", "postgresql+psycopg2://v:one@H/d"),
    ]
    assert len({outbox_of(url) for url in urls}) == 1
    assert outbox_of(urls[0]).parent == Path("/d/outbox")
    assert "one" not in str(outbox_of(urls[0]))


def test_outbox_path_is_independent_of_a_password_in_the_query() -> None:
    assert outbox_of("postgresql://u@h/d?password=one") == outbox_of(
        "postgresql://u@h/d?password=two"
    )


def test_without_password_removes_a_password_in_the_query() -> None:
    url = "postgresql://u@h/d?password=hunter2&sslmode=require"
    assert "hunter2" not in without_password(url)
    assert "hunter2" not in Settings(database_url=url).redact("password=hunter2 is wrong")


SECRETS = Settings(
    api_key=SECRET, token="t0ken-of-the-server", database_url="postgresql://u:pa55word@h/d"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Wrong key: {SECRET}.", "Wrong key: ***."),
        (f"{SECRET}{SECRET}", "******"),
        ("Bearer t0ken-of-the-server", "Bearer ***"),
        ("password pa55word", "password ***"),
        ("another key sk-abcdefghij", "another key ***"),
        ("masked: sk-abcd****wxyz.", "masked: ***."),
        ("sk-proj-abc_def-123", "***"),
        ("nothing to hide: task-1, risk-free, sk-1", "nothing to hide: task-1, risk-free, sk-1"),
    ],
)
def test_redact_removes_secrets(text: str, shown: str) -> None:
    assert SECRETS.redact(text) == shown


def test_redact_removes_the_password_of_a_database_url() -> None:
    assert "pa55word" not in SECRETS.redact("postgresql://u:pa55word@h/d is down")


def test_redact_secret_inside_another_removes_both() -> None:
    for number in range(20):
        token = f"t0ken{number}"
        settings = Settings(api_key=f"{token}-and-the-rest", token=token)
        assert settings.redact(f"{token}-and-the-rest") == "***"


def test_redact_removes_a_password_in_both_spellings() -> None:
    settings = Settings(database_url="postgresql://u:pa%40ss%2Fword@h/d")
    assert settings.redact("pa%40ss%2Fword") == "***"
    assert settings.redact("pa@ss/word") == "***"


def test_redact_without_secrets_changes_nothing() -> None:
    assert Settings().redact("a text") == "a text"
    assert Settings(api_key="a", token="").redact("a text") == "a text"


def test_redact_a_placeholder_in_place_of_a_key_changes_nothing() -> None:
    text = "No model llama3. Try: ollama pull llama3"
    assert Settings(api_key="ollama").redact(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5432/d?x=1", "postgresql://u:***@h:5432/d?x=1"),
        ("postgresql://:p@h/d", "postgresql://***@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p%40@h/d", "postgresql://u:***@h/d"),
        ("sqlite:////a/history.db", "sqlite:////a/history.db"),
    ],
)
def test_without_password_removes_the_password_of_a_url(url: str, shown: str) -> None:
    assert without_password(url) == shown


ELSEWHERE = "OPENAI_BASE_URL=https://evil.example/v1\n"


def test_dotenv_endpoint_gets_no_key_of_the_environment() -> None:
    error = refused({"OPENAI_API_KEY": SECRET}, dotenv=ELSEWHERE)
    assert "OPENAI_BASE_URL comes from .env" in error.what


def test_dotenv_endpoint_gets_no_key_of_the_config_file() -> None:
    refused(dotenv=ELSEWHERE, config=f"api_key = '{SECRET}'\n")


def test_dotenv_endpoint_with_a_key_of_the_environment_is_refused() -> None:
    refused({"OPENAI_API_KEY": SECRET}, dotenv=ELSEWHERE + "OPENAI_API_KEY=x\n")


@pytest.mark.parametrize(
    ("environ", "files"),
    [
        ({}, {"dotenv": ELSEWHERE}),
        ({}, {"dotenv": f"{ELSEWHERE}OPENAI_API_KEY={SECRET}\n"}),
        ({"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "https://a.example"}, {"dotenv": ELSEWHERE}),
        ({"OPENAI_API_KEY": SECRET}, {"config": "base_url = 'https://a.example'\n"}),
        ({"OPENAI_BASE_URL": "https://a.example"}, {"dotenv": f"OPENAI_API_KEY={SECRET}\n"}),
        ({"OPENAI_API_KEY": SECRET}, {"dotenv": "OPENAI_BASE_URL=\n"}),
    ],
)
def test_load_settings_other_key_and_endpoint_sources_are_accepted(
    environ: dict[str, str], files: dict[str, str]
) -> None:
    load(environ, **files)


def test_settings_repr_has_no_sources() -> None:
    assert "sources" not in repr(load({"QA_MODEL": "m"}))


def line_of(text: str, *path: str) -> int:
    Path("lines.toml").write_text(text, encoding="utf-8")
    return ConfigFile.read(Path("lines.toml")).line(*path)


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1\nb = 2\n", ("b",), 2),
        ('a = """\nb = 2\n"""\n# b = 2\nb = 2\n', ("b",), 5),
        ("a = 1\n\nb = [\n  1,\n]\n", ("b",), 3),
        (
            "model = 'x'\n[profiles.a]\nmodel = 'x'\n[profiles.b]\nmodel = 'x'\n",
            ("profiles", "b"),
            4,
        ),
        ("[profiles.a]\nmodel = 'x'\n[profiles.b]\n\nmodel = 'x'\n", ("profiles", "b", "model"), 5),
        ("x.y = 1\nx.z = 2\n", ("x", "z"), 2),
        ("a = 1", ("a",), 1),
    ],
)
def test_line_of_returns_the_line_of_a_value(text: str, path: tuple[str, ...], line: int) -> None:
    assert line_of(text, *path) == line


# Profiles


PROFILES = f"""model = 'top'
system = 'top'
timeout = 7

{WORK}model = 'work'
system = 'work'

[profiles.home]
model = 'home'
"""


def test_profile_overrides_only_the_top_of_the_file() -> None:
    given = load({"QA_PROFILE": "work"}, config=PROFILES, dotenv="QA_SYSTEM=dotenv\n")
    assert (given.model, given.system, given.timeout) == ("work", "dotenv", 7.0)
    assert given.sources["model"] == f"model of profile work in {Path('config.toml').absolute()}"
    assert load({"QA_PROFILE": "work", "QA_MODEL": "e"}).model == "e"
    assert load().model == "top"


@pytest.mark.parametrize(
    ("environ", "files"),
    [
        ({"QA_PROFILE": "home"}, {"dotenv": "QA_PROFILE=work\n", "config": PROFILES}),
        ({}, {"dotenv": "QA_PROFILE=home\n", "config": f"profile = 'work'\n{PROFILES}"}),
        ({}, {"config": f"profile = 'home'\n{PROFILES}"}),
    ],
)
def test_profile_is_chosen_by_every_source(environ: dict[str, str], files: dict[str, str]) -> None:
    assert load(environ, **files).model == "home"


def test_choose_profile_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text(PROFILES, encoding="utf-8")
    monkeypatch.setenv("QA_PROFILE", "home")
    choose_profile("work")
    assert load_settings().model == "work"


@pytest.mark.parametrize(
    ("environ", "config", "source", "todo"),
    [
        ({"QA_PROFILE": "wrok"}, PROFILES, "--profile or QA_PROFILE", "are work, home."),
        ({}, f"\nprofile = 'wrok'\n{PROFILES}", "config.toml, line 2,", "are work, home."),
        ({"QA_PROFILE": "wrok"}, "", "--profile or QA_PROFILE", "has no profiles"),
    ],
)
def test_profile_unknown_is_refused_with_the_known_ones(
    environ: dict[str, str], config: str, source: str, todo: str
) -> None:
    error = refused(environ, config=config)
    assert f"{source} names the profile 'wrok'" in error.what
    assert todo in error.todo


@pytest.mark.parametrize(
    ("config", "line", "said"),
    [
        (f"{PROFILES}modell = 'x'\n", 11, "sets modell in the profile home, which is not"),
        (f"{PROFILES}profile = 'work'\n", 11, "sets profile in the profile home, which is not"),
        ("profiles = 3\n", 1, "sets profiles to something that is not a table"),
        ("\n[profiles]\nwork = 3\n", 3, "sets profiles.work to something that is not a table"),
    ],
)
def test_profile_unknown_setting_is_refused_with_its_line(
    config: str, line: int, said: str
) -> None:
    error = refused(config=config)
    assert f"Line {line} of {Path('config.toml').absolute()} {said}" in error.what


def test_profile_invalid_value_is_refused_with_its_line() -> None:
    error = refused({"QA_PROFILE": "work"}, config=f"timeout = 1\n{WORK}timeout = 'x'\n")
    assert f"timeout of profile work in {Path('config.toml').absolute()}, line 3: " in error.what


def test_config_file_mistyped_name_gets_a_hint() -> None:
    assert refused(config="modle = 'x'\n").todo.startswith("Did you mean model? ")


# Keys


@pytest.mark.parametrize("name", sorted(NOT_IN_DOTENV))
def test_dotenv_setting_of_a_key_source_or_program_is_refused(name: str) -> None:
    error = refused({ENV[name]: EXAMPLES[name][0]}, dotenv=f"A=1\n{ENV[name]}=touch/made\n")
    assert f"{ENV[name]} in .env, line 2, is not allowed" in error.what


KEY_SOURCES = [f"api_key = '{SECRET}'", "key_command = 'pass'", "keyring = true"]


@pytest.mark.parametrize("source", KEY_SOURCES)
def test_dotenv_endpoint_gets_no_key_of_any_source(source: str) -> None:
    assert (
        "only sent to an endpoint from the same file"
        in refused(dotenv=ELSEWHERE, config=source).what
    )
    refused({"QA_PROFILE": "work"}, dotenv=ELSEWHERE, config=f"{WORK}{source}")


@pytest.mark.parametrize("source", KEY_SOURCES)
def test_profile_endpoint_gets_no_key_of_the_top(source: str) -> None:
    config = f"{source}\n{WORK}base_url = 'https://a.example'\n"
    given = load({"QA_PROFILE": "work"}, config=config)
    assert not credentials.is_configured(given)
    assert "not used" in given.sources[source.split(maxsplit=1)[0]]
    assert credentials.is_configured(load(config=config))
    config += "api_key = 'beside'\n"
    assert credentials.get_api_key(load({"QA_PROFILE": "work"}, config=config)) == "beside"
    assert (
        credentials.get_api_key(load({"QA_PROFILE": "work", "OPENAI_API_KEY": "e"}, config=config))
        == "e"
    )


def test_key_source_of_the_higher_place_is_used() -> None:
    config = f"api_key = '{SECRET}'\n{WORK}key_command = 'pass'\nkeyring = 's/u'\n"
    given = load({"QA_PROFILE": "work"}, config=config)
    assert (given.api_key, given.key_command, given.keyring) == (None, "pass", None)
    given = load({"QA_PROFILE": "work", "OPENAI_API_KEY": "e"}, config=config)
    assert (given.api_key, given.key_command, given.keyring) == ("e", None, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", "true"), ("false", None), ("'s/u'", "s/u"), ("'true'", "true"), ("'s/u/v'", "s/u/v")],
)
def test_keyring_is_true_or_an_entry(text: str, value: str | None) -> None:
    assert load(config=f"keyring = {text}\n").keyring == value


@pytest.mark.parametrize("text", ["'x'", "'/u'", "'s/'", "3"])
def test_keyring_invalid_is_refused(text: str) -> None:
    assert "service/user" in refused(config=f"keyring = {text}\n").what


@pytest.mark.parametrize("text", ['"pass \'x"', "' '"])
def test_key_command_unparsable_is_refused(text: str) -> None:
    assert "a command" in refused(config=f"key_command = {text}\n").what


def test_keyring_entry_differs_for_each_endpoint() -> None:
    assert credentials.keyring_entry(Settings(keyring="true")) == ("qa", "api.openai.com")
    url = "https://u:p@A.example:8443/v1"
    assert credentials.keyring_entry(Settings(keyring="true", base_url=url)) == (
        "qa",
        "a.example:8443",
    )
    assert credentials.keyring_entry(Settings(keyring="s/u/v", base_url=url)) == ("s", "u/v")


def script(home: Path, text: str) -> str:
    file = home / "give key"
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o700)
    return f"'{file}' argument"


def test_key_command_first_line_is_the_key(home: Path) -> None:
    command = script(home, f"echo x >> runs; echo '  {SECRET} '; echo more; cat")
    settings = Settings(key_command=command)
    for _ in range(2):
        found = endpoint.resolve_endpoint(settings)
        assert (found.key, found.base_url) == (SECRET, "https://api.openai.com/v1")
    assert Path("runs").read_text() == "x\n"


def test_key_command_is_not_run_by_a_shell() -> None:
    settings = Settings(key_command=f"echo $HOME{SECRET};")
    assert credentials.get_api_key(settings) == f"$HOME{SECRET};"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "failed with exit code 3"),
        ("exit 0", "is not a key"),
        (f"echo; echo {SECRET}", "is not a key"),
        (f"echo 'my key is {SECRET}'", "is not a key"),
        (f"printf '{SECRET}\\377'", "is not a key"),
        (f"echo {SECRET}; sleep 9", "did not end within 0.5 s"),
        ("exec yes", "did not end within 0.5 s"),
        ("exec >&-; sleep 9", "did not end within 0.5 s"),
    ],
)
def test_key_command_failed_is_named_without_its_output(
    home: Path, text: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotConfigured) as caught:
        credentials.get_api_key(Settings(key_command=script(home, text)), seconds=0.5)
    assert f"key command {home / 'give key'}" in caught.value.what
    assert said in caught.value.what
    assert SECRET not in str(caught.value)
    assert "argument" not in str(caught.value)
    assert "".join(capfd.readouterr()) == ""


def test_key_command_missing_is_an_error_without_the_key() -> None:
    with pytest.raises(NotConfigured) as caught:
        credentials.get_api_key(Settings(key_command="sk-0123456789abcdef"))
    assert str(caught.value).startswith("The key command *** cannot be run: No such file")


# Edits


def edited(text: str, profile: str | None, name: str, value: object) -> str:
    file = Path("config.toml")
    file.write_text(text, encoding="utf-8")
    path = [name] if profile is None else ["profiles", profile, name]
    return ConfigFile.read(file).changed(path, value)


COMMENTED = """# mine
timeout  =  3 # short

# for work
[profiles.work]
# the large one
model = 'a' # b
retries = 1

[profiles.home]
model = 'c'
"""


@pytest.mark.parametrize(
    ("text", "change", "result"),
    [
        ("", (None, "model", "m"), 'model = "m"\n'),
        ("timeout = 3", (None, "model", "m"), 'timeout = 3\nmodel = "m"\n'),
        (
            "[profiles.a]\nretries = 1\n",
            (None, "model", "m"),
            'model = "m"\n\n[profiles.a]\nretries = 1\n',
        ),
        (COMMENTED, (None, "timeout", 4), COMMENTED.replace("=  3 #", "=  4 #")),
        (COMMENTED, (None, "model", "m"), COMMENTED.replace("short\n", 'short\nmodel = "m"\n')),
        (COMMENTED, ("work", "model", "m"), COMMENTED.replace("'a'", '"m"')),
        (COMMENTED, ("work", "retries", None), COMMENTED.replace("retries = 1\n", "")),
        (COMMENTED, (None, "timeout", None), COMMENTED.replace("timeout  =  3 # short\n", "")),
        (COMMENTED, ("new", "model", "m"), COMMENTED + '\n[profiles.new]\nmodel = "m"\n'),
        (COMMENTED, ("a b", "model", "m"), COMMENTED + '\n[profiles."a b"]\nmodel = "m"\n'),
        ("", ("new", "model", "m"), '[profiles.new]\nmodel = "m"\n'),
        ("", (None, "system", 'a\n"b\\'), 'system = "a\\n\\"b\\\\"\n'),
        ("", (None, "keyring", True), "keyring = true\n"),
        ("profiles = {a = {retries = 1}}\n", ("b", "retries", 2), None),
        ("[profiles]\na = {retries = 1} # c\n", ("a", "retries", 2), None),
        ("profiles.a.retries = 1\n", ("b", "retries", 2), None),
    ],
)
def test_config_file_edit_keeps_comments_and_order(
    text: str, change: tuple[str | None, str, object], result: str | None
) -> None:
    found = edited(text, *change)
    assert result is None or found == result
    profile, name, value = change
    Path("config.toml").write_text(found, encoding="utf-8")
    assert ConfigFile.read(Path("config.toml")).table(profile).get(name) == value


def test_config_file_write_keeps_a_link_and_is_private(home: Path) -> None:
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "qa.toml").write_text("")
    Path("config.toml").symlink_to(home / "dotfiles" / "qa.toml")
    ConfigFile.read(home / "config.toml").write("model = 'm'\n")
    assert Path("config.toml").is_symlink()
    assert load().model == "m"
    assert (home / "dotfiles" / "qa.toml").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in (home / "dotfiles").iterdir()] == ["qa.toml"]


def test_config_file_write_makes_its_directory_private(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    file = config_file({})
    file.parent.mkdir(parents=True)
    file.parent.chmod(0o755)
    for path in (file, home / "a" / "config.toml"):
        ConfigFile.read(path).write("")
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_config_file_unwritable_raises_not_configured(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(NotConfigured) as caught:
        ConfigFile(home / "file" / "config.toml", "", {}).write("")
    assert "cannot be written" in caught.value.what


# Misspelled variables


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("QA_MODLE", "QA_MODEL"),
        ("QA_TIMOUT", "QA_TIMEOUT"),
        ("QA_WORKER", "QA_WORKERS"),
        ("QA_DATADIR", "QA_DATA_DIR"),
        ("QA_CORS_ORIGIN", "QA_CORS_ORIGINS"),
        ("QA_CONFG", "QA_CONFIG"),
    ],
)
def test_misspelled_variable_names_the_setting(name: str, meant: str) -> None:
    environ = {name: "x", **({} if meant == "QA_CONFIG" else {"QA_CONFIG": "/nowhere"})}
    sentence = f"{name} in {{}} is not a setting of qa. Did you mean {meant}?"
    assert load_settings(environ).misspelled == (sentence.format("the environment"),)
    write_env_file(f"{name}=x\n")
    assert load_settings({"QA_CONFIG": "/nowhere"}).misspelled == (sentence.format(".env"),)


@pytest.mark.parametrize(
    "environ",
    [
        *({"QA_STAGE": "x"}, {"QA_BIND": "x", "QA_PORT": "1"}, {"QA_COMPOSE_URL": "x"}),
        *({"QA_MODLE": ""}, {"MODLE": "x"}, {"QA_MODE": "x", "QA_MODEL": "m"}),
        {env: EXAMPLES[name][0] for name, env in ENV.items() if name != "profile"},
    ],
)
def test_variable_of_another_program_is_not_mentioned(environ: dict[str, str]) -> None:
    assert load(environ).misspelled == ()


def test_misspelled_variable_in_an_untrusted_file_is_not_mentioned() -> None:
    Path(".env").write_text("QA_MODLE=x\n")
    assert load().misspelled == ()


@pytest.mark.parametrize("place", [".env", "config.toml", "profile"])
def test_load_settings_relative_database_is_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    project, config = tmp_path / "project", tmp_path / "config"
    for directory in (project, config):
        directory.mkdir()
    monkeypatch.chdir(project)
    if place == ".env":
        write_env_file("DATABASE_URL=sqlite:///sub/history.db\n")
    else:
        table = "[profiles.work]\n" if place == "profile" else ""
        line = 'database_url = "sqlite:///sub/history.db"\n'
        (config / "config.toml").write_text(table + line)
    environ = {"QA_CONFIG": str(config / "config.toml")}
    if place == "profile":
        environ["QA_PROFILE"] = "work"
    beside = project if place == ".env" else config
    assert load_settings(environ).database == f"sqlite:///{beside / 'sub' / 'history.db'}"


def test_load_settings_relative_database_of_environment_is_refused() -> None:
    with pytest.raises(NotConfigured, match="relative path") as caught:
        load_settings({"DATABASE_URL": "sqlite:///history.db"})
    assert "absolute path" in caught.value.todo
    whole = "sqlite:////d/history.db"
    assert load_settings({"DATABASE_URL": whole}).database == whole


@pytest.mark.parametrize(
    ("character", "escape"), [("/", "%2F"), ("#", "%23"), ("?", "%3F"), ("[", "%5B")]
)
def test_database_url_with_unescaped_password_names_the_character(
    character: str, escape: str
) -> None:
    settings = Settings(database_url=f"postgresql://u:sesame{character}opens@h/d")
    with pytest.raises(NotConfigured) as raised:
        _ = settings.database
    message = str(raised.value)
    assert f"write {character} as {escape}:" in message
    assert "sesame" not in message
    assert "opens" not in message
