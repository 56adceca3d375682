"""The formats of the files that `qa import` reads."""

from enum import StrEnum

JSONL, CSV = "jsonl", "csv"


class Program(StrEnum):
    """A program whose files can be imported."""

    QA = "qa"
    LLM = "llm"
    CHATGPT = "chatgpt"
    CLAUDE = "claude"
    OPENWEBUI = "openwebui"
    SGPT = "sgpt"
    AICHAT = "aichat"
    MODS = "mods"
    CRUSH = "crush"


FORMAT_NAMES = {
    JSONL: "a JSON Lines export of qa",
    CSV: "a CSV export of qa",
    Program.QA: "a history of qa",
    Program.LLM: "a logs database of llm",
    Program.CHATGPT: "an export of ChatGPT",
    Program.CLAUDE: "an export of Claude",
    Program.OPENWEBUI: "an export of Open WebUI",
    Program.SGPT: "a chat of shell-gpt",
    Program.AICHAT: "a file of aichat",
    Program.MODS: "a conversation of mods",
    Program.CRUSH: "a database of crush",
}
"""Each format in a sentence, by `ImportSource.format`."""
