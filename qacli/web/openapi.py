"""The OpenAPI 3.1 document: each route says beside itself what it takes and what it answers.

The schemas are pydantic's own, of the models that validate, so what is left to do here is to put
them into the document's frame. A test compares the routes with the document, and schemathesis
compares the document with what the server does.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeVar, cast

from flask import Flask
from pydantic import BaseModel, TypeAdapter
from werkzeug.routing import IntegerConverter, Rule

import qacli
from qacli.validation import MAX_ID
from qacli.web import errors as problems
from qacli.web.api.responses import Problem
from qacli.web.policy import Access, policy_of

JSON = "application/json"
REFS = "#/components/schemas/{model}"
UNDESCRIBED = {"HEAD", "OPTIONS"}

HEADERS = {
    "ETag": "The version of the record, for `If-None-Match`.",
    "Link": "The next page, as RFC 8288 has it.",
    "Location": "Where the record is.",
    "Preference-Applied": "The preference that was honoured.",
    "RateLimit": "What is left of the rate, and when it is whole again.",
    "RateLimit-Policy": "The rate that this client may ask at.",
    "Retry-After": "Seconds after which to ask again.",
    "WWW-Authenticate": "That a bearer token is wanted.",
    "X-Request-Id": "The request, as the log names it; on every response.",
}
"""What each header of a response means."""

PARAMETERS = {"record_id": "id"}
"""What a part of an address is called in the document, where the code calls it otherwise."""

HEADERS_OF = {
    HTTPStatus.UNAUTHORIZED: ["WWW-Authenticate"],
    HTTPStatus.TOO_MANY_REQUESTS: ["Retry-After", "RateLimit", "RateLimit-Policy"],
    HTTPStatus.SERVICE_UNAVAILABLE: ["Retry-After"],
}
"""The headers that an error may bring along."""

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """One way in which a route answers.

    Attributes:
        text: When, or what it is.
        content: The type of the body for each media type; nothing where there is no body.
        headers: The headers that come along, of those in HEADERS.
    """

    text: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """What a route takes and answers; see `described`."""

    answers: Mapping[int, ResponseSpec]
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    headers: type[BaseModel] | None
    errors: Sequence[int]
    error: tuple[str, Any]


def describe(  # noqa: PLR0913 - what a route has, by name
    answers: Mapping[int, ResponseSpec],
    *,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    headers: type[BaseModel] | None = None,
    errors: Sequence[int] = (),
    error: tuple[str, Any] = (problems.MIME_TYPE, Problem),
) -> Callable[[View], View]:
    """Say what a route takes and answers; its docstring says what it does.

    Args:
        answers: By status.
        body: The JSON that it takes.
        query: Its query.
        headers: The request's headers that it reads, by their names as aliases.
        errors: The statuses of its errors, besides those of the guard and of mistakes.
        error: The media type and the shape of an error.
    """

    def describe(view: View) -> View:
        said = OperationSpec(
            answers=answers,
            body=body,
            query=query,
            headers=headers,
            errors=errors,
            error=error,
        )
        cast("Any", view).described = said
        return view

    return describe


def document(app: Flask, *, secured: bool) -> dict[str, Any]:
    """The document of an application.

    Args:
        app: With all its routes.
        secured: Whether the server wants a token.
    """
    routes = list(_routes(app))
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for rule, method, view, said in routes:
        operation = _operation(rule, view, said, schemas, secured=secured)
        # Two addresses of one view are two operations.
        while operation["operationId"] in names:
            operation["operationId"] += "_too"
        names.add(operation["operationId"])
        paths.setdefault(path_of(rule), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "qa",
            "version": qacli.__version__,
            "description": "Ask a language model, and keep every question and answer.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in HEADERS.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def path_of(rule: Rule) -> str:
    """A route's address as OpenAPI writes it."""
    return re.sub(
        r"<(?:[^:<>]+:)?([^<>]+)>",
        lambda part: f"{{{PARAMETERS.get(part[1], part[1])}}}",
        rule.rule,
    )


Route = tuple[Rule, str, Callable[..., Any], OperationSpec]
Schemas = Mapping[tuple[Any, Literal["validation", "serialization"]], dict[str, Any]]


def _routes(app: Flask) -> Iterator[Route]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        said = getattr(view, "described", None)
        if said is not None:
            for method in sorted((rule.methods or set()) - UNDESCRIBED):
                yield rule, method, view, said


def _schemas(routes: Sequence[Route]) -> tuple[Schemas, dict[str, Any]]:
    """The schema of each type that is named, and what they share."""
    taken: dict[Any, None] = {}
    sent: dict[Any, None] = {}
    for *_, said in routes:
        taken |= dict.fromkeys(filter(None, (said.body, said.query, said.headers)))
        sent[said.error[1]] = None
        for answer in said.answers.values():
            sent |= dict.fromkeys(answer.content.values())
    adapters: list[Any] = [
        *((shape, "validation", TypeAdapter(shape)) for shape in taken),
        *((shape, "serialization", TypeAdapter(shape)) for shape in sent),
    ]
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template=REFS)
    # The models of queries and headers are taken apart into parameters.
    apart = {model.__name__ for *_, said in routes for model in (said.query, said.headers) if model}
    components = shared.get("$defs", {})
    return schemas, {name: each for name, each in components.items() if name not in apart}


def _operation(
    rule: Rule,
    view: Callable[..., Any],
    said: OperationSpec,
    schemas: Schemas,
    *,
    secured: bool,
) -> dict[str, Any]:
    summary, _, more = (view.__doc__ or "").strip().partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": " ".join(summary.split()).rstrip("."),
        "tags": [rule.endpoint.partition(".")[0]],
    }
    if more:
        operation["description"] = _paragraphs(more)
    if secured and policy_of(view).access is Access.TOKEN:
        operation["security"] = [{"bearer": []}]
    parameters = [
        *_in_path(rule),
        *(_in_model(said.query, "query", schemas) if said.query else ()),
        *(_in_model(said.headers, "header", schemas) if said.headers else ()),
    ]
    if parameters:
        operation["parameters"] = parameters
    if said.body is not None:
        content = {JSON: {"schema": schemas[said.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    is_public = policy_of(view).access is Access.PUBLIC
    operation["responses"] = dict(_responses(said, schemas, secured=secured, is_public=is_public))
    return operation


def _in_path(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in sorted(rule.arguments):
        if isinstance(rule._converters[name], IntegerConverter):  # noqa: SLF001 - there is no other way
            schema: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
        else:
            schema = {"type": "string", "minLength": 1}
        yield {
            "name": PARAMETERS.get(name, name),
            "in": "path",
            "required": True,
            "schema": schema,
        }


def _in_model(model: type[BaseModel], place: str, schemas: Schemas) -> Iterator[dict[str, Any]]:
    """The fields of a query, or of headers, as parameters."""
    ref = schemas[model, "validation"]
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    shape = adapter.json_schema(ref_template=REFS) if "$ref" in ref else ref
    required = shape.get("required", ())
    for name, schema in shape["properties"].items():
        said = {key: each for key, each in schema.items() if key not in {"title", "description"}}
        # What is left out is null in Python; no client can send it.
        choices = [each for each in said.pop("anyOf", ()) if each != {"type": "null"}]
        if said.get("default", ...) is None:
            del said["default"]
        if len(choices) == 1:
            said = {**choices[0], **said}
        elif choices:
            said["anyOf"] = choices
        yield {
            "name": name,
            "in": place,
            "required": name in required,
            **({"description": schema["description"]} if "description" in schema else {}),
            "schema": said,
        }


def _responses(
    said: OperationSpec, schemas: Schemas, *, secured: bool, is_public: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    media, shape = said.error
    problem = {media: {"schema": schemas[shape, "serialization"]}}
    for status, answer in sorted(said.answers.items()):
        response: dict[str, Any] = {"description": answer.text}
        response["headers"] = _headers(answer.headers)
        if answer.content:
            response["content"] = {
                media: {"schema": schemas[each, "serialization"]}
                for media, each in answer.content.items()
            }
        yield str(status), response
    # A wrong token is refused, and too many of them more slowly.
    of_token = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS} if secured else set()
    guarded = {HTTPStatus.FORBIDDEN} | of_token
    everywhere = (set() if is_public else guarded) | {HTTPStatus.INTERNAL_SERVER_ERROR}
    for status in sorted(everywhere.union(map(HTTPStatus, said.errors))):
        yield (
            str(int(status)),
            {
                "description": status.phrase + ".",
                "content": problem,
                "headers": _headers(HEADERS_OF.get(status, ())),
            },
        )


def _headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def _paragraphs(docstring: str) -> str:
    """A docstring's text after its first line, a line for each paragraph."""
    paragraphs = docstring.partition("Args:")[0].partition("Raises:")[0].split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs).strip()
