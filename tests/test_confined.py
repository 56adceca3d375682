"""Whatever a schema says, to check an answer by it comes to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qacli import json_schema_sandbox
from qacli.errors import Busy, InvalidRequest, UnfitAnswer
from qacli.json_schema_sandbox import SandboxedSchema
from qacli.web import state
from qacli.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fake_provider import FakeProvider

    from qacli.config.settings import Settings
    from qacli.db.records import Store

DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/0",
    "$defs": {
        **{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)},
        "40": {},
    },
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process of the test's own, that has little time."""
    monkeypatch.setattr(json_schema_sandbox, "idle", [])
    monkeypatch.setattr(
        json_schema_sandbox,
        "START",
        "import qacli.json_schema_sandbox as c; c.SECONDS = 0.3; c.serve()",
    )
    yield
    for process in json_schema_sandbox.idle:
        process.communicate()


def test_an_answer_fits_or_does_not() -> None:
    schema = SandboxedSchema({"type": "object", "required": ["age"]})
    schema.validate_schema()
    schema.check('{"age": 5, "name": "\u00e4\u2028"}')
    with pytest.raises(UnfitAnswer, match="'age' is a required property"):
        schema.check("{}")
    assert len(json_schema_sandbox.idle) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "http://elsewhere/schema"},
        {"pattern": "("},
    ],
)
def test_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        SandboxedSchema(schema).validate_schema()


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(a+)+$"},
        {
            "$defs": {
                "a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "^(a+)+$"}
            },
            "$ref": "#/$defs/a",
        },
        DOUBLING,
    ],
    ids=["pattern", "hidden", "doubling"],
)
def test_what_would_take_for_ever_is_ended(schema: dict[str, Any]) -> None:
    endless = SandboxedSchema(schema)
    endless.validate_schema()
    for _ in range(2):  # with a process that waited, and without one
        with pytest.raises(UnfitAnswer, match="takes too long"):
            endless.check(f'"{"a" * 60}!"')
    SandboxedSchema({"pattern": "^a"}).check('"a"')


def test_a_schema_that_takes_too_long_itself_is_refused() -> None:
    parts = [{"pattern": f"[a-z{n}]" * 50} for n in range(5000)]
    with pytest.raises(InvalidRequest, match="takes too long"):
        SandboxedSchema({"allOf": parts}).validate_schema()


def test_one_that_was_ended_while_it_waited_is_replaced() -> None:
    schema = SandboxedSchema({"type": "integer"})
    schema.check("5")
    [process] = json_schema_sandbox.idle
    process.kill()
    process.wait()
    with pytest.raises(UnfitAnswer, match="is not of type"):
        schema.check('"5"')


def test_a_number_that_json_has_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        SandboxedSchema({"const": float("inf")}).validate_schema()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_answer_that_is_checked_without_end_is_kept_and_not_asked_for_again(
    store: Store, settings: Settings, provider: FakeProvider
) -> None:
    app = create_app(settings)
    question = f"""Who? [[text='"{"a" * 60}!"']]"""
    body = {"question": question, "schema": {"pattern": "^(a+)+$"}}
    problem = app.test_client().post("/ask", json=body).get_json(force=True)
    assert (problem["kind"], problem["record_id"]) == ("unfit-answer", 1)
    assert "takes too long" in problem["detail"]
    assert store.get(1).answer == f'"{"a" * 60}!"'
    assert len(provider.requests) == 1
    app.extensions[state.EXTENSION_KEY].all_records.close()


def test_where_no_process_can_be_started_an_answer_is_unfit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_schema_sandbox.sys, "executable", "/nowhere")
    with pytest.raises(UnfitAnswer, match="cannot be checked"):
        SandboxedSchema({}).check("5")
    with pytest.raises(Busy):
        SandboxedSchema({}).validate_schema()


def test_process_imports_nothing_from_the_working_directory(home: Path) -> None:
    """A cloned project, in which `qa serve` was started, must not run as a part of it."""
    for name in ("json.py", "pickle.py", "jsonschema.py", "qacli.py"):
        (home / name).write_text(f"open({str(home / 'made')!r}, 'w').close()\n")
    SandboxedSchema({"type": "object"}).validate_schema()
    assert not (home / "made").exists()
