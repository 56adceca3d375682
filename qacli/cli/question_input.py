"""Read the parts of a question: the text, the files, the template and the schema of its answer."""

from typing import TYPE_CHECKING

from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.json_schema import AnswerSchema
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


def answer_schema(
    schema: str | None, template: "PromptTemplate", settings: Settings
) -> "AnswerSchema | None":
    """Return the schema of --schema or of the template, whose schema file is beside it."""
    from qacli import prompt_templates
    from qacli.json_schema import AnswerSchema

    if schema is not None:
        return AnswerSchema.from_document(schema)
    if template.schema is not None:
        return AnswerSchema.from_document(
            template.schema, prompt_templates.templates_directory(settings)
        )
    return None


def fill_template(
    template: "PromptTemplate", words: list[str], parameters: list[str], console: Console
) -> tuple[str, str | None]:
    """Return the question and the system prompt, with the values of the template's placeholders.

    Raises:
        InvalidRequest: There is no question, or a placeholder has no value.
    """
    text = read_input(words, console)
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


def read_input(words: list[str], console: Console) -> str:
    """Return the arguments, standard input, or both with a blank line between them."""
    if words == ["-"]:
        return console.read_stdin()
    question = " ".join(words)
    piped = "" if console.stdin is None or console.stdin.isatty() else console.read_stdin()
    return f"{question}\n\n{piped}" if question and piped.strip() else question or piped
