"""`/openapi.json` and `/docs`: the description of the HTTP API, for programs and for people.

The page is rendered from the document and loads nothing from other servers. Its script only sends
the requests that a person fills in.
"""

import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, current_app, render_template, request
from markupsafe import Markup, escape

from qacli.web import auth
from qacli.web.openapi import JSON, ResponseSpec, document, openapi_operation

EXTENSION_KEY = "qa-openapi"

blueprint = Blueprint("docs", __name__, template_folder="../ui/templates")


@blueprint.get("/openapi.json")
@openapi_operation({200: ResponseSpec("The document.", {JSON: dict[str, Any]})})
def openapi() -> dict[str, Any]:
    """Return this document, as OpenAPI 3.1."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if EXTENSION_KEY not in app.extensions:
        app.extensions[EXTENSION_KEY] = document(app, secured=bool(auth.current().tokens))
    spec: dict[str, Any] = app.extensions[EXTENSION_KEY]
    return {**spec, "servers": [{"url": request.script_root or "/"}]}


@blueprint.get("/docs")
@openapi_operation({200: ResponseSpec("The page.", {"text/html": str})})
def docs() -> str:
    """Return this document as a page that can also send requests."""
    spec = openapi()
    operations = list(_operations(spec))
    return render_template(
        "docs.html",
        info=spec["info"],
        secured=any("security" in operation for _, _, operation in operations),
        operations=operations,
        schemas=spec["components"]["schemas"],
    )


def _operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@blueprint.app_template_filter("type_of")
def type_of(schema: dict[str, Any]) -> Markup:
    """Return the type of a schema in words; a shared schema is a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return Markup(" or ").join(
            Markup("<code>{}</code>").format(json.dumps(value)) for value in values
        )
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return Markup(" or ").join(type_of(choice) for choice in choices)
    if schema.get("type") == "array":
        return Markup("array of ") + type_of(schema.get("items", {}))
    name = escape(schema.get("format") or schema.get("type") or "anything")
    bounds = ", ".join(_bounds(schema))
    return name + Markup(" ({})").format(bounds) if bounds else name


@blueprint.app_template_filter("markup")
def markup(text: str) -> Markup:
    """Return a description as HTML; of Markdown it uses only `code`."""
    pieces = str(escape(text)).split("`")
    # Every second piece is between two backticks.
    html = "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(pieces))
    return Markup(html)  # noqa: S704 - escaped above


@blueprint.app_template_filter("example_of")
def example_of(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Return an example of a body, as JSON: its required fields."""
    shape = schemas[schema["$ref"].rpartition("/")[2]]
    example = {
        name: shape["properties"][name].get("examples", [""])[0]
        for name in shape.get("required", ())
    }
    return json.dumps(example, indent=2, ensure_ascii=False)


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    names = {"minimum": "at least", "maximum": "at most", "minLength": "length at least"}
    for name, words in names.items():
        if (
            name in schema and abs(schema[name]) < 2**53
        ):  # an id has a larger bound, which is of no interest
            yield f"{words} {schema[name]:g}"
    if schema.get("default") is not None:
        yield f"default {json.dumps(schema['default'])}"
