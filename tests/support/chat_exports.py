"""Small exports of chats in the formats of other programs, with unusual parts."""

import json
import sqlite3
import zipfile
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

START = 1_760_000_000.25


def _chatgpt_node(
    key: str, parent: str | None, role: str, content: Any, seconds: float, **message: Any
) -> tuple[str, dict[str, Any]]:
    if not isinstance(content, dict):
        content = {"content_type": "text", "parts": [content]}
    body = {
        "id": key,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": START + seconds,
        "content": content,
        "status": "finished_successfully",
        "metadata": {"model_slug": "gpt-5"} if role == "assistant" else {},
        "recipient": "all",
        **message,
    }
    return key, {"id": key, "parent": parent, "children": [], "message": body}


def chatgpt_conversation() -> dict[str, Any]:
    """Return a conversation with a hidden message, reasoning, a tool, a branch and an image."""
    hidden = {"is_visually_hidden_from_conversation": True}
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Add", "content": "1 + 1"}]}
    image = {"asset_pointer": "sediment://file_1", "size_bytes": 12}
    picture = {"content_type": "multimodal_text", "parts": [image, "What is it?"]}
    nodes = [
        ("root", {"id": "root", "parent": None, "children": ["s"], "message": None}),
        _chatgpt_node("s", "root", "system", "Secret", 0, metadata=hidden),
        _chatgpt_node("q1", "s", "user", "What is 1+1?", 1),
        _chatgpt_node("t1", "q1", "assistant", thoughts, 2),
        _chatgpt_node("c1", "t1", "assistant", "print(1+1)", 3, recipient="python"),
        _chatgpt_node("r1", "c1", "tool", "2", 4),
        _chatgpt_node("a1", "r1", "assistant", "Two </script>", 5),
        _chatgpt_node("q2", "a1", "user", "And 2+2?", 6),
        _chatgpt_node("a2", "q2", "assistant", "Four", 7),
        _chatgpt_node("q2b", "a1", "user", "And 3+3?", 8),
        _chatgpt_node("a2b", "q2b", "assistant", "Six", 9),
        _chatgpt_node("a2c", "q2b", "assistant", "Six!", 10),
        _chatgpt_node("q3", "a2c", "user", picture, 11),
    ]
    return {
        "title": "Sums",
        "create_time": START,
        "update_time": START + 100,
        "mapping": dict(nodes),
        "moderation_results": [],
        "current_node": "q3",
        "conversation_id": "conv-1",
        "id": "conv-1",
    }


def claude_conversation() -> dict[str, Any]:
    """Return a conversation of claude.ai with a pasted text, reasoning and a tool."""
    paste = {"file_name": "paste.txt", "file_size": 9, "extracted_content": "def f(): "}

    def message(uuid: str, sender: str, seconds: int, **fields: Any) -> dict[str, Any]:
        time = f"2025-06-01T10:00:{seconds:02}.123456Z"
        return {"uuid": uuid, "sender": sender, "created_at": time, "updated_at": time, **fields}

    blocks = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "tool_use", "name": "search", "input": {}},
        {"type": "tool_result", "name": "search", "content": []},
        {"type": "text", "text": "A function."},
    ]
    return {
        "uuid": "claude-1",
        "name": "Code",
        "created_at": "2025-06-01T10:00:00.000000Z",
        "updated_at": "2025-06-01T11:00:00.000000Z",
        "account": {"uuid": "me"},
        "chat_messages": [
            message("m1", "human", 1, text="What is this?", content=[], attachments=[paste]),
            message("m2", "assistant", 2, text="", content=blocks, attachments=[], files=[]),
            message("m3", "human", 3, text="Thanks", content=[{"type": "text", "text": "Thanks"}]),
            message("m4", "assistant", 4, text="You are welcome", content=[]),
        ],
    }


def openwebui_chat() -> dict[str, Any]:
    """Return a chat of Open WebUI with two models, reasoning and an error."""
    reasoning = (
        '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds'
        "</summary>\n&gt; First\n&gt; a &lt; b\n</details>\nDone."
    )

    def message(key: str, parent: str | None, role: str, seconds: int, **fields: Any) -> Any:
        return {"id": key, "parentId": parent, "role": role, "timestamp": 1750000000 + seconds} | (
            fields
        )

    messages = [
        message("u1", None, "user", 0, content="Hello", models=["llama", "qwen"]),
        message(
            *("a1", "u1", "assistant", 1),
            content=reasoning,
            model="llama",
            usage={"prompt_tokens": 3, "completion_tokens": 5},
            annotation={"rating": 1},
        ),
        message("a2", "u1", "assistant", 1, content="Hi", model="qwen"),
        message("u2", "a1", "user", 5, content=[{"type": "text", "text": "Again"}]),
        message("a3", "u2", "assistant", 6, content="", model="llama", error={"content": "No GPU"}),
    ]
    return {
        "id": "chat-1",
        "user_id": "me",
        "title": "Greeting",
        "chat": {
            "models": ["llama"],
            "params": {"system": "Be kind"},
            "history": {"messages": {item["id"]: item for item in messages}, "currentId": "a3"},
        },
        "created_at": 1750000000,
        "updated_at": 1750000100,
    }


# As shell-gpt 1.5.1 has written it: two runs of `sgpt --chat numbers`.
SHELL_GPT = [
    {"role": "system", "content": "You are ShellGPT\nProvide short responses."},
    {"role": "user", "content": "What is 6*7?"},
    {"role": "assistant", "content": "42"},
    {"role": "user", "content": "And 7*8?\nsecond line"},
    {"role": "assistant", "content": "56"},
]

AICHAT_MESSAGES = """# CHAT: `index.yaml`: name [2024-12-07T18:18:03+01:00]
What is in it?
--------
<think>
It is YAML.
</think>
A list:
--------
with a line
--------

# CHAT: two [2024-12-07T18:18:22+01:00] (coder)
two
--------
2
--------

"""

AICHAT_SESSION = """model: openai:gpt-4o
temperature: 0.5
messages:
- role: system
  content: Be brief.
- role: user
  content: |-
    What is 1+1?

    Please.
- role: assistant
  content: '2'
- role: user
  content:
  - type: text
    text: And this?
  - type: image_url
    image_url:
      url: data:image/png;base64,AAAA
- role: assistant
  content: A cat.
"""

MODS_SHOW = """**System**: you are a medieval king

**User**: first 4 natural numbers

**Assistant**: 1, 2, 3, 4


> Ran tool: `myfunc`

**User**: as a json array

**Assistant**: [ 1, 2, 3, 4 ]

"""


def zipped(conversations: list[dict[str, Any]], name: str = "export/conversations.json") -> bytes:
    """Return a ZIP archive like those of ChatGPT and Claude."""
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("user.json", "{}")
        archive.writestr(name, json.dumps(conversations))
    return data.getvalue()


def write_crush_database(path: Path) -> None:
    """Write a database with the tables of crush and one session."""
    parts = [
        ("m1", "user", [("text", {"text": "Hello"}), ("binary", {"Path": "a.png"})], None, 1),
        ("m2", "assistant", [("tool_call", {"name": "ls"})], "gpt-5", 2),
        ("m3", "tool", [("tool_result", {"content": "x"})], None, 3),
        (
            *("m4", "assistant"),
            [("reasoning", {"thinking": "Hm"}), ("text", {"text": "Hi"}), ("finish", {})],
            *("gpt-5", 4),
        ),
    ]
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TABLE sessions (id TEXT PRIMARY KEY, parent_session_id TEXT, title TEXT,"
            " message_count INTEGER, created_at INTEGER, updated_at INTEGER)"
        )
        database.execute(
            "CREATE TABLE messages (id TEXT PRIMARY KEY, session_id TEXT, role TEXT, parts BLOB,"
            " model TEXT, created_at INTEGER, updated_at INTEGER, finished_at INTEGER)"
        )
        database.execute(
            "INSERT INTO sessions VALUES ('s1', NULL, 'Hello there', 4, 1750000000, 0)"
        )
        for key, role, items, model, seconds in parts:
            blob = json.dumps([{"type": kind, "data": data} for kind, data in items])
            row = (key, "s1", role, blob, model, 1750000000 + seconds, 0, None)
            database.execute("INSERT INTO messages VALUES (?,?,?,?,?,?,?,?)", row)
        database.commit()
