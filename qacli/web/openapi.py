"""Build the OpenAPI 3.1 document from the routes, which are described with `openapi_operation`.

pydantic makes the schemas from the models that validate requests; this module adds paths,
parameters and responses. A test compares the routes with the document, and schemathesis compares
the document with the running server.
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
from qacli.web.route_policy import Access, policy_of

JSON = "application/json"
REFS = "#/components/schemas/{model}"
UNDESCRIBED = {"HEAD", "OPTIONS"}

HEADERS = {
    "ETag": "The version of the record, for `If-None-Match` and `If-Match`.",
    "Link": "The next page (RFC 8288).",
    "Location": "The address of the record.",
    "Preference-Applied": "The preference of the request that is applied.",
    "RateLimit": "The questions that are left, and the seconds until the count starts again.",
    "RateLimit-Policy": "The rate limit of this client.",
    "Retry-After": "Seconds to wait before a retry.",
    "WWW-Authenticate": "The request needs a bearer token.",
    "X-QA-Record": "The id of the record, as in `/qa/{id}`.",
    "X-Request-Id": "The id of the request in the log; on every response.",
}
"""The meaning of each header of a response."""

PARAMETERS = {"record_id": "id"}
"""The name in the document of each path parameter that has another name in the code."""

HEADERS_OF = {
    HTTPStatus.UNAUTHORIZED: ["WWW-Authenticate"],
    HTTPStatus.TOO_MANY_REQUESTS: ["Retry-After", "RateLimit", "RateLimit-Policy"],
    HTTPStatus.SERVICE_UNAVAILABLE: ["Retry-After"],
}
"""The headers that an error with this status may have."""

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response of a route.

    Attributes:
        text: The description.
        content: The type of the body for each media type; empty if there is no body.
        headers: The names of its headers, which are keys of HEADERS.
    """

    text: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """The description of a route; see `openapi_operation`."""

    answers: Mapping[int, ResponseSpec]
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    headers: type[BaseModel] | None
    errors: Sequence[int]
    error: tuple[str, Any]


def openapi_operation(  # noqa: PLR0913 - the parts of a description, by name
    answers: Mapping[int, ResponseSpec],
    *,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    headers: type[BaseModel] | None = None,
    errors: Sequence[int] = (),
    error: tuple[str, Any] = (problems.MIME_TYPE, Problem),
) -> Callable[[View], View]:
    """Return a decorator that adds a route's OpenAPI description.

    The route's docstring is the summary.

    Args:
        answers: The responses by status.
        body: The model of the JSON body.
        query: The model of the query string.
        headers: The model of the request headers, with the header names as aliases.
        errors: The statuses of its errors, without 401, 403, 429 and 500, which are added.
        error: The media type and the model of an error.
    """

    def set_spec(view: View) -> View:
        cast("Any", view).operation = OperationSpec(
            answers=answers,
            body=body,
            query=query,
            headers=headers,
            errors=errors,
            error=error,
        )
        return view

    return set_spec


def document(app: Flask, *, secured: bool) -> dict[str, Any]:
    """Return the document of an application.

    Args:
        app: The application with all its routes.
        secured: The server has tokens, so most routes need one.
    """
    routes = list(_routes(app))
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for rule, method, view, spec in routes:
        operation = _operation(rule, view, spec, schemas, secured=secured)
        # Two paths of one view are two operations.
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
    """Return the path of a route in OpenAPI's notation: `/qa/{id}`."""
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
        spec = getattr(view, "operation", None)
        if spec is not None:
            for method in sorted((rule.methods or set()) - UNDESCRIBED):
                yield rule, method, view, spec


def _schemas(routes: Sequence[Route]) -> tuple[Schemas, dict[str, Any]]:
    """Return the schema of each type in the descriptions, and the schemas that they share."""
    inputs: dict[Any, None] = {}
    outputs: dict[Any, None] = {}
    for *_, spec in routes:
        inputs |= dict.fromkeys(filter(None, (spec.body, spec.query, spec.headers)))
        outputs[spec.error[1]] = None
        for answer in spec.answers.values():
            outputs |= dict.fromkeys(answer.content.values())
    adapters: list[Any] = [
        *((shape, "validation", TypeAdapter(shape)) for shape in inputs),
        *((shape, "serialization", TypeAdapter(shape)) for shape in outputs),
    ]
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template=REFS)
    # Models of queries and headers are not components: their fields become parameters.
    flattened = {
        model.__name__ for *_, spec in routes for model in (spec.query, spec.headers) if model
    }
    components = shared.get("$defs", {})
    return schemas, {name: item for name, item in components.items() if name not in flattened}


def _operation(
    rule: Rule,
    view: Callable[..., Any],
    spec: OperationSpec,
    schemas: Schemas,
    *,
    secured: bool,
) -> dict[str, Any]:
    summary, _, details = (view.__doc__ or "").strip().partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": " ".join(summary.split()).rstrip("."),
        "tags": [rule.endpoint.partition(".")[0]],
    }
    if details:
        operation["description"] = _paragraphs(details)
    if secured and policy_of(view).access is Access.TOKEN:
        operation["security"] = [{"bearer": []}]
    parameters = [
        *_in_path(rule),
        *(_in_model(spec.query, "query", schemas) if spec.query else ()),
        *(_in_model(spec.headers, "header", schemas) if spec.headers else ()),
    ]
    if parameters:
        operation["parameters"] = parameters
    if spec.body is not None:
        content = {JSON: {"schema": schemas[spec.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    is_public = policy_of(view).access is Access.PUBLIC
    operation["responses"] = dict(_responses(spec, schemas, secured=secured, is_public=is_public))
    return operation


def _in_path(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in sorted(rule.arguments):
        if isinstance(rule._converters[name], IntegerConverter):  # noqa: SLF001 - werkzeug has no public attribute for it
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
    """Yield the fields of a query, or of headers, as parameters."""
    ref = schemas[model, "validation"]
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    shape = adapter.json_schema(ref_template=REFS) if "$ref" in ref else ref
    required = shape.get("required", ())
    for name, schema in shape["properties"].items():
        value = {key: item for key, item in schema.items() if key not in {"title", "description"}}
        # A missing parameter is None in Python; a client cannot send null.
        choices = [item for item in value.pop("anyOf", ()) if item != {"type": "null"}]
        if value.get("default", ...) is None:
            del value["default"]
        if len(choices) == 1:
            value = {**choices[0], **value}
        elif choices:
            value["anyOf"] = choices
        yield {
            "name": name,
            "in": place,
            "required": name in required,
            **({"description": schema["description"]} if "description" in schema else {}),
            "schema": value,
        }


def _responses(
    spec: OperationSpec, schemas: Schemas, *, secured: bool, is_public: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    media, shape = spec.error
    problem = {media: {"schema": schemas[shape, "serialization"]}}
    for status, answer in sorted(spec.answers.items()):
        response: dict[str, Any] = {"description": answer.text}
        response["headers"] = _headers(answer.headers)
        if answer.content:
            response["content"] = {
                media: {"schema": schemas[shape, "serialization"]}
                for media, shape in answer.content.items()
            }
        yield str(status), response
    # 401 for a wrong token, 429 for too many of them.
    of_token = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS} if secured else set()
    guarded = {HTTPStatus.FORBIDDEN} | of_token
    everywhere = (set() if is_public else guarded) | {HTTPStatus.INTERNAL_SERVER_ERROR}
    for status in sorted(everywhere.union(map(HTTPStatus, spec.errors))):
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
    """Return the text of a docstring after its first line, one line for each paragraph."""
    paragraphs = docstring.partition("Args:")[0].partition("Raises:")[0].split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in paragraphs).strip()
