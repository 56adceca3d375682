"""Schemathesis sends the running server valid and invalid requests of its OpenAPI document."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

    from .conftest import Served

TOKEN = "token-0123456789abcdef"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("examples", [2, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("token", "phases"),
    [("", "examples,coverage,fuzzing,stateful"), (TOKEN, "fuzzing,stateful")],
    ids=["open", "token"],
)
def test_openapi_schemathesis_requests_find_no_fault(
    qa: Program, serve: Callable[..., Served], home: Path, token: str, phases: str, examples: int
) -> None:
    served = serve(qa, QA_TOKEN=token)
    address = f"http://127.0.0.1:{served.port}"
    document, config = home / "openapi.json", home / "schemathesis.toml"
    with closing(HTTPConnection("127.0.0.1", served.port, timeout=10)) as connection:
        connection.request("GET", "/openapi.json", headers={"Authorization": f"Bearer {token}"})
        document.write_bytes(connection.getresponse().read())
    # After many wrong tokens the status is 429, which that check reports as a fault.
    unchecked = ["--exclude-checks", "ignored_auth"] if token else []
    # The ids of responses are unknown, and no answer is arriving that could be cancelled; other
    # tests use real ids. A record can be deleted only once.
    unknown_ids = (
        "[[operations]]\n"
        'include-path-regex = "^/v1/responses/|/cancel$|^/qa/[^/]*$"\nwarnings = false\n'
    )
    bearer = f'[auth.openapi.bearer]\nbearer = "{token}"\n' if token else ""
    config.write_text(bearer + unknown_ids)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", config),
            *("run", document, "--url", address, "--checks", "all", "--phases", phases),
            *unchecked,
            *("--generation-deterministic", "--max-examples", str(examples), "--no-color"),
            # A text with U+0000 cannot be stored, and a schema cannot express that.
            *("--generation-allow-x00", "false"),
        ],
        env=qa.environ(
            SCHEMATHESIS_HOOKS="schemathesis_hooks",
            PYTHONPATH=str(Path(__file__).parents[1] / "support"),
        ),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "No issues found" in done.stdout
