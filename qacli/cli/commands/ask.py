"""`qa ask`: ask one question and print its answer; both are saved in the history."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.answer_display import AnswerDisplay
from qacli.cli.answer_use import AnswerUse, use_answer, with_use_options
from qacli.cli.ask_runner import (
    REDRAW_SECONDS,
    load_context_or_warn,
    make_service,
    name_thread,
    show_answer,
    start_endpoint,
)
from qacli.cli.cached_answer import show_cached_answer
from qacli.cli.console import Console
from qacli.cli.earlier_record import EarlierRecord, find_earlier_record
from qacli.cli.model_names import suggest_models
from qacli.cli.options import (
    AsJson,
    AutoTitle,
    Continue,
    Follow,
    Models,
    NoStream,
    Quiet,
    Raw,
    ShowReasoning,
    System,
    Tags,
    Template,
    TemplateParameters,
    Timeout,
    with_model_options,
)
from qacli.cli.question_input import (
    fill_template,
    load_template,
    read_attachments,
    write_question,
)
from qacli.cli.settings import load_settings
from qacli.cli.signals import exit_on_signals
from qacli.config.settings import Settings
from qacli.dates import parse_when
from qacli.domain import ChatRequest, ContextPart, Question, Result, Turn, create_question, now
from qacli.errors import InvalidRequest
from qacli.serializers import result_to_dict
from qacli.services.answer_schema import answer_schema

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.provider.endpoint import Endpoint

EPILOG = (
    "\b\nExamples:\n"
    '  qa ask "Who am I?"\n'
    '  git diff | qa ask "Review this"\n'
    '  qa ask --model gpt-6-luna --system "One word." "The capital of France?"\n'
    '  qa ask -c "And in winter?"\n'
    '  qa ask -m gpt-6-luna -m gpt-6-sol "Why is the sky blue?"\n'
    "  qa ask --edit\n"
    "  qa ask --again last --model gpt-6-luna\n"
    '  qa ask -f notes.md -f photo.jpg "What has changed?"\n'
    "  qa ask -t review < diff\n"
    """  qa ask --schema 'name, age int, bio' "Invent a dog" | jq .name\n"""
    "  qa ask - < question.txt\n"
    '  qa ask --reuse-max-age 7d --max-cost 0.01 "Who am I?"\n'
    '  qa ask -x "A shell script that counts lines" > count.sh\n'
    '  qa ask --copy --extract-lang sql "The ten largest orders"\n'
    '  qa ask --json "Who am I?" | jq .answer'
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(ask)


@with_model_options
@with_use_options
def ask(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION",
            show_default=False,
            help="The question. Piped standard input is added after it; - reads only that.",
        ),
    ] = None,
    *,
    model: Models = None,
    last: Continue = False,
    follow: Follow = None,
    again: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Ask a record's question again, perhaps with another model: an id or last.",
        ),
    ] = None,
    edit: Annotated[
        bool,
        typer.Option("--edit", help="Write the question in $VISUAL or $EDITOR."),
    ] = False,
    edit_last: Annotated[
        bool,
        typer.Option(
            "--edit-last", help="Begin in the editor with the last question, or with that of -c."
        ),
    ] = False,
    tag: Tags = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="PATH",
            help="Text, image, PDF, WAV or MP3 to send before the question: a path, URL or -; "
            "can be repeated. The record keeps only its name, size and SHA-256.",
        ),
    ] = None,
    template: Template = None,
    parameters: TemplateParameters = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEMA",
            help="Answer with JSON that fits a JSON schema (a file) or fields: 'name, age int'.",
        ),
    ] = None,
    system: System = None,
    params: dict[str, Any],
    timeout: Timeout = None,
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Retries if the provider is overloaded or unreachable.",
        ),
    ] = None,
    no_stream: NoStream = False,
    no_save: Annotated[bool, typer.Option("--no-save", help="Do not save a record.")] = False,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse", help="Reuse the saved answer to exactly this question, if there is one."
        ),
    ] = False,
    reuse_max_age: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Reuse only an answer that is not older, for example 7d, 12h or a date.",
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="USD", help="Do not ask if the estimated cost is higher, in US dollars."
        ),
    ] = None,
    use: AnswerUse,
    show_reasoning: ShowReasoning = None,
    auto_title: AutoTitle = None,
    raw: Raw = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Print notes to stderr even if it is not a terminal, and the request.",
        ),
    ] = False,
) -> None:
    """Ask a question, print the answer as it arrives, and keep both."""
    from qacli.provider import endpoint
    from qacli.services.follow_up import first_system

    console = Console.from_context(context)
    console.quiet, console.verbose = quiet, verbose
    use.check_output()
    uses_one_answer = reuse or reuse_max_age is not None or auto_title or use != AnswerUse()
    _check_options(model or (), uses_one_answer=uses_one_answer, title=auto_title, save=not no_save)
    settings = load_settings(console).explicit_values(
        {
            "timeout": timeout,
            "retries": retries,
            "show_reasoning": show_reasoning,
            "auto_title": auto_title,
        }
    )
    prompt_template = load_template(template, settings)
    attachments = read_attachments(files or [], console)
    earlier = find_earlier_record(
        settings, console, last=last, follow=follow, again=again, edit_last=edit_last
    )
    settings = earlier.settings
    _check_repeat(earlier, words or [], attachments)
    text = write_question(
        words or [],
        console,
        start=earlier.question,
        edit=edit or edit_last,
        prompt=template is None,
        history=None if no_save else settings.data_path,
    )
    text, template_system = fill_template(prompt_template, text, words or [], parameters or [])
    structure = answer_schema(schema, prompt_template, settings, earlier.schema)
    since = parse_when(reuse_max_age, now()) if reuse_max_age is not None else None
    reuse = reuse or since is not None
    stream = settings.stream and not no_stream
    display = AnswerDisplay(
        console,
        raw=raw or settings.raw,
        as_json=as_json,
        as_data=structure is not None,
        show_reasoning=settings.show_reasoning,
        buffered=not stream,
        with_reused=reuse,
        hidden=use.replaces_output,
    )
    with exit_on_signals(), ExitStack() as stack:
        # A cached answer needs no key and no local engine.
        follows_id, before = earlier.follows_id, earlier.options
        names: Sequence[str | None] = model or [prompt_template.model or before.model]
        system = first_system(system, template_system, before.system, settings.system)

        def build(name: str | None) -> "tuple[Endpoint, Question]":
            resolved = endpoint.resolve_endpoint(settings, name, with_key=False)
            return resolved, create_question(
                text,
                model=resolved.model,
                system=system,
                params=before.merge(
                    resolved.model, settings.default_params, params, prompt_template.params
                ),
                response_format=structure.response_format if structure else None,
                tags=tag or (),
                follows_id=follows_id,
                repeats_id=earlier.repeats_id,
                attachments=[attachment.to_dict() for attachment in attachments],
            )

        questions = [build(name) for name in names]
        question = questions[0][1]
        check = structure.check if structure else None
        if reuse and show_cached_answer(question, display, settings, use, since=since, check=check):
            return
        turns = load_context_or_warn(follows_id, settings, console) if follows_id else []
        parts = [attachment.part for attachment in attachments]
        if max_cost is not None:
            _check_cost(questions, turns, parts, limit=max_cost, settings=settings)
        if len(questions) > 1:
            from qacli.cli.ask_models import ask_models

            requests = [
                (name, ChatRequest(question=item, turns=turns, parts=parts, stream=stream))
                for name, (_, item) in zip(names, questions, strict=True)
            ]
            ask_models(requests, display, settings, save=not no_save, check=check)
            return
        started = start_endpoint(settings, names[0], console, stack)
        service = make_service(started, settings, console, stack, save=not no_save)
        request = ChatRequest(question=question, turns=turns, parts=parts, stream=stream)
        events = service.stream(question, request, check=check, heartbeat_seconds=REDRAW_SECONDS)
        results: list[Result] = []
        with suggest_models(started, settings, console):
            show_answer(events, display, model=started.model, on_result=results.append)
        result = results[-1]
        use_answer(
            use,
            result.outcome.answer,
            display,
            result_to_dict(result),
            result.record_id,
            reused=False,
        )
        name_thread(service, result, settings, console)


def _check_repeat(
    earlier: EarlierRecord, words: list[str], attachments: "list[Attachment]"
) -> None:
    """Check that a record that is asked again is asked as it was.

    Raises:
        InvalidRequest: There is another question, or its files are missing.
    """
    if earlier.question is not None and words:
        raise InvalidRequest(
            "The question is that of an earlier record, so it cannot be an argument too.",
            "Leave out the question; --edit changes it.",
        )
    if earlier.files and not attachments:
        raise InvalidRequest(
            f"The question was asked with {', '.join(earlier.files)}, which the history does not "
            "keep.",
            "Name the files again: -f PATH",
        )


def _check_cost(
    questions: "Sequence[tuple[Endpoint, Question]]",
    turns: Sequence[Turn],
    parts: Sequence[ContextPart],
    *,
    limit: float,
    settings: Settings,
) -> None:
    """Check that all questions together cost at most the limit; a local model costs nothing."""
    from qacli.cost import CostEstimate, Pricing, check_budget

    table = settings.prices_path
    prices = Pricing.load(table)
    cost = 0.0
    for endpoint, question in questions:
        if endpoint.weights is None:
            cost = check_budget(
                question,
                CostEstimate.of(question, turns, parts),
                limit=limit,
                prices=prices,
                endpoint=endpoint.name,
                table=table,
                other_cost=cost,
            )


def _check_options(
    models: Sequence[str], *, uses_one_answer: bool | None, title: bool | None, save: bool
) -> None:
    """Check that the other options fit the number of models, and that a title has a record.

    Raises:
        InvalidRequest: The options do not go together.
    """
    if len(models) > 1 and uses_one_answer:
        raise InvalidRequest(
            "--extract, --copy, --output, --reuse and --auto-title use one answer, so they do not "
            "go with several models.",
            "Name one --model, or leave them out.",
        )
    if title and not save:
        raise InvalidRequest(
            "--auto-title names a record, and --no-save keeps none.", "Leave one of them out."
        )
