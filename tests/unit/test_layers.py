"""Import rules: those of `[tool.importlinter]` in pyproject.toml, and those it cannot express."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import qacli
from qacli.cli.app import MODULES

PACKAGE = Path(qacli.__file__).parent

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
QUERIES = {"execute", "exec", "exec_driver_sql", "scalar", "scalars"}

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
"""Packages that a command must not load before it needs them."""

SLOW_COMMAND_MODULES = {
    *("cli.formatters", "cli.prompt", "cli.markdown", "cli.markdown_stream", "cli.text_width"),
    *("cli.code_highlighting", "cli.record_table"),
}
"""Modules of `qacli.cli` that load a slow package; commands import them inside functions."""


def module_name(file: Path) -> str:
    """Return the name of a module inside the package: `db`, `cli.commands.ask`, `cli`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of each module, by its name."""
    return {
        name: ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(PACKAGE.rglob("*.py"))
        if (name := module_name(file))
    }


def imports_of(tree: ast.AST, *, at_import: bool = False) -> Iterator[str]:
    """Return the full names of all imports; `from a import b` is `a.b`.

    With `at_import` only those that run when the module is loaded: not the ones inside functions
    and not the ones for the type checker.
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
                yield from imports_of(other, at_import=True)
        else:
            yield from imports_of(node, at_import=at_import)


def packages_at_import(module: str) -> set[str]:
    """Return the packages that are imported when the module is loaded."""
    return {name.split(".")[0] for name in imports_of(trees()[module], at_import=True)}


def own_modules(names: Iterator[str]) -> set[str]:
    """Return the modules of `qacli` among the names, by their names inside the package."""
    inside = {name.removeprefix("qacli.") for name in names if name.startswith("qacli.")}
    return {name if name in trees() else name.rpartition(".")[0] for name in inside} - {""}


def loaded_by(module: str, loaded: set[str] | None = None) -> set[str]:
    """Return the modules of `qacli` that are loaded with this one, itself included."""
    loaded = set() if loaded is None else loaded
    if module not in loaded:
        loaded.add(module)
        parent = module.rpartition(".")[0]
        for other in own_modules(imports_of(trees()[module], at_import=True)) | {parent} - {""}:
            loaded_by(other, loaded)
    return loaded


def reads_environment(tree: ast.AST) -> bool:
    """Return whether the code reads the environment, under any name that it has imported `os`."""
    return any(name.rpartition(".")[2] in ENVIRONMENT for name in imports_of(tree)) or any(
        isinstance(node, ast.Attribute)
        and node.attr in ENVIRONMENT
        and ast.unparse(node.value) != "request"  # WSGI uses the same word
        for node in ast.walk(tree)
    )


def methods_called(tree: ast.AST) -> set[str]:
    return {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


def test_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_architecture_table_has_the_layers_of_the_contract() -> None:
    root = PACKAGE.parent
    configuration = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [
        contract
        for contract in configuration["tool"]["importlinter"]["contracts"]
        if contract["name"] == "Layers"
    ]
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## Imports")[2].partition("Two imports")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| [\w ]+ \| `", line)]
    listed = [re.findall(r"`(\w+)`", row) for row in rows]
    assert listed == [re.findall(r"\w+", layer) for layer in contract["layers"]]


def test_architecture_walks_pass_at_most_ten_steps_of_modules_that_exist() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    for title in ("qa ask", "POST /ask"):
        walk = page.partition(f"## The way of a question through `{title}`")[2].partition("\n## ")[
            0
        ]
        assert 5 < len(re.findall(r"^\d+\. ", walk, re.MULTILINE)) <= 10
        for module in re.findall(r"`([\w/]+\.py)`", walk):
            assert (PACKAGE / module).is_file(), module


def test_environment_is_read_by_config_only() -> None:
    readers = {name for name, tree in trees().items() if reads_environment(tree)}
    assert {name.split(".")[0] for name in readers} == {"config"}


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['A']",
        "import os as system\nsystem.getenv('A')",
        "def f():\n    from os import environ as e",
        "import os\nos.environb",
    ],
    ids=["attribute", "alias", "from_import", "bytes"],
)
def test_reads_environment_finds_each_spelling(code: str) -> None:
    assert reads_environment(ast.parse(code))
    assert not reads_environment(ast.parse("request.environ['A']\nenviron = {}\nenviron['A']"))


def test_queries_are_executed_by_db_only() -> None:
    callers = {name for name, tree in trees().items() if methods_called(tree) & QUERIES}
    callers -= {"web.rate_limit_storage"}  # a SQLite file of its own
    assert {name.split(".")[0] for name in callers} == {"db"}


def test_cli_app_loading_it_loads_nothing_slow() -> None:
    starts = ["cli.app", *(f"cli.commands.{module}" for module in MODULES.values())]
    modules = {name for start in starts for name in loaded_by(start)}
    assert {"cli.commands.ask", "cli.console", "config.loader", "errors"} <= modules
    assert not modules & {"provider.client", "db.records", "db.models"}
    assert not modules & SLOW_COMMAND_MODULES
    assert {name: slow for name in modules if (slow := packages_at_import(name) & SLOW)} == {}


def test_cli_modules_import_nothing_slow_at_their_top() -> None:
    modules = {name for name in trees() if name.startswith("cli.")} - SLOW_COMMAND_MODULES
    assert modules
    assert {name: slow for name in modules if (slow := packages_at_import(name) & SLOW)} == {}


def test_alembic_and_openai_are_loaded_by_the_provider_only() -> None:
    for name in trees():
        forbidden = {"alembic"} if name.startswith("provider.") else {"alembic", "openai"}
        assert not packages_at_import(name) & forbidden, name


def test_imports_of_finds_imports_in_each_place() -> None:
    tree = ast.parse(
        "import a\n"
        "from b import c\n"
        "if TYPE_CHECKING:\n    import d\n"
        "try:\n    import e\nexcept ImportError:\n    import f\n"
        "def g():\n    import h\n"
        "class I:\n    import j\n"
    )
    assert list(imports_of(tree, at_import=True)) == ["a", "b.c", "e", "f", "j"]
    assert list(imports_of(tree)) == ["a", "b.c", "d", "e", "f", "h", "j"]
