"""The tables of the configuration file.

`[aliases]` and `[models.NAME]` are about models; `[headers]` and `[extra_body]` are about the
endpoint of their table, the top of the file or a profile, and are used for no other endpoint.
`[routes]` and `[fallbacks]` are about the upstreams of `qa serve`; see `qacli.config.upstreams`.
Each of these two is also a setting, whose text has the same rules.
"""

import re
from collections.abc import Mapping
from typing import Any

from qacli.config.file import CORRECT, PROFILES, ConfigFile
from qacli.errors import InvalidRequest, NotConfigured
from qacli.model_options import check_names, check_params
from qacli.redaction import SECRET_HEADER
from qacli.tools import with_tools

ALIASES, MODELS, HEADERS, EXTRA_BODY = "aliases", "models", "headers", "extra_body"
ROUTES, FALLBACKS = "routes", "fallbacks"
TABLES = frozenset({ALIASES, MODELS, HEADERS, EXTRA_BODY, ROUTES, FALLBACKS})
OUTSIDE_PROFILES = frozenset({ALIASES, MODELS})
ROUTING_TABLES = frozenset({ROUTES, FALLBACKS})
"""The tables that are also settings, as a text."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name: RFC 9110, 5.1."""


def read_tables(file: ConfigFile, profile: str | None, *, with_endpoint: bool) -> dict[str, Any]:
    """Return the arguments of `Settings` that come from these tables.

    Args:
        file: The configuration file.
        profile: The chosen profile; None means the top of the file.
        with_endpoint: The endpoint comes from this file too, so that its headers are meant for it.

    Raises:
        NotConfigured: A value cannot be used; the error has its line.
    """
    aliases = _table(file, (ALIASES,))
    for name, model in aliases.items():
        if not isinstance(model, str) or not model:
            raise table_error(file, (ALIASES, name), "is not the name of a model")
        if model in aliases:
            raise table_error(file, (ALIASES, name), f"names {model}, which is an alias too")
    models = {}
    for name, options in _table(file, (MODELS,)).items():
        _table(file, (MODELS, name))
        models[aliases.get(name, name)] = _options(file, (MODELS, name), options)
    path = () if profile is None else (PROFILES, profile)
    headers = _table(file, (*path, HEADERS))
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise table_error(file, (*path, HEADERS, name), "is not the name of a header")
        if not isinstance(value, str) or not _is_header_value(value):
            raise table_error(file, (*path, HEADERS, name), "is not a text that a header takes")
        if not _is_template(value):
            raise table_error(
                file, (*path, HEADERS, name), "has a $ without a name; a literal $ is $$"
            )
    body = _options(file, (*path, EXTRA_BODY), _table(file, (*path, EXTRA_BODY)))
    tables: dict[str, Any] = {"aliases": aliases, "model_defaults": models, **_rules(file)}
    return {**tables, "headers": headers, "extra_body": body} if with_endpoint else tables


def _rules(file: ConfigFile) -> dict[str, Any]:
    """Return `[routes]` and `[fallbacks]`; the names of upstreams are checked by the server."""
    for profile, table in file.profiles.items():
        for name in ROUTING_TABLES & table.keys():
            if isinstance(table[name], dict):
                path = (PROFILES, profile, name)
                raise table_error(file, path, "is a table, which is for all profiles")
    rules: dict[str, Any] = {}
    if isinstance(routes := file.tables.get(ROUTES), dict):
        for pattern, upstream in routes.items():
            if not isinstance(upstream, str) or not upstream:
                raise table_error(file, (ROUTES, pattern), "is not the name of an upstream")
        rules[ROUTES] = routes
    if isinstance(fallbacks := file.tables.get(FALLBACKS), dict):
        for pattern, upstreams in fallbacks.items():
            is_list = isinstance(upstreams, list) and all(
                isinstance(text, str) for text in upstreams
            )
            if not is_list or not all(upstreams):
                raise table_error(file, (FALLBACKS, pattern), "is not a list of names of upstreams")
        rules[FALLBACKS] = {pattern: tuple(names) for pattern, names in fallbacks.items()}
    return rules


def expand_headers(
    headers: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    """Return headers with `$NAME` and `${NAME}` replaced, and those values that are secret.

    A value is secret if its header's name matches `SECRET_HEADER`, or if a variable is in it.

    Raises:
        NotConfigured: A variable is not set, or its value cannot be sent.
    """
    from string import Template

    expanded, secrets = {}, set()
    for name, text in headers.items():
        template = Template(text)
        for variable in template.get_identifiers():
            if not environ.get(variable):
                raise NotConfigured(
                    f"The header {name} needs the environment variable {variable}, which is not "
                    "set.",
                    f"Set {variable}, or correct [headers] in the configuration file.",
                )
            if not _is_header_value(environ[variable]):
                raise NotConfigured(
                    f"The value of {variable} for the header {name} has a line end or another "
                    "character that no header takes.",
                    f"Correct {variable}; no part of it was sent.",
                )
            secrets.add(environ[variable])
        expanded[name] = template.substitute(environ)
        if SECRET_HEADER.search(name):
            secrets.add(expanded[name])
    return expanded, frozenset(secrets)


def _is_template(text: str) -> bool:
    from string import Template

    return Template(text).is_valid()


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable() and text.strip() == text


def _table(file: ConfigFile, path: tuple[str, ...]) -> Mapping[str, Any]:
    table: Any = file.tables
    for name in path:
        table = table.get(name, {})
    if not isinstance(table, dict):
        raise table_error(file, path, "is not a table")
    return table


def _options(file: ConfigFile, path: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked options of a table, with its tools; see `qacli.tools`."""
    checked: dict[str, Any] = {}
    for name, value in options.items():
        try:
            check_names({name: value})
            check_params({name: value})
            checked |= with_tools({name: value})
        except InvalidRequest as error:
            problem = f"cannot be used: {error.what.rstrip('.')}"
            raise table_error(file, (*path, name), problem, error.todo) from None
    return checked


def table_source(file: ConfigFile, name: str) -> str:
    """Return the source of a setting that is a table, for `Settings.sources`."""
    return f"[{name}] in {file.path}"


def table_error(
    file: ConfigFile, path: tuple[str, ...], problem: str, todo: str = CORRECT
) -> NotConfigured:
    """Return the error for a value in a table, with its line."""
    return NotConfigured(
        f"Invalid setting, line {file.line(*path)} of {file.path}: {'.'.join(path)} {problem}.",
        todo,
    )
