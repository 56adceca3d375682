"""The programs of docs/python.md run as they are written."""

import re
from pathlib import Path

import pytest
from fake_provider import FakeProvider

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


@pytest.mark.usefixtures("history")
def test_programs_of_the_page_run_one_after_the_other(
    provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    provider.default = "schema=1"
    names: dict[str, object] = {"__name__": "page"}
    for program in programs:
        exec(compile(program, str(PAGE), "exec"), names)  # noqa: S102 - the programs are ours
    out = capsys.readouterr().out
    assert "Answer to: What is the capital of France?\n" in out
    assert "r2 Works well. x\n" in out
    assert "There is no record 1000000000.\nList the records: qa list\nnot-found None\n" in out
