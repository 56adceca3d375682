"""Batches at the provider's Batch API: processes that are killed and interrupted."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from databases import count_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program
    from fake_provider import FakeProvider

QUESTIONS = 40
MAX_RUNS = 400


class Killer:
    """Kill a process with SIGKILL at each kind of request, before and after it is handled.

    Args:
        times: The number of kills at each of these points.
    """

    def __init__(self, times: int) -> None:
        self.times = times
        self.process: Any = None
        self.kills: Counter[tuple[str, str, str]] = Counter()

    def __call__(self, when: str, method: str, path: str) -> bool:
        """Handle a step of the provider (`BatchFaults.on_step`); return whether it killed."""
        kind = path.split("/")[2] + ("/content" if path.endswith("/content") else "")
        point = (when, method, kind)
        if self.process is None or self.kills[point] >= self.times:
            return False
        self.kills[point] += 1
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        return True


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_each_step_submits_nothing_twice_and_loses_nothing(
    qa: Program, provider: FakeProvider, tmp_path: Path, database_url: str, times: int
) -> None:
    # One model for each kill: a step such as the creation of a batch is done once for each model.
    rows = (
        {"id": f"k{n}", "question": f"Question {n}", "model": f"m{n % times}"}
        for n in range(QUESTIONS)
    )
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prices = (f'"m{n}" = [0.0, 1000000.0]\n' for n in range(times))
    (tmp_path / "prices.toml").write_text("".join(prices))
    killer = Killer(times)
    api = provider.batch_api
    api.faults.on_step = killer
    arguments = ("batch", str(tmp_path / "q.jsonl"), "--name", "n", "--via", "batch-api")
    for _ in range(MAX_RUNS):
        process = killer.process = qa.start(*arguments)
        _, err = process.communicate(timeout=120)
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0, err
    points = {
        (when, *request)
        for when in ("before", "after")
        for request in (
            ("POST", "files"),
            ("POST", "batches"),
            ("GET", "batches"),
            ("GET", "files/content"),
            ("DELETE", "files"),
        )
    }
    assert {point for point, count in killer.kills.items() if count == times} >= points
    assert len(api.batches) == times
    assert count_records(database_url) == QUESTIONS
    for number in range(QUESTIONS):
        assert provider.asked(f"Question {number}") == 1
    shown = json.loads(qa("batch", "show", "n", "--json").out)
    assert shown["states"]["answered"] == QUESTIONS
    assert shown["spent_usd"] == pytest.approx(QUESTIONS * 4 * 0.5)  # four tokens an answer
    assert [part["state"] for part in shown["parts"]] == ["done"] * times


def test_interrupt_while_waiting_detaches(
    qa: Program, provider: FakeProvider, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    (tmp_path / "q.txt").write_text("One\n")
    faults = provider.batch_api.faults
    faults.statuses, faults.retry_after = ("in_progress",), 5.0
    arguments = ("batch", str(tmp_path / "q.txt"), "--name", "n", "--via", "batch-api")
    process = qa.start(*arguments, text=True)
    wait_for(
        lambda: any(batch.status != "validating" for batch in provider.batch_api.batches.values())
    )
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Collect the answers with: qa batch collect n" in err
    for batch in provider.batch_api.batches.values():
        batch.statuses.append("completed")
    assert qa("batch", "collect", "n").code == 0
    assert len(provider.batch_api.batches) == 1


def test_cancel_by_another_process_ends_the_wait_and_the_batch(
    qa: Program, provider: FakeProvider, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    (tmp_path / "q.txt").write_text("One\n")
    api = provider.batch_api
    # The waiting process would look at the batch only after the cancelling one has ended.
    api.faults.statuses, api.faults.retry_after = ("in_progress",), 50
    arguments = ("batch", str(tmp_path / "q.txt"), "--name", "n", "--via", "batch-api")
    process = qa.start(*arguments, text=True, env={"QA_LEASE": "3"})
    wait_for(lambda: [batch for batch in api.batches.values() if batch.status == "in_progress"])
    assert qa("batch", "cancel", "n").code == 0
    _, err = process.communicate(timeout=60)
    assert process.returncode == 8, err
    [batch] = api.batches.values()
    assert batch.status in {"cancelling", "cancelled"}
    assert qa("batch", "collect", "n").code == 0
    assert provider.asked("One") == 1
