"""No route shows or changes a record of another caller.

The tests take the routes from the application itself, so they test a new one, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from qacli.config.callers import Caller
from qacli.domain import Outcome, Question, Status
from qacli.errors import Unauthorized
from qacli.web import state
from qacli.web.request_context import ENVIRON_KEY, current_context

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from werkzeug.routing import Rule

    from qacli.db.records import Store

ALICE, BOB, ROOT = "alice-token-0123456789", "bob-token-0123456789", "root-token-0123456789"
TOKENS = f"alice={ALICE},bob={BOB},admin:root={ROOT}"
MARKER = "Xq7SecretMarker"
KEY = "a-key-of-two-callers"
MISSING = 987_654
Body = Callable[[int], dict[str, Any]]
ACCEPTS = ("*/*", "text/html", "text/event-stream", "application/x-ndjson")
QUERIES = ("", "?q=zebra", "?q=zebra&order=best", "?tag=private", "?limit=1", "?after=0&limit=1")

BODIES: tuple[Body, ...] = (
    lambda record_id: {"json": {"question": "Who?", "follows_id": record_id}},
    lambda _: {"json": {"question": "Who is it?"}, "headers": {"Idempotency-Key": KEY}},
    lambda _: {"json": {"question": "zebra"}, "headers": {"Prefer": "respond-async"}},
    lambda _: {"json": {"add_tags": ["stolen"], "remove_tags": ["private"]}},
    lambda _: {"json": {"messages": [{"role": "user", "content": "Who?"}], "model": "m"}},
    lambda record_id: {"data": {"question": "Who?", "follows_id": str(record_id)}},
    lambda _: {"data": {"add": "stolen", "remove": "private"}},
)


@dataclass(frozen=True)
class History:
    """The ids of records that do not belong to bob.

    Attributes:
        answered: A record of alice that follows up another one of hers.
        asking: A record of alice without an answer so far.
        ownerless: A record without a caller, like those of the command line.
    """

    answered: int
    asking: int
    ownerless: int

    @property
    def ids(self) -> tuple[int, ...]:
        return (self.answered, self.asking, self.ownerless)


def uid_of(record_id: int) -> str:
    """Return the uid of a record of `history`; the id of its response contains it."""
    return f"{record_id:032d}"


@pytest.fixture
def history(store: Store) -> History:
    def keep(question: str, caller: str | None, **more: Any) -> int:
        status = more.pop("status", Status.ANSWERED)
        answer = f"giraffe {MARKER}" if status is Status.ANSWERED else None
        number = len(store.page(limit=9)) + 1
        ask = Question(
            uid=uid_of(number),
            question=f"{question} {MARKER}",
            system=f"system {MARKER}",
            caller=caller,
            tags=["private", MARKER],
            params={"model": "test-model", "note": MARKER},
            **more,
        )
        assert (
            store.upsert(ask, Outcome(status=status, answer=answer, model="test-model")) == number
        )
        return number

    first = keep("zebra one", "alice", idempotency_key=KEY)
    return History(
        answered=keep("zebra two", "alice", follows_id=first),
        asking=keep("zebra three", "alice", status=Status.ASKING),
        ownerless=keep("zebra four", None),
    )


@pytest.fixture
def app(store: Store, build: Callable[..., Flask]) -> Flask:
    assert store
    return build(tokens=TOKENS)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def routes(app: Flask) -> Iterator[tuple[Rule, str]]:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method


def address(app: Flask, rule: Rule, record_id: int) -> str:
    """Return the path of a route for a record; fail for an unknown parameter."""
    values = {"record_id": record_id, "model": "test-model", "filename": "page.css"}
    values["response_id"] = f"resp_{uid_of(record_id)}"
    built = app.url_map.bind("localhost").build(
        rule.endpoint, {name: values[name] for name in rule.arguments}
    )
    assert built.startswith("/")
    return built if built.rstrip("/") != rule.rule.rstrip("/") else rule.rule


def requests_for(rule: Rule, method: str, record_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the query and the arguments of each request to a route."""
    if method == "GET":
        for accept in ACCEPTS:
            for query in QUERIES if not rule.arguments else ("",):
                yield query, {"headers": {"Accept": accept}}
        return
    for accept in ("*/*", "text/event-stream"):
        for body in BODIES if method != "DELETE" else (lambda _: {},):
            given = body(record_id)
            yield "", {**given, "headers": {"Accept": accept, **given.get("headers", {})}}


def masked(text: str) -> str:
    """Return a response without the parts that differ between two equal requests."""
    return re.sub(r"\b[0-9a-f]{32}\b|\d+", "N", text)


def others(store: Store) -> list[dict[str, Any]]:
    return [record for record in store.dicts() if record["caller"] != "bob"]


@pytest.mark.parametrize("with_cookie", [False, True], ids=["token", "cookie"])
def test_routes_show_and_change_no_record_of_another_caller(
    app: Flask, store: Store, history: History, provider: FakeProvider, *, with_cookie: bool
) -> None:
    before = others(store)
    walked = set()
    for rule, method in routes(app):
        client = app.test_client()
        if with_cookie:
            assert client.post("/sign-in", data={"token": BOB}).status_code == 303
        for record_id in history.ids if rule.arguments else history.ids[:1]:
            path = address(app, rule, record_id)
            for query, arguments in requests_for(rule, method, record_id):
                if not with_cookie:
                    arguments["headers"] |= bearer(BOB)
                with client.open(path + query, method=method, **arguments) as response:
                    text = response.get_data(as_text=True) + str(response.headers)
                assert MARKER not in text, (method, path, query, arguments)
                assert response.status_code != 500, (method, path, text)
                walked.add(rule.rule)
    assert {"/ask", "/qas", "/qa/<int:record_id>", "/", "/page/ask"} <= walked
    assert others(store) == before
    sent = json.dumps([request.body for request in provider.requests])
    assert MARKER not in sent
    own = list(store.visible_to("bob").dicts())
    assert own
    assert {record["follows_id"] for record in own}.isdisjoint(history.ids)


def test_routes_of_another_callers_record_answer_as_if_missing(
    app: Flask, history: History
) -> None:
    client = app.test_client()
    for rule, method in routes(app):
        if "record_id" not in rule.arguments:
            continue
        for record_id in history.ids:
            pairs = zip(
                requests_for(rule, method, record_id),
                requests_for(rule, method, MISSING),
                strict=True,
            )
            for (_, to_other), (_, to_missing) in pairs:
                there, missing = (
                    client.open(
                        address(app, rule, of_record),
                        method=method,
                        **{**given, "headers": {**given["headers"], **bearer(BOB)}},
                    )
                    for of_record, given in ((record_id, to_other), (MISSING, to_missing))
                )
                assert there.status_code == missing.status_code, (rule, method)
                assert there.status_code not in {200, 204, 401, 403}, (rule, method)
                assert masked(there.get_data(as_text=True)) == masked(missing.text)


@pytest.mark.parametrize("token", [ALICE, ROOT], ids=["owner", "administrator"])
def test_reading_routes_show_records_to_owner_and_administrator(
    app: Flask, history: History, token: str
) -> None:
    client = app.test_client()
    number = history.answered
    for path in (
        *(
            f"/qa/{number}",
            f"/qa/{number}/thread",
            "/qas",
            "/qas?q=zebra",
            "/qas?q=zebra&order=best",
        ),
        *("/", "/?q=zebra", f"/page/{number}"),
    ):
        response = client.get(path, headers=bearer(token))
        assert response.status_code == 200
        assert MARKER in response.text, path
    lines = client.get("/qas", headers={"Accept": "application/x-ndjson", **bearer(token)})
    callers = [json.loads(line)["caller"] for line in lines.text.splitlines()]
    assert callers == ["alice"] * 3 + ([None] if token == ROOT else [])


def test_delete_and_patch_are_for_owner_and_administrator(
    app: Flask, store: Store, history: History
) -> None:
    client = app.test_client()
    path = f"/qa/{history.answered}"
    assert client.patch(path, json={"add_tags": ["x"]}, headers=bearer(ROOT)).status_code == 200
    assert client.patch(path, json={"add_tags": ["y"]}, headers=bearer(ALICE)).status_code == 200
    assert client.delete(path, headers=bearer(ALICE)).status_code == 200
    path = f"/qa/{history.ownerless}"
    assert client.delete(path, headers=bearer(ALICE)).status_code == 404
    assert client.delete(path, headers=bearer(ROOT)).status_code == 200
    assert [record.id for record in store.page(limit=9)] == [1, history.asking]


def test_qas_links_with_several_callers_give_own_records_once(app: Flask, store: Store) -> None:
    for number in range(20):
        caller = ("alice", "bob", None)[number % 3]
        store.upsert(Question(question=f"{number}", caller=caller), Outcome())
    for order in ("asc", "desc"):
        client, path = app.test_client(), f"/qas?limit=2&order={order}"
        found: list[int] = []
        while path:
            response = client.get(path, headers=bearer(BOB))
            found += [int(record["question"]) for record in response.get_json()]
            link = re.match(r"<([^>]+)>", response.headers.get("Link", ""))
            path = link[1] if link else ""
        assert sorted(found) == [1, 4, 7, 10, 13, 16, 19]
        assert found == sorted(found, reverse=order == "desc")


def test_idempotency_key_of_two_callers_asks_two_questions(
    app: Flask, provider: FakeProvider, store: Store
) -> None:
    client = app.test_client()

    def ask(token: str) -> dict[str, Any]:
        headers = {"Idempotency-Key": "k", **bearer(token)}
        response = client.post("/ask", json={"question": f"Who is {token}?"}, headers=headers)
        assert response.status_code == 200, response.text
        record: dict[str, Any] = response.get_json()
        return record

    first = [ask(ALICE), ask(BOB), ask(ROOT)]
    assert [record["caller"] for record in first] == ["alice", "bob", "root"]
    assert [ask(ALICE), ask(BOB), ask(ROOT)] == first
    assert len(provider.requests) == store.count() == 3


def test_chat_completion_does_not_follow_another_callers_thread(app: Flask, store: Store) -> None:
    client = app.test_client()

    def go_on(token: str) -> Any:
        messages = [
            *(
                {"role": "user", "content": "Who?"},
                {"role": "assistant", "content": "Answer to: Who?"},
            ),
            {"role": "user", "content": "And then?"},
        ]
        body = {"model": "test-model", "messages": messages}
        response = client.post("/v1/chat/completions", json=body, headers=bearer(token))
        return store.get(int(response.headers["X-QA-Record"])).follows_id

    asked = client.post("/ask", json={"question": "Who?"}, headers=bearer(ALICE)).get_json()
    assert go_on(BOB) is None
    assert go_on(ALICE) == asked["id"]


def test_thread_with_a_link_to_another_callers_record_ends_there(
    app: Flask, store: Store, history: History, provider: FakeProvider
) -> None:
    # Before records had owners, one could follow up any other.
    linked = Question(question="Mine", caller="bob", follows_id=history.answered)
    own = store.upsert(linked, Outcome(status=Status.ANSWERED, answer="Yes"))
    client = app.test_client()
    for path in (f"/qa/{own}", f"/qa/{own}/thread", f"/page/{own}"):
        response = client.get(path, headers=bearer(BOB))
        assert response.status_code == 200
        assert MARKER not in response.text
    body = {"question": "And?", "follows_id": own}
    assert client.post("/ask", json=body, headers=bearer(BOB)).status_code == 200
    assert MARKER not in json.dumps(provider.requests[-1].body)


def test_metrics_are_for_administrators(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/metrics", headers=bearer(ROOT)).status_code == 200
    refused = client.get("/metrics", headers=bearer(BOB))
    assert (refused.status_code, refused.get_json(force=True)["kind"]) == (403, "forbidden")


@pytest.mark.usefixtures("store")
def test_token_without_a_name_is_an_administrators(
    build: Callable[..., Flask], history: History
) -> None:
    client = build(token="t" * 16).test_client()
    assert len(client.get("/qas", headers=bearer("t" * 16)).get_json()) == 4
    assert client.get(f"/qa/{history.ownerless}", headers=bearer("t" * 16)).status_code == 200
    assert client.get("/metrics", headers=bearer("t" * 16)).status_code == 200


def test_routes_without_a_token_are_refused_except_open_ones(app: Flask) -> None:
    client = app.test_client()
    open_routes = set()
    for rule, method in routes(app):
        with client.open(address(app, rule, 1), method=method) as response:
            if response.status_code != 401:
                open_routes.add(rule.rule)
    assert open_routes == {
        *("/is_up", "/is_ready", "/sign-in", "/sign-out"),
        "/static/<path:filename>",
    }


@pytest.mark.usefixtures("store")
def test_server_without_tokens_shows_all_records(
    build: Callable[..., Flask], history: History
) -> None:
    client = build().test_client()
    assert len(client.get("/qas").get_json()) == 4
    assert client.delete(f"/qa/{history.answered}").status_code == 200
    assert client.get("/metrics").status_code == 200


def test_store_of_a_request_that_is_not_authenticated_is_refused(app: Flask) -> None:
    with app.test_request_context("/"), pytest.raises(Unauthorized):
        _ = state.get_state().store
    with app.app_context(), pytest.raises(Unauthorized):
        _ = state.get_state().store
    with app.test_request_context("/", environ_base={ENVIRON_KEY: current_context()}) as context:
        context.request.environ[ENVIRON_KEY].identity = Caller("bob", is_admin=False)
        assert state.get_state().store.owner == "bob"
