"""`qa ask`: ask one question and print its answer; both are saved in the history."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.answer_display import AnswerDisplay, warn_about_end
from qacli.cli.answer_schema import answer_schema as build_schema
from qacli.cli.ask_runner import (
    REDRAW_SECONDS,
    follow_up_options,
    followed_record,
    load_context_or_warn,
    make_service,
    show_answer,
    start_endpoint,
)
from qacli.cli.console import Console
from qacli.cli.model_names import suggest_models
from qacli.cli.options import (
    AsJson,
    Continue,
    Follow,
    Model,
    NoStream,
    Quiet,
    Raw,
    ShowReasoning,
    System,
    Tags,
    Timeout,
    with_model_options,
)
from qacli.cli.settings import load_settings
from qacli.cli.signals import exit_on_signals
from qacli.config.settings import Settings
from qacli.dates import format_age, parse_when
from qacli.domain import ChatRequest, ContextPart, Question, Turn, create_question, now
from qacli.errors import InvalidRequest
from qacli.model_options import merge_params

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.prompt_templates import PromptTemplate

EPILOG = (
    "\b\nExamples:\n"
    '  qa ask "Who am I?"\n'
    '  git diff | qa ask "Review this"\n'
    '  qa ask --model gpt-6-luna --system "One word." "The capital of France?"\n'
    '  qa ask -c "And in winter?"\n'
    '  qa ask -f notes.md -f photo.jpg "What has changed?"\n'
    "  qa ask -t review < diff\n"
    """  qa ask --schema 'name, age int, bio' "Invent a dog" | jq .name\n"""
    "  qa ask - < question.txt\n"
    '  qa ask --reuse-max-age 7d --max-cost 0.01 "Who am I?"\n'
    '  qa ask --json "Who am I?" | jq .answer'
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(ask)


@with_model_options
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
    model: Model = None,
    last: Continue = False,
    follow: Follow = None,
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
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            "-t",
            metavar="NAME",
            help="Name of a template for the question; see qa template.",
        ),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="Value for a placeholder of the template; can be repeated.",
        ),
    ] = None,
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
    show_reasoning: ShowReasoning = None,
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
    console.quiet = quiet
    console.verbose = verbose
    settings = load_settings(console).explicit_values(
        {"timeout": timeout, "retries": retries, "show_reasoning": show_reasoning}
    )
    prompt_template = _load_template(template, settings)
    attachments = _read_attachments(files or [], console)
    text, template_system = _fill_template(prompt_template, words or [], parameters or [], console)
    answer_schema = build_schema(schema, prompt_template, settings)
    model = model or prompt_template.model
    since = parse_when(reuse_max_age, now()) if reuse_max_age is not None else None
    reuse = reuse or since is not None
    display = AnswerDisplay(
        console,
        raw=raw,
        as_json=as_json,
        as_data=answer_schema is not None,
        show_reasoning=settings.show_reasoning,
        buffered=no_stream,
        with_reused=reuse,
    )
    with exit_on_signals(), ExitStack() as stack:
        # A cached answer needs no key and no local engine.
        follows_id = followed_record(follow, settings, console, last=last)
        before = follow_up_options(follows_id, settings, console)
        model = model or before.model
        resolved = endpoint.resolve_endpoint(settings, model, with_key=False)
        system = first_system(system, template_system, before.system, settings.system)
        question = create_question(
            text,
            model=resolved.model,
            system=system,
            params=merge_params(
                params,
                prompt_template.params,
                before.params_for(resolved.model, settings.default_params(before.model or "")),
                settings.default_params(resolved.model),
            ),
            response_format=answer_schema.response_format if answer_schema else None,
            tags=tag or (),
            follows_id=follows_id,
            attachments=[attachment.to_dict() for attachment in attachments],
        )
        check = answer_schema.check if answer_schema else None
        if reuse and _show_cached_answer(question, display, settings, since=since, check=check):
            return
        turns = []
        if follows_id is not None:
            turns = load_context_or_warn(follows_id, settings, console)
        parts = [attachment.part for attachment in attachments]
        if max_cost is not None and resolved.weights is None:
            _check_cost(
                question, turns, parts, limit=max_cost, settings=settings, endpoint=resolved.name
            )
        started = start_endpoint(settings, model, console, stack)
        service = make_service(started, settings, console, stack, save=not no_save)
        request = ChatRequest(question=question, turns=turns, parts=parts, stream=not no_stream)
        events = service.stream(question, request, check=check, heartbeat_seconds=REDRAW_SECONDS)
        with suggest_models(started, settings, console):
            show_answer(events, display)


def _show_cached_answer(
    question: Question,
    display: AnswerDisplay,
    settings: Settings,
    *,
    since: datetime | None,
    check: Callable[[str], None] | None,
) -> bool:
    """Show the saved answer to the same question; return False if there is none."""
    from qacli.cli.store import open_store
    from qacli.services.cache import find_cached_answer

    console = display.console
    record = find_cached_answer(open_store(settings, console), question, since=since, check=check)
    if record is None:
        return False
    if display.as_json:
        console.print_json({**record.to_dict(), "reused": True})
    else:
        with display.writer() as text:
            if display.show_reasoning and record.reasoning:
                text.add_reasoning(record.reasoning)
            text.add(record.answer or "")
        display.sources(record.details)
    warn_about_end(record, console)
    console.info(
        f"Reused: the answer of record {record.id}, asked {format_age(record.created_at, now())}."
    )
    return True


def _check_cost(  # noqa: PLR0913 - all that the cost depends on, by name
    question: Question,
    turns: Sequence[Turn],
    parts: Sequence[ContextPart],
    *,
    limit: float,
    settings: Settings,
    endpoint: str,
) -> None:
    from qacli.cost import CostEstimate, Pricing, check_budget

    table = settings.prices_path
    estimate = CostEstimate.of(question, turns, parts)
    prices = Pricing.load(table)
    check_budget(question, estimate, limit=limit, prices=prices, endpoint=endpoint, table=table)


def _read_attachments(files: list[str], console: Console) -> "list[Attachment]":
    if not files:
        return []
    from qacli import attachments

    return attachments.read_attachment(files, console.stdin.buffer if console.stdin else None)


def _load_template(name: str | None, settings: Settings) -> "PromptTemplate":
    from qacli import prompt_templates

    if name is None:
        return prompt_templates.PromptTemplate()
    return prompt_templates.load_template(settings, name)


def _fill_template(
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
