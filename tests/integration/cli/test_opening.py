"""A command opens the history once, and reads a list as quickly as an export."""

import json

import pytest
from statements import counted

from qacli.cli import app
from qacli.config.settings import Settings
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status

ANSWERED = Outcome(status=Status.ANSWERED, answer="Yes.", model="test-model")

COMMANDS = [
    ["list"],
    ["list", "--limit", "0", "--format", "jsonl"],
    ["show", "last"],
    ["stats"],
    ["export"],
    ["ask", "--continue", "And then?"],
    ["ask", "--follow", "-1", "--reuse", "And then?"],
    ["tag", "1", "+good"],
]


@pytest.fixture
def environment(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The history of the command line, with two records."""
    monkeypatch.setenv("OPENAI_API_KEY", settings.api_key)
    monkeypatch.setenv("OPENAI_BASE_URL", settings.base_url)
    monkeypatch.setenv("QA_MODEL", settings.model)
    monkeypatch.setenv("DATABASE_URL", settings.database)
    monkeypatch.setattr("sys.stdin", None)
    first = store.upsert(Question(question="Right?"), ANSWERED)
    store.upsert(Question(question="Sure?", follows_id=first), ANSWERED)
    return store


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_opens_the_history_once(
    settings: Settings, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with counted() as log:
        assert app.run(arguments) == 0, capsys.readouterr().err
    assert sum("alembic_version" in statement for statement in log) == 1
    if not settings.database.startswith("sqlite"):
        assert log.count("connect") == 1


def test_list_all_as_jsonl_equals_export_in_as_many_queries(
    environment: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, queries = [], []
    for arguments in (["export"], ["list", "--limit", "0", "--format", "jsonl"]):
        with counted() as log:
            assert app.run(arguments) == 0
        outputs.append(capsys.readouterr().out)
        queries.append([text for text in log if "FROM question_answer" in text])
    assert outputs[0] == outputs[1] == "".join(f"{line}\n" for line in environment.json_lines())
    # The same query, but without the conversion of types, which takes most of the time.
    assert queries[0] == queries[1]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--limit", "0"], [1, 2, 3]),
        (["--limit", "2"], [2, 3]),
        (["--limit", "2", "--order", "newest"], [3, 2]),
        (["--limit", "2", "--order", "oldest"], [1, 2]),
        (["--after", "1"], [2, 3]),
        (["--before", "3", "--limit", "1"], [2]),
        (["--search", "right"], [1]),
        (["--search", "yes", "--order", "newest", "--limit", "1"], [3]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_list_has_the_same_records_in_every_format(
    environment: Store, capsys: pytest.CaptureFixture[str], options: list[str], ids: list[int]
) -> None:
    environment.upsert(Question(question="Really?", follows_id=2), ANSWERED)
    found = {}
    for form in ("table", "json", "jsonl", "csv"):
        assert app.run(["list", *options, "--format", form]) == 0
        found[form] = capsys.readouterr().out
    assert [int(line.split("\t")[0]) for line in found["table"].splitlines()] == ids
    assert [record["id"] for record in json.loads(found["json"])] == ids
    assert [json.loads(line)["id"] for line in found["jsonl"].splitlines()] == ids
    assert [int(line.split(",")[0]) for line in found["csv"].splitlines()[1:]] == ids
