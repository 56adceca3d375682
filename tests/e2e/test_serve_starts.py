"""Starts of `qa serve` on a busy machine: each one answers.

A fork beside another thread can leave a worker that never answers, in a few of a hundred starts.
`QA_TEST_SERVE_STARTS=200` gives a figure worth reporting.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

STARTS = int(os.environ.get("QA_TEST_SERVE_STARTS", "4"))
AT_ONCE = 4
SECONDS = 120
"""The time limit of a start: much longer than a start under any load, so that only one that
hangs fails."""


BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


@pytest.fixture
def cpu_load() -> Iterator[None]:
    """A busy process for each processor, which ends with the process of the tests."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


@pytest.mark.usefixtures("cpu_load")
def test_serve_start_under_cpu_load_always_answers(
    installed_qa: Program, start_serve: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    assert installed_qa("list").code == 0  # creates the database once, for all of them
    for first in range(0, STARTS, AT_ONCE):
        count = min(AT_ONCE, STARTS - first)
        with ExitStack() as stack:
            servers = [stack.enter_context(start_serve(installed_qa)) for _ in range(count)]
            for number, served in enumerate(servers, start=first + 1):
                wait_for(lambda served=served: served.port or served.process.poll(), SECONDS)
                assert served.port, (number, served.log)
                assert served.request("GET", "/is_up", timeout=SECONDS)[0] == 200, number
