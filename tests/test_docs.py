import re
from dataclasses import Field
from pathlib import Path
from typing import Any

import pytest
import typer

from qacli.cli.app import EXIT_CODES, app
from qacli.config.settings import Settings, setting_fields
from qacli.serializers import MEANINGS
from qacli.web.app import create_app
from qacli.web.openapi import path_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def table_row(name: str) -> str | None:
    return next((line for line in README.splitlines() if line.startswith(f"| `{name}`")), None)


@pytest.mark.parametrize("item", setting_fields(), ids=lambda item: item.name)
def test_a_setting_is_in_readme_and_env_example(item: Field[Any]) -> None:
    env, row = item.metadata["env"], table_row(item.name)
    assert row is not None
    assert f"`{env}`" in row
    assert item.metadata["help"] in row
    if item.default is not None:
        default = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        assert f"`{default}`" in row
    assert re.search(rf"^{env}=", ENV_EXAMPLE, re.MULTILINE)


def test_env_example_lists_nothing_that_does_not_exist() -> None:
    known = {item.metadata["env"] for item in setting_fields()}
    listed = set(re.findall(r"^([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))
    compose = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    assert listed - known == {"QA_BIND", "QA_PORT", "POSTGRES_PASSWORD", "LOCAL_MODEL"}
    assert compose <= listed


def commands() -> list[tuple[str, object]]:
    def walk(name: str, command: object) -> list[tuple[str, object]]:
        children = getattr(command, "commands", {})
        nested = [pair for child, sub in children.items() for pair in walk(f"{name} {child}", sub)]
        return [(name, command), *nested]

    return walk("qa", typer.main.get_command(app))


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_a_command_and_its_options_are_in_readme(name: str) -> None:
    assert name in README
    command = dict(commands())[name]
    for parameter in command.params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "option":
            longest = max(parameter.opts, key=len)
            assert f"{longest}" in README, longest


def test_every_exit_code_is_in_readme() -> None:
    for code, text in EXIT_CODES.items():
        assert f"| {code} | {text} |" in README


def test_every_endpoint_is_in_readme(tmp_path: Path) -> None:
    web = create_app(Settings(data_dir=tmp_path, base_url="http://localhost:1/v1"))
    for rule in web.url_map.iter_rules():
        path = path_of(rule).replace("{filename}", "{file}")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert f"`{method} {path}`" in README


def test_record_in_readme_is_the_table_of_its_fields() -> None:
    record = README.partition("## The record")[2]
    assert "\n".join(f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items()) in record
