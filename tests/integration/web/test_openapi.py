"""The OpenAPI document agrees with the routes, and the page at /docs with the document."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import validate

from qacli.record_fields import MEANINGS, RECORD_FIELDS
from qacli.web.openapi import HEADERS, path_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient


pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FOR_PEOPLE = {"page", "signing"}
"""The blueprints whose routes are pages and their forms."""


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").get_json()
    return document


def test_openapi_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_openapi_lists_exactly_the_routes(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (path_of(rule), method)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] not in FOR_PEOPLE
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    listed = {
        (path, method.upper()) for path, methods in document["paths"].items() for method in methods
    }
    assert listed == routes
    assert {("/ask", "POST"), ("/qa/{id}", "GET"), ("/v1/chat/completions", "POST")} <= listed


def test_openapi_operations_have_id_and_summary(document: dict[str, Any]) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    for each in operations:
        assert each["summary"]
        for response in each["responses"].values():
            assert response["description"]
            assert set(response.get("headers", {})) <= set(HEADERS)


def test_openapi_record_has_every_field_with_its_meaning(document: dict[str, Any]) -> None:
    record = document["components"]["schemas"]["Record"]
    assert list(record["properties"]) == record["required"] == list(RECORD_FIELDS) == list(MEANINGS)
    assert all(each["description"] for each in record["properties"].values())


def test_openapi_record_schema_matches_a_record(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    record = client.post("/ask", json={"question": "Who am I?", "tags": ["a"]}).get_json()
    schema = {"$ref": "#/components/schemas/Record", "components": document["components"]}
    Draft202012Validator(schema).validate(record)
    wrong = [*Draft202012Validator(schema).iter_errors({**record, "id": None, "new": 1})]
    assert len(wrong) == 2


@pytest.mark.usefixtures("store")
def test_openapi_with_tokens_declares_security(
    build: Callable[..., Flask], document: dict[str, Any]
) -> None:
    assert "security" not in document["paths"]["/ask"]["post"]
    client = build(token="t-123").test_client()
    assert client.get("/openapi.json").status_code == 401
    document = client.get("/openapi.json", headers={"Authorization": "Bearer t-123"}).get_json()
    assert document["paths"]["/ask"]["post"]["security"] == [{"bearer": []}]
    assert "401" in document["paths"]["/ask"]["post"]["responses"]
    assert "security" not in document["paths"]["/is_up"]["get"]


class Page(HTMLParser):
    """The ids, links, labels and fields of a page, and the files that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[dict[str, str | None]]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.setdefault(tag, []).append(dict(attrs))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [each for tag in tags for each in self.found.get(tag, [])]


@pytest.fixture
def page(client: FlaskClient) -> Page:
    response = client.get("/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    return Page(response.text)


def test_docs_page_has_every_operation_and_schema(page: Page, document: dict[str, Any]) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = {each["operationId"] for each in operations}
    names |= {f"schema-{name}" for name in document["components"]["schemas"]}
    assert names <= {each.get("id") for each in page.all("section")}
    assert len(page.all("form")) == len(operations)


def test_docs_page_links_have_targets(page: Page, client: FlaskClient) -> None:
    ids = [each["id"] for tag in page.found for each in page.all(tag) if each.get("id")]
    assert len(set(ids)) == len(ids)
    for link in page.all("a"):
        href = link["href"] or ""
        assert href[1:] in ids if href.startswith("#") else client.get(href).status_code == 200


def test_docs_page_fields_have_labels(page: Page) -> None:
    labelled = {each.get("for") for each in page.all("label")}
    fields = page.all("input", "select", "textarea")
    assert fields
    assert {each["id"] for each in fields} == labelled


def test_docs_page_loads_only_own_files_and_has_nothing_inline(
    page: Page, client: FlaskClient
) -> None:
    for each in [*page.all("script", "img"), *page.all("link")]:
        address = each.get("src") or each.get("href") or ""
        assert address.startswith("/static/"), each
        with client.get(address) as response:
            assert response.status_code == 200
    assert not page.all("style")
    for tag in page.found:
        for attributes in page.all(tag):
            assert not [name for name in attributes if re.match(r"on|style$", name)]
