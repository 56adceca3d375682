"""The names that the package exports."""

import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import qacli
from qacli.batch import options

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


@pytest.mark.slow
def test_types_of_the_functions_are_those_of_their_arguments(tmp_path: Path) -> None:
    assert (Path(qacli.__file__).parent / "py.typed").exists()
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
