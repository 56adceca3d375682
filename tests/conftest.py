"""The fixtures of all tests: an empty home, a provider on loopback, both databases, and `qa`."""

import gc
import os
import resource
import subprocess
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import Invoke, Program
from databases import PostgresDatabases, SqliteTemplate, bring_up_to_date, read_records
from fake_provider import FakeProvider
from postgres_server import Postgres, postgres_server

from qacli.config.env_file import EnvFile, save_record
from qacli.config.settings import Settings, setting_fields
from qacli.db.records import Store
from qacli.domain import (
    AnswerEvent,
    Delta,
)

pytest_plugins = ["flask_fixtures"]

KEY = "sk-test-0123456789abcdef"

Records = Callable[..., list[dict[str, Any]]]
"""The function of the fixture `records`."""

# Let the programs that tests start write their bytecode: else each compiles the dependencies.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use two processes for each processor, because many tests wait; not with `-n 0`."""
    is_worker = hasattr(config, "workerinput")
    if not is_worker and getattr(config.option, "numprocesses", 0) is None:
        config.option.numprocesses = 2 * (os.cpu_count() or 1)
        config.option.dist = "worksteal"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in tests/e2e and tests/clients."""
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker("browser" if item.path.name == "test_browser.py" else "e2e")
        if item.path.parent.name == "clients":
            item.add_marker("clients")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave the modules and the tests out of garbage collections, which would visit them all."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: no settings, no history, and no variables of the user."""
    for item in setting_fields():
        monkeypatch.delenv(item.env, raising=False)
    monkeypatch.setenv("QA_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("QA_DATA_DIR", str(tmp_path / "data"))
    # The records of trusted .env files are below it.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_env_file(text: str | bytes, directory: Path | None = None) -> Path:
    """Write a `.env` file and trust it, as `qa config trust --yes` does; return its path."""
    path = (directory or Path()) / ".env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    file = EnvFile.read(path)
    assert file is not None
    save_record(file, trusted=True)
    return path


@pytest.fixture(scope="session")
def _provider() -> Iterator[FakeProvider]:
    with FakeProvider(api_key=KEY) as provider:
        yield provider


@pytest.fixture
def provider(_provider: FakeProvider) -> FakeProvider:
    """A provider that answers "Answer to: <question>", without requests so far."""
    _provider.reset()
    return _provider


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL server of this run; with pytest-xdist, of this worker."""
    with postgres_server(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_databases(postgres: Postgres) -> Iterator[PostgresDatabases]:
    """The databases of `postgres`."""
    with closing(PostgresDatabases(postgres)) as databases:
        yield databases


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    """A migrated SQLite file without records."""
    return SqliteTemplate(tmp_path_factory.mktemp("template") / "history.db")


@pytest.fixture
def postgres_url(postgres_databases: PostgresDatabases) -> str:
    """The URL of a new, empty PostgreSQL database."""
    return postgres_databases.server.get_uri(postgres_databases.create())


@pytest.fixture
def migrated_postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database without records."""
    with postgres_databases.migrated() as name:
        yield postgres_databases.server.get_uri(name)


@pytest.fixture
def empty_database() -> None:
    """Make `database_url` a database without tables; on SQLite, without a file."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, home: Path) -> str:
    """The URL of a new database; the test runs on SQLite and on PostgreSQL.

    The database is migrated if the test uses the fixture `store`, `qa` or `invoke`, and not
    `empty_database`.
    """
    fixtures = set(request.fixturenames)
    is_migrated = bool(fixtures & {"store", "qa", "invoke"}) and "empty_database" not in fixtures
    if request.param == "sqlite":
        file = home / "data" / "history.db"
        if is_migrated:
            template: SqliteTemplate = request.getfixturevalue("sqlite_template")
            template.copy_to(file)
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("migrated_postgres_url" if is_migrated else "postgres_url")
    return url


@pytest.fixture
def settings(home: Path, provider: FakeProvider, database_url: str) -> Settings:
    """Settings with the provider and `database_url`, without retries, with a short timeout."""
    return Settings(
        api_key=KEY,
        base_url=provider.base_url,
        model="test-model",
        data_dir=home / "data",
        database_url=database_url,
        retries=0,
        timeout=10,
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """The store of `settings`, migrated."""
    store = Store.open(settings.database)
    yield store
    store.close()


@pytest.fixture
def records(database_url: str) -> Records:
    """Return a function that reads all records of the test's database, or of another one."""
    return lambda url=database_url: read_records(url)


def migrated(settings: Settings) -> Store:
    """Migrate the database of the settings, and return its store."""
    bring_up_to_date(settings.database)
    return Store.open(settings.database)


def texts_of(events: Iterable[AnswerEvent]) -> list[str]:
    """Return the texts of the events that have one."""
    return [event.text for event in events if isinstance(event, Delta)]


@pytest.fixture
def qa(provider: FakeProvider, database_url: str) -> Program:
    """`qa` as a process, with the provider and `database_url`."""
    return Program(command_environment(provider, database_url))


@pytest.fixture
def installed_qa(qa: Program) -> Program:
    """The installed program, with its whole start-up."""
    qa.popen = subprocess.Popen
    return qa


@pytest.fixture
def invoke(provider: FakeProvider, database_url: str) -> Invoke:
    """`qa` in this process, with the provider and `database_url`."""
    return Invoke(command_environment(provider, database_url))


def command_environment(provider: FakeProvider, database_url: str) -> dict[str, str]:
    """Return the environment variables that select the provider and the database."""
    return {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": provider.base_url,
        "QA_MODEL": "test-model",
        "QA_RETRIES": "0",
        "DATABASE_URL": database_url,
    }


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Return a function that limits the size of each file of this process, like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    """Return a function that calls another one until its result is true, and returns the result.

    It fails after a minute, or after the given seconds.
    """
    from time import monotonic, sleep

    def wait(call: Callable[[], Any], seconds: float = 60) -> Any:
        end = monotonic() + seconds
        while not (value := call()):
            assert monotonic() < end, f"{call} returned {value!r} for {seconds} s"
            sleep(0.02)
        return value

    return wait
