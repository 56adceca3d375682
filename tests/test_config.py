from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from qacli.config import (
    EXPECTED,
    Settings,
    config_file,
    load_settings,
    setting_fields,
    without_password,
)
from qacli.errors import NotConfigured

SECRET = "hunter2-is-no-secret-0123"

# For every setting: a value in text, and what it means.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "api_key": (SECRET, SECRET),
    "base_url": ("https://a.example/v1/", "https://a.example/v1"),
    "model": ("m", "m"),
    "local_model": ("/w.gguf", Path("/w.gguf")),
    "system": ("Be brief.", "Be brief."),
    "database_url": ("sqlite:////tmp/h.db", "sqlite:////tmp/h.db"),
    "data_dir": ("/data", Path("/data")),
    "timeout": ("1.5", 1.5),
    "first_token_timeout": ("2", 2.0),
    "connect_timeout": ("3", 3.0),
    "retries": ("0", 0),
    "host": ("::1", "::1"),
    "serve_port": ("0", 0),
    "workers": ("2", 2),
    "threads": ("3", 3),
    "grace": ("4", 4.0),
    "token": (SECRET, SECRET),
    "allowed_hosts": ("a.example,b.example", "a.example,b.example"),
}
ENV = {item.name: item.metadata["env"] for item in setting_fields()}


def load(environ: dict[str, str] | None = None, *, dotenv: str = "", config: str = "") -> Settings:
    """The settings from these three, in the test's own directory."""
    if dotenv:
        Path(".env").write_text(dotenv, encoding="utf-8")
    file = Path("config.toml").absolute()
    if config:
        file.write_text(config, encoding="utf-8")
    return load_settings({"QA_CONFIG": str(file), **(environ or {})})


def refused(environ: dict[str, str] | None = None, **files: str) -> NotConfigured:
    with pytest.raises(NotConfigured) as caught:
        load(environ, **files)
    assert SECRET not in repr(caught.value.args)
    return caught.value


def test_every_setting_has_an_example_here() -> None:
    assert EXAMPLES.keys() == ENV.keys()
    assert len(set(ENV.values())) == len(ENV)
    assert {item.name for item in fields(Settings)} == {*ENV, "sources"}


def test_with_nothing_said_the_defaults_hold() -> None:
    assert load() == Settings()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_setting_is_read_from_all_three_places(name: str) -> None:
    text, value = EXAMPLES[name]
    for given in (
        load({ENV[name]: text}),
        load(dotenv=f"{ENV[name]}='{text}'\n"),
    ):
        assert getattr(given, name) == value
    Path(".env").unlink()
    assert getattr(load(config=f"{name} = '{text}'\n"), name) == value


def test_a_flag_beats_the_environment_beats_dotenv_beats_the_file_beats_the_default() -> None:
    config = "timeout = 1\nretries = 1\nmodel = 'file'\nsystem = 'file'\n"
    dotenv = "QA_RETRIES=2\nQA_MODEL=dotenv\nQA_SYSTEM=dotenv\n"
    environ = {"QA_MODEL": "environment", "QA_SYSTEM": "environment"}
    given = load(environ, dotenv=dotenv, config=config)
    given = given.given({"system": "flag", "model": None})
    assert (given.workers, given.timeout, given.retries) == (1, 1.0, 2)
    assert (given.model, given.system) == ("environment", "flag")
    assert given.sources["system"] == "a flag"
    assert given.sources["model"] == "the environment variable QA_MODEL"
    assert given.sources["retries"] == f"QA_RETRIES in {Path('.env')}"
    assert given.sources["timeout"] == f"timeout in {Path('config.toml').absolute()}"
    assert "workers" not in given.sources


def test_a_flag_of_zero_is_said() -> None:
    assert load({"QA_RETRIES": "5"}).given({"retries": 0}).retries == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_empty_value_is_the_same_as_none(name: str) -> None:
    dotenv = f"{ENV[name]}=\n"
    given = load({ENV[name]: ""}, dotenv=dotenv, config=f"{name} = ''\n")
    assert given == Settings()
    given = load({ENV[name]: ""}, dotenv=dotenv, config=f"{name} = '{EXAMPLES[name][0]}'\n")
    assert getattr(given, name) == EXAMPLES[name][1]


def test_a_name_alone_in_dotenv_is_none() -> None:
    assert load(dotenv="QA_MODEL\n").model is None


def test_dotenv_is_taken_literally() -> None:
    assert load({"HOME": "/root"}, dotenv="QA_SYSTEM='costs ${HOME}'\n").system == "costs ${HOME}"


def test_dotenv_is_looked_for_in_the_given_directory(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    (other / ".env").write_text("QA_MODEL=other\n")
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
def test_a_wrong_value_is_refused_with_its_source(name: str, text: str) -> None:
    expected = EXPECTED[
        next(item.metadata["parse"] for item in setting_fields() if item.name == name)
    ]
    for error, source in (
        (refused({ENV[name]: text}), f"the environment variable {ENV[name]}"),
        (refused(dotenv=f"{ENV[name]}='{text}'\n"), f"{ENV[name]} in .env"),
    ):
        assert error.what == f"The setting {source} is wrong: {text!r} is not {expected}."
        assert error.todo
    Path(".env").unlink()
    error = refused(config=f"{name} = '{text}'\n")
    assert f"{name} in {Path('config.toml').absolute()}" in error.what
    assert expected in error.what


def test_a_wrong_value_that_is_not_used_is_not_complained_about() -> None:
    assert load({"QA_RETRIES": "3"}, config="retries = 'x'\n").retries == 3


@pytest.mark.parametrize("value", ["true", "[1]", "{a = 1}"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_wrong_type_in_the_file_is_refused(name: str, value: str) -> None:
    error = refused(config=f"{name} = {value}\n")
    assert f"{name} in {Path('config.toml').absolute()}" in error.what


@pytest.mark.parametrize("name", ["api_key", "token", "database_url"])
def test_a_wrong_secret_is_not_shown(name: str) -> None:
    error = refused(config=f"{name} = ['{SECRET}']\n")
    assert "its value" in error.what


@pytest.mark.parametrize(("name", "value"), [("timeout", "2.5"), ("retries", "4"), ("model", "7")])
def test_numbers_in_the_file_need_no_quotes(name: str, value: str) -> None:
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
def test_an_unknown_name_is_refused_with_its_line(config: str, line: int, name: str) -> None:
    error = refused(config=config)
    file = Path("config.toml").absolute()
    assert error.what == f"Line {line} of {file} sets {name}, which is not a setting."
    assert all(known in error.todo for known in ENV)


@pytest.mark.parametrize(
    "config", ["model = \n", "model 'x'\n", "[model\n", "model = 'a'\nmodel = 'b'\n", "\x00"]
)
def test_a_file_that_is_not_toml_is_refused_by_name(config: str) -> None:
    error = refused(config=f"api_key = '{SECRET}'\n{config}")
    assert f"{Path('config.toml').absolute()} is not TOML" in error.what


def test_a_secret_without_quotes_is_not_shown() -> None:
    refused(config=f"api_key = {SECRET}\n")


def test_a_file_that_is_not_utf8_is_refused_by_name() -> None:
    Path("config.toml").write_bytes(b"model = '\xff'\n")
    assert str(Path("config.toml").absolute()) in refused().what


def test_a_configuration_file_that_is_a_directory_is_refused() -> None:
    Path("config.toml").mkdir()
    assert str(Path("config.toml").absolute()) in refused().what


def test_dotenv_that_is_not_utf8_is_refused_by_name() -> None:
    Path(".env").write_bytes(b"OPENAI_API_KEY=" + SECRET.encode() + b"\xff\n")
    error = refused()
    assert ".env cannot be read" in error.what


def test_the_configuration_file_is_named_by_the_environment() -> None:
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
def test_a_database_url_is_rewritten_for_the_driver(url: str, database: str | None) -> None:
    rewritten = database or url.replace("postgresql:", "postgresql+psycopg2:")
    assert Settings(database_url=url).database == rewritten


def test_without_a_database_url_the_history_is_in_the_data_directory() -> None:
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
def test_other_databases_are_refused_without_showing_the_url(url: str) -> None:
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
def test_history_in_memory_is_refused_however_it_is_spelled(url: str) -> None:
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
def test_a_database_url_that_cannot_be_read_is_an_error_of_ours(url: str) -> None:
    settings = Settings(database_url=url)
    with pytest.raises(NotConfigured) as caught:
        _ = settings.database, settings.outbox_path, settings.redact("x")
    assert "hunter2" not in str(caught.value)


def outbox_of(url: str) -> Path:
    return Settings(data_dir=Path("/d"), database_url=url).outbox_path


def test_each_database_has_an_outbox_of_its_own() -> None:
    urls = [
        *("sqlite:////a/history.db", "sqlite:////b/history.db", "sqlite:////a/other.db"),
        *("postgresql://h/d", "postgresql://h/e", "postgresql://i/d", "postgresql://h:5433/d"),
        "postgresql:///d?host=/run/a",
        "postgresql:///d?host=/run/b",
    ]
    assert len({outbox_of(url) for url in urls}) == len(urls)


def test_the_outbox_of_a_sqlite_file_is_beside_it() -> None:
    assert outbox_of("sqlite:////a/history.db") == Path("/a/history.db.outbox")
    assert outbox_of("sqlite:////a/history.db?timeout=3") == Path("/a/history.db.outbox")


def test_another_password_or_spelling_is_the_same_outbox() -> None:
    urls = [
        *("postgresql://u:one@h/d", "postgresql://u:two@h/d", "postgres://u:p%40%2F@h/d"),
        *("postgresql://u@h:5432/d", "postgresql+psycopg2://v:one@H/d"),
    ]
    assert len({outbox_of(url) for url in urls}) == 1
    assert outbox_of(urls[0]).parent == Path("/d/outbox")
    assert "one" not in str(outbox_of(urls[0]))


def test_a_password_in_the_query_is_a_password_too() -> None:
    assert outbox_of("postgresql://u@h/d?password=one") == outbox_of(
        "postgresql://u@h/d?password=two"
    )


def test_a_password_in_the_query_is_not_shown() -> None:
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
def test_secrets_are_taken_out_of_a_text(text: str, shown: str) -> None:
    assert SECRETS.redact(text) == shown


def test_a_database_url_in_a_text_shows_no_password() -> None:
    assert "pa55word" not in SECRETS.redact("postgresql://u:pa55word@h/d is down")


def test_a_secret_inside_another_does_not_leave_the_rest() -> None:
    for number in range(20):
        token = f"t0ken{number}"
        settings = Settings(api_key=f"{token}-and-the-rest", token=token)
        assert settings.redact(f"{token}-and-the-rest") == "***"


def test_a_password_is_redacted_in_both_spellings() -> None:
    settings = Settings(database_url="postgresql://u:pa%40ss%2Fword@h/d")
    assert settings.redact("pa%40ss%2Fword") == "***"
    assert settings.redact("pa@ss/word") == "***"


def test_without_secrets_there_is_nothing_to_take_out() -> None:
    assert Settings().redact("a text") == "a text"
    assert Settings(api_key="a", token="").redact("a text") == "a text"


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
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


ELSEWHERE = "OPENAI_BASE_URL=https://evil.example/v1\n"


def test_a_key_of_the_environment_is_not_lent_to_the_endpoint_of_a_dotenv() -> None:
    error = refused({"OPENAI_API_KEY": SECRET}, dotenv=ELSEWHERE)
    assert "OPENAI_BASE_URL comes from .env" in error.what


def test_a_key_of_the_configuration_file_is_not_lent_either() -> None:
    refused(dotenv=ELSEWHERE, config=f"api_key = '{SECRET}'\n")


def test_a_key_in_the_environment_beats_the_one_in_dotenv_and_is_not_lent() -> None:
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
def test_other_ways_to_name_key_and_endpoint_are_fine(
    environ: dict[str, str], files: dict[str, str]
) -> None:
    load(environ, **files)


def test_the_sources_are_not_shown_with_the_settings() -> None:
    assert "sources" not in repr(load({"QA_MODEL": "m"}))
