"""A JSON schema from somebody else, tried in a process that can be ended.

Such a schema may take for ever: a pattern that backtracks, references that double with each step.
Nothing ends that in a thread, and a pattern holds up all other threads, too. A process ends when
its time is up, and one that is idle waits for the next: to start one takes longer than to check.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qacli.errors import Busy, InvalidRequest, UnfitAnswer
from qacli.json_schema import AnswerSchema

SECONDS = 1.0
"""Of the processor, for one schema and one answer."""

MEMORY = 512 * 1024**2
MOST = 8
"""Processes at a time."""

KEPT = 2
"""Idle ones."""

PATIENCE = 10.0
"""Seconds to wait for one of them, where nothing has been asked yet."""

START = "from qacli.json_schema_sandbox import serve; serve()"

_turns = threading.BoundedSemaphore(MOST)
idle: list[subprocess.Popen[str]] = []
"""Processes that wait for the next."""


@dataclass(frozen=True, slots=True)
class SandboxedSchema:
    """A schema that answers are checked by."""

    schema: dict[str, Any]

    def validate_schema(self) -> None:
        """See that it is a schema.

        Raises:
            InvalidRequest: It is none, or takes too long; as `AnswerSchema`.
            Busy: Too many are being looked at.
        """
        if not _turns.acquire(timeout=PATIENCE):
            raise Busy("Too many schemas are being checked.", "Ask again in a moment.")
        try:
            said = _run(self.schema, None)
        except ValueError as error:
            raise InvalidRequest(f"The schema is not JSON: {error}.", "Correct it.") from None
        except OSError as error:
            raise Busy(f"No schema can be checked: {error.strerror}.", "Ask again later.") from None
        finally:
            _turns.release()
        if said is None:
            raise InvalidRequest("The schema takes too long to check.", "Make it simpler.")
        if said:
            raise InvalidRequest(*said)

    def check(self, answer: str) -> None:
        """See that an answer fits.

        Raises:
            UnfitAnswer: It does not, or that takes too long to find out.
        """
        try:
            with _turns:
                said = _run(self.schema, answer)
        except (OSError, ValueError) as error:
            # An answer that came must be kept, also where no process can be started.
            raise UnfitAnswer(f"The answer cannot be checked: {error}.", "Ask again.") from None
        if said is None:
            raise UnfitAnswer(
                "The answer does not fit the schema: it takes too long to see whether it does.",
                "Make the schema simpler.",
                fatal=True,
            )
        if said:
            raise UnfitAnswer(*said)


def _run(schema: dict[str, Any], answer: str | None) -> list[str] | None:
    """What is wrong, in two sentences or none; None where the process has ended over it."""
    job = json.dumps([schema, answer], allow_nan=False) + "\n"
    while True:
        try:
            process, was_idle = idle.pop(), True
        except IndexError:
            process, was_idle = _start(), False
        line = ""
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
        with suppress(BrokenPipeError):
            process.stdin.write(job)
            process.stdin.flush()
            line = process.stdout.readline()
        if line:
            if len(idle) < KEPT:
                idle.append(process)
            else:
                process.communicate()
            said: list[str] = json.loads(line)
            return said
        process.kill()
        with suppress(BrokenPipeError):
            process.communicate()
        # One that waited may have been ended by anything; a new one only by what it was told.
        if not was_idle or process.returncode == -signal.SIGPROF:
            return None


def _start() -> subprocess.Popen[str]:
    # Safe beside threads, as every subprocess without preexec_fn: no Python runs before the exec.
    return subprocess.Popen(  # noqa: S603 - ourselves
        # -P: modules come from where Python is installed, never from the working directory, which
        # can be a cloned project.
        [sys.executable, "-P", "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def serve() -> None:
    """Try what comes on standard input, a line each, until there is no more."""
    os.nice(10)  # whoever waits for an answer without a schema goes first
    # They are for the server, which has answers to check until it ends, and this with it.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    with suppress(ValueError, OSError):  # a limit that is lower already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _try({}, "{}")  # loads what it takes, which is not on anybody's time
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
        said = json.dumps(_try(*json.loads(line)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(said + "\n")
        sys.stdout.flush()


def _try(schema: dict[str, Any], answer: str | None) -> list[str]:
    try:
        structure = AnswerSchema(schema)
        if answer is not None:
            structure.check(answer)
    except (InvalidRequest, UnfitAnswer) as error:
        return [error.what, error.todo]
    except Exception as error:  # noqa: BLE001 - an address that is none, say
        return [f"The schema cannot be used ({type(error).__name__}).", "Correct it."]
    return []
