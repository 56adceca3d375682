"""Many clients at once, some of which disconnect: no other is delayed, and no answer is lost."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program, Records
    from fake_provider import FakeProvider

TIMEOUT = 30
SLOW = 24

NEVER, IN_BODY, BEFORE_ANSWER, IN_ANSWER = range(4)
"""When a client disconnects."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    Attributes:
        name: The beginning of its questions.
        reply: The reply that the question requests from the fake provider.
        path: The path of the API.
        body: Fields of the body, besides the question.
        headers: Headers, besides the usual ones.
        statuses: The statuses that the response may have.
    """

    name: str
    reply: str = "[[latency=0.3]]"
    path: str = "/ask"
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = frozenset({200})

    def head_and_data(self, number: int) -> tuple[bytes, bytes]:
        """Return the head and the body of a request."""
        again = "Idempotency-Key" in self.headers
        question = f"{self.name} {'again' if again else number} {self.reply}"
        body: dict[str, Any] = {"question": question}
        if self.path != "/ask":
            body = {"model": "m", "messages": [{"role": "user", "content": question}]}
        data = json.dumps({**body, **self.body}).encode()
        headers = {"Host": "localhost", "Content-Type": "application/json", **self.headers}
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        else:
            headers["Content-Length"] = str(len(data))
        lines = [f"POST {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
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


def send(port: int, kind: Kind, number: int, disconnect: int) -> bytes:
    """Send a request; return the response, or its part that arrived before the disconnection."""
    head, data = kind.head_and_data(number)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(head + data[: len(data) // 2])
        if disconnect == IN_BODY:
            return b""
        connection.sendall(data[len(data) // 2 :])
        response = b""
        while disconnect != BEFORE_ANSWER and not is_complete(response):
            response += connection.recv(65536)
            if disconnect == IN_ANSWER:
                break
        return response


def is_complete(response: bytes) -> bool:
    head, _, body = response.partition(b"\r\n\r\n")
    if length := re.search(rb"(?i)content-length: (\d+)", head):
        return len(body) == int(length[1])
    return body.endswith(b"0\r\n\r\n")


@contextmanager
def slow_clients(port: int) -> Iterator[None]:
    """Connect clients that have sent a part of a body, and send no more inside the context."""
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
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    served = serve(qa, QA_FIRST_TOKEN_TIMEOUT="1", QA_RETRIES="0")
    assert served.ask("First?")[0] == 200
    requests = list(product(KINDS, range(2), (NEVER, IN_BODY, BEFORE_ANSWER, IN_ANSWER)))
    with ThreadPoolExecutor(len(requests)) as pool, slow_clients(served.port):
        crowd = [
            pool.submit(send, served.port, kind, number * 4 + disconnect, disconnect)
            for kind, number, disconnect in requests
        ]
        assert served.request("GET", "/is_up")[0] == 200
        assert served.ask("In the crowd?")[0] == 200
        responses = [each.result(TIMEOUT) for each in crowd]
        assert served.ask("After the crowd?")[0] == 200
    ids = set()
    for (kind, _, disconnect), response in zip(requests, responses, strict=True):
        if disconnect != NEVER:
            continue
        status = int(response.split()[1])
        assert status in kind.statuses, (kind.name, response)
        if status < 300 and (match := re.search(rb'"(?:record_)?id": ?(\d+)', response)):
            ids.add(int(match[1]))
    wait_for(lambda: all(each["status"] != "asking" for each in records()), TIMEOUT)
    assert served.terminate() == 0
    assert ids <= {record["id"] for record in records()}
    counts = Counter(record["question"] for record in records())
    assert {request.question for request in provider.requests} <= set(counts)
    assert counts["Keyed again [[latency=0.3]]"] == 1
    assert [line for line in served.log if "Traceback" in line] == []
