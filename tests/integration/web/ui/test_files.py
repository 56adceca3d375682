"""Files of a question in the page's form."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import Reply
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.test import encode_multipart

from .test_views import BROWSER, EVENTS, EVIL, events_of, on_sqlite, text_of

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask.testing import FlaskClient

    from qacli.db.records import Store

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def form(*files: tuple[bytes, str], question: str = "What is it?") -> dict[str, Any]:
    """Return the body of a form as a browser sends it."""
    parts = [FileStorage(BytesIO(data), name) for data, name in files]
    boundary, body = encode_multipart(
        MultiDict([("question", question), *(("files", part) for part in parts)])
    )
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def test_ask_form_with_an_image_sends_it_and_records_its_name(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    files = form((PNG, "pictures/cat.txt"), (b"Sunny.", "note.bin"), (b"", ""))
    assert client.post("/page/ask", **files, headers=BROWSER).location == "/page/1#r1"
    image, text, question = (
        part.get("text") or part["image_url"]["url"]
        for part in provider.requests[-1].body["messages"][-1]["content"]
        if '<image name="cat.txt" />' not in part.get("text", "")
    )
    assert image == f"data:image/png;base64,{b64encode(PNG).decode()}"
    assert text == '<file name="note.bin">\nSunny.\n</file>'
    assert question == "What is it?"
    assert store.get(1).attachments == [
        {"name": "cat.txt", "size": len(PNG), "sha256": sha256(PNG).hexdigest()},
        {"name": "note.bin", "size": 6, "sha256": sha256(b"Sunny.").hexdigest()},
    ]
    page = text_of(client.get("/page/1"))
    assert "With cat.txt, 72 Bytes note.bin, 6 Bytes" in page
    assert f"{sha256(PNG).hexdigest()} cat.txt {sha256(b'Sunny.').hexdigest()} note.bin" in page


@on_sqlite
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([(b"PK\3\4\0\0", "photo.png")], "photo.png (6 bytes) is neither UTF-8 text nor a PNG"),
        ([(PNG + bytes(20_000_000), "big.png")], "big.png has more than 20 MB"),
        ([(b"a" * 1_000_001, "long.txt")], "the limit is 1 MB"),
        ([(PNG, f"{number}.png") for number in range(11)], "can have 10 files; these are 11"),
        ([(PNG, "a\0.png")], "an attachment's name"),
    ],
)
def test_ask_form_with_an_unusable_file_is_refused_with_the_reason(
    client: FlaskClient, provider: FakeProvider, files: list[tuple[bytes, str]], reason: str
) -> None:
    page = client.post("/page/ask", **form(*files), headers=BROWSER)
    assert page.status_code == 422
    assert reason in text_of(page)
    assert "What is it?" in page.text
    assert provider.requests == []


@on_sqlite
def test_ask_form_with_files_beyond_the_limit_of_a_body_is_refused(
    client: FlaskClient, provider: FakeProvider
) -> None:
    files = form(*((PNG + bytes(19_000_000), name) for name in ("a.png", "b.png")))
    assert client.post("/page/ask", **files, headers=BROWSER).status_code == 413
    assert client.post("/page/ask", **form(question="word " * 900_000)).status_code == 413
    assert provider.requests == []


@on_sqlite
def test_hostile_name_of_a_file_is_shown_as_text(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    provider.script(Reply(text="Yes."))
    name = EVIL.replace("/", "") + "\u202e.png"
    response = client.post("/page/ask", **form((PNG, name)), headers=EVENTS)
    article = events_of(response)[-1][1]["article"]
    for html in (article, client.get("/page/1").text):
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
        assert "<img" not in html
    sent = provider.requests[-1].body["messages"][-1]["content"]
    assert any("&lt;img src=x" in part.get("text", "") for part in sent)
    assert store.get(1).attachments[0]["name"] == name
