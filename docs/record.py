"""Record the terminal sessions in README and docs/: `uv run --group dev python docs/record.py`.

`qa` runs in a real terminal (tmux 3 or newer) against the provider of the tests, and each screen
becomes `docs/NAME.svg`. The answers are fixed and the times are replaced, so that every run gives
the same pictures.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status, now

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "support"))

from fake_provider import FakeProvider, Reply  # noqa: E402 - found by the line above
from fake_provider.behaviour import Request  # noqa: E402

WIDTH, HEIGHT = 88, 60
MODEL = "gpt-6-luna"
PROMPT = "$ "

FIRST = "How do I merge overlapping intervals in Python?"
SECOND = "And if they arrive one by one?"
THIRD = "Write a test for it"
ANSWERS = {
    FIRST: """Sort them by their start. Each one then **extends** the last one or begins a new one:

```python
def merge(intervals):
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
```

Sorting costs *O(n log n)*, the loop *O(n)*. Intervals that only touch are merged; write `<`
instead of `<=` to keep them apart.
""",
    SECOND: """Keep the merged intervals sorted, and find the place with `bisect`:

- *O(log n)* to find the place of the new one,
- then merge it with every neighbour that it overlaps.
""",
    THIRD: """```python
def test_merge():
    assert merge([(4, 5), (1, 3), (2, 4)]) == [(1, 5)]
    assert merge([]) == []
```
""",
}

# The earlier history: question, answer, days ago, model, tags.
EARLIER = (
    ("Three days in Lisbon with children?", "Begin in Alfama, early.", 6, MODEL, ["travel"]),
    ("What does HTTP 409 mean?", "A conflict with the state of the resource.", 4, MODEL, []),
    (
        "Merge two sorted lists, in Rust",
        "Walk both; take the smaller one.",
        3,
        "gpt-6.1-sol",
        ["rust"],
    ),
    ("Why is the sky blue?", "Short waves are scattered most.", 2, MODEL, []),
)

SCENES = {
    "ask": (f'qa ask "{FIRST}"',),
    "follow-up": (f'qa ask -c "{SECOND}"', f'qa ask -c "{THIRD}"'),
    "history": (
        "qa list",
        "qa list --search 'merging intervals?' --since 2d",
        "qa tag last +python +good",
        "qa stats --by model",
    ),
    "thread": ("qa show -2 --thread",),
}

CLOCK = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+"), "2026-11-24 09:41:00 UTC"),
    (re.compile(r"(?<=· )\d+\.\d s(?= )"), "1.8 s"),
    (re.compile(r"\d+\.\d(?=  █)"), "1.8"),
    (re.compile(r"\b(just now|\d+ min ago) *(?=  )"), "just now"),
)
"""Texts that differ from run to run, and their replacements."""

THEME = TerminalTheme(
    (24, 26, 32),
    (214, 217, 224),
    [
        *((60, 64, 75), (240, 113, 120), (152, 195, 121), (229, 192, 123)),
        *((97, 175, 239), (198, 120, 221), (86, 182, 194), (214, 217, 224)),
    ],
    [
        *((110, 116, 130), (255, 139, 146), (173, 219, 140), (255, 214, 148)),
        *((125, 196, 255), (220, 150, 240), (110, 208, 218), (255, 255, 255)),
    ],
)

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""The template of a picture. It uses the fonts of the reader's machine and fetches none."""


@dataclass(frozen=True)
class Session:
    """A shell in a terminal of its own.

    Attributes:
        socket: The socket of the tmux server; each session has a server of its own.
    """

    socket: Path

    def tmux(self, *arguments: str, timeout: float = 60) -> str:
        """Run a command of tmux and return its output."""
        done = subprocess.run(
            ["tmux", "-S", self.socket, "-f", os.devnull, *arguments],
            check=True,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )
        return done.stdout

    def run(self, *commands: str) -> str:
        """Type commands on an empty screen, one after the other; return the screen."""
        self._type("clear")
        self.tmux("clear-history")
        for command in commands:
            self._type(command)
        return self.tmux("capture-pane", "-e", "-N", "-p")

    def _type(self, command: str) -> None:
        self.tmux("send-keys", "-l", command)
        self.tmux("send-keys", "Enter")
        # The shell sends this signal before each prompt; see `shell`.
        self.tmux("wait-for", "prompt")
        self.tmux("run-shell", "sleep 0.3")


@contextmanager
def shell(home: Path, env: dict[str, str]) -> Iterator[Session]:
    """Start a shell with exactly this environment, in a terminal of fixed size."""
    session = Session(home / "tmux")
    prompt = f"tmux -S {session.socket} wait-for -S prompt"
    basic = {"HOME": str(home), "PS1": PROMPT, "PROMPT_COMMAND": prompt}
    command = ["env", "-i", *(f"{name}={value}" for name, value in (basic | env).items())]
    command += ["TERM=tmux-256color", "bash", "--noprofile", "--norc"]
    size = ("-x", str(WIDTH), "-y", str(HEIGHT))
    session.tmux("new-session", "-d", *size, "-c", str(home), *command)
    try:
        session.tmux("wait-for", "prompt")
        yield session
    finally:
        session.tmux("kill-server")


def answer(request: Request) -> Reply:
    """Return the fixed answer to the question."""
    return Reply(text=ANSWERS[request.question], model=MODEL, delay=0.005)


def fill(database: str) -> None:
    """Store the earlier history."""
    store = Store.open(database)
    for question, text, days, model, tags in EARLIER:
        created_at = now() - timedelta(days=days, hours=1)
        outcome = Outcome(
            status=Status.ANSWERED,
            answer=text,
            answered_at=created_at + timedelta(seconds=2),
            latency_ms=1800,
            model=model,
            prompt_tokens=len(question),
            completion_tokens=len(text),
            cost_usd=len(text) * 2e-6,
        )
        store.upsert(
            Question(question=question, params={"model": model}, tags=tags, created_at=created_at),
            outcome,
        )
    store.close()


def draw(screen: str, name: str) -> str:
    """Return the screen as an SVG picture, without the last prompt."""
    for pattern, replacement in CLOCK:
        screen = pattern.sub(replacement, screen)
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    # A line begins with the colours that the one before it ended with.
    for text in AnsiDecoder().decode(screen.rstrip()):
        if text.plain.strip() == PROMPT.strip():
            break
        if text.plain.startswith(PROMPT):
            text.stylize("bold")
        console.print(text, soft_wrap=True)
    svg = console.export_svg(title="", theme=THEME, code_format=SVG, unique_id=f"qa-{name}")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def main() -> None:
    """Record every scene."""
    with (
        # tmux and the shell may still remove their own files while the directory is removed.
        tempfile.TemporaryDirectory(prefix="qa-", ignore_cleanup_errors=True) as directory,
        FakeProvider(default=answer) as provider,
    ):
        home = Path(directory)
        database = f"sqlite:///{home / 'history.db'}"
        fill(database)
        env = {
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": provider.base_url,
            "QA_MODEL": MODEL,
            "QA_CONFIG": str(home / "config.toml"),
            "DATABASE_URL": database,
            "COLORTERM": "truecolor",
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        with shell(home, env) as session:
            for name, commands in SCENES.items():
                picture = ROOT / "docs" / f"{name}.svg"
                picture.write_text(draw(session.run(*commands), name), encoding="utf-8")


if __name__ == "__main__":
    main()
