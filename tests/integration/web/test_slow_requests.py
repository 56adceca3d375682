"""A request that waits (for its body, for a key command) does not delay the others."""

from __future__ import annotations

import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask


TIMEOUT = 20
BODY = json.dumps({"question": "Who?"}).encode()

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class SlowBody(BytesIO):
    """A body that arrives late."""

    def __init__(self) -> None:
        super().__init__(BODY)
        self.waits, self.may_go_on = Event(), Event()

    def read(self, size: int | None = -1) -> bytes:
        self._wait()
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        self._wait()
        return super().readinto(buffer)

    def _wait(self) -> None:
        self.waits.set()
        assert self.may_go_on.wait(TIMEOUT)


def post(app: Flask, body: SlowBody, length: int | None, path: str, **headers: str) -> Any:
    """Send a late body; without a length, like a chunked one."""
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    known = chunked if length is None else {"CONTENT_LENGTH": str(length)}
    return app.test_client().post(
        path,
        input_stream=body,
        content_type="application/json",
        headers=headers,
        environ_overrides=known,
    )


@pytest.mark.parametrize("length", [len(BODY), None], ids=["length", "chunks"])
@pytest.mark.parametrize(
    ("path", "status"), [("/ask", 200), ("/v1/chat/completions", 400)], ids=["ask", "v1"]
)
def test_ask_slow_body_does_not_delay_other_requests(
    app: Flask, length: int | None, path: str, status: int
) -> None:
    body = SlowBody()
    with ThreadPoolExecutor(2) as pool:
        slowly = pool.submit(post, app, body, length, path)
        assert body.waits.wait(TIMEOUT)
        try:
            other = pool.submit(app.test_client().post, "/ask", json={"question": "Else?"})
            assert other.result(TIMEOUT).status_code == 200
        finally:
            body.may_go_on.set()
        assert slowly.result(TIMEOUT).status_code == status


@pytest.mark.parametrize("length", [len(BODY), None], ids=["length", "chunks"])
@pytest.mark.parametrize("path", ["/ask", "/v1/chat/completions"])
def test_ask_unauthorized_body_is_not_read(
    build: Callable[..., Flask], length: int | None, path: str
) -> None:
    body = SlowBody()
    response = post(build(token="right"), body, length, path, Authorization="Bearer wrong")
    assert response.status_code == 401
    assert not body.waits.is_set()


def key_command(script: Path, ends: str) -> str:
    """Write a key command that records its start, waits for a file, and then runs `ends`."""
    begun, may_end = script.with_suffix(".begun"), script.with_suffix(".end")
    script.write_text(
        "import pathlib, sys, time\n"
        f"with open({str(begun)!r}, 'a') as file: file.write('x')\n"
        f"while not pathlib.Path({str(may_end)!r}).exists(): time.sleep(0.01)\n{ends}\n"
    )
    return shlex.join([sys.executable, str(script)])


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("ends", "status"), [(f"print('{KEY}')", 200), ("sys.exit(1)", 503)], ids=["key", "none"]
)
def test_ask_slow_key_command_delays_no_other_request_and_runs_once(
    build: Callable[..., Flask],
    tmp_path: Path,
    wait_for: Callable[..., Any],
    ends: str,
    status: int,
) -> None:
    script = tmp_path / "key.py"
    app = build(api_key=None, key_command=key_command(script, ends))

    def ask(body: object) -> int:
        return app.test_client().post("/ask", json=body).status_code

    with ThreadPoolExecutor(5) as pool:
        try:
            asked = [pool.submit(ask, {"question": f"Who is {n}?"}) for n in range(4)]
            wait_for(script.with_suffix(".begun").exists)
            assert pool.submit(ask, {"question": 7}).result(TIMEOUT) == 422
        finally:
            script.with_suffix(".end").touch()
        assert {each.result(TIMEOUT) for each in asked} == {status}
    assert script.with_suffix(".begun").read_text() == "x"
