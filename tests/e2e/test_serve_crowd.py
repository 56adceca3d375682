"""Clients of every kind come at once and leave anywhere; nobody else notices, nothing is lost."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Program
    from fake_provider import FakeProvider

Records = Callable[..., list[dict[str, Any]]]

TIMEOUT = 30
SLOW = 24

STAYS, IN_BODY, BEFORE_ANSWER, IN_ANSWER = range(4)
"""Where a client leaves."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request; what its question demands of the provider, and what comes of it."""

    name: str
    demands: str = "[[latency=0.3]]"
    path: str = "/ask"
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = frozenset({200})

    def head_and_data(self, number: int) -> tuple[bytes, bytes]:
        """The request."""
        again = "Idempotency-Key" in self.headers
        question = f"{self.name} {'again' if again else number} {self.demands}"
        asked: dict[str, Any] = {"question": question}
        if self.path != "/ask":
            asked = {"model": "m", "messages": [{"role": "user", "content": question}]}
        data = json.dumps({**asked, **self.body}).encode()
        sized = {"Content-Length": str(len(data))}
        if self.headers.get("Transfer-Encoding") == "chunked":
            sized, data = {}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        headers = {"Host": "localhost", "Content-Type": "application/json", **sized, **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {it}" for name, it in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode(), data


KINDS = (
    Kind("Plain"),
    Kind("Streamed", body={"stream": True}),
    Kind("Later", headers={"Prefer": "respond-async"}, statuses=frozenset({202})),
    Kind("Follow-up", body={"follows_id": 1}),
    Kind("Nothing to follow", body={"follows_id": 999}, statuses=frozenset({404})),
    Kind("Keyed", headers={"Idempotency-Key": "once"}),
    Kind("Fit", "[[latency=0.3]] [[text={}]]", body={"schema": {"type": "object"}}),
    Kind("Unfit", body={"schema": {"type": "object"}}, statuses=frozenset({502})),
    Kind("Chunked", headers={"Transfer-Encoding": "chunked"}),
    Kind("Wrong", body={"question": 7}, statuses=frozenset({422})),
    Kind("Refused", "[[status=400]]", statuses=frozenset({502})),
    Kind("Cut", "[[cut=2]]", statuses=frozenset({502})),
    Kind("Silent", "[[hang]]", statuses=frozenset({504})),
    Kind("Chat", path="/v1/chat/completions"),
    Kind("Chat, streamed", path="/v1/chat/completions", body={"stream": True}),
)


def come(port: int, kind: Kind, number: int, leaves: int) -> bytes:
    """Send a request and leave; what had come by then."""
    head, data = kind.head_and_data(number)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(head + data[: len(data) // 2])
        if leaves == IN_BODY:
            return b""
        connection.sendall(data[len(data) // 2 :])
        came = b""
        while leaves != BEFORE_ANSWER and not is_whole(came):
            came += connection.recv(65536)
            if leaves == IN_ANSWER:
                break
        return came


def is_whole(came: bytes) -> bool:
    head, _, body = came.partition(b"\r\n\r\n")
    if length := re.search(rb"(?i)content-length: (\d+)", head):
        return len(body) == int(length[1])
    return body.endswith(b"0\r\n\r\n")


@contextmanager
def slow_clients(port: int) -> Iterator[None]:
    """Clients that have sent half of a body each, and no more for as long."""
    with ExitStack() as stack:
        for number, path in product(range(SLOW // 2), ("/ask", "/v1/chat/completions")):
            head, data = Kind("Slow", path=path).head_and_data(number)
            connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
            stack.enter_context(connection)
            connection.sendall(head + data[:5])
        yield


def test_serve_clients_leaving_at_any_point_delay_no_other(
    qa: Program,
    serve: Callable[..., Any],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, QA_FIRST_TOKEN_TIMEOUT="1", QA_RETRIES="0")
    assert served.ask("First?")[0] == 200
    requests = list(product(KINDS, range(2), (STAYS, IN_BODY, BEFORE_ANSWER, IN_ANSWER)))
    with ThreadPoolExecutor(len(requests)) as pool, slow_clients(served.port):
        crowd = [
            pool.submit(come, served.port, kind, number * 4 + leaves, leaves)
            for kind, number, leaves in requests
        ]
        assert served.request("GET", "/is_up")[0] == 200
        assert served.ask("In the crowd?")[0] == 200
        came = [each.result(TIMEOUT) for each in crowd]
        assert served.ask("After the crowd?")[0] == 200
    promised = set()
    for (kind, _, leaves), response in zip(requests, came, strict=True):
        if leaves != STAYS:
            continue
        status = int(response.split()[1])
        assert status in kind.statuses, (kind.name, response)
        if status < 300 and (found := re.search(rb'"(?:record_)?id": ?(\d+)', response)):
            promised.add(int(found[1]))
    wait_for(lambda: all(each["status"] != "asking" for each in records(database_url)), TIMEOUT)
    assert served.told_to_stop() == 0
    found = records(database_url)
    assert promised <= {record["id"] for record in found}
    on_record = Counter(record["question"] for record in found)
    assert {request.question for request in provider.requests} <= set(on_record)
    assert on_record["Keyed again [[latency=0.3]]"] == 1
    assert [line for line in served.log if "Traceback" in line] == []
