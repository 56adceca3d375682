import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from journals import write_outcome, write_question, write_text

from qacli.db.records import Store
from qacli.domain import Delta, Outcome, Question, Status
from qacli.errors import OutboxUnwritable
from qacli.recording.journal_format import outcome_entry, question_entry, text_entry, with_checksum
from qacli.recording.journal_writer import JournalEntry, JournalWriter
from qacli.recording.outbox import (
    SET_ASIDE,
    STALE_SECONDS,
    SUFFIX,
    UNFINISHED,
    Entry,
    Journal,
    OrphanedJournal,
    Outbox,
)
from qacli.recording.recovery import recover_outbox

ASK = Question(
    question="Grüße, 🌍\r\n\u2028?",
    system="Be brief.",
    params={"model": "m", "temperature": 0.5},
    tags=["a", "ß"],
    follows_id=7,
    idempotency_key="k",
)
OUTCOME = Outcome(
    status=Status.ANSWERED,
    answer="Hello\n🌍",
    answered_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    latency_ms=5,
    model="m-2026",
    prompt_tokens=3,
    cost_usd=0.25,
)


@pytest.fixture
def outbox(home: Path) -> Outbox:
    return Outbox(home / "data" / "outbox")


@pytest.fixture
def journal(outbox: Outbox) -> Journal:
    return outbox.open()


def files(outbox: Outbox) -> list[Path]:
    return sorted(outbox.directory.iterdir())


def orphaned_entries(outbox: Outbox) -> list[Entry]:
    """Return the entries of all orphaned journals."""
    return [entry for journal in outbox.orphaned() for entry in journal.read().entries]


def test_outbox_empty_needs_no_directory(outbox: Outbox) -> None:
    assert outbox.pending() == []
    assert list(outbox.orphaned()) == []
    assert not outbox.directory.exists()


def test_outbox_question_is_pending_once_written(outbox: Outbox, journal: Journal) -> None:
    assert outbox.pending() == []
    write_question(journal, ASK)
    (entry,) = outbox.pending()
    assert entry.question == ASK
    assert entry.outcome().status is Status.INTERRUPTED
    assert entry.outcome().answer is None
    journal.discard()
    assert outbox.pending() == []
    assert files(outbox) == []


def test_outbox_text_is_stored_as_it_arrives(outbox: Outbox, journal: Journal) -> None:
    write_question(journal, ASK)
    for text in ("Hel", "lo\n", "🌍"):
        write_text(journal, ASK.uid, text)
    journal.close()
    (entry,) = orphaned_entries(outbox)
    outcome = entry.outcome()
    assert outcome.answer == "Hello\n🌍"
    assert outcome.status is Status.INTERRUPTED
    assert outcome.error_kind == "interrupted"


@pytest.mark.parametrize("sync", [True, False])
def test_outbox_outcome_is_read_as_written(outbox: Outbox, journal: Journal, *, sync: bool) -> None:
    write_question(journal, ASK, sync=sync)
    write_text(journal, ASK.uid, "Hel")
    write_outcome(journal, ASK.uid, OUTCOME, sync=sync)
    journal.close()
    (entry,) = orphaned_entries(outbox)
    assert entry.question == ASK
    assert entry.outcome() == OUTCOME
    assert type(entry.outcome().status) is Status


def test_journal_holds_any_number_of_questions(outbox: Outbox, journal: Journal) -> None:
    asks = [Question(question=str(number)) for number in range(50)]
    for ask in asks:
        write_question(journal, ask, sync=False)
    for ask in reversed(asks):
        write_text(journal, ask.uid, f"to {ask.question}")
    for ask in asks[::2]:
        write_outcome(
            journal, ask.uid, replace(OUTCOME, answer=f"all of {ask.question}"), sync=False
        )
    journal.close()
    entries = orphaned_entries(outbox)
    assert [entry.question for entry in entries] == asks
    for number, entry in enumerate(entries):
        expected = "to" if number % 2 else "all of"
        assert entry.outcome().answer == f"{expected} {number}"


def test_outbox_pending_is_sorted_by_time(outbox: Outbox) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    journals = []
    for minutes in (3, 1, 2, 0):
        journal = outbox.open()
        asked = first + timedelta(minutes=minutes)
        write_question(journal, Question(question=str(minutes), created_at=asked))
        journals.append(journal)
    assert [entry.question.question for entry in outbox.pending()] == ["0", "1", "2", "3"]
    for journal in journals:
        journal.discard()


def test_outbox_files_are_private(outbox: Outbox, journal: Journal) -> None:
    write_question(journal, ASK)
    (file,) = files(outbox)
    assert file.stat().st_mode & 0o777 == 0o600
    assert outbox.directory.stat().st_mode & 0o777 == 0o700
    journal.close()


def test_outbox_created_data_directory_is_private(outbox: Outbox) -> None:
    outbox.open().discard()
    assert outbox.directory.parent.stat().st_mode & 0o077 == 0


def test_journal_is_lines_of_json(outbox: Outbox, journal: Journal) -> None:
    write_question(journal, ASK)
    write_text(journal, ASK.uid, "a\nb")
    write_outcome(journal, ASK.uid, OUTCOME)
    lines = files(outbox)[0].read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [set(json.loads(line)) for line in lines] == [
        {"ask", "crc"},
        {"uid", "text", "crc"},
        {"uid", "outcome", "crc"},
    ]
    journal.close()


def test_journal_in_use_is_listed_and_not_changed(outbox: Outbox, journal: Journal) -> None:
    write_question(journal, ASK)
    assert list(outbox.orphaned()) == []
    assert len(outbox.pending()) == 1
    journal.close()
    assert len(orphaned_entries(outbox)) == 1


# A process that writes an answer without end.
ANSWERS = """
import sys, time
from pathlib import Path
from qacli.domain import Delta, Question, ReasoningDelta
from qacli.recording.journal_format import question_entry, text_entry
from qacli.recording.outbox import Outbox
journal = Outbox(Path(sys.argv[1])).open()
ask = Question(question="Who?", uid=sys.argv[2])
journal.append(question_entry(ask), sync=True)
for event in (ReasoningDelta("Hm, "), ReasoningDelta("one. "), Delta("One "), Delta("two ")):
    journal.append(text_entry(ask.uid, event))
print("shown", flush=True)
time.sleep(60)
"""


@pytest.fixture
def answering(outbox: Outbox) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing an answer."""
    command = [sys.executable, "-c", ANSWERS, str(outbox.directory), "u" * 32]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "shown\n"
        yield process
        process.kill()


def test_journal_of_a_killed_process_has_the_text_so_far(
    outbox: Outbox, answering: subprocess.Popen[str]
) -> None:
    assert list(outbox.orphaned()) == []
    assert [entry.question.question for entry in outbox.pending()] == ["Who?"]
    answering.send_signal(signal.SIGKILL)
    answering.wait()
    (entry,) = orphaned_entries(outbox)
    assert entry.question.uid == "u" * 32
    assert entry.outcome().status is Status.INTERRUPTED
    assert entry.outcome().answer == "One two "
    assert entry.outcome().reasoning == "Hm, one."


def test_journal_of_a_killed_process_is_delivered_once(
    outbox: Outbox, answering: subprocess.Popen[str], store: Store
) -> None:
    assert recover_outbox(outbox, store) == 0
    answering.kill()
    answering.wait()
    assert recover_outbox(outbox, store) == 1
    assert recover_outbox(outbox, store) == 0
    (record,) = store.page(limit=5)
    assert (record.uid, record.status, record.answer) == ("u" * 32, "interrupted", "One two ")
    assert record.reasoning == "Hm, one."
    assert files(outbox) == []


def test_journal_of_a_stopped_process_stays_locked(
    outbox: Outbox, answering: subprocess.Popen[str]
) -> None:
    answering.send_signal(signal.SIGSTOP)
    assert list(outbox.orphaned()) == []
    answering.send_signal(signal.SIGCONT)


def left(outbox: Outbox, *lines: bytes) -> Path:
    """Write the journal of an ended process, with these bytes after its question."""
    journal = outbox.open()
    write_question(journal, ASK)
    write_text(journal, ASK.uid, "One ")
    journal.close()
    path = next(path for path in files(outbox) if path.suffix == SUFFIX)
    with path.open("ab") as file:
        file.writelines(lines)
    return path


def line(**fields: Any) -> bytes:
    return with_checksum(json.dumps({"uid": ASK.uid, **fields})).encode() + b"\n"


@pytest.mark.parametrize("cut", range(1, len(line(text="näh\n"))))
def test_read_text_line_cut_off_keeps_the_written_part(outbox: Outbox, cut: int) -> None:
    whole = line(text="näh\n")
    left(outbox, line(text="two "), whole[:cut])
    (journal,) = outbox.orphaned()
    contents = journal.read()
    assert contents.problems == []
    answer = contents.entries[0].outcome().answer
    assert answer is not None
    assert "One two näh\n".startswith(answer)
    assert answer.startswith("One two ")
    assert answer == "One two näh\n" or cut < whole.index(b'", "crc"')


@pytest.mark.parametrize("cut", range(1, len(line(reasoning="näh\n"))))
def test_read_reasoning_line_cut_off_keeps_the_written_part(outbox: Outbox, cut: int) -> None:
    left(outbox, line(reasoning="two "), line(reasoning="näh\n")[:cut])
    (journal,) = outbox.orphaned()
    contents = journal.read()
    assert contents.problems == []
    outcome = contents.entries[0].outcome()
    assert outcome.answer == "One "
    assert "two näh".startswith(outcome.reasoning or "-")


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"\0" * 512 + b"\n", b"\0" * 511 + b"\n", b"\0\n", b"\n", b"\n\n\n", b"not json\n"),
        *(b"\xff\xfe\xfd\n", b'{"uid": "\n', b"\0" * 64 + line(text="lost")),
    ],
)
def test_journal_garbage_in_the_middle_is_skipped(outbox: Outbox, garbage: bytes) -> None:
    left(outbox, garbage, line(text="two"))
    (entry,) = orphaned_entries(outbox)
    assert entry.outcome().answer in {"One two", "One lostt" + "wo"}
    assert len(outbox.pending()) == 1


@pytest.mark.parametrize(
    "odd",
    [
        *(b"0\n", b"null\n", b"[]\n", b"{}\n", b'"text"\n', line(), line(outcome={})),
        *(line(outcome={"status": "of-the-future"}), b'{"ask": {"question": ""}}\n'),
        b'{"ask": {"question": "q", "a_field_of_the_future": 1}}\n',
    ],
    ids=range(10),
)
def test_journal_line_of_another_form_is_skipped(outbox: Outbox, odd: bytes) -> None:
    left(outbox, odd, line(text="two"))
    (journal,) = outbox.orphaned()
    contents = journal.read()
    assert contents.entries[0].question == ASK
    assert contents.entries[0].outcome().answer == "One two"
    assert contents.problems


def test_journal_line_about_another_question_is_skipped(outbox: Outbox) -> None:
    left(outbox, line(uid="other", text="x"), line(text="two"))
    assert orphaned_entries(outbox)[0].outcome().answer == "One two"


def test_journal_empty_has_no_question_and_is_deleted(outbox: Outbox, store: Store) -> None:
    outbox.open().close()
    assert outbox.pending() == []
    assert recover_outbox(outbox, store) == 0
    assert files(outbox) == []


def test_journal_delivered_by_another_process_is_skipped(outbox: Outbox) -> None:
    paths = []
    for _ in range(3):
        journal = outbox.open()
        write_question(journal, Question(question="q"))
        journal.close()
    paths = files(outbox)
    seen = []
    for number, each in enumerate(outbox.orphaned()):
        seen.append(each.path)
        if number == 0:  # the others are gone before their turn
            for path in paths:
                if path != each.path:
                    path.unlink()
    assert len(seen) == 1


# Between the open and the lock there is nothing of ours to wait for; the interpreter's audit is.
DELETED_MEANWHILE = """
import sys
from pathlib import Path
from qacli.recording.outbox import Outbox
path = Path(sys.argv[1])
sys.addaudithook(lambda event, _: event == "fcntl.flock" and path.unlink(missing_ok=True))
print(len(list(Outbox(path.parent).orphaned())), path.exists())
"""


def test_journal_deleted_between_open_and_lock_is_skipped(outbox: Outbox) -> None:
    command = [sys.executable, "-c", DELETED_MEANWHILE, str(left(outbox))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_journal_orphaned_is_locked_by_one_process(outbox: Outbox) -> None:
    left(outbox)
    for _ in outbox.orphaned():
        assert list(outbox.orphaned()) == []
    assert len(list(outbox.orphaned())) == 1


def test_journal_entry_refused_by_the_database_is_quarantined(outbox: Outbox) -> None:
    left(outbox)
    aside = [journal.quarantine() for journal in outbox.orphaned()]
    assert files(outbox) == aside
    assert outbox.pending() == []
    assert b"Be brief." in aside[0].read_bytes()


def test_orphaned_deletes_only_old_unfinished_journals(outbox: Outbox) -> None:
    outbox.directory.mkdir(parents=True)
    old, new = (outbox.directory / f"{name}{UNFINISHED}" for name in ("old", "new"))
    other = outbox.directory / "notes.txt"
    before = time.time() - STALE_SECONDS - 10
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (before, before))
    assert list(outbox.orphaned()) == []
    assert files(outbox) == sorted([new, other])


def test_orphaned_keeps_an_old_journal(outbox: Outbox) -> None:
    path = left(outbox)
    os.utime(path, (0, 0))
    assert len(list(outbox.orphaned())) == 1
    assert path.exists()


def test_outbox_open_below_a_file_raises_unwritable(home: Path) -> None:
    (home / "file").touch()
    for directory in (home / "file", home / "file" / "outbox"):
        with pytest.raises(OutboxUnwritable) as caught:
            Outbox(directory).open()
        assert str(directory) in caught.value.what
        assert "Nothing was asked" in caught.value.todo


def test_outbox_below_a_file_has_nothing_pending(home: Path) -> None:
    (home / "file").touch()
    outbox = Outbox(home / "file" / "outbox")
    assert outbox.pending() == []
    assert list(outbox.orphaned()) == []


def test_journal_writer_full_disk_refuses_the_question(
    outbox: Outbox, limit_file_size: Callable[[int], None]
) -> None:
    writer = JournalWriter(outbox)
    limit_file_size(20)
    with pytest.raises(OutboxUnwritable, match="Nothing was asked"):
        writer.write(JournalEntry(ASK.uid, (question_entry(ASK),), opens=True, sync=True))
    limit_file_size(10**6)
    writer.close()
    assert outbox.pending() == []


def test_outbox_on_a_full_disk_reports_at_the_end_of_the_answer(
    outbox: Outbox, limit_file_size: Callable[[int], None]
) -> None:
    writer = JournalWriter(outbox)
    writer.write(JournalEntry(ASK.uid, (question_entry(ASK),), opens=True, sync=True))
    limit_file_size(files(outbox)[0].stat().st_size)
    writer.enqueue(JournalEntry(ASK.uid, (text_entry(ASK.uid, Delta("One")),)))
    with pytest.raises(OutboxUnwritable, match="File too large"):
        writer.write(JournalEntry(ASK.uid, (outcome_entry(ASK.uid, OUTCOME),), sync=True))
    limit_file_size(10**6)
    writer.close()
    (entry,) = orphaned_entries(outbox)
    assert entry.outcome().status is Status.INTERRUPTED


def test_journal_writer_outcome_after_a_cut_line_is_stored(
    outbox: Outbox, limit_file_size: Callable[[int], None]
) -> None:
    writer = JournalWriter(outbox)
    writer.write(JournalEntry(ASK.uid, (question_entry(ASK),), opens=True, sync=True))
    limit_file_size(files(outbox)[0].stat().st_size + 10)
    writer.enqueue(JournalEntry(ASK.uid, (text_entry(ASK.uid, Delta("One")),)))
    limit_file_size(10**6)  # there is room again
    writer.write(JournalEntry(ASK.uid, (outcome_entry(ASK.uid, OUTCOME),), sync=True))
    writer.close()
    (entry,) = orphaned_entries(outbox)
    assert entry.outcome() == OUTCOME


DELIVERS = """
import os, sys
from pathlib import Path
from qacli.recording.recovery import recover_outbox
from qacli.recording.outbox import Outbox
from qacli.db.records import Store
directory, url = Path(sys.argv[1]), sys.argv[2]
ready, go = os.pipe()
children = []
for _ in range(4):
    if not (child := os.fork()):
        os.close(go)
        os.read(ready, 1)
        code = 99
        try:
            code = recover_outbox(Outbox(directory), Store.open(url))
        finally:
            os._exit(code)
    children.append(child)
os.close(go)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_recover_outbox_at_once_delivers_once(outbox: Outbox, store: Store) -> None:
    uids = []
    for number in range(20):
        journal = outbox.open()
        for part in range(2):
            ask = Question(question=f"{number} {part}")
            uids.append(ask.uid)
            write_question(journal, ask, sync=False)
            write_outcome(journal, ask.uid, OUTCOME, sync=False)
        journal.close()
    done = subprocess.run(
        [sys.executable, "-c", DELIVERS, str(outbox.directory), store.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    delivered = json.loads(done.stdout)
    assert sum(delivered) == 40
    assert sorted(record.uid for record in store.page(limit=100)) == sorted(uids)
    assert files(outbox) == []


def test_recover_outbox_again_changes_nothing(outbox: Outbox, store: Store) -> None:
    record_id = store.upsert(ASK, OUTCOME)
    left(outbox)  # as after a kill between the commit and the deletion
    assert recover_outbox(outbox, store) == 1
    (record,) = store.page(limit=5)
    assert (record.id, record.answer) == (record_id, OUTCOME.answer)


def test_recover_outbox_refused_question_leaves_the_others(outbox: Outbox, store: Store) -> None:
    store.upsert(ASK, OUTCOME)
    journal = outbox.open()
    refused = Question(question="same key", idempotency_key=ASK.idempotency_key)
    for ask in (Question(question="before"), refused, Question(question="after")):
        write_question(journal, ask, sync=False)
        write_outcome(journal, ask.uid, OUTCOME, sync=False)
    journal.close()
    other = outbox.open()
    write_question(other, Question(question="another journal"))
    other.close()
    reports: list[str] = []
    recover_outbox(outbox, store, report=reports.append)
    asked = [record.question for record in store.page(limit=10)]
    assert {"before", "another journal"} <= set(asked)
    (aside,) = files(outbox)
    assert aside.suffix == SET_ASIDE
    assert str(aside) in reports[0]
    assert b"same key" in aside.read_bytes()
    assert "after" in asked


def test_recover_outbox_unstorable_outcome_leaves_the_others(outbox: Outbox, store: Store) -> None:
    for error in ("provider-refused: bad \0", "provider-refused: bad"):
        journal = outbox.open()
        ask = Question(question=error.replace("\0", "NUL"))
        write_question(journal, ask)
        write_outcome(journal, ask.uid, Outcome(status=Status.FAILED, error=error))
        journal.close()
    recover_outbox(outbox, store)
    assert "provider-refused: bad" in [record.question for record in store.page(limit=5)]
    assert outbox.pending() == []


def test_orphaned_journal_missing_file_has_no_entries(tmp_path: Path) -> None:
    assert OrphanedJournal(tmp_path / "gone.jsonl").read().entries == []
    OrphanedJournal(tmp_path / "gone.jsonl").discard()
