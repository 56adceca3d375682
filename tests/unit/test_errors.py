import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from conftest import KEY

from qacli import errors
from qacli.cli.app import EXIT_CODES, run
from qacli.config.settings import Settings
from qacli.errors import Busy, ProviderError, QaError
from qacli.web.app import create_app

WHAT = "It happened, with {braces} and a ß."
TODO = "Do that."


def tree(root: type[QaError]) -> Iterator[type[QaError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


ALL = [kind for kind in tree(QaError) if kind.__module__ == errors.__name__]
every_error = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def test_errors_are_all_in_the_list() -> None:
    assert len(ALL) > 15
    # An error of another module has the exit code, the status and the kind of one in the list.
    for kind in set(tree(QaError)) - set(ALL):
        base = kind.__bases__[0]
        assert base in ALL
        assert not {"exit_code", "status", "kind"} & vars(kind).keys()


def test_errors_docstring_has_the_tree_with_its_numbers() -> None:
    assert errors.__doc__ is not None
    drawn = {}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"[│├└─ ]*([A-Z]\w+)  +(?:(-|\d+) +)?(?:(\d{3})  )?", line):
            drawn[found[1]] = (found[2], found[3])
    for kind in ALL:
        if kind is ProviderError:
            continue
        exit_code, status = drawn.pop(kind.__name__)
        if status is None and exit_code == str(kind.status):  # a leaf that inherits its exit code
            exit_code, status = None, exit_code
        assert exit_code in {None, "-", str(kind.exit_code)}
        assert status in {None, str(kind.status)}
    assert not drawn


def test_error_kinds_are_unique() -> None:
    kinds = [kind.kind for kind in ALL if kind is not ProviderError]
    assert len(set(kinds)) == len(kinds)


@every_error
def test_error_kind_is_a_name_with_documented_numbers(kind: type[QaError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.kind)
    assert kind.exit_code in EXIT_CODES
    assert kind.exit_code != 0
    assert 400 <= kind.status <= 599


@every_error
def test_error_str_is_its_two_sentences(kind: type[QaError]) -> None:
    assert str(kind(WHAT, TODO)) == f"{WHAT} {TODO}"
    assert str(kind(WHAT)) == WHAT
    assert kind(WHAT).record_id is None


@pytest.fixture
def web_settings(home: Path) -> Settings:
    return Settings(api_key=KEY, base_url="http://127.0.0.1:9/v1", data_dir=home / "data")


@every_error
def test_http_error_is_a_problem(kind: type[QaError], web_settings: Settings) -> None:
    app = create_app(web_settings)
    raised = kind(WHAT, TODO)
    raised.record_id = 7

    @app.get("/boom")
    def boom() -> str:
        raise raised

    response = app.test_client().get("/boom")
    assert response.status_code == kind.status
    assert response.content_type == "application/problem+json"
    body = response.get_json()
    assert body["status"] == kind.status
    assert body["kind"] == kind.kind
    assert body["type"] == f"urn:qa:{kind.kind}"
    assert body["detail"] == f"{WHAT} {TODO}"
    assert body["title"]
    assert body["record_id"] == 7
    assert "Traceback" not in response.text
    assert ("WWW-Authenticate" in response.headers) == (kind.status == 401)


@pytest.mark.parametrize(
    ("raised", "seconds"),
    [
        (Busy(WHAT), "1"),
        (Busy(WHAT, retry_after=3), "3"),
        (ProviderError(WHAT, retry_after=0.2, provider_status=429), "1"),
        (ProviderError(WHAT, retry_after=7.4), "7"),
        (ProviderError(WHAT), None),
    ],
)
def test_http_error_has_retry_after(
    raised: QaError, seconds: str | None, web_settings: Settings
) -> None:
    app = create_app(web_settings)

    @app.get("/boom")
    def boom() -> str:
        raise raised

    response = app.test_client().get("/boom")
    assert response.headers.get("Retry-After") == seconds
    body = response.get_json()
    assert body.get("provider_status") == getattr(raised, "provider_status", None)


def test_http_bug_is_a_problem_without_details(
    web_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(web_settings)

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("the inside")

    response = app.test_client().get("/boom")
    assert response.status_code == 500
    assert response.content_type == "application/problem+json"
    assert response.get_json()["kind"] == QaError.kind
    assert "the inside" not in response.text
    assert "the inside" in caplog.text


def a_program(raised: BaseException) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.callback()
    def root(*, debug: bool = False) -> None:
        del debug

    @app.command()
    def boom() -> None:
        raise raised

    return app


@every_error
def test_run_error_prints_one_line_and_exits_with_its_code(
    kind: type[QaError], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["boom"], app=a_program(kind(WHAT, TODO)))
    out, err = capsys.readouterr()
    assert code == kind.exit_code
    assert out == ""
    assert err == f"qa: {WHAT} {TODO}\n"


def test_run_bug_prints_one_line_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["boom"], app=a_program(RuntimeError("the inside")))
    out, err = capsys.readouterr()
    assert code == 1
    assert out == ""
    assert err.startswith("qa: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_run_bug_with_debug_raises() -> None:
    with pytest.raises(RuntimeError, match="the inside"):
        run(["--debug", "boom"], app=a_program(RuntimeError("the inside")))


def test_run_ctrl_c_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["boom"], app=a_program(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_run_usage_error_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"], app=a_program(RuntimeError())) == 2
    assert "nonsense" in capsys.readouterr().err
