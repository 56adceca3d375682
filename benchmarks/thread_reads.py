"""A thread of 200 records costs little more than its rows, and its page little more than its HTML.

The rows are read from PostgreSQL by `Store.thread`, as `qa show --thread` does, against one
recursive query by psycopg2. The page has answers with code and tables. Its first paint in Chromium
is compared with that of a file with the same HTML: from the request until there is something to
see.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.request import urlopen

from benchmarks.measure import Row, Unusable, paired
from benchmarks.setting import Bench, Home, answering, database, free_port, postgres, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RECORDS = 200
READS = 10
"""Reads in one figure: one takes some milliseconds."""

ANSWER = """A paragraph with **bold** words, a [link](https://a.example) and `code`.

```python
def area(radius: float) -> float:
    \"\"\"Return the area of a circle.\"\"\"
    return 3.14159 * radius**2  # about
```

| unit | factor |
|---|--:|
| inch | 2.54 |
| foot | 30.48 |

1. First check the units.
2. Then multiply.
"""
THREAD = """
WITH RECURSIVE chain AS (
    SELECT id, follows_id, 1 AS depth FROM question_answer WHERE id = %(last)s
    UNION ALL
    SELECT q.id, q.follows_id, depth + 1 FROM question_answer q, chain WHERE q.id = chain.follows_id
)
SELECT q.* FROM question_answer q JOIN chain USING (id) ORDER BY depth DESC
"""


def run(bench: Bench) -> Iterator[Row]:
    """Measure both."""
    runs = bench.size(10, 20)
    with postgres() as url:
        home = bench.home(database_url=database(url))
        yield _rows(home, runs)
        yield _paint(bench, home, runs)


def _rows(home: Home, runs: int) -> Row:
    import psycopg2

    from qacli.config.database_url import with_driver
    from qacli.db.records import Store
    from qacli.domain import Outcome, Question, Status

    home.qa("migrate")
    url = with_driver(home.database_url) or ""
    with closing(Store.open(url, connections=1)) as store:
        last: int | None = None
        for number in range(RECORDS):
            question = Question(question=f"What is {number}?", follows_id=last)
            last = store.upsert(question, Outcome(status=Status.ANSWERED, answer=ANSWER))
        with closing(psycopg2.connect(home.database_url)) as connection:
            cursor = connection.cursor()

            def ours() -> float:
                start = perf_counter()
                for _ in range(READS):
                    if len(store.thread(RECORDS)) != RECORDS:
                        raise Unusable("The thread is not whole.")
                return (perf_counter() - start) / READS

            def driver() -> float:
                start = perf_counter()
                for _ in range(READS):
                    cursor.execute(THREAD, {"last": RECORDS})
                    if len(cursor.fetchall()) != RECORDS:
                        raise Unusable("The thread is not whole.")
                return (perf_counter() - start) / READS

            pairs = paired(runs, ours, driver)
    what = f"a thread of {RECORDS} from PostgreSQL / one recursive query by the driver"
    return Row.of_pairs(what, pairs, 1.5)


def _paint(bench: Bench, home: Home, runs: int) -> Row:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        raise Unusable("There is no Chromium; Debian's package is chromium.")
    with ExitStack() as stack:
        address = stack.enter_context(serving(home, "--workers", "1"))
        page = f"{address}/page/{RECORDS}"
        directory = bench.place("static")
        with urlopen(page) as response:  # noqa: S310 - an address of this machine
            (directory / "page.html").write_bytes(response.read())
        _copy_static(directory / "static")
        port = free_port()
        files = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
        static = f"http://127.0.0.1:{port}"
        stack.enter_context(
            answering((*files, "--directory", directory), home, static, "/page.html")
        )
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.callback(browser.close)
        turns = (partial(_first_paint, browser, each) for each in (page, f"{static}/page.html"))
        pairs = paired(runs, *turns)
    what = f"first paint of the page of a thread of {RECORDS} / of a file with its HTML"
    return Row.of_pairs(what, pairs, 1.5)


def _copy_static(target: Path) -> None:
    import qacli.web.ui

    shutil.copytree(Path(qacli.web.ui.__file__).parent / "static", target)


def _first_paint(browser: "Browser", address: str) -> float:
    """Return the seconds until the first contentful paint, with an empty cache."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(address)
        script = "() => JSON.stringify(performance.getEntriesByType('paint'))"
        page.wait_for_function("performance.getEntriesByType('paint').length > 1")
        entries = json.loads(page.evaluate(script))
    finally:
        context.close()
    return next(
        float(entry["startTime"]) / 1000
        for entry in entries
        if entry["name"] == "first-contentful-paint"
    )
