import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from random import Random
from time import sleep

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


def goes_on(turns: Turns) -> None:
    """Wait for the turn, for ever where it has been lost."""
    with turns.taken():
        turns.take()


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


def test_an_error_gives_the_turn_away(
    turns: Turns, start: Callable[[Callable[[], None]], threading.Thread]
) -> None:
    def failing() -> None:
        with turns.taken():
            turns.take()
            raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        failing()
    start(lambda: goes_on(turns))


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


def test_taking_turns_within_taking_turns_goes_on_outside(turns: Turns) -> None:
    with turns.taken():
        with turns.taken():
            turns.take()
        assert turns.are_taken
        turns.take()
    assert not turns.are_taken


def test_a_turn_that_falls_to_one_that_takes_none_goes_to_the_next(
    turns: Turns, start: Callable[[Callable[[], None]], threading.Thread]
) -> None:
    with turns.taken():
        gate = Gate(turns)
    gate.open()
    gate.wait()  # outside: nothing would ever end this thread's turn
    start(lambda: goes_on(turns))


THREADS, STEPS = 60, 60


class Crowd:
    """Threads that do whatever one can do about turns, and see that each is alone in its own."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.gates: SimpleQueue[Gate | None] = SimpleQueue()
        self.begin = threading.Barrier(THREADS)
        self.in_turn = 0
        self.wrong: list[int] = []

    def enter(self) -> None:
        self.in_turn += 1
        sleep(0)  # whoever else is in its turn goes on now
        if self.in_turn != 1:
            self.wrong.append(self.in_turn)

    def leave(self) -> None:
        if self.in_turn != 1:
            self.wrong.append(self.in_turn)
        self.in_turn -= 1

    def one(self, seed: int) -> Callable[[], None]:
        """A thread that does some of it, in an order of its own."""
        rng = Random(seed)

        def run() -> None:
            self.begin.wait(TIMEOUT)
            for _ in range(STEPS // 10):
                self.outside(rng)
                with self.turns.taken():
                    has = False
                    for _ in range(rng.randrange(10)):
                        has = self.step(rng, has=has)
                    if has:
                        self.leave()

        return run

    def outside(self, rng: Random) -> None:
        if rng.random() < 0.5:
            gate = Gate(self.turns)
            self.gates.put(gate)
            gate.wait()

    def step(self, rng: Random, *, has: bool) -> bool:
        what = rng.randrange(4)
        if what == 0:
            self.turns.take()
            if not has:
                self.enter()
            return True
        if has:
            self.leave()
        if what == 1:
            self.turns.give()
            return False
        gate = Gate(self.turns)
        if what == 2:
            gate.open()  # it is open before it is waited at
        else:
            self.gates.put(gate)
        gate.wait()
        self.enter()
        return True

    def open_gates(self) -> None:
        """Open what comes, until there is no more."""
        while (gate := self.gates.get()) is not None:
            gate.open()


def test_no_turn_is_lost_and_none_is_shared_however_they_come(
    turns: Turns, start: Callable[[Callable[[], None]], threading.Thread]
) -> None:
    crowd = Crowd(turns)
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    openers = [threading.Thread(target=crowd.open_gates, daemon=True) for _ in range(3)]
    threads = [threading.Thread(target=crowd.one(n), daemon=True) for n in range(THREADS)]
    try:
        for thread in [*openers, *threads]:
            thread.start()
        for thread in threads:
            ended(thread)
    finally:
        sys.setswitchinterval(often)
        for _ in openers:
            crowd.gates.put(None)
    for thread in openers:
        ended(thread)
    assert crowd.wrong == []
    start(lambda: goes_on(turns))
