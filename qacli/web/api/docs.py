"""`/openapi.json` and `/docs`: what the server takes and answers, for programs and for people.

The page is made on the server from the document itself, so it says the same; nothing of it comes
from elsewhere. Its script only sends what a person has filled in.
"""

import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, current_app, render_template
from markupsafe import Markup, escape

from qacli.web import auth
from qacli.web.openapi import JSON, ResponseSpec, describe, document

KEY = "qa-openapi"

blueprint = Blueprint("docs", __name__, template_folder="../ui/templates")


@blueprint.get("/openapi.json")
@describe({200: ResponseSpec("The document.", {JSON: dict[str, Any]})})
def openapi() -> dict[str, Any]:
    """This document, as OpenAPI 3.1."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if KEY not in app.extensions:
        app.extensions[KEY] = document(app, secured=bool(app.extensions[auth.KEY].tokens))
    made: dict[str, Any] = app.extensions[KEY]
    return made


@blueprint.get("/docs")
@describe({200: ResponseSpec("The page.", {"text/html": str})})
def docs() -> str:
    """This document as a page, to read and to try."""
    said = openapi()
    return render_template(
        "docs.html",
        info=said["info"],
        secured=any("security" in each for _, _, each in _operations(said)),
        operations=list(_operations(said)),
        schemas=said["components"]["schemas"],
    )


def _operations(said: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@blueprint.app_template_filter("type_of")
def type_of(schema: dict[str, Any]) -> Markup:
    """A schema's type in words; the name of one that is shared leads to it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        shown = [Markup("<code>{}</code>").format(json.dumps(value)) for value in values]
        return Markup(" or ").join(shown)
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return Markup(" or ").join(type_of(choice) for choice in choices)
    if schema.get("type") == "array":
        return Markup("array of ") + type_of(schema.get("items", {}))
    named = escape(schema.get("format") or schema.get("type") or "anything")
    bounds = ", ".join(_bounds(schema))
    return named + Markup(" ({})").format(bounds) if bounds else named


@blueprint.app_template_filter("markup")
def markup(text: str) -> Markup:
    """A description, of whose Markdown only `code` is used here, as HTML."""
    pieces = str(escape(text)).split("`")
    # What stands between two backticks is every other piece; a lone one is left as it is.
    html = "".join(f"<code>{each}</code>" if n % 2 else each for n, each in enumerate(pieces))
    return Markup(html)  # noqa: S704 - escaped above


@blueprint.app_template_filter("example_of")
def example_of(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """A body to begin with: what must be there, as JSON."""
    shape = schemas[schema["$ref"].rpartition("/")[2]]
    wanted = {
        name: shape["properties"][name].get("examples", [""])[0]
        for name in shape.get("required", ())
    }
    return json.dumps(wanted, indent=2, ensure_ascii=False)


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    names = {"minimum": "at least", "maximum": "at most", "minLength": "length at least"}
    for name, words in names.items():
        if name in schema and abs(schema[name]) < 2**53:  # larger ones only say that it is an id
            yield f"{words} {schema[name]:g}"
    if schema.get("default") is not None:
        yield f"default {json.dumps(schema['default'])}"
