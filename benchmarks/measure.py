"""Run and time processes, and compare the figures with their targets."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import comb
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from tempfile import TemporaryFile

Command = Sequence[str | Path]
ONE_SIDE = 0.025
"""The probability of each side of a 95 % confidence interval."""


class Unusable(Exception):
    """A run that failed, so that its time means nothing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended.

    Attributes:
        seconds: The time from the start to the end.
        first_byte: The seconds until the first byte on stdout; None without output.
        cpu: The seconds of processor time, of the process and of the kernel for it.
        peak: The maximum memory in MiB.
        output: The bytes on stdout.
    """

    seconds: float
    first_byte: float | None
    cpu: float
    peak: float
    output: bytes


def run(
    command: Command, env: Mapping[str, str], *, limit: float = 60, into: Path | None = None
) -> Ended:
    """Run a program to its end.

    Args:
        command: The program and its arguments.
        env: Its whole environment.
        limit: Seconds after which it is killed.
        into: The file for its output; None keeps the output in memory.

    Raises:
        Unusable: It failed or was killed.
    """
    with ExitStack() as files:
        errors = files.enter_context(TemporaryFile())
        target = files.enter_context(into.open("wb")) if into else subprocess.PIPE
        start = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the programs are named in these files
            command,
            env=env,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=errors,
        )
        # By its id: `process.kill` may reap the process, and its usage would be lost.
        watchdog = threading.Timer(limit, os.kill, (process.pid, signal.SIGKILL))
        watchdog.start()
        output, first_byte = b"", None
        if process.stdout is not None:
            with process.stdout as stdout:
                output = stdout.read(1) or b""
                first_byte = time.perf_counter() - start if output else None
                output += stdout.readall()  # type: ignore[attr-defined]
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            message = errors.read().decode(errors="replace")[-2000:]
            raise Unusable(f"{command} ended with {process.returncode}: {message}")
    cpu = usage.ru_utime + usage.ru_stime
    return Ended(seconds, first_byte, cpu, usage.ru_maxrss / 1024, output)


@contextmanager
def background(
    command: Command, env: Mapping[str, str], log: Path, *, grace: float = 20
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in the background; at the end send SIGTERM, and SIGKILL if it does not end.

    Its stderr is written to `log`.
    """
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def refuse_own_peak(ended: Ended) -> None:
    """Check that a process's peak is its own: Linux counts the memory of this process at the fork.

    Raises:
        Unusable: This process has used as much memory.
    """
    own = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    if ended.peak <= own:
        raise Unusable(f"The peak of {ended.peak:.0f} MiB may be of the benchmark itself.")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two series of figures measured alternately, so that a load on the machine affects both."""

    ours: list[float]
    peers: list[float]

    @property
    def ratios(self) -> list[float]:
        """The ratio in each turn."""
        return [ours / peer for ours, peer in zip(self.ours, self.peers, strict=True)]


def paired(runs: int, ours: Callable[[], float], peer: Callable[[], float]) -> Pairs:
    """Measure two things alternately; the first of several rounds does not count."""
    pairs = Pairs([], [])
    for turn in range(-1, runs):
        order = [(ours, pairs.ours), (peer, pairs.peers)]
        for measure, figures in order if turn % 2 else reversed(order):
            figure = measure()
            if turn >= 0:
                figures.append(figure)
    return pairs


@dataclass(frozen=True, slots=True)
class Row:
    """A claim with its measured figures.

    Attributes:
        claim: The claim and its peer.
        measured: The medians in their own units.
        figures: The figure of each run, to compare with the target.
        target: The limit for the median of the figures.
        most: True if the target is a maximum, False if it is a minimum.
        unit: The unit of the figures; empty for a ratio.
        beyond_noise: The target is missed only if the median is beyond it for certain: the whole
            95 % confidence interval of the median.
    """

    claim: str
    measured: str
    figures: Sequence[float]
    target: float
    most: bool = True
    unit: str = ""
    beyond_noise: bool = False

    @classmethod
    def of_pairs(  # noqa: PLR0913 - a row's parts, by name
        cls,
        claim: str,
        pairs: Pairs,
        target: float,
        *,
        most: bool = True,
        scale: float = 1000,
        unit: str = "ms",
    ) -> "Row":
        """Return a row of ratios against a peer; the shown medians are multiplied by `scale`."""
        ours, peer = median(pairs.ours) * scale, median(pairs.peers) * scale
        return cls(claim, f"{ours:,.0f} : {peer:,.0f} {unit}", pairs.ratios, target, most)

    @property
    def met(self) -> bool:
        """True if the median reaches the target."""
        if self.beyond_noise:
            low, high = median_interval(self.figures)
            figure = low if self.most else high
        else:
            figure = median(self.figures)
        return figure <= self.target if self.most else figure >= self.target

    def cells(self) -> list[str]:
        """The row of the table."""
        figure, low, high = median(self.figures), min(self.figures), max(self.figures)
        noise = f" ({self._shown(low)} to {self._shown(high)})" if len(self.figures) > 1 else ""
        return [
            self.claim,
            self.measured,
            f"**{self._shown(figure)}**{self.unit and ' ' + self.unit}{noise}",
            f"{'≤' if self.most else '≥'} {self.target:g}{self.unit and ' ' + self.unit}",
            str(len(self.figures)),
            "yes" if self.met else "**no**",
        ]

    def _shown(self, figure: float) -> str:
        return f"{figure:.2f}" if self.target < 10 else f"{figure:,.1f}"  # noqa: PLR2004


def median_interval(figures: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by the sign test.

    With fewer than six figures it is the whole range of them, which is a smaller confidence.
    """
    ordered, number = sorted(figures), len(figures)
    left_out, probability = 0, 0.5**number
    while probability + comb(number, left_out + 1) * 0.5**number <= ONE_SIDE:
        left_out += 1
        probability += comb(number, left_out) * 0.5**number
    return ordered[left_out], ordered[-1 - left_out]


def until(seconds: float, ready: Callable[[], bool]) -> None:
    """Wait until a condition is true.

    Raises:
        Unusable: It is not true within these seconds.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if ready():
                return
        time.sleep(0.05)
    raise Unusable(f"Not ready after {seconds:g} seconds.")
