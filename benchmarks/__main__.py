"""`python -m benchmarks`: run the benchmarks and write a table of the results."""

import argparse
import importlib
import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from benchmarks.measure import Row
from benchmarks.setting import Bench, bench

NAMES = (
    *("start_bare", "start_history", "start_ask", "start_first_byte", "start_growth"),
    *("completion", "history_scale"),
    *("serve_asks", "serve_reads", "serve_door", "thread_reads"),
    *("moving_export", "moving_import"),
    *("batch_total", "batch_instant", "batch_limit", "batch_refusals", "batch_memory"),
    *("batch_workers", "batch_tools", "batch_api"),
)
RESULTS = Path(__file__).parent / "RESULTS.md"
HEADINGS = ("claim", "measured", "median (min to max)", "target", "runs", "met")


def main() -> int:
    """Run the selected benchmarks; return 0 if every target was met."""
    options = _options()
    if options.list:
        for name in NAMES:
            _say(f"{name:<18}{_claim(name)}", sys.stdout)
        return 0
    started = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    load = os.getloadavg()[0]
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    # A comparison with a commit is no result to keep.
    output: Path | None = options.output or (None if options.against else RESULTS)
    sections = _sections(output)
    met = True
    names = ["commits"] if options.against else options.only or NAMES
    with bench(options.scale, options.against) as workbench:
        for name in names:
            rows, problem, seconds = _run(name, workbench)
            met = met and not problem and all(row.met for row in rows)
            when = f"{started}, load {load:.1f}, `{command}`"
            sections[name] = _section(name, rows, problem, f"{when}, {seconds:.0f} s")
            # Written after each benchmark, because a run takes long and may be stopped.
            if output is not None:
                output.write_text("\n".join([_head(), *sections.values()]))
    if output is not None:
        _say(f"Written to {output}.", sys.stderr)
    return 0 if met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="this one; may be repeated")
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    parser.add_argument("--output", type=Path, help="the file of the table (RESULTS.md)")
    parser.add_argument(
        "--against", default="", metavar="COMMIT", help="compare with a commit, or a worktree"
    )
    parser.add_argument("--list", action="store_true", help="name the benchmarks")
    return parser.parse_args()


def _run(name: str, workbench: Bench) -> tuple[list[Row], str, float]:
    """Return the rows of one benchmark, the error that ended it, and the seconds that it took."""
    _say(f"{name} ...", sys.stderr)
    rows: list[Row] = []
    problem, start = "", time.monotonic()
    try:
        for row in importlib.import_module(f"benchmarks.{name}").run(workbench):
            rows.append(row)
            _say("  " + " | ".join(row.cells()), sys.stderr)
    except Exception as error:  # noqa: BLE001 - the other benchmarks still run
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _say(f"  {problem}", sys.stderr)
    return rows, problem, time.monotonic() - start


def _claim(name: str) -> str:
    doc = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
    return doc.partition("\n")[0]


def _sections(path: Path | None) -> dict[str, str]:
    """Return the sections of an earlier page, by the names of their benchmarks."""
    text = path.read_text() if path is not None and path.exists() else ""
    sections = re.findall(r"^## .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    names = [re.search(r"^`(\w+)`, ", section, re.MULTILINE) for section in sections]
    pairs = zip(names, sections, strict=True)
    return {name[1]: section.rstrip() + "\n" for name, section in pairs if name}


def _section(name: str, rows: list[Row], problem: str, circumstances: str) -> str:
    lines = [f"## {_claim(name)}", "", f"`{name}`, {circumstances}", ""]
    if rows:
        table = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
        lines += [f"| {' | '.join(cells)} |" for cells in table]
    if problem:
        lines += [f"No figure: {problem}"]
    return "\n".join([*lines, ""])


def _head() -> str:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return (
        "# Results of the benchmarks\n\n"
        f"On {machine}, Python {platform.python_version()}. Each section has the time of its run, "
        "the load of the machine at its start, the command and the seconds that it took.\n"
        "Each figure is the median of its runs; the smallest and the largest tell how noisy the "
        "machine was.\n"
    )


def _say(text: str, stream: TextIO) -> None:
    stream.write(text + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
