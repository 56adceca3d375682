"""`qa config trust`: the `.env` of a cloned project is ignored until the user has seen it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY, write_env_file
from person import ENTER, Person

from qacli.db.records import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program
    from fake_provider import FakeProvider

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SECRET = "hunter2-is-no-secret-0123"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def bare(qa: Program) -> Program:
    """`qa` without a key, an endpoint, a model, retries or a database in its environment."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_MODEL", "QA_RETRIES", "DATABASE_URL"):
        qa.env[name] = ""
    return qa


@pytest.fixture
def dotenv(home: Path, provider: FakeProvider) -> Path:
    """The `.env` of a cloned project, with an endpoint and a key."""
    file = home / ".env"
    file.write_text(f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={provider.base_url}\nQA_RETRIES=0\n")
    return file


def notice_of(file: Path, names: str = "OPENAI_API_KEY, OPENAI_BASE_URL and QA_RETRIES") -> str:
    return (
        f"{file} is ignored: it is not trusted. It sets {names}. "
        "To see it and trust it: qa config trust\n"
    )


def test_ask_sends_nothing_to_an_untrusted_endpoint(
    bare: Program, dotenv: Path, provider: FakeProvider
) -> None:
    done = bare("ask", "Who am I?", QA_MODEL="m", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.code == 6
    assert done.err.startswith(notice_of(dotenv, "OPENAI_API_KEY and QA_RETRIES"))
    assert provider.requests == []
    shown = bare("config", "trust", "--yes")
    assert (shown.code, shown.err) == (0, "")
    done = bare("ask", "Who am I?")
    assert (done.code, done.out, done.err) == (0, "Answer to: Who am I?\n", "")


def test_ask_not_configured_and_quiet_names_the_trust_command(bare: Program, dotenv: Path) -> None:
    done = bare("ask", "--quiet", "--model", "gpt-6-luna", "Who am I?")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("qa: No provider is configured for the model gpt-6-luna.")
    assert f"{dotenv} sets OPENAI_API_KEY and OPENAI_BASE_URL but is ignored" in done.err
    assert "qa config trust" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", [["list"], ["stats"], ["config"], ["template", "list"]])
@pytest.mark.usefixtures("dotenv")
def test_ignored_file_notice_is_printed_once_on_stderr(
    bare: Program, dotenv: Path, command: list[str]
) -> None:
    done = bare(*command)
    assert (done.code, done.err) == (0, notice_of(dotenv))


@pytest.mark.usefixtures("dotenv")
def test_command_without_settings_prints_no_notice(bare: Program) -> None:
    for command in (["--version"], ["--help"], ["help", "scripting"], ["config", "path"]):
        assert bare(*command).err == ""


def test_trust_shows_the_settings_with_secrets_masked(bare: Program, home: Path) -> None:
    (home / ".env").write_text(
        f"OPENAI_API_KEY={SECRET}\nDATABASE_URL=postgresql://u:{SECRET}@evil.example/d\n"
        f"QA_TOKENS=alice={SECRET}\nQA_SYSTEM='Be\n\x1bbrief.'\nOTHER={SECRET}\n"
        "QA_CORS_ORIGINS=https://evil.example\nQA_HOST=0.0.0.0\n"
    )
    refused = bare("config", "trust")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert bare("config", "--json").out.count("evil.example") == 0
    done = bare("config", "trust", "--yes", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["settings"] == {
        "OPENAI_API_KEY": f"…{SECRET[-4:]}",
        "QA_SYSTEM": "Be\n\x1bbrief.",
        "DATABASE_URL": "postgresql://u:***@evil.example/d",
        "QA_HOST": "0.0.0.0",  # noqa: S104 - only shown, never bound
        "QA_TOKENS": "alice=***",
        "QA_CORS_ORIGINS": "https://evil.example",
    }
    assert (found["path"], found["state"]) == (str(home / ".env"), "trusted")
    for name, value in found["settings"].items():
        line = next(line for line in refused.out.splitlines() if line.split()[:1] == [name])
        assert line.split(maxsplit=1)[1] == " ".join(value.split())
    assert SECRET not in refused.out + done.out


def test_trust_on_a_terminal_shows_and_asks(
    bare: Program, dotenv: Path, at_terminal: Callable[..., Person]
) -> None:
    person = at_terminal("config", "trust")
    assert "OPENAI_BASE_URL" in person.see("Trust this file?")
    person.see("[y/N]: ")
    person.type(f"n{ENTER}")
    assert person.end() == 130
    assert KEY not in person.output
    assert bare("list").err == notice_of(dotenv)
    person = at_terminal("config", "trust")
    person.see("[y/N]: ")
    person.type(f"y{ENTER}")
    assert person.end() == 0
    assert f"{dotenv} is trusted until it changes." in " ".join(person.text.split())
    assert bare("list").err == ""


def test_trust_stores_the_bytes_that_were_shown(
    bare: Program, dotenv: Path, at_terminal: Callable[..., Person]
) -> None:
    """A file that changes while the user reads it is not trusted."""
    person = at_terminal("config", "trust")
    person.see("[y/N]: ")
    dotenv.write_text("OPENAI_BASE_URL=https://evil.example/v1\n")
    person.type(f"y{ENTER}")
    assert person.end() == 0
    done = bare("list")
    assert "it has changed since it was trusted. It sets OPENAI_BASE_URL." in done.err


def test_trust_takes_the_directory_as_argument(bare: Program, home: Path) -> None:
    project = home / "some project"
    project.mkdir()
    (project / ".env").write_text("QA_MODEL=m\n")
    (home / "link").symlink_to(project)
    for argument in ("some project", "some project/.env", "link", str(project)):
        assert bare("config", "trust", "--yes", argument).code == 0
        (record,) = json.loads(bare("config", "trust", "--list", "--json").out)
        assert (record["path"], record["state"]) == (str(project / ".env"), "trusted")
        assert bare("config", "untrust", argument).code == 0
        (record,) = json.loads(bare("config", "trust", "--list", "--json").out)
        assert record["state"] == "refused"
    missing = bare("config", "trust", "--yes", "nowhere")
    assert (missing.code, missing.out) == (4, "")
    assert "nowhere/.env" in missing.err
    assert bare("config", "untrust", "nowhere").code == 4


def test_trust_list_shows_each_file_with_its_state(bare: Program, home: Path) -> None:
    assert bare("config", "trust", "--list").out == ""
    assert json.loads(bare("config", "trust", "--list", "--json").out) == []
    for name in ("changed", "missing", "refused", "trusted"):
        (home / name).mkdir()
        write_env_file("QA_MODEL=m\n", home / name)
    (home / "changed" / ".env").write_text("QA_MODEL=other\n")
    (home / "missing" / ".env").unlink()
    assert bare("config", "untrust", "refused").code == 0
    found = json.loads(bare("config", "trust", "--list", "--json").out)
    assert [each["state"] for each in found] == ["changed", "missing", "refused", "trusted"]
    lines = bare("config", "trust", "--list").out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "changed since it was trusted",
        "missing",
        "not trusted",
        "trusted",
    ]
    assert bare("config", "untrust", "missing").code == 0
    assert len(json.loads(bare("config", "trust", "--list", "--json").out)) == 3


def test_untrusted_file_is_ignored_without_a_notice_until_it_changes(
    bare: Program, dotenv: Path
) -> None:
    assert bare("config", "trust", "--yes").code == 0
    assert bare("config", "untrust").code == 0
    assert bare("list").err == ""
    found = json.loads(bare("config", "--json").out)
    assert found["base_url"]["value"] is None
    dotenv.write_text(dotenv.read_text() + "#\n")
    assert bare("list").err == notice_of(dotenv)


def test_config_shows_the_ignored_file_beside_each_setting(bare: Program, dotenv: Path) -> None:
    done = bare("config", QA_RETRIES="5")
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    ignored = f"OPENAI_BASE_URL in {dotenv} is ignored: it is not trusted"
    assert lines["base_url"].endswith(f"the default; {ignored}")
    assert lines["retries"].endswith("the environment variable QA_RETRIES")
    found = json.loads(bare("config", "--json").out)
    assert found["base_url"]["source"] == f"the default; {ignored}"
    assert found["model"]["source"] is None
    bare("config", "trust", "--yes")
    assert json.loads(bare("config", "--json").out)["base_url"]["source"] == (
        "OPENAI_BASE_URL in .env"
    )


def test_history_does_not_go_to_an_untrusted_database(bare: Program, home: Path) -> None:
    (home / ".env").write_text(f"DATABASE_URL=sqlite:///{home}/stolen.db\n")
    done = bare("list", PGPASSWORD=SECRET)
    assert (done.code, done.err) == (0, notice_of(home / ".env", "DATABASE_URL"))
    assert not (home / "stolen.db").exists()
    bare("config", "trust", "--yes")
    assert bare("migrate").code == 0
    assert (home / "stolen.db").exists()


def test_server_does_not_listen_for_an_untrusted_file(bare: Program, home: Path) -> None:
    (home / ".env").write_text("QA_HOST=192.0.2.1\nQA_TOKEN=known-to-a-stranger\n")
    done = bare("serve", "--host", "192.0.2.1", "--port", "0")
    assert done.code == 3
    assert f"{home / '.env'} sets QA_TOKEN but is ignored" in done.err
    assert "Set QA_TOKEN" in done.err


def test_alembic_prints_the_notice_of_the_ignored_file(bare: Program, home: Path) -> None:
    (home / ".env").write_text(f"DATABASE_URL=sqlite:///{home}/stolen.db\n")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("alembic"),
            *("--config", ROOT / "pyproject.toml", "upgrade", "head"),
        ],
        capture_output=True,
        text=True,
        env=bare.environ(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert notice_of(home / ".env", "DATABASE_URL") in done.stderr
    assert not (home / "stolen.db").exists()
    Store.open(f"sqlite:///{home / 'data' / 'history.db'}").close()


def test_copied_env_example_works_after_trust(
    bare: Program, home: Path, provider: FakeProvider
) -> None:
    text = (ROOT / ".env.example").read_text()
    text = text.replace("OPENAI_API_KEY=\n", f"OPENAI_API_KEY={KEY}\n")
    text = text.replace("OPENAI_BASE_URL=\n", f"OPENAI_BASE_URL={provider.base_url}\n")
    (home / ".env").write_text(text)
    assert "OPENAI_API_KEY and OPENAI_BASE_URL" in bare("list").err
    assert bare("config", "trust", "--yes").code == 0
    assert bare("ask", "Who am I?").out == "Answer to: Who am I?\n"


def test_trust_with_unwritable_records_is_an_error_with_advice(bare: Program, home: Path) -> None:
    (home / ".env").write_text("QA_MODEL=m\n")
    (home / "file").write_text("")
    done = bare("config", "trust", "--yes", XDG_DATA_HOME=str(home / "file"))
    assert done.code == 3
    assert "cannot be written" in done.err
    assert "environment" in done.err


def test_ignored_file_notice_does_not_control_the_terminal(
    bare: Program, home: Path, console: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = home / "\x1b]0;title\x07"
    directory.mkdir()
    (directory / ".env").write_text("QA_MODEL=m\n")
    monkeypatch.chdir(directory)
    assert "\x1b]0" not in console(bare, "list").err


def test_misspelled_variable_gets_one_warning(bare: Program, home: Path) -> None:
    warning = "QA_MODLE in the environment is not a setting of qa. Did you mean QA_MODEL?\n"
    done = bare("list", QA_MODLE="m")
    assert (done.code, done.err) == (0, warning)
    quiet = bare("ask", "--quiet", "a", QA_MODLE="m", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert "QA_MODLE" not in quiet.err
    (home / ".env").write_text("QA_TIMOUT=3\n")
    done = bare("config", "trust", "--yes")
    assert (done.code, done.err) == (
        0,
        "QA_TIMOUT in .env is not a setting of qa. Did you mean QA_TIMEOUT?\n",
    )
