"""Packages of others, unchanged: each runs its cases with the provider and through the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY
from flask_fixtures import TOKEN

from clients.recording_proxy import RecordingProxy

if TYPE_CHECKING:
    from fake_provider import FakeProvider

    from qacli.db.records import Store

pytestmark = [
    pytest.mark.slow,  # each client gets an environment of its own; CI runs them each night
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = {
    "litellm_client.py": ["litellm"],
    "langchain_client.py": ["langchain-openai"],
    "agents_client.py": ["openai-agents"],
    "pydantic_ai_client.py": ["pydantic-ai-slim[openai]"],
}
NODE = {
    "openai_node.mjs": ["openai"],
    "ai_sdk.mjs": ["ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "zod"],
}
NEW_EACH_TIME = re.compile(
    rb"(chatcmpl-|call_|resp_|msg_|fc_|rs_)[0-9a-f]{8,}"
    rb'|"(?:created|created_at|completed_at)": [\d.]+'
)
"""The provider's ids and times, which are new in each response."""

OTHER_HEADERS = re.compile(
    "date|server|connection|transfer-encoding|content-length|vary|x-request-id|cache-control"
    "|x-provider-request-id|x-qa-record|x-accel-buffering|ratelimit.*|content-security-policy"
    "|x-content-type-options|x-frame-options|referrer-policy|cross-origin-.*|permissions-policy"
)
"""Headers that are this server's own, or belong to a connection."""


def run_program(name: str, base_url: str, key: str, node_modules: Path) -> dict[str, Any]:
    """Run a client's program; returns the outcome of each case."""
    command: list[str | Path]
    if name in PYTHON:
        uv = shutil.which("uv")
        if uv is None:
            pytest.skip("uv is not installed, which makes the environment of the client")
        packages = [word for package in PYTHON[name] for word in ("--with", package)]
        command = [uv, "run", "-q", "--no-project", "--python", sys.executable, *packages]
        command += ["python", PROGRAMS / name]
    else:
        command = ["node", node_modules / name]
    done = subprocess.run(
        [*command, base_url, key], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs for Node and their packages."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which installs the packages for Node")
    directory = tmp_path_factory.mktemp("node")
    for file in PROGRAMS.glob("*.mjs"):
        shutil.copy(file, directory)
    packages = sorted({package for names in NODE.values() for package in names})
    subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", *packages],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return directory


def comparable(responses: list[Any]) -> list[Any]:
    """Return recorded responses without the headers and values that differ by design."""
    return [
        (
            status,
            {name: text for name, text in headers.items() if not OTHER_HEADERS.fullmatch(name)},
            NEW_EACH_TIME.sub(b"", body),
        )
        for status, headers, body in responses
    ]


@pytest.mark.parametrize("name", [*PYTHON, *NODE])
def test_client_gets_the_responses_of_the_provider(
    name: str,
    provider: FakeProvider,
    served: str,
    store: Store,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    modules = request.getfixturevalue("node_modules") if name in NODE else tmp_path
    with RecordingProxy(provider.base_url) as direct, RecordingProxy(served) as through:
        expected = run_program(name, direct.base_url, KEY, modules)
        provider.reset()
        outcomes = run_program(name, through.base_url, TOKEN, modules)
    assert outcomes == expected
    failed = [
        case for case, value in outcomes.items() if isinstance(value, dict) and "error" in value
    ]
    assert failed == ["error"], outcomes
    assert comparable(through.responses) == comparable(direct.responses)
    records = store.page(limit=100)
    assert len(records) == len(through.responses)
    for start in [record for record in records if record.question.endswith("[[tools=3]]")]:
        followers = store.followers(start.id or 0, 10)
        assert [record.question for record in followers] == [followers[0].question] * 3
