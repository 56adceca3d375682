"""`qa ask`: one question, its answer on stdout, both in the history."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.ask_runner import (
    REDRAW_SECONDS,
    AnswerDisplay,
    followed_record,
    load_context_or_warn,
    make_service,
    show_answer,
    start_endpoint,
    warn_if_truncated,
)
from qacli.cli.console import Console
from qacli.cli.filters import Followed
from qacli.cli.options import AsJson, MaxTokens, Model, Quiet, Raw, System, Temperature
from qacli.cli.settings import load_settings
from qacli.cli.signals import exit_on_signals
from qacli.config.settings import Settings
from qacli.dates import format_age, parse_when
from qacli.domain import ChatRequest, ContextPart, Question, Turn, create_question, now
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.json_schema import AnswerSchema
    from qacli.prompt_templates import PromptTemplate

EPILOG = (
    "\b\nExamples:\n"
    '  qa ask "Who am I?"\n'
    '  git diff | qa ask "Review this"\n'
    '  qa ask --model gpt-5-mini --system "One word." "The capital of France?"\n'
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


def ask(  # noqa: PLR0913 - one parameter an option
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION",
            show_default=False,
            help="What to ask. Standard input, where it is no terminal, is put after it; "
            "- is standard input alone.",
        ),
    ] = None,
    *,
    model: Model = None,
    go_on: Annotated[
        bool,
        typer.Option("--continue", "-c", help="Follow up the last record that has an answer."),
    ] = False,
    follow: Followed = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="A tag for the record; may be said several times."),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="PATH|URL|-",
            help="Put a text file or an image before the question; may be said several times. "
            "The record keeps its name, size and SHA-256, so a follow-up goes on without it.",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template", "-t", metavar="NAME", help="Question with a template; see qa template."
        ),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="Fill one of the template's placeholders; may be said several times.",
        ),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FIELDS",
            help="Answer with JSON that fits a JSON schema, or fields: 'name, age int, bio'.",
        ),
    ] = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.001, max=1e7, help="For the answer, retries and body included."
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="How often to ask again where the provider is overloaded or unreachable.",
        ),
    ] = None,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Question for the answer in one piece.")
    ] = False,
    no_save: Annotated[bool, typer.Option("--no-save", help="Keep no record.")] = False,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse", help="Give the kept answer to the very same question, where there is one."
        ),
    ] = False,
    reuse_max_age: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="The same, if it is no older than 7d, or 12h, or a date."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0, metavar="USD", help="Do not ask what is likely to cost more."),
    ] = None,
    raw: Raw = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Notes on stderr even where it is no terminal, and the request that is sent.",
        ),
    ] = False,
) -> int:
    """Ask a question, print the answer as it arrives, and keep both."""
    from qacli.provider import endpoint

    console = Console.from_process(quiet=quiet, verbose=verbose)
    settings = load_settings(console).explicit_values({"timeout": timeout, "retries": retries})
    shape = _template(template, settings)
    attached = _attached(files or [], console)
    question, prompt = _question(words or [], parameters or [], shape, console)
    structure = _structure(schema, shape, settings)
    named = model or shape.model
    since = parse_when(reuse_max_age, now()) if reuse_max_age is not None else None
    reuse = reuse or since is not None
    shown = AnswerDisplay(
        console,
        raw=raw,
        as_json=as_json,
        as_data=structure is not None,
        whole=no_stream,
        tells_reuse=reuse,
    )
    with exit_on_signals(), ExitStack() as stack:
        # No key is needed, and no engine, before it is sure that there is something to ask.
        where = endpoint.resolve_endpoint(settings, named, with_key=False)
        earlier = followed_record(follow, settings, console, go_on=go_on)
        asked = create_question(
            question,
            model=where.model,
            system=next((each for each in (system, prompt) if each is not None), settings.system),
            temperature=shape.temperature if temperature is None else temperature,
            max_tokens=shape.max_tokens if max_tokens is None else max_tokens,
            response_format=structure.response_format if structure else None,
            tags=tag or (),
            follows_id=earlier,
            attachments=[each.to_dict() for each in attached],
        )
        check = structure.check if structure else None
        if reuse and _reused(asked, shown, settings, since=since, check=check):
            return console.finish(0)
        # Whoever has read the history has loaded what keeps a record already.
        writer = None
        if not (no_save or reuse or earlier):
            from qacli.cli.writer import Writer

            writer = Writer(settings, console)
            stack.callback(writer.close)
        turns = load_context_or_warn(earlier, settings, console) if earlier is not None else []
        parts = [each.part for each in attached]
        if max_cost is not None and where.weights is None:
            _refuse_too_expensive(asked, turns, parts, limit=max_cost, settings=settings)
        found = start_endpoint(settings, named, console, stack)
        asking = make_service(found, settings, console, stack, save=not no_save, history=writer)
        request = ChatRequest(question=asked, turns=turns, parts=parts, stream=not no_stream)
        events = asking.stream(asked, request, check=check, heartbeat_seconds=REDRAW_SECONDS)
        show_answer(events, shown)
    return console.finish(0)


def _reused(
    asked: Question,
    shown: AnswerDisplay,
    settings: Settings,
    *,
    since: datetime | None,
    check: Callable[[str], None] | None,
) -> bool:
    """Show the answer that is kept for the same question; returns whether there is one."""
    from qacli.cli.store import open_store
    from qacli.services.cache import find_cached_answer

    console = shown.console
    record = find_cached_answer(open_store(settings, console), asked, since=since, check=check)
    if record is None:
        return False
    if shown.as_json:
        console.print_json({**record.to_dict(), "reused": True})
    else:
        with shown.writer() as text:
            text.add(record.answer or "")
    warn_if_truncated(record.finish_reason, console)
    console.info(
        f"Reused: the answer of record {record.id}, asked {format_age(record.created_at, now())}."
    )
    return True


def _refuse_too_expensive(
    asked: Question,
    turns: Sequence[Turn],
    parts: Sequence[ContextPart],
    *,
    limit: float,
    settings: Settings,
) -> None:
    from qacli.cost import CostEstimate, Pricing, check_budget

    table = settings.prices_path
    estimate = CostEstimate.of(asked, turns, parts)
    check_budget(asked, estimate, limit=limit, prices=Pricing.load(table), table=table)


def _attached(files: list[str], console: Console) -> "list[Attachment]":
    if not files:
        return []
    from qacli import attachments

    return attachments.read_attachment(files, console.stdin.buffer if console.stdin else None)


def _template(name: str | None, settings: Settings) -> "PromptTemplate":
    from qacli import prompt_templates

    return (
        prompt_templates.PromptTemplate()
        if name is None
        else prompt_templates.load_template(settings, name)
    )


def _structure(
    schema: str | None, template: "PromptTemplate", settings: Settings
) -> "AnswerSchema | None":
    """The schema that was said, or the template's, whose files are beside it."""
    from qacli import prompt_templates
    from qacli.json_schema import AnswerSchema

    if schema is not None:
        return AnswerSchema.from_document(schema)
    if template.schema is not None:
        return AnswerSchema.from_document(
            template.schema, prompt_templates.templates_directory(settings)
        )
    return None


def _question(
    words: list[str], parameters: list[str], template: "PromptTemplate", console: Console
) -> tuple[str, str | None]:
    """The question, and the template's system prompt.

    Raises:
        InvalidRequest: There is no question, or a placeholder without a value.
    """
    given = read_input(words, console)
    values: dict[str, str] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or not template.name:
            raise InvalidRequest(
                f"-p {parameter} fills no placeholder.", "Say: -t TEMPLATE -p NAME=VALUE"
            )
        values[name] = value
    question, system = template.fill(given, values)
    if not (question or words):
        raise InvalidRequest("There is no question.", 'Ask something: qa ask "Who am I?"')
    return question, system


def read_input(words: list[str], console: Console) -> str:
    """The arguments, standard input, or both with a blank line between; nothing where neither."""
    if words == ["-"]:
        return console.read_stdin()
    asked = " ".join(words)
    piped = "" if console.stdin is None or console.stdin.isatty() else console.read_stdin()
    return f"{asked}\n\n{piped}" if asked and piped.strip() else asked or piped
