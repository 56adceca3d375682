"""aider's `ask` mode; it has no tools and no structured output."""

import os
import tempfile
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["AIDER_ANALYTICS"] = "false"
os.chdir(tempfile.mkdtemp())
os.environ["HOME"] = str(Path.cwd())

from aider.coders import Coder  # noqa: E402 - it reads the environment when it is imported
from aider.io import InputOutput  # noqa: E402
from aider.models import Model  # noqa: E402
from cases import ERROR, Json, run_cases  # noqa: E402


def cases(base_url: str, key: str) -> Json:
    os.environ["OPENAI_API_BASE"] = base_url
    os.environ["OPENAI_API_KEY"] = key

    def ask(text: str, *, streamed: bool) -> str:
        console = InputOutput(pretty=False, yes=True)
        coder = Coder.create(
            main_model=Model("openai/m"),
            edit_format="ask",
            io=console,
            stream=streamed,
            use_git=False,
        )
        answer = coder.run(text)
        if console.num_error_outputs:
            raise RuntimeError("aider has printed an error")
        return answer

    return {
        "plain": lambda: ask("Who?", streamed=False),
        "streamed": lambda: ask("Who, streamed?", streamed=True),
        "error": lambda: ask(ERROR, streamed=False),
    }


run_cases(cases)
