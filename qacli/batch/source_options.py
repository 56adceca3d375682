"""How questions are made of the rows of a batch: the options, as a face gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qacli.batch.input_file import format_of
from qacli.batch.loader import BatchSource
from qacli.batch_states import MODELS
from qacli.config.defaults import LOCAL
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest
from qacli.prompt_templates import Pattern, PromptTemplate, load_template
from qacli.validation import validate_tag

MIN_SEVERAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInputOptions:
    """The options as they are written.

    Attributes:
        form: One of `qacli.batch.input_file.FORMATS`; None takes it from the file's name.
        question: The question, with `{column}` in place of a row's value.
        column: The column with the question.
        template: The name of a template; see `qacli.prompt_templates`.
        schema: The schema of the answers, as a text.
        id_column: See `qacli.batch.input_file.InputOptions`, as for all attributes below.
    """

    form: str | None = None
    question: str | None = None
    column: str | None = None
    template: str | None = None
    schema: str | None = None
    id_column: str | None = None
    tags: tuple[str, ...] = ()
    quotes: bool | None = None
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    skip_bad: bool = False

    def load_template(self, settings: Settings) -> PromptTemplate:
        """Return the template of `--template`; without the option, one that changes nothing.

        Raises:
            InvalidRequest: There is no such template, or the question is given twice.
        """
        if self.template is None:
            return PromptTemplate()
        template = load_template(settings, self.template)
        if template.question is not None and (self.question or self.column):
            raise InvalidRequest(
                f"The template {self.template!r} has a question, and so has the command.",
                "Leave --question and --column out.",
            )
        return template

    def to_source(
        self, path: Path | None, template: PromptTemplate, models: tuple[str, ...] = ()
    ) -> BatchSource:
        """Return a checked `BatchSource` for a file, from these options and the template's texts.

        Args:
            path: The file; None means standard input.
            template: The template of `--template`.
            models: See `several_models`.

        Raises:
            InvalidRequest: The format is unknown, or an option does not belong to it.
        """
        for tag in self.tags:
            validate_tag(tag)
        system = template.system
        source = BatchSource(
            path=path,
            form=format_of(path, self.form),
            template=self.question if template.question is None else template.question,
            system_template=system if system and Pattern.parse(system).names else None,
            column=self.column,
            id_column=self.id_column,
            tags=self.tags,
            models=models,
            skip_bad=self.skip_bad,
            quotes=self.quotes,
            delimiter=self.delimiter,
            encoding=self.encoding,
            sheet=self.sheet,
        )
        source.check()
        return source


def several_models(settings: Settings, names: Sequence[str]) -> tuple[str, ...]:
    """Return the models that each question is asked of; empty if there is at most one.

    Args:
        settings: The names that the user has given to models.
        names: The models as the user names them.

    Raises:
        InvalidRequest: One of several models is the local one, which has another endpoint.
    """
    models = tuple(dict.fromkeys(settings.model_name(name) or name for name in names))
    if len(models) < MIN_SEVERAL:
        return ()
    for model in models:
        if model.partition(":")[0] == LOCAL:
            raise InvalidRequest(
                f"The model {model} is on this machine, and the others are at a provider.",
                "Ask it in a batch of its own, then compare the two: qa batch compare BATCH BATCH",
            )
    return models


def batch_settings_of(answer_settings: dict[str, Any], source: BatchSource) -> dict[str, Any]:
    """Return the settings that may not change between two runs of a batch.

    Options that older versions did not have are in it only if they are used, so that a batch of an
    older version goes on.
    """
    settings = {**answer_settings, "template": source.template, "column": source.column}
    if source.quotes is not None and source.quotes != (source.form == "csv"):
        settings["quotes"] = source.quotes
    newer = {
        "id": source.id_column,
        "tags": list(source.tags) or None,
        "system_template": source.system_template,
        MODELS: list(source.models) or None,
    }
    return settings | {name: value for name, value in newer.items() if value is not None}
