"""`qa batch` beside other tools that ask many questions, on one provider.

The other tools are bespokelabs-curator, the method of the parallel processor of OpenAI's cookbook
(`peers/ask_file_paced.py`), and `xargs -P` with `llm`. Each asks with 200 requests in flight, but
for `llm`, which needs a process for each question, so that more than a few processes only wait for
the processor. Three runs: without faults; with 3 % of the requests refused at random
(`Retry-After: 1`); and killed in the middle, then run again.

`lost` are the answers that the provider gave before the kill and the tool has not stored; `again`
the requests of both runs beyond one for each question. A refused request is no answer.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Command, Ended, Row, Unusable
from benchmarks.setting import KEY, MODEL, Bench, Provider, clean_environment, llm, provider

JOBS = 200
LLM_JOBS = 8
FEW = 1_000
LATENCY = 0.1
PEERS = Path(__file__).parent / "peers"
REFUSALS = ("--fail-rate", "0.03", "--fail-with", "status=429 retry_after=1")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that asks the questions of a file.

    Attributes:
        name: Its name in the table.
        questions: The number of questions that it gets.
        start: Returns the command for a provider, a file and an empty directory.
        stored: Returns the number of answers in that directory.
        env: The environment of the process.
        pauses: A refused request makes it pause all requests for 15 s, so that a run with refusals
            gets few questions.
    """

    name: str
    questions: int
    start: Callable[[Provider, Path, Path], Command]
    stored: Callable[[Path], int]
    env: dict[str, str] = field(default_factory=dict)
    pauses: bool = False


def run(bench: Bench) -> Iterator[Row]:
    """Compare the tools; one run each, since each takes long."""
    tools = list(_tools(bench))
    few = [replace(tool, questions=FEW) if tool.pauses else tool for tool in tools]
    for name, measured, options in (("no faults", tools, ()), ("3 % refused", few, REFUSALS)):
        costs = {tool.name: _measure(bench, tool, options) for tool in measured}
        ours = costs["qa batch"]
        for tool in measured:
            ended, stored = costs[tool.name]
            seconds = ended.seconds / tool.questions * 1000
            lacks = tool.questions - stored
            yield Row(
                f"{name}, {tool.name}: seconds of qa batch / its seconds, for 1,000 questions",
                f"{seconds:.2f} s, {ended.cpu / tool.questions * 1000:.2f} s of CPU, "
                f"{ended.peak:.0f} MiB; {lacks} of {tool.questions:,} without an answer",
                [ours[0].seconds / tools[0].questions * 1000 / seconds],
                1.0,
            )
    for tool in tools:
        lost, again = _kill(bench, tool)
        yield Row(
            f"killed in the middle and run again, {tool.name}: requests again / in flight",
            f"{lost:,} answers lost, {again:,} of {tool.questions:,} asked again",
            [again / JOBS],
            1.0,
        )


def _tools(bench: Bench) -> Iterator[Tool]:
    many = bench.size(1_000, 20_000)

    def script(python: str | Path, name: str) -> Callable[[Provider, Path, Path], Command]:
        return lambda there, file, home: (
            *(python, PEERS / name, there.base_url, MODEL),
            *(file, home / "answers.jsonl", str(JOBS)),
        )

    yield Tool("qa batch", many, _start_qa, _lines, clean_environment())
    paced = script(sys.executable, "ask_file_paced.py")
    env = clean_environment() | {"OPENAI_API_KEY": KEY}
    yield Tool("the cookbook's method", many, paced, _lines, env, pauses=True)
    python, env = _install_curator(bench)
    yield Tool("curator", many, script(python, "ask_file_curator.py"), _curated, env)
    installed = llm(bench)

    def start_llm(there: Provider, file: Path, home: Path) -> Command:
        env = installed.home(bench, there).env
        each = f"{shlex.quote(str(installed.path / 'bin' / 'llm'))} -m {MODEL} --no-stream --no-log"
        # Its history is off: processes that create it at the same time fail.
        command = f"xargs -P {LLM_JOBS} -d '\\n' -I{{}} {each} {{}} < {shlex.quote(str(file))}"
        path = f"LLM_USER_PATH={shlex.quote(env['LLM_USER_PATH'])}"
        return ("sh", "-c", f"{path} {command} > {shlex.quote(str(home / 'answers.jsonl'))}; true")

    yield Tool("xargs with llm", bench.size(40, 100), start_llm, _lines, installed.env)


def _start_qa(there: Provider, file: Path, home: Path) -> Command:
    settings = {
        "QA_CONFIG": home / "config.toml",
        "QA_DATA_DIR": home,
        "QA_MODEL": MODEL,
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": there.base_url,
    }
    qa = Path(sys.executable).with_name("qa")
    variables = [f"{name}={value}" for name, value in settings.items()]
    return ("env", *variables, qa, "batch", file, "-o", home / "answers.jsonl", "-q", "-j", "200")


def _install_curator(bench: Bench) -> tuple[Path, dict[str, str]]:
    """Install curator; return its Python, and an environment in which it needs no network."""
    path, uv = bench.place("curator"), shutil.which("uv")
    if uv is None:
        raise Unusable("uv is needed, to install curator.")
    there: tuple[str | Path, ...] = (uv, "-q", "--directory", path)
    measure.run([*there, "venv", "--clear", "--python", sys.executable, path], dict(os.environ))
    into = ("--compile-bytecode", "--python", path / "bin" / "python")
    install = [*there, "pip", "install", *into, "bespokelabs-curator"]
    measure.run(install, dict(os.environ), limit=900)
    tokenizers = next(path.glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers"))
    return path / "bin" / "python", clean_environment() | {
        "OPENAI_API_KEY": KEY,
        "TIKTOKEN_CACHE_DIR": str(tokenizers),
        "TELEMETRY_ENABLED": "0",
        "CURATOR_VIEWER": "0",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
    }


def _lines(home: Path) -> int:
    path = home / "answers.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _curated(home: Path) -> int:
    """Count the answers in the files of curator's cache, which it reads when it is run again."""
    answers = 0
    for path in home.glob("cache/*/responses_*.jsonl"):
        for line in path.read_text().splitlines():
            answers += json.loads(line).get("response_message") is not None
    return answers


def _env(tool: Tool, home: Path) -> dict[str, str]:
    return tool.env | {"CURATOR_CACHE_DIR": str(home / "cache")}


def _measure(bench: Bench, tool: Tool, options: tuple[str, ...]) -> tuple[Ended, int]:
    """Run a tool to its end; return its usage, and the number of answers that it has stored."""
    home = bench.place("home")
    with provider(bench, "--latency", str(LATENCY), *options) as there:
        command = tool.start(there, bench.questions(tool.questions), home)
        ended = measure.run(command, _env(tool, home), limit=1800)
    return ended, tool.stored(home)


def _kill(bench: Bench, tool: Tool) -> tuple[int, int]:
    """Kill a tool in the middle and run it again; return the answers lost, and asked again."""
    home, file = bench.place("home"), bench.questions(tool.questions)
    log = home / "asked"
    with provider(bench, "--latency", str(LATENCY), "--log", str(log)) as there:
        command = tool.start(there, file, home)
        with (home / "errors").open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603
                command,
                env=_env(tool, home),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        measure.until(600, lambda: _logged(log) >= tool.questions // 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(10 * LATENCY)
        answered = _logged(log)
        stored = tool.stored(home)
        measure.run(command, _env(tool, home), limit=1800)
        asked = _logged(log)
    return max(answered - stored, 0), asked - tool.questions


def _logged(log: Path) -> int:
    """Return the number of questions that the provider has got."""
    return log.read_bytes().count(b"\n") if log.exists() else 0
