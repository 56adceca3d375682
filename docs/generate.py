"""Write the generated parts of README.md and of the pages in docs/.

Run `uv run --group dev python docs/generate.py`.

A generated part stands in a page between `<!-- generated: NAME -->` and `<!-- end -->`. Everything
else in a page is written by hand. With `--check` nothing is written, and the exit code is 1 where a
part is not current. The sources are the program's own declarations: `--help`, the routes and the
OpenAPI document, the settings, the exit codes.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperOption
from typer.testing import CliRunner

import qacli
from qacli.cli.app import build_app
from qacli.cli.commands.help import EXIT_CODES, PRECEDENCE, TOPICS
from qacli.cli.filters import RATINGS
from qacli.cli.setting_values import one_line
from qacli.config.settings import Settings, setting_fields
from qacli.db.views import VIEWS
from qacli.domain import GroupBy, Status
from qacli.web import openapi
from qacli.web.app import create_app

DOCS = Path(__file__).parent
COMMANDS = Path(qacli.__file__).parent / "data" / "commands.json"
PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
EXAMPLES = re.compile(r"^Examples:\n(.*?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
HELP_COLUMNS = 78  # what qa itself uses on a screen of 80
LARGEST_BOUND = 2**53
"""A maximum from here on is that of an id, and says nothing to a reader."""
STATIC = "A file of the web page: its style, its script, its icon."
NEVER_DOCUMENTED = {"HEAD", "OPTIONS"}


class UnknownPart(Exception):
    """A page names a generated part that does not exist."""


def main(arguments: list[str] | None = None) -> int:
    """Write the generated parts, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated parts of the pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if not current")
    options = parser.parse_args(arguments)
    outdated = 0
    for page in (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        current = render_page(text)
        if text == current:
            continue
        outdated += 1
        if options.check:
            typer.echo(f"{page.name} is not current. Run: python docs/generate.py", err=True)
        else:
            page.write_text(current, encoding="utf-8")
            typer.echo(f"wrote {page.name}", err=True)
    table = json.dumps(command_table(), indent=0, ensure_ascii=False) + "\n"
    if not COMMANDS.exists() or COMMANDS.read_text(encoding="utf-8") != table:
        outdated += 1
        if options.check:
            typer.echo(f"{COMMANDS.name} is not current. Run: python docs/generate.py", err=True)
        else:
            COMMANDS.write_text(table, encoding="utf-8")
            typer.echo(f"wrote {COMMANDS.name}", err=True)
    return 1 if options.check and outdated else 0


def command_table() -> dict[str, Any]:
    """Return the commands with their options.

    The completion of a shell, the man pages (`qacli.man_pages`) and `qa help WORDS` are made of it.
    """

    def node(command: Any) -> dict[str, Any]:  # noqa: ANN401 - Typer's command
        parameters = command.get_params(typer.Context(command))
        children = getattr(command, "commands", {})
        names = command.list_commands(typer.Context(command)) if children else ()
        summary, _, text = inspect.cleandoc(command.help or "").partition("\n")
        return {
            "help": summary,
            "text": " ".join(text.split()),
            "usage": " ".join(command.collect_usage_pieces(typer.Context(command))),
            "examples": [
                line.removeprefix("  ")
                for lines in EXAMPLES.findall(command.epilog or "")
                for line in lines.splitlines()
            ],
            "options": {
                name: {
                    "help": item.help or "",
                    **({} if item.is_flag else {"value": item.metavar or item.name.upper()}),
                }
                for item in parameters
                if isinstance(item, TyperOption) and not item.hidden
                for name in (*item.opts, *item.secondary_opts)
            },
            "arguments": [
                (item.metavar or item.name) + "..." * (item.nargs == -1)
                for item in parameters
                if isinstance(item, TyperArgument)
            ],
            "argument_help": [
                item.help or "" for item in parameters if isinstance(item, TyperArgument)
            ],
            "commands": {name: node(children[name]) for name in names},
        }

    program = typer.main.get_command(build_app())
    return {
        **node(program),
        "exit_codes": {str(code): text for code, text in EXIT_CODES.items()},
        "choices": {
            "COLUMN": [*GroupBy],
            "RATING": [*RATINGS, *map(str, range(1, 6))],
            "STATUS": [*Status],
            "TOPIC": [*TOPICS, *program.list_commands(typer.Context(program))],
        },
    }


def render_page(text: str) -> str:
    """Return the text of a page with new generated parts.

    Raises:
        UnknownPart: The page names a part that does not exist.
    """

    def part(match: re.Match[str]) -> str:
        if match[2] not in PARTS:
            raise UnknownPart(f"There is no part {match[2]!r}. Parts: {', '.join(PARTS)}.")
        return f"{match[1]}\n{PARTS[match[2]]().strip()}\n\n{match[3]}"

    return PART.sub(part, text)


def all_commands() -> list[tuple[str, Any]]:
    """Return every command with its whole name, in the order of `qa --help`."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - Typer's command
        yield name, command
        children = getattr(command, "commands", {})
        names = command.list_commands(typer.Context(command)) if children else ()
        for child in names:
            if not children[child].hidden:
                yield from walk(f"{name} {child}", children[child])

    return list(walk("qa", typer.main.get_command(build_app())))


def all_endpoints() -> list[tuple[str, str, str]]:
    """Return method, path and first sentence of every route of the server, sorted by path."""
    server, _ = _server()
    rows = []
    for rule in server.url_map.iter_rules():
        is_static = rule.endpoint.endswith("static")  # Flask's own view
        summary = STATIC if is_static else _first_sentence(server.view_functions[rule.endpoint])
        methods = (rule.methods or set()) - NEVER_DOCUMENTED
        rows += [(method, openapi.path_of(rule), summary) for method in methods]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document of a server with a token."""
    return _server()[1]


def help_of(name: str) -> str:
    """Return the output of `NAME --help` on a screen of 80 columns."""
    runner = CliRunner()
    result = runner.invoke(
        build_app(), [*name.split()[1:], "--help"], prog_name="qa", terminal_width=HELP_COLUMNS
    )
    if result.exit_code:
        raise RuntimeError(f"{name} --help ended with {result.exit_code}: {result.output}")
    return "\n".join(line.rstrip() for line in result.stdout.splitlines()).strip()


def command_sections() -> str:
    """Return a section for each command with its help."""
    return "\n\n".join(f"## {name}\n\n```text\n{help_of(name)}\n```" for name, _ in all_commands())


def exit_code_table() -> str:
    """Return the table of exit codes."""
    return _table(("code", "meaning"), ((str(code), text) for code, text in EXIT_CODES.items()))


def precedence_text() -> str:
    """Return the paragraph on the order of precedence, as `qa help configuration` prints it."""
    return PRECEDENCE


def setting_table() -> str:
    """Return the table of settings: name, variable, meaning, default."""
    rows = [
        (
            f"`{item.name}`",
            f"`{item.env}`",
            item.help,
            "" if item.default is None else f"`{one_line(item.default)}`",
        )
        for item in setting_fields()
    ]
    return _table(("setting", "variable", "meaning", "default"), rows)


def record_table() -> str:
    """Return the table of a record's fields: name, type, meaning."""
    document = openapi_document()
    return _property_table(document["components"]["schemas"]["Record"], document, required=False)


def view_tables() -> str:
    """Return a table of the columns of each SQL view."""
    tables = []
    for name, (columns, _) in VIEWS.items():
        rows = ((f"`{column}`", value.meaning) for column, value in columns.items())
        tables.append(_table((f"column of `{name}`", "meaning"), rows))
    return "\n\n".join(table.rstrip() for table in tables)


def endpoint_table() -> str:
    """Return the table of endpoints."""
    rows = ((f"`{method} {path}`", summary) for method, path, summary in all_endpoints())
    return _table(("endpoint", "purpose"), rows)


def endpoint_sections() -> str:
    """Return a section for each operation of the OpenAPI document.

    A path and the same path with a slash at its end share a section.
    """
    document = openapi_document()
    paths = document["paths"]
    sections = []
    for path, operations in paths.items():
        if path.endswith("/") and path[:-1] in paths:
            continue
        names = [path, f"{path}/"] if f"{path}/" in paths else [path]
        for method, operation in operations.items():
            heading = ", ".join(f"`{method.upper()} {name}`" for name in names)
            sections.append(_operation_section(heading, operation, document))
    return "\n\n".join(sections)


def _operation_section(
    heading: str, operation: Mapping[str, Any], document: Mapping[str, Any]
) -> str:
    parts = [f"### {heading}", f"{operation['summary']}."]
    if "description" in operation:
        parts.append(operation["description"])
    named = [item for item in operation.get("parameters", ()) if item["in"] != "path"]
    if named:
        rows = (
            (
                f"`{item['name']}`",
                item["in"],
                _type(item["schema"], document),
                item.get("description", ""),
            )
            for item in named
        )
        parts.append(_table(("parameter", "in", "type", "meaning"), rows))
    if body := operation.get("requestBody"):
        schema = _resolve(body["content"]["application/json"]["schema"], document)
        parts += ["The body is JSON:", _property_table(schema, document, required=True)]
    responses = operation["responses"].items()
    rows = (
        (status, response["description"], _media_types(response))
        for status, response in responses
        if int(status) < HTTPStatus.BAD_REQUEST
    )
    parts.append(_table(("status", "meaning", "body"), rows))
    errors = [status for status, _ in responses if int(status) >= HTTPStatus.BAD_REQUEST]
    parts.append(f"Errors: {', '.join(errors)}.")
    return "\n\n".join(parts)


def _property_table(
    schema: Mapping[str, Any], document: Mapping[str, Any], *, required: bool
) -> str:
    names = schema.get("required", ()) if required else ()
    rows = []
    for name, item in schema.get("properties", {}).items():
        field = f"`{name}` (required)" if name in names else f"`{name}`"
        rows.append((field, _type(item, document), item.get("description", "")))
    return _table(("field", "type", "meaning"), rows)


def _resolve(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _media_types(response: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in response.get("content", ()))


def _type(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return a JSON schema's type in words, with its bounds and its default."""
    default = schema.get("default")
    suffix = f", default `{json.dumps(default)}`" if default not in (None, []) else ""
    if "$ref" in schema:
        target = _resolve(schema, document)
        name = str(schema["$ref"]).rpartition("/")[2]
        return (_type(target, document) if "enum" in target else name) + suffix
    if values := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return " or ".join(f"`{json.dumps(value)}`" for value in values) + suffix
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}), document)}{suffix}"
    if choices := schema.get("anyOf", schema.get("oneOf")):
        shared = {"type": schema["type"]} if "type" in schema else {}
        names = [_type({**shared, **choice}, document) for choice in choices]
        return " or ".join(dict.fromkeys(names)) + suffix
    name = str(schema.get("format") or schema.get("type") or "anything")
    return name + _bounds(schema) + suffix


def _bounds(schema: Mapping[str, Any]) -> str:
    """Return the bounds of a number; those of an id are left out."""
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if highest is not None and highest >= LARGEST_BOUND:
        highest = None
    if highest is not None:
        return f", {lowest:g} to {highest:g}" if lowest is not None else f", at most {highest:g}"
    return f", at least {lowest:g}" if lowest is not None else ""


def _first_sentence(view: Callable[..., Any]) -> str:
    """Return the first line of a view's docstring, whole, with its full stop."""
    text = (inspect.getdoc(view) or "").partition("\n\n")[0]
    return " ".join(text.split())


def _table(header: tuple[str, ...], rows: Any) -> str:  # noqa: ANN401 - any iterable of texts
    lines = [header, ("---",) * len(header), *rows]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


@cache
def _server() -> tuple[Any, dict[str, Any]]:
    """Return the application as it is with a token, and its OpenAPI document."""
    folder = Path("never-created")
    settings = Settings(
        data_dir=folder,
        base_url="http://localhost:1/v1",
        token="0123456789abcdef",  # noqa: S106 - of no server
    )
    server = create_app(settings)
    return server, openapi.document(server, secured=True)


PARTS: dict[str, Callable[[], str]] = {
    "commands": command_sections,
    "exit-codes": exit_code_table,
    "precedence": precedence_text,
    "settings": setting_table,
    "record": record_table,
    "views": view_tables,
    "endpoints": endpoint_table,
    "operations": endpoint_sections,
}

if __name__ == "__main__":
    sys.exit(main())
