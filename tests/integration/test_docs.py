import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from qacli.cli.app import EXIT_CODES
from qacli.config.declaration import Setting
from qacli.config.providers import known_providers
from qacli.config.settings import setting_fields
from qacli.record_fields import RECORD_FIELDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
README = (ROOT / "README.md").read_text()
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
MAX_README_LINES = 180
MAX_GLOSSARY_WORDS = 15


def load_generator(directory: Path = DOCS) -> ModuleType:
    """Import generate.py, which is no package, from the directory of the pages."""
    spec = importlib.util.spec_from_file_location("docs_generate", directory / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
COMMANDS = GENERATOR.all_commands()


def read_page(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, heading: str) -> str:
    """Return the text under a heading, up to the next heading of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table_row(text: str, name: str) -> str:
    rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1, f"{name} has {len(rows)} rows"
    return rows[0]


def headings_of(text: str) -> Iterator[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_generate_finds_every_page_current() -> None:
    for page in PAGES:
        text = page.read_text()
        assert GENERATOR.render_page(text) == text, f"run: python docs/generate.py ({page.name})"


def test_generate_finds_the_table_of_commands_current() -> None:
    table = json.loads(GENERATOR.COMMANDS.read_text())
    assert table == GENERATOR.command_table(), "run: python docs/generate.py"


def test_generate_check_on_an_outdated_page_fails(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(DOCS / "generate.py", tmp_path / "docs")
    page = tmp_path / "docs" / "record.md"
    outdated = "<!-- generated: record -->\nold\n<!-- end -->\n"
    page.write_text(outdated)
    (tmp_path / "README.md").write_text("# Nothing is generated here\n")

    generate = load_generator(tmp_path / "docs").main
    assert generate(["--check"]) == 1
    assert page.read_text() == outdated
    assert generate([]) == 0
    assert "| `question` |" in page.read_text()
    assert generate(["--check"]) == 0


def test_generate_with_an_unknown_part_raises() -> None:
    with pytest.raises(GENERATOR.UnknownPart, match="'nonsense'"):
        GENERATOR.render_page("<!-- generated: nonsense -->\n<!-- end -->")


@pytest.mark.parametrize("item", setting_fields(), ids=lambda item: item.name)
def test_setting_is_documented_with_variable_meaning_and_default(item: Setting) -> None:
    env = item.env
    row = table_row(section(read_page("configuration.md"), "## Settings"), item.name)
    assert f"| `{env}` |" in row
    assert f"| {item.help} |" in row
    if item.default is not None:
        default = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        if isinstance(item.default, bool):
            default = default.lower()  # as in TOML
        assert row.endswith(f"| `{default}` |")
    assert re.search(rf"^{env}=", ENV_EXAMPLE, re.MULTILINE)


def test_env_example_lists_nothing_that_does_not_exist() -> None:
    known = {item.env for item in setting_fields()}
    known |= {item.key for item in known_providers().values() if item.key}
    listed = set(re.findall(r"^([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))
    compose = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    only_compose = {"QA_BIND", "QA_PORT", "POSTGRES_PASSWORD", "LOCAL_MODEL"}
    only_compose |= {"EXTRAS", "QA_DOMAIN", "QA_HTTPS_BIND", "QA_HTTPS_PORT", "QA_HTTP_PORT"}
    assert listed - known == only_compose
    assert compose <= listed


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_command_is_documented_with_each_option_in_its_section(name: str) -> None:
    text = section(read_page("cli.md"), f"## {name}")
    assert text.lstrip().startswith(f"```text\nUsage: {name} ")
    words = set(re.findall(r"(?<![\w-])--?[\w-]+", text))
    for parameter in dict(COMMANDS)[name].params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            assert {*parameter.opts, *parameter.secondary_opts} <= words, parameter.name


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_exit_codes_are_in_their_section(page: str) -> None:
    text = section((ROOT / page).read_text(), "## Exit codes")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, _ in GENERATOR.all_endpoints()]
)
def test_endpoint_is_documented_in_the_table(method: str, path: str) -> None:
    table = read_page("http-api.md").partition("\n## ")[0]
    row = table_row(table, f"{method} {path}")
    purpose = row.rstrip("| ").rpartition("|")[2]
    assert re.search(r"\w", purpose)


def test_operations_are_documented_with_each_parameter_and_field() -> None:
    document = GENERATOR.openapi_document()
    page = read_page("http-api.md")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            pattern = rf"^### .*`{method.upper()} {re.escape(path)}`.*$"
            heading = re.search(pattern, page, re.MULTILINE)
            assert heading, (method, path)
            text = section(page, heading[0])
            for parameter in operation.get("parameters", ()):
                if parameter["in"] != "path":
                    table_row(text, parameter["name"])


def test_record_fields_are_documented_in_order_with_a_meaning() -> None:
    table = read_page("record.md")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*\w[^|]*) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == list(RECORD_FIELDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_docs_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in set(headings_of(file.read_text())), target


def options_of(name: str) -> set[str]:
    """Return the options of a command, and those that all commands have."""
    command = "qa batch run" if name == "qa batch" else name
    parameters = [*dict(COMMANDS)[command].params, *dict(COMMANDS)["qa"].params]
    names = (option for item in parameters for option in (*item.opts, *item.secondary_opts))
    return {"--help", *names}


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Yield each call of qa in the code of a page: the command's name, and the rest."""
    code = re.findall(r"^```\w+$(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    code += re.findall(r"`(qa [^`\n]+)`", text)
    names = sorted(dict(COMMANDS), key=len, reverse=True)
    for part in re.split(r"\n|[|;#]|&&", "\n".join(code)):
        call = re.search(r"(?:^|[$(\s])qa (.*)", part)
        if call is None:
            continue
        line = "qa " + re.sub(
            r"^(--profile [\w.]+|--debug) ", "", re.sub(r"'.*?'|\".*?\"", "", call[1])
        )
        name = next(name for name in names if f"{line} ".startswith(f"{name} "))
        yield name, line.removeprefix(name)


HAND_WRITTEN = [page for page in PAGES if page.name != "cli.md"]


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_docs_options_in_text_and_examples_exist(page: Path) -> None:
    text = page.read_text()
    if page.name == "switching.md":
        # The first column has the options of other programs.
        text = re.sub(r"^\| .*? \|", "|", text, flags=re.MULTILINE)
    known = {option for name, _ in COMMANDS for option in options_of(name)}
    assert set(re.findall(r"`(--?[a-z][\w-]*)", text)) <= known | {"--check", "--no-deps"}
    for name, rest in examples(text):
        used = set(re.findall(r"(?<=\s)(?:--[a-z][\w-]*|-[a-z]\b)", rest))
        assert used <= options_of(name), f"{name}{rest}"


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES


def test_readme_links_to_every_page() -> None:
    pages = {f"docs/{page.name}" for page in DOCS.glob("*.md")}
    assert pages <= set(re.findall(r"\]\((docs/[^)#]+)", README))


def test_glossary_is_short() -> None:
    rows = re.findall(r"^\| (?!word |---)", read_page("glossary.md"), re.MULTILINE)
    assert len(rows) <= MAX_GLOSSARY_WORDS
