"""Read the parts of a question: the text, the files, the template and the schema of its answer."""

from pathlib import Path
from typing import TYPE_CHECKING

from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.prompt_templates import PromptTemplate


def read_attachments(files: list[str], console: Console) -> "list[Attachment]":
    """Return the files; `-` is standard input."""
    if not files:
        return []
    from qacli import attachments

    return attachments.read_attachment(files, console.stdin.buffer if console.stdin else None)


def load_template(name: str | None, settings: Settings) -> "PromptTemplate":
    """Return the template with this name; an empty one for None."""
    from qacli import prompt_templates

    if name is None:
        return prompt_templates.PromptTemplate()
    return prompt_templates.load_template(settings, name)


def fill_template(
    template: "PromptTemplate", text: str, words: list[str], parameters: list[str]
) -> tuple[str, str | None]:
    """Return the question and the system prompt, with the values of the template's placeholders.

    Raises:
        InvalidRequest: There is no question, or a placeholder has no value.
    """
    values: dict[str, str] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or not template.name:
            raise InvalidRequest(
                f"-p {parameter} fills no placeholder.", "Use: -t TEMPLATE -p NAME=VALUE"
            )
        values[name] = value
    question, system = template.fill(text, values)
    if not (question or words):
        raise InvalidRequest("There is no question.", 'Ask something: qa ask "Who am I?"')
    return question, system


def write_question(  # noqa: PLR0913 - the ways to write a question, by name
    words: list[str],
    console: Console,
    *,
    start: str | None,
    edit: bool,
    prompt: bool,
    history: Path | None,
) -> str:
    """Return the question from the arguments and standard input, and from an editor or a prompt.

    The prompt is only for a user at a terminal who has given no question.

    Args:
        words: The arguments.
        console: Its standard input is read, or the prompt is shown on it.
        start: The question of an earlier record, in place of the arguments.
        edit: Open the question in an editor.
        prompt: Show the prompt where there is no question; a template may need none.
        history: The directory of the file of typed lines for the prompt; None keeps none.

    Raises:
        InvalidRequest: The input is not UTF-8 text.
        Interrupted: The user has cancelled the editor.
        KeyboardInterrupt: The user has pressed Ctrl-C at the prompt.
    """
    text = read_input(words, console) if start is None else start
    if edit:
        from qacli.cli.editor import edit_text

        return edit_text(text, console)
    stdin = console.stdin
    is_terminal = stdin is not None and stdin.isatty() and console.stderr.isatty()
    if text or words or not (prompt and is_terminal):
        return text
    from qacli.cli.preload import PROVIDER, preload
    from qacli.cli.prompt import HISTORY, prompt_for_question

    # The modules load while the user types.
    preload(PROVIDER)
    return prompt_for_question(console, history / HISTORY if history else None)


def read_input(words: list[str], console: Console) -> str:
    """Return the arguments, standard input, or both with a blank line between them."""
    if words == ["-"]:
        return console.read_stdin()
    question = " ".join(words)
    piped = "" if console.stdin is None or console.stdin.isatty() else console.read_stdin()
    return f"{question}\n\n{piped}" if question and piped.strip() else question or piped
