"""`qa import` of the exports of other programs."""

import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import chat_exports
import pytest
from conftest import Invoke

from qacli.db.import_source import open_import_source
from qacli.db.importers import import_records
from qacli.db.json_elements import MAX_OBJECT_CHARACTERS, json_objects
from qacli.db.records import Store
from qacli.errors import InvalidRequest

Row = dict[str, Any]


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def crush(home: Path = Path()) -> bytes:
    (home / "made.db").unlink(missing_ok=True)
    chat_exports.write_crush_database(home / "made.db")
    return (home / "made.db").read_bytes()


FILES: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "chatgpt": ("chatgpt", lambda: as_json([chat_exports.chatgpt_conversation()]), 5),
    "chatgpt one": ("chatgpt", lambda: as_json(chat_exports.chatgpt_conversation()), 5),
    "chatgpt zip": (
        "chatgpt",
        lambda: chat_exports.zipped([chat_exports.chatgpt_conversation()]),
        5,
    ),
    "claude": ("claude", lambda: as_json([chat_exports.claude_conversation()]), 2),
    "claude zip": (
        "claude",
        lambda: chat_exports.zipped([chat_exports.claude_conversation()], "conversations.json"),
        2,
    ),
    "openwebui": ("openwebui", lambda: as_json([chat_exports.openwebui_chat()]), 3),
    "openwebui gz": (
        "openwebui",
        lambda: gzip.compress(as_json([chat_exports.openwebui_chat()])),
        3,
    ),
    "sgpt": ("sgpt", lambda: as_json(chat_exports.SHELL_GPT), 2),
    "aichat messages": ("aichat", chat_exports.AICHAT_MESSAGES.encode, 2),
    "aichat session": ("aichat", chat_exports.AICHAT_SESSION.encode, 2),
    "mods": ("mods", chat_exports.MODS_SHOW.encode, 2),
    "crush": ("crush", crush, 1),
}


def imported(invoke: Invoke, data: bytes, *arguments: str) -> list[Row]:
    """Import a file, and return all records of the history."""
    Path("file").write_bytes(data)
    done = invoke("import", "file", *arguments)
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in invoke("export").out.splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_import_foreign_file_twice_is_recognised_and_adds_nothing_again(
    invoke: Invoke, name: str
) -> None:
    program, make, number = FILES[name]
    Path("file").write_bytes(make())
    first = json.loads(invoke("import", "file", "--from", program, "--json").out)
    assert (first["added"], first["there"], first["renumbered"]) == (number, 0, 0)
    assert first["format"] == program
    again = json.loads(invoke("import", "-", "--json", input=make()).out)
    # A chat of shell-gpt is named after its file; standard input has no name.
    if name not in {"sgpt", "aichat session", "mods"}:
        assert (again["added"], again["there"]) == (0, number)
    assert invoke("import", "file", "--from", "llm").code == 2
    records = [json.loads(line) for line in invoke("export", "--tag", program).out.splitlines()]
    assert [record["id"] for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert record["follows_id"] is None or record["follows_id"] < record["id"]


def test_import_chatgpt_keeps_branches_times_models_and_reasoning(invoke: Invoke) -> None:
    records = imported(invoke, as_json([chat_exports.chatgpt_conversation()]))
    assert [(r["question"], r["answer"], r["follows_id"]) for r in records] == [
        ("What is 1+1?", "Two </script>", None),
        ("And 2+2?", "Four", 1),
        ("And 3+3?", "Six", 1),
        ("And 3+3?", "Six!", 1),
        ("What is it?", None, 4),
    ]
    first, last = records[0], records[-1]
    assert first["created_at"] == "2025-10-09T08:53:21.250000+00:00"
    assert first["answered_at"] == "2025-10-09T08:53:25.250000+00:00"
    assert (first["model"], first["title"], first["system"]) == ("gpt-5", "Sums", None)
    assert first["reasoning"] == "Add\n\n1 + 1"
    assert (last["status"], last["title"]) == ("interrupted", None)
    assert last["attachments"] == [{"name": "sediment://file_1", "size": 12, "sha256": None}]


def test_import_chatgpt_reports_omitted_parts(invoke: Invoke) -> None:
    broken = {"id": "x", "mapping": [], "create_time": 1}
    Path("file").write_bytes(as_json([chat_exports.chatgpt_conversation(), broken]))
    left_out = json.loads(invoke("import", "file", "--json").out)["left_out"]
    assert left_out == {
        "calls of tools": 1,
        "conversations that cannot be read": 1,
        "results of tools": 1,
    }


def test_import_chatgpt_without_a_time_has_that_of_its_first_message(invoke: Invoke) -> None:
    conversation = {**chat_exports.chatgpt_conversation(), "create_time": None}
    first, *_ = imported(invoke, as_json([conversation]))
    assert first["created_at"] == "2025-10-09T08:53:21.250000+00:00"


def test_import_claude_joins_pasted_text_and_reasoning(invoke: Invoke) -> None:
    first, second = imported(invoke, as_json([chat_exports.claude_conversation()]))
    assert first["question"] == "What is this?\n\ndef f(): "
    assert (first["answer"], first["reasoning"]) == ("A function.", "Hm.")
    assert first["attachments"] == [{"name": "paste.txt", "size": 9, "sha256": None}]
    assert (first["title"], first["created_at"]) == ("Code", "2025-06-01T10:00:01.123456+00:00")
    assert (second["question"], second["follows_id"]) == ("Thanks", 1)


def test_import_openwebui_keeps_both_models_reasoning_rating_and_errors(invoke: Invoke) -> None:
    records = imported(invoke, as_json([chat_exports.openwebui_chat()]))
    by_model = {(r["model"], r["question"]): r for r in records}
    first = by_model["llama", "Hello"]
    assert (first["answer"], first["reasoning"]) == ("Done.", "First\na < b")
    assert (first["system"], first["rating"], first["prompt_tokens"]) == ("Be kind", 5, 3)
    assert by_model["qwen", "Hello"]["answer"] == "Hi"
    failed = by_model["llama", "Again"]
    assert (failed["status"], failed["error"], failed["follows_id"]) == (
        "failed",
        "No GPU",
        first["id"],
    )


def test_import_shell_gpt_that_has_grown_adds_only_the_new_exchange(invoke: Invoke) -> None:
    assert len(imported(invoke, as_json(chat_exports.SHELL_GPT))) == 2
    # shell-gpt keeps the first message and the newest ones.
    shorter = [chat_exports.SHELL_GPT[0], *chat_exports.SHELL_GPT[3:]]
    more = [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Bye!"}]
    records = imported(invoke, as_json([*shorter, *more]))
    assert [(r["question"], r["follows_id"]) for r in records] == [
        ("What is 6*7?", None),
        ("And 7*8?\nsecond line", 1),
        ("Bye", 2),
    ]
    assert records[0]["system"].startswith("You are ShellGPT")


def test_import_shell_gpt_without_times_has_those_of_the_file(invoke: Invoke) -> None:
    Path("chat").write_bytes(as_json(chat_exports.SHELL_GPT))
    os.utime("chat", (1_700_000_000, 1_700_000_000))
    invoke("import", "chat")
    times = [json.loads(line)["created_at"] for line in invoke("export").out.splitlines()]
    assert times == sorted(times)
    saved_at = datetime.fromtimestamp(1_700_000_000, UTC)
    assert all(0 < (saved_at - datetime.fromisoformat(time)).total_seconds() < 6 for time in times)


def test_import_aichat_messages_with_a_line_in_the_answer(invoke: Invoke) -> None:
    first, second = imported(invoke, chat_exports.AICHAT_MESSAGES.encode())
    assert first["question"] == "What is in it?"
    assert first["answer"] == "A list:\n--------\nwith a line"
    assert first["reasoning"] == "It is YAML."
    assert first["created_at"] == "2024-12-07T17:18:03+00:00"
    assert (second["question"], second["answer"], second["follows_id"]) == ("two", "2", None)


def test_import_aichat_session_keeps_thread_model_and_images(invoke: Invoke) -> None:
    first, second = imported(invoke, chat_exports.AICHAT_SESSION.encode())
    assert (first["question"], first["answer"]) == ("What is 1+1?\n\nPlease.", "2")
    assert (first["system"], first["model"]) == ("Be brief.", "openai:gpt-4o")
    assert first["params"] == {"temperature": 0.5, "model": "openai:gpt-4o"}
    assert (second["question"], second["follows_id"]) == ("And this?", 1)
    assert second["attachments"] == [{"name": "image", "size": None, "sha256": None}]


def test_import_mods_and_crush_keep_system_prompt_title_and_reasoning(invoke: Invoke) -> None:
    first, second = imported(invoke, chat_exports.MODS_SHOW.encode())
    assert (first["system"], first["answer"]) == (
        "you are a medieval king",
        "1, 2, 3, 4\n\n\n> Ran tool: `myfunc`",
    )
    assert (second["question"], second["answer"]) == ("as a json array", "[ 1, 2, 3, 4 ]")
    [*_, last] = imported(invoke, crush())
    assert (last["question"], last["answer"], last["reasoning"]) == ("Hello", "Hi", "Hm")
    assert (last["title"], last["model"]) == ("Hello there", "gpt-5")
    assert last["attachments"] == [{"name": "a.png", "size": None, "sha256": None}]


def test_import_conversations_newest_first_get_ids_in_the_order_of_time(invoke: Invoke) -> None:
    conversations = []
    for number in (3, 1, 2):
        conversation = chat_exports.claude_conversation()
        text = json.dumps(conversation).replace("2025-06-01", f"2025-06-0{number}")
        conversations.append({**json.loads(text), "uuid": f"c{number}"})
    records = imported(invoke, as_json(conversations))
    times = [record["created_at"] for record in records]
    assert times == sorted(times)
    assert [record["follows_id"] for record in records] == [None, 1, None, 3, None, 5]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-300], "The file ends in the middle of object 2"),
        (
            lambda data: data.replace(b'"id": "conv-1"', b'"id": conv-1', 1),
            "Object 1 is not JSON, at",
        ),
        (lambda data: data.replace(b"}, {", b"} nonsense {"), "After object 1, near character"),
        (lambda data: data.replace(b"Sums", b"\xff", 2), "not UTF-8"),
        (lambda _: chat_exports.zipped([], "other.json"), "has no conversations.json"),
        (lambda _: chat_exports.zipped([{"a": 1}]), "format of export/conversations.json"),
        (lambda _: chat_exports.zipped([chat_exports.chatgpt_conversation()])[:-50], "unpacked"),
        (lambda _: b"model: x\nmessages:\n- role: [\n", "not a session of aichat"),
        (lambda _: b"model: x\nmessages: 3\n", "not a session of aichat"),
    ],
)
def test_import_broken_export_names_the_place_and_adds_nothing(
    store: Store, change: Callable[[bytes], bytes], reason: str
) -> None:
    conversation = chat_exports.chatgpt_conversation()
    Path("file").write_bytes(change(as_json([conversation, {**conversation, "id": "conv-2"}])))
    with pytest.raises(InvalidRequest, match=reason), open_import_source("file") as source:
        import_records(store, source.documents)
    assert store.count() == 0


def test_import_conversation_that_is_a_circle_is_reported(invoke: Invoke) -> None:
    conversation = chat_exports.chatgpt_conversation()
    conversation["mapping"]["root"]["parent"] = "a1"
    Path("file").write_bytes(as_json([conversation]))
    done = json.loads(invoke("import", "file", "--json").out)
    assert (done["added"], done["left_out"]["messages outside of any thread"]) == (0, 13)


def test_json_objects_of_a_large_file_are_read_in_pieces() -> None:
    from io import StringIO

    from qacli.db import json_elements

    class Pieces(StringIO):
        def read(self, size: int | None = -1) -> str:
            assert size == json_elements.CHUNK_CHARACTERS
            return super().read(3)

    values = [{"a": 'x"\\{[ü'}, {"b": [1, {"c": "]}"}]}, [], {"d": {}}]
    text = json.dumps(values, ensure_ascii=False, indent=1)
    assert list(json_elements.json_objects(Pieces(text))) == values
    assert list(json_elements.json_objects(Pieces(json.dumps(values[1])))) == values[1:2]
    assert MAX_OBJECT_CHARACTERS > 2**20


def test_json_objects_of_a_text_cut_anywhere_raises() -> None:
    from io import StringIO

    text = json.dumps([{"a": 'x"\\é'}, {"b": [True, None, -1.5e10, {"c": "]}"}]}])
    for end in range(1, len(text)):
        with pytest.raises(InvalidRequest, match="The file ends in the middle of object"):
            list(json_objects(StringIO(text[:end])))
    with pytest.raises(InvalidRequest, match="Object 1 is not JSON, at character 7"):
        list(json_objects(StringIO('[{"a":nonsense}]')))
