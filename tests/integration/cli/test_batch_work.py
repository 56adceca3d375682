from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from conftest import KEY
from databases import count_records

from qacli.config.database_url import with_driver
from qacli.db.batches import Batches
from qacli.db.records import Store
from qacli.db.shared_limits import LimitReport, SharedLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke, Program
    from fake_provider import FakeProvider

PRICE = '"test-model" = [0.0, 333.333333333]\n'
"""The price at which an answer of three tokens costs a thousandth of a dollar."""


@pytest.fixture
def batches(database_url: str) -> Batches:
    return Batches(Store.open(with_driver(database_url) or ""))


@pytest.fixture
def leave(invoke: Invoke, provider: FakeProvider, tmp_path: Path) -> Callable[..., None]:
    """Return a function that starts a batch, interrupts it, and deletes the file of questions."""

    def leave(*questions: str, name: str = "n", options: tuple[str, ...] = ()) -> None:
        file = tmp_path / f"{name}.txt"
        file.write_text("".join(f"{line}\n" for line in questions))
        provider.script("status=401")
        done = invoke("batch", str(file), "--name", name, "-j", "1", "-q", *options)
        assert done.code == 3, done.err
        file.unlink()
        provider.reset()

    return leave


def show(invoke: Invoke, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(invoke("batch", "show", name, "--json").out)
    return shown


def test_work_without_the_file_asks_the_rest_with_the_options_of_the_batch(
    invoke: Invoke, provider: FakeProvider, leave: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text('[models."big"]\nseed = 5\n')
    leave("One", "Two", options=("-m", "big", "--system", "Be brief.", "--temperature", "0.5"))
    (tmp_path / "config.toml").unlink()
    done = invoke("batch", "work", "n", QA_DATA_DIR=str(tmp_path / "other"), QA_MODEL="another")
    assert done.code == 0, done.err
    assert Counter(request.question for request in provider.requests) == {"One": 1, "Two": 1}
    for request in provider.requests:
        body = request.body
        assert (body["model"], body["temperature"], body["seed"]) == ("big", 0.5, 5)
        assert "Be brief." in json.dumps(body)


def test_work_stores_no_key(
    invoke: Invoke, leave: Callable[..., None], batches: Batches, provider: FakeProvider
) -> None:
    leave("One")
    host = provider.base_url.partition("//")[2]
    url = f"http://user:secret-word@{host}?api_key=other-secret"
    assert invoke("batch", "work", "n", OPENAI_BASE_URL=url).code == 3
    [batch] = batches.all()
    assert batch.run_options["endpoint"] == provider.base_url
    with batches.store.transaction() as connection:
        rows = connection.execute(sa.text("SELECT endpoint, key_digest FROM shared_limit")).all()
    for text in (str(batch.run_options), str(rows)):
        assert KEY not in text
        assert "secret" not in text


def test_work_on_all_finishes_every_open_batch_and_ends(
    invoke: Invoke, provider: FakeProvider, leave: Callable[..., None]
) -> None:
    for name in ("one", "two", "three"):
        leave(f"Question {name}", name=name)
    assert invoke("batch", "cancel", "three").code == 0
    done = invoke("batch", "work")
    assert done.code == 0, done.err
    asked = Counter(request.question for request in provider.requests)
    assert asked == {"Question one": 1, "Question two": 1}
    assert invoke("batch", "work").code == 0
    assert len(provider.requests) == 2
    cancelled = invoke("batch", "work", "three")
    assert cancelled.code == 2
    assert "is cancelled" in cancelled.err
    assert invoke("batch", "work", "four").code == 4


def test_work_for_another_endpoint_is_refused(
    invoke: Invoke, provider: FakeProvider, leave: Callable[..., None]
) -> None:
    leave("One")
    done = invoke("batch", "work", "n", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.code == 3
    assert provider.base_url in done.err
    assert provider.requests == []


def test_work_keeps_the_budget_of_the_batch(
    invoke: Invoke, provider: FakeProvider, leave: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "prices.toml").write_text(PRICE)
    leave(*(f"{n:03}" for n in range(40)), options=("--max-cost", "0.0105"))
    done = invoke("batch", "work", "n", "-j", "2")
    assert done.code == 8, done.err
    assert "budget" in done.err
    shown = show(invoke, "n")
    assert 0.008 <= shown["spent_usd"] <= 0.0105
    assert (shown["max_cost_usd"], shown["reserved_usd"]) == (0.0105, 0)
    assert shown["spent_usd"] == pytest.approx(shown["cost_usd"])
    assert len(provider.requests) == round(shown["spent_usd"] / 0.001)
    assert "0.0000 USD reserved of 0.0105 USD" in invoke("batch", "show", "n").out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_work_forever_waits_for_the_options_and_ends_at_sigterm(
    qa: Program,
    leave: Callable[..., None],
    batches: Batches,
    provider: FakeProvider,
    wait_for: Callable[..., Any],
) -> None:
    leave("One", "Two")
    batch = batches.get("n")
    batches.save_run_options(batch.id or 0, {}, None)  # as between the items and the options
    process = qa.start("batch", "work", "--forever")

    def handles_sigterm() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return caught >> (signal.SIGTERM - 1) & 1

    wait_for(handles_sigterm)
    sleep(0.3)
    batches.save_run_options(batch.id or 0, batch.run_options, None)
    wait_for(lambda: len(provider.requests) == 2)
    wait_for(lambda: batches.counts(batch.id or 0)["answered"] == 2)
    assert process.stderr.readline().startswith(b"n: 2 answered; 2 asked in ")
    wait_for(handles_sigterm)
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (143, b"")
    assert b"qa:" not in err


def test_show_has_workers_limits_and_pauses(
    invoke: Invoke, leave: Callable[..., None], batches: Batches
) -> None:
    leave("One", "Two")
    batch_id = batches.get("n").id or 0
    for worker in ("a" * 32, "b" * 32):
        batches.register_worker(
            batch_id, worker, f"{worker}/boot/1:2", f"{worker}.worker", label=f"host:{worker[0]}"
        )
    batches.claim(batch_id, "a" * 32, 1)
    limits = SharedLimits(batches.store)
    limit_id = limits.open("e", "k", "test-model")
    report = LimitReport(request_rate=10, pause=500, pause_reason="Slow down.", learned_rate=4.5)
    limits.take(limit_id, "a" * 32, report)
    shown = show(invoke, "n")
    first, second = shown["workers"]
    assert (first["label"], first["claimed"], first["learned_rate"]) == ("host:a", 1, 4.5)
    assert (second["label"], second["claimed"], second["learned_rate"]) == ("host:b", 0, None)
    [limit] = shown["limits"]
    assert (limit["requests_per_minute"], limit["pause_reason"]) == (600, "Slow down.")
    text = invoke("batch", "show", "n").out
    for part in ("600 requests a minute", "Slow down.", "host:a", "host:b", "aaaaaaaa", "4.5"):
        assert part in text


def test_show_watch_of_a_finished_batch_prints_it_once(
    invoke: Invoke, leave: Callable[..., None], database_url: str
) -> None:
    leave("One")
    assert invoke("batch", "work", "n").code == 0
    done = invoke("batch", "show", "n", "--watch", "--json")
    assert done.code == 0
    [line] = done.out.splitlines()
    assert json.loads(line)["states"]["answered"] == 1
    assert count_records(database_url) == 1


def test_max_cost_stays_until_another_is_given(
    leave: Callable[..., None], batches: Batches, tmp_path: Path
) -> None:
    (tmp_path / "prices.toml").write_text(PRICE)
    leave("One", options=("--max-cost", "0.5"))
    leave("One")
    assert batches.get("n").max_cost_usd == 0.5
    leave("One", options=("--max-cost", "2"))
    assert batches.get("n").max_cost_usd == 2
