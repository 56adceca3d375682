"""Make the pictures of the web page in README: `uv run --group dev python docs/screenshots.py`.

A fixed history is stored in a database of its own, and the provider of the tests answers, so that
every run shows the same. It needs a Chromium, and uses the fonts of the machine.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread

from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import make_server

from qacli.config.settings import Settings
from qacli.db import migrate
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status, now
from qacli.web.app import create_app

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "support"))

from fake_provider import FakeProvider, Reply  # noqa: E402 - found by the line above

MODEL = "gpt-6-luna"
WINDOW = {"width": 1080, "height": 720}

MERGE = """Sort them by where they start, then either stretch the last one or begin a new one:

```python
def merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:  # they touch
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
```

Sorting costs **O(n log n)** and the pass over it O(n). Intervals that only touch, such as
`(1, 3)` and `(3, 5)`, become one; use `<` instead of `<=` to keep them apart.
"""

HALF_OPEN = """Then two that only touch do not overlap, so compare with `<`:

| given | closed | half open |
| :-- | :-- | :-- |
| `(1, 3)`, `(3, 5)` | `(1, 5)` | `(1, 3)`, `(3, 5)` |
| `(1, 4)`, `(2, 5)` | `(1, 5)` | `(1, 5)` |

Nothing else changes.
"""

LISBON = "**Day one** is for Alfama: the castle early, then downhill to the river."

HISTORY: tuple[tuple[float, str, str | None, list[str]], ...] = (
    (90, "What is a keyset, in pagination?", "A page is found by *where the last one ended*.", []),
    (70, "Two days in Lisbon: what to see? As a table.", LISBON, ["travel"]),
    (52, "Translate to Dutch: the early bird catches the worm", "De morgenstond heeft goud.", []),
    (30, "Which of these commit messages is the clearest, and why?", None, ["review"]),
    (26, "Why does a bicycle stay upright? Five sentences.", "Mostly because it steers.", []),
    (6, "Summarise the minutes of Monday", "Three decisions, one postponed.", ["work"]),
    (2, "Name five birds that can be seen in a city in winter", "1. Great tit\n2. Robin", []),
)


def fill(store: Store) -> int:
    """Store the history in an empty store; return the id of the record to show."""
    start = now()

    def keep(hours: float, question: str, answer: str | None, tags: list[str], **more: int) -> int:
        created_at = start - timedelta(hours=hours)
        outcome = Outcome(
            status=Status.ANSWERED if answer else Status.FAILED,
            answer=answer,
            error=None if answer else "provider-timeout: No answer came within 600 s.",
            answered_at=created_at + timedelta(seconds=2),
            latency_ms=1900 + 13 * len(question),
            model=MODEL if answer else None,
            finish_reason="stop" if answer else None,
            prompt_tokens=len(question) // 4 if answer else None,
            completion_tokens=len(answer) // 4 if answer else None,
            cost_usd=len(answer) * 1e-6 if answer else None,
        )
        ask = Question(
            question=question,
            params={"model": MODEL},
            tags=tags,
            created_at=created_at,
            **more,
        )
        return store.upsert(ask, outcome)

    for record in HISTORY:
        keep(*record)
    merge = "Write a Python function that merges overlapping intervals."
    first = keep(0.4, merge, MERGE, ["python"])
    return keep(0.05, "And if they are half open?", HALF_OPEN, [], follows_id=first)


@contextmanager
def served(directory: Path, provider: FakeProvider, **changes: str) -> Iterator[tuple[str, Store]]:
    """Run a server on an empty history; yield its address and the store."""
    settings = Settings(
        api_key="sk-none", base_url=provider.base_url, model=MODEL, data_dir=directory, **changes
    )
    store = Store(settings.database)
    with store.migrating() as connection:
        migrate.upgrade(connection)
    server = make_server("127.0.0.1", 0, create_app(settings), threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.port}", store
    finally:
        server.shutdown()
        thread.join()
        store.close()


def shoot(browser: Browser, address: str, to: Path, scheme: str) -> None:
    """Take the picture of a page."""
    page = browser.new_page(viewport=WINDOW, color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    page.screenshot(path=to)
    page.close()


def main() -> None:
    """Make both pictures, next to this file."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory() as directory,
        FakeProvider(default=Reply()) as provider,
        served(Path(directory), provider) as (address, store),
        sync_playwright() as playwright,
    ):
        record_id = fill(store)
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            to = ROOT / "docs" / f"page-{scheme}.png"
            shoot(browser, f"{address}/page/{record_id}", to, scheme)
        browser.close()


if __name__ == "__main__":
    main()
