import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from qacli.turns import Gate, Turns

TIMEOUT = 10


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[], None]], threading.Thread]]:
    """Starts threads; all of them have ended at the end."""
    with ExitStack() as stack:

        def started(target: Callable[[], None]) -> threading.Thread:
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            stack.callback(ended, thread)
            return thread

        yield started


def ended(thread: threading.Thread) -> None:
    thread.join(TIMEOUT)
    assert not thread.is_alive()


class Steps:
    """Threads that wait at a gate each, and how many of them are in their turn."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.gates: dict[str, Gate] = {}
        self.order: list[str] = []
        self.arrived = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.went_on = threading.Semaphore(0)

    def one(self, name: str) -> Callable[[], None]:
        """A thread that stays in its turn until it is told to go on."""

        def run() -> None:
            with self.turns.taken():
                gate = self.gates[name] = Gate(self.turns)
                self.arrived.release()
                gate.wait()
                self.order.append(name)
                self.went_on.release()
                assert self.go_on.wait(TIMEOUT)

        return run


def test_those_that_are_let_go_on_do_so_one_at_a_time_and_in_order(
    turns: Turns, start: Callable[[Callable[[], None]], threading.Thread]
) -> None:
    steps, names = Steps(turns), [str(n) for n in range(20)]
    for name in names:
        start(steps.one(name))
        assert steps.arrived.acquire(timeout=TIMEOUT)
    for name in names:
        steps.gates[name].open()
    assert steps.went_on.acquire(timeout=TIMEOUT)
    assert not steps.went_on.acquire(timeout=0.1), "another one did not wait for its turn"
    steps.go_on.set()
    for _ in names[1:]:
        assert steps.went_on.acquire(timeout=TIMEOUT)
    assert steps.order == names


def test_whoever_gives_the_turn_away_holds_nobody_up(
    turns: Turns, start: Callable[[Callable[[], None]], threading.Thread]
) -> None:
    passed = threading.Event()

    def first() -> None:
        with turns.taken():
            turns.take()
            other = start(second)
            assert not passed.wait(0.1)
            turns.give()
            assert passed.wait(TIMEOUT)
            ended(other)

    def second() -> None:
        with turns.taken():
            turns.take()
            passed.set()

    start(first)


def test_an_error_gives_the_turn_away(turns: Turns) -> None:
    def failing() -> None:
        with turns.taken():
            turns.take()
            raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        failing()
    with turns.taken():
        turns.take()  # would wait for ever


def test_the_turn_is_taken_once_however_often_it_is_asked_for(turns: Turns) -> None:
    with turns.taken():
        turns.take()
        turns.take()


def test_who_takes_no_turns_waits_for_no_turn(
    turns: Turns, start: Callable[[Callable[[], None]], threading.Thread]
) -> None:
    gone = threading.Event()
    gates: list[Gate] = []
    made = threading.Event()

    def other() -> None:
        turns.take()
        gates.append(Gate(turns))
        made.set()
        gates[0].wait()
        assert not turns.are_taken
        gone.set()

    with turns.taken():
        turns.take()
        start(other)
        assert made.wait(TIMEOUT)
        gates[0].open()
        assert gone.wait(TIMEOUT)
