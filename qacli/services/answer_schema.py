"""The schema of an answer, from `--schema` or from a template."""

from typing import TYPE_CHECKING, Any

from qacli.config.settings import Settings

if TYPE_CHECKING:
    from qacli.json_schema import AnswerSchema
    from qacli.prompt_templates import PromptTemplate


def answer_schema(
    schema: str | None,
    template: "PromptTemplate",
    settings: Settings,
    earlier: dict[str, Any] | None = None,
) -> "AnswerSchema | None":
    """Return the schema of --schema, else of the template, whose schema file is next to it.

    Args:
        schema: The value of --schema.
        template: The template.
        settings: The directory of the templates.
        earlier: The schema of a record whose question is asked again; it is used last.

    Raises:
        InvalidRequest: The text is not a schema.
    """
    from qacli.json_schema import AnswerSchema

    if schema is not None:
        return AnswerSchema.from_document(schema)
    if template.schema is not None:
        return AnswerSchema.from_document(template.schema, settings.templates_path)
    return None if earlier is None else AnswerSchema.from_document(earlier)
