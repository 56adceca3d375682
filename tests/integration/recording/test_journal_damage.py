"""Damaged journals: every readable answer is in the history, or in a file that is reported.

The seeds are fixed; `QA_TEST_JOURNALS=5000` runs the first test with more journals.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from qacli.domain import Delta, Outcome, Question, ReasoningDelta, Status
from qacli.recording.journal_format import (
    completed_entry,
    outcome_entry,
    question_entry,
    text_entry,
    with_checksum,
)
from qacli.recording.journal_reader import parse_journal
from qacli.recording.outbox import SET_ASIDE, SUFFIX, Outbox
from qacli.recording.recovery import recover_outbox

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

    from qacli.db.records import Store

JOURNALS = int(os.environ.get("QA_TEST_JOURNALS", "150"))
AT_ONCE = 250
"""The number of damaged journals that are delivered together."""

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BAD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 2**63, 10**400, 1e999, float("nan"), 0.5, "", "7", "x" * 40, "nul \0"),
    *("\ud800", "2026-01-02T03:04:05", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("of-the-future", [], {}, [[1]], {"a": "\0"}, {"\ud800": 1}, [None], ["\0"], {"n": 1e999}),
    *({"temperature": 99}, {"max_tokens": "many"}, "asking"),
)


def encoded(line: dict[str, Any], *, checksum: bool = True) -> bytes:
    text = json.dumps(line, default=lambda value: value.isoformat())
    return (with_checksum(text) if checksum else text).encode() + b"\n"


def lines_of_journal(chance: random.Random, names: list[str]) -> list[dict[str, Any]]:
    """Return the lines of a random journal; its answers are added to `names`."""
    lines: list[dict[str, Any]] = []
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        ask = Question(
            question=f"Question of {chance.random()}",
            params={"model": "m", "temperature": 0.5},
            tags=["t"],
            follows_id=chance.choice([None, 7]),
            idempotency_key=chance.choice([None, f"key {chance.random()}"]),
            uid=f"{chance.getrandbits(128):032x}",
            created_at=NOW,
        )
        if chance.random() < 0.3:
            item_key = f"item {chance.random()}"
            ask = replace(ask, batch_id=chance.randint(1, 3), item_key=item_key)
        name = f"answer-{chance.getrandbits(64):016x}"
        names.append(name)
        lines.append(question_entry(ask))
        status = chance.choice([Status.ANSWERED, Status.FAILED, Status.INTERRUPTED])
        if chance.random() < 0.6:
            lines.append(text_entry(ask.uid, ReasoningDelta("Hm.")))
            lines += [text_entry(ask.uid, Delta("Grüße, 🌍: ")), text_entry(ask.uid, Delta(name))]
        if chance.random() < 0.7:
            answer = f"Grüße, 🌍: {name}"
            outcome = Outcome(status=status, answer=answer, answered_at=NOW, latency_ms=5)
            lines.append(outcome_entry(ask.uid, outcome))
        if chance.random() < 0.1:
            other = Question(
                question="settled", uid=f"{chance.getrandbits(128):032x}", created_at=NOW
            )
            lines += [question_entry(other), completed_entry(other.uid)]
    return lines


def with_bad_value(chance: random.Random, lines: list[dict[str, Any]]) -> None:
    """Put a value of a wrong type, or a field of a newer version, into one line."""
    line = chance.choice(lines)
    inner = next((line[name] for name in ("ask", "outcome") if line.get(name)), line)
    if not isinstance(inner, dict):  # the line has a bad value already
        inner = line
    place = chance.choice([line, inner, inner, inner])
    name = chance.choice(
        [*place, "a_field_of_the_future", "settled", "accepted", "text", "reasoning"]
    )
    place[name] = chance.choice(BAD_VALUES)
    if name == "accepted" and place[name] is True:
        # A server asks this question again; its journal must stay until then.
        place[name] = "yes"


def damaged(chance: random.Random, names: list[str]) -> bytes:
    """Return the bytes of a journal with random damage."""
    lines = lines_of_journal(chance, names)
    kind = chance.choice(["bits", "bits", "cut", "values", "zeros", "lost line", "whole"])
    # Journals of older versions have no checksums; a bad value may have a correct checksum.
    checksum = chance.random() < 0.7
    if kind == "values":
        for _ in range(chance.choice([1, 1, 3])):
            with_bad_value(chance, lines)
    if kind == "lost line":
        del lines[chance.randrange(len(lines))]
    data = bytearray(b"".join(encoded(line, checksum=checksum) for line in lines))
    if kind == "bits":
        for _ in range(chance.choice([1, 1, 2, 20])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    if kind == "cut":
        del data[chance.randrange(len(data)) :]
    if kind == "zeros":
        start = chance.randrange(len(data))
        data[start : start + 64] = bytes(len(data[start : start + 64]))
    return bytes(data)


def readable(data: bytes, names: list[str]) -> set[str]:
    """Return the answers whose text is in a file."""
    return {name for name in names if name.encode() in data}


def test_deliver_of_damaged_journals_loses_no_answer(store: Store, home: Path) -> None:
    number = JOURNALS if store.sqlite else min(JOURNALS, 500)
    set_aside = delivered = 0
    for first in range(0, number, AT_ONCE):
        outbox = Outbox(home / f"outbox-{first}")
        outbox.directory.mkdir()
        contents: dict[str, tuple[bytes, list[str]]] = {}
        for seed in range(first, min(first + AT_ONCE, number)):
            names: list[str] = []
            data = damaged(random.Random(seed), names)
            contents[f"{seed:08}"] = data, names
            (outbox.directory / f"{seed:08}{SUFFIX}").write_bytes(data)
        reports: list[str] = []
        outbox.pending()
        delivered += recover_outbox(outbox, store, report=reports.append)
        assert list(outbox.directory.glob(f"*{SUFFIX}")) == []
        history = "\n".join(record.answer or "" for record in store.page(limit=1000))
        for seed_name, (data, names) in contents.items():
            aside = outbox.directory / f"{seed_name}{SET_ASIDE}"
            if aside.exists():
                set_aside += 1
                assert aside.read_bytes() == data
                assert sum(str(aside) in report for report in reports) == 1
                continue
            lost = {name for name in readable(data, names) if name not in history}
            assert not lost, f"seed {int(seed_name)}"
        assert len(reports) == sum(1 for _ in outbox.directory.iterdir())
    # The random journals were of both kinds.
    assert 0 < set_aside < number
    assert delivered > number / 2


ASK = Question(question="Who am I?", params={"model": "m"}, created_at=NOW)
OUTCOME = Outcome(status=Status.ANSWERED, answer="You are here.", answered_at=NOW)


def changed(line: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    return {**line, part: {**line[part], **values}}


def test_parse_journal_keeps_parameters_as_a_client_sent_them() -> None:
    question = replace(ASK, params={"temperature": 99, "max_tokens": -1})
    contents = parse_journal(encoded(question_entry(question)), NOW)
    assert (contents.problems, contents.entries[0].question) == ([], question)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("follows_id", "7"), ("params", []), ("tags", "a"), ("tags", [1]), ("system", 5)),
        *(("created_at", "2026-01-02T03:04:05"), ("created_at", "never"), ("created_at", 5)),
        *(("batch_id", 10**400), ("batch_id", -1), ("question", "nul \0"), ("uid", "u" * 33)),
        *(("attachments", {}), ("params", {"a": float("inf")})),
        ("a_field_of_the_future", 1),
    ],
)
def test_parse_journal_bad_value_in_a_question_keeps_the_other(name: str, value: Any) -> None:
    other = Question(question="Before?", created_at=NOW)
    lines = [
        question_entry(other),
        changed(question_entry(ASK), "ask", **{name: value}),
        outcome_entry(ASK.uid, OUTCOME),
        outcome_entry(other.uid, OUTCOME),
    ]
    contents = parse_journal(b"".join(map(encoded, lines)), NOW)
    assert contents.problems
    assert contents.entries[0].question == other
    assert contents.entries[0].outcome() == OUTCOME
    if name != "uid":
        assert contents.entries[1].outcome() == OUTCOME
        assert contents.entries[1].question.created_at == NOW


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("status", "of-the-future"), ("status", None), ("status", "asking"), ("cost_usd", "1")),
        *(("latency_ms", 2**63), ("prompt_tokens", True), ("answered_at", "x"), ("model", [])),
        ("a_field_of_the_future", 1),
    ],
)
def test_parse_journal_bad_value_in_an_outcome_keeps_the_answer(name: str, value: Any) -> None:
    lines = [
        question_entry(ASK),
        changed(outcome_entry(ASK.uid, OUTCOME), "outcome", **{name: value}),
    ]
    contents = parse_journal(b"".join(map(encoded, lines)), NOW)
    assert len(contents.problems) == 1
    outcome = contents.entries[0].outcome()
    assert outcome.answer == OUTCOME.answer
    assert outcome.status is (Status.INTERRUPTED if name == "status" else Status.ANSWERED)


def test_parse_journal_flipped_bit_in_a_text_drops_the_text() -> None:
    data = encoded(question_entry(ASK)) + encoded(text_entry(ASK.uid, Delta("right")))
    contents = parse_journal(data.replace(b"right", b"sight"), NOW)
    assert contents.problems == ["line 2 does not fit its checksum"]
    outcome = contents.entries[0].outcome()
    assert outcome.answer is None
    assert outcome.error_kind == "interrupted"
    assert outcome.error == ("the journal of this answer is damaged, some of it may be missing")


def test_parse_journal_of_an_older_version_needs_no_checksums() -> None:
    lines = [
        question_entry(ASK),
        text_entry(ASK.uid, Delta("You")),
        outcome_entry(ASK.uid, OUTCOME),
    ]
    contents = parse_journal(b"".join(encoded(line, checksum=False) for line in lines), NOW)
    assert contents.problems == []
    assert contents.entries[0].question == ASK
    assert contents.entries[0].outcome() == OUTCOME


def test_parse_journal_deep_nesting_or_long_number_is_reported() -> None:
    for text in ("[" * 100_000, '{"ask": ' * 50_000, "9" * 10_000):
        assert len(parse_journal(text.encode() + b"\n", NOW).problems) == 1


def journal_of(outbox: Outbox, name: str, *lines: dict[str, Any]) -> Path:
    outbox.directory.mkdir(parents=True, exist_ok=True)
    path = outbox.directory / f"{name}{SUFFIX}"
    path.write_bytes(b"".join(map(encoded, lines)))
    return path


def test_deliver_sets_irregular_files_aside_and_reads_the_rest(store: Store, home: Path) -> None:
    outbox = Outbox(home / "outbox")
    journal_of(outbox, "9", question_entry(ASK), outcome_entry(ASK.uid, OUTCOME))
    elsewhere = home / "elsewhere"
    elsewhere.write_bytes(encoded(question_entry(Question(question="Not ours"))))
    (outbox.directory / f"1{SUFFIX}").mkdir()
    (outbox.directory / f"2{SUFFIX}").symlink_to(elsewhere)
    (outbox.directory / f"3{SUFFIX}").symlink_to(home / "nowhere")
    os.mkfifo(outbox.directory / f"4{SUFFIX}")
    assert len(outbox.pending()) == 1
    assert outbox.depth()[0] >= 1
    reports: list[str] = []
    assert recover_outbox(outbox, store, report=reports.append) == 1
    assert [record.question for record in store.page(limit=1000)] == [ASK.question]
    assert len(reports) == len(outbox.set_aside()) == 4
    assert recover_outbox(outbox, store, report=reports.append) == 0
    assert len(reports) == 4
    assert elsewhere.exists()


def test_deliver_without_a_report_keeps_a_damaged_journal(store: Store, home: Path) -> None:
    outbox = Outbox(home / "outbox")
    line = {**outcome_entry(ASK.uid, OUTCOME), "future": 1}
    path = journal_of(outbox, "1", question_entry(ASK), line)
    for _ in range(2):
        assert recover_outbox(outbox, store) == 1
        assert path.exists()
    assert [record.answer for record in store.page(limit=1000)] == [OUTCOME.answer]


def test_deliver_other_answer_to_a_stored_question_sets_it_aside(store: Store, home: Path) -> None:
    outbox = Outbox(home / "outbox")
    store.upsert(ASK, Outcome(status=Status.INTERRUPTED, answer="You"))
    journal_of(outbox, "1", question_entry(ASK), outcome_entry(ASK.uid, OUTCOME))
    reports: list[str] = []
    recover_outbox(outbox, store, report=reports.append)
    assert "the history has another answer" in reports[0]
    assert b"You are here." in outbox.set_aside()[0].read_bytes()


@pytest.mark.usefixtures("store")
def test_commands_with_a_damaged_journal_warn_once_with_its_path(
    invoke: Invoke, settings: Any
) -> None:
    outbox = Outbox(settings.outbox_path)
    journal_of(outbox, "1", question_entry(ASK), {**outcome_entry(ASK.uid, OUTCOME), "future": 1})
    path = journal_of(outbox, "2")
    path.write_bytes(b"no journal at all\n")
    first = invoke("ask", "And you?")
    assert (first.code, first.out) == (0, "Answer to: And you?\n")
    assert [str(aside) in first.err for aside in outbox.set_aside()] == [True, True]
    assert first.err.count("\n") == 2
    assert "is not JSON" in first.err
    second = invoke("list", "-v")
    assert (second.code, "You are here." in second.out) == (0, True)
    assert "could not be delivered: line" not in second.err
    assert all(aside.name in second.err for aside in outbox.set_aside())
    assert invoke("list").err == ""


@pytest.mark.usefixtures("store")
def test_commands_with_quiet_leave_the_warning_to_the_next_one(
    invoke: Invoke, settings: Any
) -> None:
    outbox = Outbox(settings.outbox_path)
    path = journal_of(outbox, "1")
    path.write_bytes(b"no journal at all\n")
    assert invoke("ask", "--quiet", "And you?").err == ""
    assert path.exists()
    assert "is not JSON" in invoke("list").err
