from __future__ import annotations

import gzip
import io
import threading
from base64 import b64encode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from qacli import attachments
from qacli.attachments import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from qacli.domain import ChatRequest, ContextPart, Question, Turn
from qacli.errors import InvalidRequest
from qacli.provider.chat_completions import ChatCompletions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n\0",
    "image/jpeg": b"\xff\xd8\xff\xe0\0",
    "image/gif": b"GIF89a\0",
    "image/webp": b"RIFF\x04\0\0\0WEBPVP8 ",
}


SLOW_BYTES = 100
"""The length of a page that is sent in five seconds, byte by byte."""


class Site(ThreadingHTTPServer):
    """A web server on loopback, with a page for each case.

    Attributes:
        quiet: Set when the slow page must end.
        slow_bytes: The bytes of the slow page that were sent.
    """

    daemon_threads = True
    quiet = threading.Event()
    slow_bytes = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/moved":
            self._answer(b"", status=302, location="/notes.txt")
        elif path == "/round":
            self._answer(b"", status=302, location="/round")
        elif path == "/file":
            self._answer(b"", status=302, location="file:///etc/passwd")
        elif path == "/gone":
            self._answer(b"no", status=404)
        elif path == "/latin":
            self._answer("Grüße".encode("latin-1"), content_type="text/plain; charset=iso-8859-1")
        elif path == "/packed":
            self._answer(gzip.compress(b"a" * (MAX_IMAGE_BYTES + 1)), content_encoding="gzip")
        elif path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", str(SLOW_BYTES))
            self.end_headers()
            for _ in range(SLOW_BYTES):
                if self.server.quiet.wait(0.05):  # type: ignore[attr-defined]
                    return
                self.wfile.write(b"a")
                self.server.slow_bytes += 1  # type: ignore[attr-defined]
        else:
            self._answer(b"from afar\n")

    def _answer(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        """Write no log."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has closed the connection
            self.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.quiet.set()
        server.shutdown()
        thread.join()
        server.quiet.clear()


def test_read_attachment_text_file_has_its_name(home: Path) -> None:
    data = "\ufeffGrüße\n".encode()
    (home / "a&b.txt").write_bytes(data)
    [found] = attachments.read_attachment(["a&b.txt"], None)
    assert found.part == ContextPart('<file name="a&amp;b.txt">\nGrüße\n</file>')
    assert found.to_dict() == {
        "name": "a&b.txt",
        "size": len(data),
        "sha256": sha256(data).hexdigest(),
    }


@pytest.mark.parametrize("kind", IMAGES)
def test_read_attachment_image_is_detected_by_its_first_bytes(home: Path, kind: str) -> None:
    (home / "photo.txt").write_bytes(IMAGES[kind])
    [found] = attachments.read_attachment(["photo.txt"], None)
    assert found.part.text == '<image name="photo.txt" />'
    assert (found.part.image_url or "").startswith(f"data:{kind};base64,")


FILES = {
    "application/pdf": b"%PDF-1.7\n\xff\0",
    "audio/wav": b"RIFF\x04\0\0\0WAVEfmt ",
    "audio/mpeg": b"ID3\x04\0\0",
}


@pytest.mark.parametrize("kind", FILES)
def test_read_attachment_file_of_a_known_kind_is_sent_unchanged(home: Path, kind: str) -> None:
    (home / "report.bin").write_bytes(FILES[kind])
    [attachment] = attachments.read_attachment([str(home / "report.bin")], None)
    part = attachment.part
    assert (part.media_type, part.image_url, part.file_name) == (kind, None, "report.bin")
    encoded = b64encode(FILES[kind]).decode()
    question = Question(question="What is it?", params={"model": "m"})
    request = ChatRequest(question=question, parts=[part])
    content = ChatCompletions().build_body(request, official=False)["messages"][0]["content"]
    expected: dict[str, object]
    if kind == "application/pdf":
        data = {"filename": "report.bin", "file_data": f"data:{kind};base64,{encoded}"}
        expected = {"type": "file", "file": data}
    else:
        form = {"audio/wav": "wav", "audio/mpeg": "mp3"}[kind]
        expected = {"type": "input_audio", "input_audio": {"data": encoded, "format": form}}
    name = {"type": "text", "text": part.text}
    assert content == [name, expected, {"type": "text", "text": "What is it?"}]


@pytest.mark.parametrize("data", [b"\xff\xf3\x40", b"\xff\xfb\x90"])
def test_read_attachment_mp3_without_a_tag_is_a_sound(data: bytes) -> None:
    [attachment] = attachments.read_attachment(["-"], io.BytesIO(data))
    assert attachment.part.media_type == "audio/mpeg"


@pytest.mark.parametrize("data", [b"ID3 is a tag", b"PDF"])
def test_read_attachment_text_that_begins_like_a_file_is_text(data: bytes) -> None:
    [attachment] = attachments.read_attachment(["-"], io.BytesIO(data))
    assert attachment.part.media_type is None


def test_read_attachment_files_keep_their_order(home: Path) -> None:
    (home / "a.txt").write_text("a")
    (home / "b.txt").write_text("b")
    found = attachments.read_attachment(["b.txt", "-", "a.txt"], io.BytesIO(b"piped"))
    assert [each.name for each in found] == ["b.txt", "standard input", "a.txt"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x7fELF\0\0", "(6 bytes) is neither UTF-8 text nor"),
        (b"caf\xe9" * 1000, "(4 kB) is neither UTF-8 text nor"),
        (b"a" * (MAX_TEXT_BYTES + 1), "has 1.1 MB of text; the limit is 1 MB"),
        (IMAGES["image/png"] + bytes(MAX_IMAGE_BYTES), "the limit is 1 MB for text and 20 MB"),
    ],
    ids=["binary", "latin-1", "long-text", "large-image"],
)
@pytest.mark.parametrize("piped", [False, True])
def test_read_attachment_unsendable_is_refused_with_its_size(
    home: Path, data: bytes, said: str, *, piped: bool
) -> None:
    (home / "x").write_bytes(data)
    with pytest.raises(InvalidRequest) as caught:
        attachments.read_attachment(["-" if piped else "x"], io.BytesIO(data))
    assert said in caught.value.what
    assert "MB" in str(caught.value)


def test_read_attachment_endless_file_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than 20 MB"):
        attachments.read_attachment(["/dev/zero"], None)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.txt", "The file none.txt cannot be read: No such file"),
        (".", "Is a directory"),
        ("a\0b", "cannot be read: embedded null"),
    ],
)
def test_read_attachment_unreadable_file_is_named(source: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        attachments.read_attachment([source], None)
    assert said in caught.value.what


def test_read_attachment_stdin_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="once"):
        attachments.read_attachment(["-", "-"], io.BytesIO(b"x"))


@pytest.mark.parametrize("path", ["/notes.txt", "/moved"])
def test_read_attachment_url_is_fetched_and_kept_without_secrets(site: Site, path: str) -> None:
    url = site.url(f"{path}?token=secret").replace("127", "user:password@127")
    [found] = attachments.read_attachment([url], None)
    assert found.name == site.url(path)
    assert found.part.text == f'<file name="{site.url(path)}">\nfrom afar\n</file>'
    assert (found.size, found.sha256) == (10, sha256(b"from afar\n").hexdigest())


def test_read_attachment_page_is_decoded_by_its_encoding(site: Site) -> None:
    [found] = attachments.read_attachment([site.url("/latin")], None)
    assert "Grüße" in found.part.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/gone", "answered 404"),
        ("/round", "cannot be fetched"),
        ("/file", "cannot be fetched"),
        ("/packed", "more than 20 MB"),
    ],
)
def test_read_attachment_unusable_page_raises(site: Site, path: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        attachments.read_attachment([site.url(path + "?token=secret")], None)
    assert said in caught.value.what
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://[::1/x", "http:///x"])
def test_read_attachment_unreachable_url_raises(url: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be fetched"):
        attachments.read_attachment([url], None)


def test_read_attachment_slow_url_raises_timeout(site: Site) -> None:
    with pytest.raises(InvalidRequest, match=r"within 0\.3 s"):
        attachments.read_attachment([site.url("/slow")], None, seconds=0.3)
    assert site.slow_bytes < SLOW_BYTES


def test_build_body_text_parts_are_one_text() -> None:
    body = ChatCompletions().build_body(
        ChatRequest(
            question=Question(question="Which?"), parts=[ContextPart("one"), ContextPart("two")]
        ),
        official=False,
    )
    assert body["messages"] == [{"role": "user", "content": "one\n\ntwo\n\nWhich?"}]


def test_build_body_image_makes_parts_also_in_a_turn() -> None:
    turns = [Turn("What is it?", "A cat.", [ContextPart("<image>", "data:image/png;base64,AA==")])]
    body = ChatCompletions().build_body(
        ChatRequest(question=Question(question="Sure?"), turns=turns), official=False
    )
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<image>"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "text", "text": "What is it?"},
            ],
        },
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Sure?"},
    ]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_000_001, "1.1 MB"),
        (2**31, "2147.5 MB"),
    ],
)
def test_format_size_uses_decimal_units(size: int, said: str) -> None:
    assert attachments.format_size(size) == said
