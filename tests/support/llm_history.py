"""Make a history with the real `llm`, in an environment that has it:

    python llm_history.py whole|continued BASE_URL API_KEY

`LLM_USER_PATH` is its directory. All commands run in one process, because each start of llm takes
seconds.
"""

import json
import os
import sys
from pathlib import Path

# llm's own command line is made with click, which its environment has.
from click.testing import CliRunner
from llm.cli import cli

FUNCTION = "def multiply(a: int, b: int) -> int:\n    return a * b\n"
CALL = """multiply [[times=1 tool=multiply arguments='{"a": 6, "b": 7}']]"""
MODEL = """
- model_id: fake
  model_name: fake-large
  api_base: {base_url}
  api_key_name: fake
  supports_schema: true
  supports_tools: true
  vision: true
"""


def run(*arguments: str, data: bytes = b"") -> None:
    result = CliRunner().invoke(cli, arguments, input=data, catch_exceptions=False)
    if result.exit_code:
        sys.exit(f"llm {arguments} ended with {result.exit_code}: {result.output}")


def main(what: str, base_url: str, api_key: str) -> None:
    user = Path(os.environ["LLM_USER_PATH"])
    (user / "extra-openai-models.yaml").write_text(MODEL.format(base_url=base_url))
    (user / "keys.json").write_text(json.dumps({"fake": api_key}))
    if what == "continued":
        run("-c", "later")
        run("-m", "fake", "a new one")
        return
    image, fragment = user / "image.png", user / "fragment.txt"
    image.write_bytes(b"\x89PNG\r\n\x1a\nfile")
    fragment.write_text("The text of a fragment.")
    ask = ("-m", "fake")
    run(*ask, "one", "-s", "Be brief.", "-o", "temperature", "0.5")
    run("-c", "two")
    run(*ask, "look", "-a", str(image))
    run(*ask, "piped", "-a", "-", data=b"\x89PNG\r\n\x1a\npiped")
    run(*ask, """fields [[text='{"name": "x"}']]""", "--schema", "name str")
    run(*ask, "summarise", "-f", str(fragment), "--sf", str(fragment))
    run(*ask, CALL, "--functions", FUNCTION)
    run("-c", "and now")


if __name__ == "__main__":
    main(*sys.argv[1:])
