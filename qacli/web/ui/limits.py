"""Processor time limits for the rendering of one answer and of one page.

Answers come from models and imports, and may be made to be slow: a Markdown parser takes much
longer for many `[` or `*a_` than for other text of the same length. The parser and the highlighter
count their steps here, and stop when the time is over.
"""

from time import thread_time

STEPS_PER_CHECK = 4
"""Reading the clock of a thread takes up to a microsecond, and a step of the parser about ten."""


class LimitExceeded(Exception):
    """The text is too expensive to format. It is shown as plain text instead."""


class CpuBudget:
    """Seconds of processor time that the current thread may use.

    Args:
        seconds: The time, from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = thread_time() + seconds
        self._steps = 0

    @property
    def remaining(self) -> float:
        """Seconds that are left; negative when more was used."""
        return self._deadline - thread_time()

    def step(self) -> None:
        """Count a step, and check the time at every few of them.

        Raises:
            LimitExceeded: The time is over.
        """
        self._steps += 1
        if self._steps % STEPS_PER_CHECK == 0:
            self.check()

    def check(self) -> None:
        """Check the time.

        Raises:
            LimitExceeded: The time is over.
        """
        if self.remaining < 0:
            raise LimitExceeded

    def at_most(self, seconds: float) -> "CpuBudget":
        """Return a budget for a part of the work: it ends with this one, or earlier."""
        return CpuBudget(min(seconds, self.remaining))

    def extend(self, seconds: float) -> None:
        """Add time, for work that is done only once in a process."""
        self._deadline += seconds
