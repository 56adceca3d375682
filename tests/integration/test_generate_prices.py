from __future__ import annotations

import importlib.util
import json
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from qacli.price_table import PATH

PROGRAM = Path(__file__).parents[2] / "docs" / "generate_prices.py"


def load_program() -> Any:
    spec = importlib.util.spec_from_file_location("generate_prices", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generate_prices_same_package_and_date_write_the_same_table() -> None:
    text = PATH.read_text(encoding="utf-8")
    table = json.loads(text)
    if table["source"] != f"genai-prices {version('genai-prices')}":
        pytest.skip("another version of genai-prices is installed than the table is from")
    program = load_program()
    assert program.to_text(program.build(date.fromisoformat(table["generated"]))) == text


def test_generate_prices_of_a_table_with_a_wrong_price_fails() -> None:
    program = load_program()
    table = json.loads(PATH.read_bytes())
    table["providers"]["openai"]["models"]["gpt-6-luna"] = [1, 2, 3]
    with pytest.raises(SystemExit, match="openai gpt-6-luna"):
        program.check(table, date.fromisoformat(table["generated"]))
