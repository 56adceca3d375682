"""The names that the package exports, and the Python that it needs."""

import ast
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import qacli
from qacli.batch import options

CLONE = Path(qacli.__file__).parents[1]

PROGRAM = """
from typing import assert_type

from pydantic import BaseModel

from qacli import Answer, AnswerStream, BatchResults, ask, batch

class Dog(BaseModel):
    name: str

assert_type(ask("?"), Answer[None])
assert_type(ask("?", schema=Dog), Answer[Dog])
assert_type(ask("?", schema=Dog).data.name, str)
assert_type(ask("?", stream=True), AnswerStream)
assert_type(batch(["?"], schema=Dog), BatchResults[Dog])
for result in batch([{"a": 1}], question="{a}"):
    assert_type(result.answer, str | None)
"""


def test_every_exported_name_is_loaded_when_it_is_used() -> None:
    assert set(qacli.MODULES) == set(qacli.__all__)
    for name in qacli.__all__:
        assert getattr(qacli, name).__name__ == name


def test_batch_is_the_function_also_after_the_import_of_the_package() -> None:
    assert options.__name__ == "qacli.batch.options"
    assert isinstance(qacli.batch, FunctionType)
    assert isinstance(sys.modules["qacli.batch"], ModuleType)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        qacli.other  # noqa: B018


def test_program_on_an_old_python_names_the_python_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    needed = project["requires-python"].removeprefix(">=")
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(CLONE / "qacli/__main__.py"), run_name="__main__")
    assert ended.value.code == 3
    assert capsys.readouterr().err.startswith(
        f"qa needs Python {needed} or newer, and this is Python 3.10."
    )


@pytest.mark.parametrize("name", ["__init__", "__main__"])
def test_first_modules_can_be_parsed_by_an_old_python(name: str) -> None:
    text = (CLONE / f"qacli/{name}.py").read_text()
    ast.parse(text, feature_version=(3, 7))


@pytest.mark.parametrize(
    ("tag", "heading", "error"),
    [
        ("v1.2.3", "[1.2.3] - 2026-11-27", ""),
        (
            "v1.2.4",
            "[1.2.3] - 2026-11-27",
            "The tag is v1.2.4, and qacli/__init__.py has version 1.2.3.",
        ),
        ("v1.2.3", "[Unreleased]", "CHANGELOG.md has no heading '## [1.2.3] - YYYY-MM-DD'."),
        ("v1.2.3", "[1.203] - 2026-11-27", "CHANGELOG.md has no heading"),
    ],
)
def test_check_version_on_different_versions_fails(
    tmp_path: Path, tag: str, heading: str, error: str
) -> None:
    for name, text in (
        ("qacli/__init__.py", '__version__ = "1.2.3"\n'),
        ("CHANGELOG.md", f"# Changelog\n\n## {heading}\n"),
        (".ci/check-version", (CLONE / ".ci/check-version").read_text()),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    command = ["bash", str(tmp_path / ".ci/check-version"), tag]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.startswith(error)
    assert (done.returncode, bool(done.stderr)) == (bool(error), bool(error))


@pytest.mark.slow
def test_types_of_the_functions_are_those_of_their_arguments(tmp_path: Path) -> None:
    assert (Path(qacli.__file__).parent / "py.typed").exists()
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
