"""Packages of others, unchanged: each runs its cases with the provider and through the server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY
from flask_fixtures import TOKEN

from clients.recording_proxy import Recorded, RecordingProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_provider import FakeProvider

    from qacli.db.records import Store

ROUNDS = "Weather? [[tools=3]]"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.slow,  # each client gets an environment of its own; CI runs them each night
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = {
    "openai_client.py": ["openai"],
    "litellm_client.py": ["litellm"],
    "langchain_client.py": ["langchain-openai"],
    "llama_index_client.py": ["llama-index-llms-openai", "llama-index-llms-openai-like"],
    "instructor_client.py": ["instructor"],
    "agents_client.py": ["openai-agents"],
    "pydantic_ai_client.py": ["pydantic-ai-slim[openai]"],
    "smolagents_client.py": ["smolagents[openai]"],
    "llm_client.py": ["llm"],
    "aider_client.py": ["aider-chat"],
    "dspy_client.py": ["dspy"],
    "haystack_client.py": ["haystack-ai"],
    "autogen_client.py": ["autogen-agentchat", "autogen-ext[openai]"],
    "semantic_kernel_client.py": ["semantic-kernel"],
    "langgraph_client.py": ["langgraph", "langchain", "langchain-openai"],
}
NODE = {
    "openai_node.mjs": ["openai"],
    "ai_sdk.mjs": ["ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "zod"],
    "langchain_node.mjs": ["@langchain/openai", "@langchain/core"],
    "agents_node.mjs": ["@openai/agents", "zod"],
    "codex.mjs": ["@openai/codex"],
}
WITHOUT_TOOL_ROUNDS = {"aider_client.py", "instructor_client.py", "codex.mjs"}
"""Clients that give no results of our tool back: they ask once, or have tools of their own."""

PYTHON_VERSIONS = {"aider_client.py": ">=3.11,<3.13"}
"""The versions of Python that a client demands, where it does not run with all of ours."""

NEW_EACH_TIME = re.compile(
    rb"\b(?:chatcmpl-|call_|resp_|msg_|fc_|rs_|ws_|req_)[0-9a-f]{8,}"
    rb'|(?<="created": )[\d.]+|(?<="created_at": )[\d.]+|(?<="completed_at": )[\d.]+'
)
"""The provider's ids and times, which are new in each response."""

OTHER_HEADERS = {
    # They belong to a connection, or to the server at its end.
    *("connection", "date", "server", "transfer-encoding"),
    # Added by this server. "cache-control" is the one that it replaces.
    *("cache-control", "content-security-policy", "cross-origin-opener-policy"),
    *("cross-origin-resource-policy", "referrer-policy", "vary", "x-accel-buffering"),
    *("x-content-type-options", "x-frame-options", "x-qa-record"),
}
"""Headers that are not compared. Of the others, the provider's `x-request-id` is
`x-provider-request-id` of the server."""


NODE_PROGRAMS = Path("node_modules/.bin")


def run_program(
    name: str, base_url: str, key: str, node_modules: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a client's program.

    Returns:
        The outcome of each case, and the version of each package of the client.
    """
    command: list[str | Path]
    if name in PYTHON:
        uv = shutil.which("uv")
        if uv is None:
            pytest.skip("uv is not installed, which makes the environment of the client")
        packages = [word for package in PYTHON[name] for word in ("--with", package)]
        python = PYTHON_VERSIONS.get(name, sys.executable)
        command = [uv, "run", "-q", "--no-project", "--isolated", "--python", python, *packages]
        command += ["python", PROGRAMS / name]
    else:
        command = [node_modules / NODE_PROGRAMS / "node", node_modules / name]
    packages = [package.partition("[")[0] for package in PYTHON.get(name, [])]
    process = subprocess.run(
        [*command, base_url, key, *packages],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    for package in NODE.get(name, []):
        manifest = node_modules / "node_modules" / package / "package.json"
        result["versions"][package] = json.loads(manifest.read_text())["version"]
    return result["outcomes"], result["versions"]


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs for Node, the newest Node, and the packages.

    npm chooses older releases of packages for an older Node, without a warning.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which installs the packages for Node")
    directory = tmp_path_factory.mktemp("node")
    for file in PROGRAMS.glob("*.mjs"):
        shutil.copy(file, directory)
    packages = sorted({package for names in NODE.values() for package in names})
    path = f"{directory / NODE_PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    for names in (["node"], packages):
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", *names],
            cwd=directory,
            env={**os.environ, "PATH": path},
            check=True,
            capture_output=True,
            timeout=300,
        )
    return directory


def comparable(responses: list[Recorded]) -> list[Recorded]:
    """Return recorded responses without the headers and values that differ by design.

    Each id of the provider is replaced by its place among all ids, so an id that is used twice has
    to be used twice in the same places.
    """
    places: dict[bytes, bytes] = {}

    def mask(data: bytes) -> bytes:
        def place(match: re.Match[bytes]) -> bytes:
            value = match[0]
            if value[:1].isdigit():
                return b"0"
            return places.setdefault(value, b"id-%d" % len(places))

        return NEW_EACH_TIME.sub(place, data)

    result = []
    for status, headers, body in responses:
        own = headers.copy()
        if "x-qa-record" in own:
            own["x-request-id"] = own.pop("x-provider-request-id")
        kept = {
            name: mask(value.encode()).decode()
            for name, value in sorted(own.items())
            if name not in OTHER_HEADERS
        }
        result.append((status, kept, mask(body)))
    return result


@pytest.mark.parametrize("name", [*PYTHON, *NODE])
def test_client_gets_the_responses_of_the_provider(
    name: str,
    provider: FakeProvider,
    served: str,
    store: Store,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    tmp_path: Path,
) -> None:
    modules = request.getfixturevalue("node_modules") if name in NODE else tmp_path
    with RecordingProxy(provider.base_url) as direct, RecordingProxy(served) as through:
        expected, _ = run_program(name, direct.base_url, KEY, modules)
        provider.reset()
        outcomes, versions = run_program(name, through.base_url, TOKEN, modules)
    record_property("client", (name, versions, list(outcomes)))
    assert outcomes == expected
    failed = {
        case for case, value in outcomes.items() if isinstance(value, dict) and "error" in value
    }
    assert failed == {case for case in outcomes if case.endswith("error")}, outcomes
    assert failed
    assert comparable(through.responses) == comparable(direct.responses)
    records = store.page(limit=100)
    ids = [headers["x-qa-record"] for _, headers, _ in through.responses]
    assert ids == [str(record.id) for record in records]
    starts = [
        record
        for record in records
        if record.question.endswith(ROUNDS) and record.follows_id is None
    ]
    with_tools = [case for case in outcomes if case.lower().endswith("tools")]
    assert len(starts) == len(with_tools)
    assert bool(starts) == (name not in WITHOUT_TOOL_ROUNDS)
    for start in starts:
        questions = [
            NEW_EACH_TIME.sub(b"id", record.question.encode())
            for record in store.followers(start.id or 0, 10)
        ]
        assert len(questions) == 3
        assert b"sunny" in questions[0]
        assert all(question.startswith(questions[0]) for question in questions)


def test_rounds_of_codex_are_one_thread(
    provider: FakeProvider, served: str, store: Store, node_modules: Path
) -> None:
    outcomes, _ = run_program("codex.mjs", served, TOKEN, node_modules)
    assert outcomes["rounds"] == "Answer to: Look around. [[tools=2]]"
    [start] = [record for record in store.page(limit=9) if record.question.startswith("Look")]
    records = store.thread(store.followers(start.id or 0, 9)[-1].id or 0)
    assert [record.question.partition("(")[0] for record in records[1:]] == ["exec_command"] * 2
    assert [record.answer for record in records][-1] == outcomes["rounds"]
    assert provider.requests[-1].body["store"] is False


def test_idempotency_key_of_openai_node_repeats_the_first_answer(
    provider: FakeProvider, served: str, store: Store, node_modules: Path
) -> None:
    outcomes, _ = run_program("openai_node_idempotency.mjs", served, TOKEN, node_modules)
    assert [outcomes[case] for case in ("first", "second", "other")] == ["Answer to: Who?"] * 3
    assert outcomes["error"]["status"] == 400
    assert provider.asked("Who?") == 2
    assert [record.question for record in store.page(limit=9)] == ["Who?", "Who?"]
