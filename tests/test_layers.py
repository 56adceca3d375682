import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qacli

PACKAGE = Path(qacli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {
        *("errors", "exchange", "models", "prices", "times", "openfiles"),
        *("settings", "configfile", "config", "callers", "sanitize", "database_url", "turns"),
        "env_file",
    },
    {
        *("store", "outbox", "journal_reader", "schema"),
        *("provider", "local", "endpoint", "keys"),
        *("attachments", "structure", "confined", "templates"),
    },
    {"asking", "batch", "budget", "conversation", "keeping"},
    {"cli", "web"},
)
"""From the lowest up: a module imports its own layer and those below."""

OWNERS = {
    "openai": {"provider"},
    "httpx2": {"provider", "attachments"},
    "jsonschema_rs": {"structure"},
    "rich": {"cli.render", "cli.markdown", "cli.markdown_stream"},
    "prompt_toolkit": {"cli.prompt"},
    "markdown_it": {
        *("web.page.markdown", "web.page.links", "cli.markdown", "cli.markdown_stream"),
    },
    "nh3": {"web.page.markdown"},
    "xllamacpp": {"local"},
    "keyring": {"keys"},
    "tomlkit": {"configfile"},
    "sqlalchemy": {"store", "schema", "models"},
    "sqlmodel": {"store", "models"},
    "alembic": {"schema"},
    "psycopg2": set(),
    "flask": {"web"},
    "werkzeug": {"web"},
    "granian": {"web.server", "web.supervisor"},
    "pygments": {"web.page.highlighting"},
    "pyarrow": {"batch.output"},
    "dotenv": {"env_file"},
    "flask_cors": {"web.headers"},
    "limits": {"web.rates", "store.rates"},
    "prometheus_client": {"web.metrics"},
    "opentelemetry": {"web.tracing"},
}
"""What only some modules may import, wherever in them."""

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}

SLOW = {
    "openai",
    "prompt_toolkit",
    "alembic",
    "flask",
    "rich",
    "sqlmodel",
    "sqlalchemy",
    "pydantic",
    "granian",
}


def name_of(file: Path) -> str:
    """The module's name inside the package: `store`, `cli.ask`, `cli`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
every_module = pytest.mark.parametrize("module", [name for name in TREES if name])


def imported(tree: ast.AST, *, at_import: bool = False) -> Iterator[str]:
    """The full names of what is imported, where `from a import b` is `a.b`.

    With `at_import` only what loading the module loads: not what stands in functions or is for
    the type checker alone.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imported(other, at_import=True)
        else:
            yield from imported(node, at_import=at_import)


def own(names: Iterator[str]) -> set[str]:
    """The modules of the package among them, by their names inside it."""
    found = set()
    for name in names:
        if name.split(".")[0] == "qacli":
            inside = name.removeprefix("qacli").removeprefix(".")
            found.add(inside if inside in TREES else inside.rpartition(".")[0])
    return found - {""}


def is_in(module: str, owner: str) -> bool:
    """Whether the module is the owner, or inside it where that is a package."""
    return module == owner or module.startswith(f"{owner}.")


def layer_of(module: str) -> int:
    return next(n for n, names in enumerate(LAYERS) if module.split(".", maxsplit=1)[0] in names)


@every_module
def test_every_module_has_a_layer(module: str) -> None:
    if module != "__main__":
        layer_of(module)


@every_module
def test_no_module_imports_a_layer_above_it(module: str) -> None:
    if module == "__main__":
        return
    for other in own(imported(TREES[module])):
        assert layer_of(other) <= layer_of(module), f"{module} imports {other}"


@every_module
def test_the_faces_do_not_import_each_other(module: str) -> None:
    if module == "cli.serve":
        return
    face = module.split(".", maxsplit=1)[0]
    others = {"cli": "web", "web": "cli"}
    for other in own(imported(TREES[module])):
        assert other.split(".")[0] != others.get(face), f"{module} imports {other}"


@every_module
@pytest.mark.parametrize("package", OWNERS)
def test_a_dependency_is_imported_by_its_owner_alone(module: str, package: str) -> None:
    if not any(is_in(module, owner) for owner in OWNERS[package]):
        assert package not in {name.split(".")[0] for name in imported(TREES[module])}


def test_each_owner_is_one() -> None:
    # So that a name misspelled above does not make the test above hold for nothing.
    for package, owners in OWNERS.items():
        for owner in owners:
            names = {
                name.split(".")[0]
                for module, tree in TREES.items()
                if is_in(module, owner)
                for name in imported(tree)
            }
            assert package in names, f"{owner} does not import {package}"


@pytest.mark.parametrize("module", [name for name in TREES if name not in {"", "config"}])
def test_only_config_reads_the_environment(module: str) -> None:
    assert not reads_the_environment(TREES[module])


def reads_the_environment(tree: ast.AST) -> bool:
    """Whether it does, by whichever name it has imported `os`."""
    return any(name.rpartition(".")[2] in ENVIRONMENT for name in imported(tree)) or any(
        isinstance(node, ast.Attribute)
        and node.attr in ENVIRONMENT
        # What WSGI tells of a request goes by the same name.
        and ast.unparse(node.value) != "request"
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['A']",
        "import os as system\nsystem.getenv('A')",
        "def f():\n    from os import environ as e",
        "import os\nos.environb",
    ],
)
def test_the_reader_of_the_environment_is_seen(code: str) -> None:
    assert reads_the_environment(ast.parse(code))
    assert not reads_the_environment(ast.parse("request.environ['A']\nenviron = {}\nenviron['A']"))


@every_module
def test_only_the_store_writes_queries(module: str) -> None:
    if module.split(".", maxsplit=1)[0] not in {"store", "schema"}:
        called = {
            node.func.attr
            for node in ast.walk(TREES[module])
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert not called & {"execute", "exec", "exec_driver_sql", "scalar", "scalars"}


def loaded_by(module: str, seen: set[str] | None = None) -> set[str]:
    """The modules of the package that importing this one loads, itself included."""
    seen = set() if seen is None else seen
    if module not in seen:
        seen.add(module)
        parent = module.rpartition(".")[0]
        for other in own(imported(TREES[module], at_import=True)) | {parent} - {""}:
            loaded_by(other, seen)
    return seen


def test_loading_the_commands_loads_nothing_slow() -> None:
    modules = loaded_by("cli")
    assert {"cli.ask", "cli.terminal", "config", "errors"} <= modules
    assert not modules & {"provider", "store", "models", "cli.render", "cli.prompt"}
    for module in modules:
        names = {name.split(".")[0] for name in imported(TREES[module], at_import=True)}
        assert not names & SLOW, module


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in TREES
        if name.startswith("cli.")
        and name not in {"cli.render", "cli.prompt", "cli.markdown", "cli.markdown_stream"}
    ],
)
def test_no_command_imports_anything_slow_at_its_top(module: str) -> None:
    names = {name.split(".")[0] for name in imported(TREES[module], at_import=True)}
    assert not names & SLOW


@every_module
def test_alembic_and_openai_are_loaded_by_nothing_but_the_provider(module: str) -> None:
    names = {name.split(".")[0] for name in imported(TREES[module], at_import=True)}
    assert not names & ({"alembic"} if module.startswith("provider") else {"alembic", "openai"})


def test_the_reader_of_imports_sees_what_it_should() -> None:
    tree = ast.parse(
        "import a\n"
        "from b import c\n"
        "if TYPE_CHECKING:\n    import d\n"
        "try:\n    import e\nexcept ImportError:\n    import f\n"
        "def g():\n    import h\n"
        "class I:\n    import j\n"
    )
    assert list(imported(tree, at_import=True)) == ["a", "b.c", "e", "f", "j"]
    assert list(imported(tree)) == ["a", "b.c", "d", "e", "f", "h", "j"]
