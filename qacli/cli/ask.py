"""`qa ask`: one question, its answer on stdout, both in the history."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.options import AsJson, Quiet, Verbose
from qacli.cli.terminal import Terminal, ended_by_signals, safe
from qacli.config import Settings, load_settings
from qacli.errors import InvalidRequest, QaError
from qacli.exchange import Ask, Turn, compose, document

if TYPE_CHECKING:
    from qacli.asking import Asking, Exchange
    from qacli.attachments import Attachment
    from qacli.endpoint import Endpoint
    from qacli.provider import Provider, Retry
    from qacli.structure import Structure
    from qacli.templates import Template

EPILOG = (
    "\b\nExamples:\n"
    '  qa ask "Who am I?"\n'
    '  git diff | qa ask "Review this"\n'
    '  qa ask --model gpt-5-mini --system "Answer in one word." "Capital of France?"\n'
    '  qa ask -c "And in winter?"\n'
    '  qa ask -f notes.md -f photo.jpg "What has changed?"\n'
    "  qa ask -t review < diff\n"
    """  qa ask --schema 'name, age int, bio' "Invent a dog" | jq .name\n"""
    "  qa ask - < question.txt\n"
    '  qa ask --json "Who am I?" | jq .answer'
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(ask)


def ask(  # noqa: PLR0913 - one parameter an option
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUESTION]",
            show_default=False,
            help="What to ask. Standard input, where it is no terminal, is put after it; "
            "- is standard input alone.",
        ),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model to ask; local:/path.gguf is a file here."),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help="Follow up the last record.")
    ] = False,
    follow: Annotated[
        int | None, typer.Option("--follow", metavar="ID", help="Follow up this record.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for the record.")] = None,
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
        str | None, typer.Option("--template", "-t", metavar="NAME", help="See qa template.")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Fill a template's placeholder."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FIELDS",
            help="Answer with JSON that fits a JSON schema, or fields: 'name, age int, bio'.",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system prompt.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 to 2; lower is more predictable.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e7, help="Seconds for the answer, retries included."),
    ] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="How often to ask again an overloaded provider.")
    ] = None,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Ask for the answer in one piece.")
    ] = False,
    no_save: Annotated[bool, typer.Option("--no-save", help="Keep no record.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The text as it is, also on a terminal.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Ask a question, print the answer as it arrives, and keep both."""
    terminal = Terminal.of_process(quiet=quiet, verbose=verbose)
    settings = load_settings().given({"timeout": timeout, "retries": retries})
    shape = _template(template, settings)
    attached = _attached(files or [], terminal)
    question, prompt = _question(words or [], parameters or [], shape, terminal)
    structure = _structure(schema, shape, settings)
    with ended_by_signals(), ExitStack() as stack:
        endpoint = started_endpoint(settings, model or shape.model, terminal, stack)
        earlier = _last(settings, terminal) if go_on else follow
        turns = _turns(earlier, settings, terminal) if earlier is not None else []
        asked = compose(
            question,
            model=endpoint.model,
            system=next((each for each in (system, prompt) if each is not None), settings.system),
            temperature=shape.temperature if temperature is None else temperature,
            max_tokens=shape.max_tokens if max_tokens is None else max_tokens,
            response_format=structure.response_format if structure else None,
            tags=tag or (),
            follows_id=earlier,
            attachments=[each.stored() for each in attached],
        )
        exchange = _asking(endpoint, settings, terminal, stack, save=not no_save).ask(
            asked,
            whole_answer=no_stream,
            turns=turns,
            parts=[each.part for each in attached],
            check=structure.check if structure else None,
        )
        shown = Shown(terminal, raw=raw, as_json=as_json, as_data=structure is not None)
        run(exchange, shown, may_correct=structure is not None)
    return terminal.finish(0)


def _last(settings: Settings, terminal: Terminal) -> int | None:
    from qacli.cli.history import open_history

    return open_history(settings, terminal).last().id


def _turns(follows_id: int, settings: Settings, terminal: Terminal) -> list[Turn]:
    """What the question follows up, as far as there is room for it."""
    from qacli.asking import turns_before
    from qacli.cli.history import counted, open_history

    store = open_history(settings, terminal)
    turns, left_out = turns_before(store, follows_id, settings.context_tokens)
    if left_out:
        terminal.warn(
            f"The {counted(left_out, 'oldest turn')} of the thread had no room; "
            "QA_CONTEXT_TOKENS allows more."
        )
    return turns


def _attached(files: list[str], terminal: Terminal) -> "list[Attachment]":
    if not files:
        return []
    from qacli import attachments

    return attachments.read(files, terminal.stdin.buffer if terminal.stdin else None)


def _template(name: str | None, settings: Settings) -> "Template":
    from qacli import templates

    return templates.Template() if name is None else templates.load(settings, name)


def _structure(schema: str | None, template: "Template", settings: Settings) -> "Structure | None":
    """The schema that was said, or the template's, whose files are beside it."""
    from qacli import templates
    from qacli.structure import Structure

    if schema is not None:
        return Structure.of(schema)
    if template.schema is not None:
        return Structure.of(template.schema, templates.directory(settings))
    return None


def _question(
    words: list[str], parameters: list[str], template: "Template", terminal: Terminal
) -> tuple[str, str | None]:
    """The question, and the template's system prompt.

    Raises:
        InvalidRequest: There is no question, or a placeholder without a value.
    """
    given = read_input(words, terminal)
    values: dict[str, str] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or not template.name:
            raise InvalidRequest(
                f"-p {parameter} fills no placeholder.", "Say: -t TEMPLATE -p NAME=VALUE"
            )
        values[name] = value
    question, system = template.filled(given, values)
    if not (question or words):
        raise InvalidRequest("There is no question.", 'Ask something: qa ask "Who am I?"')
    return question, system


def read_input(words: list[str], terminal: Terminal) -> str:
    """The arguments, standard input, or both with a blank line between; nothing where neither."""
    if words == ["-"]:
        return terminal.read()
    asked = " ".join(words)
    piped = "" if terminal.stdin is None or terminal.stdin.isatty() else terminal.read()
    return f"{asked}\n\n{piped}" if asked and piped.strip() else asked or piped


def started_endpoint(
    settings: Settings, model: str | None, terminal: Terminal, stack: ExitStack
) -> "Endpoint":
    """The endpoint, with the local engine started where it is the one."""
    from dataclasses import replace

    from qacli import endpoint, local

    found = endpoint.resolve(settings, model)
    if found.weights is None:
        return found
    terminal.warn(
        f"Answering with {found.model} on this machine: it is small and often wrong. For a better "
        "model set OPENAI_API_KEY, or QA_LOCAL_MODEL to a larger GGUF file."
    )
    return replace(found, base_url=stack.enter_context(local.running(found.weights)))


def _asking(
    endpoint: "Endpoint", settings: Settings, terminal: Terminal, stack: ExitStack, *, save: bool
) -> "Asking":
    from qacli.asking import Asking
    from qacli.cli.history import open_history
    from qacli.outbox import Outbox
    from qacli.prices import Prices

    def provider(_ask: Ask) -> "Provider":
        from qacli.provider import Provider

        made = Provider(endpoint, settings, on_retry)
        stack.callback(made.close)
        return made

    def on_retry(retry: "Retry") -> None:
        terminal.note(f"{retry.error.what} Asking again in {retry.delay:.1f} seconds.")

    return Asking(
        provider=provider,
        outbox=Outbox(settings.outbox_path) if save else None,
        store=lambda: open_history(settings, terminal),
        prices=Prices.load(settings.prices_path),
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """How an answer is shown.

    Attributes:
        raw: The text as it is, also on a terminal.
        as_json: The record instead of the text.
        as_data: Nothing until all of it is there: an answer that does not fit is not shown.
    """

    terminal: Terminal
    raw: bool
    as_json: bool
    as_data: bool

    def text(self, exchange: "Exchange") -> None:
        """Print the text, where it may be as it arrives."""
        terminal = self.terminal
        if self.as_json or self.as_data:
            arrived = "".join(exchange)
            if not self.as_json:
                from qacli.structure import json_in

                data = json_in(arrived)
                terminal.write((safe(data) if terminal.interactive else data) + "\n")
        elif terminal.interactive and not self.raw:
            from qacli.cli.render import show_markdown

            show_markdown(exchange)
        else:
            end = "\n"
            try:
                for text in exchange:
                    terminal.write(safe(text) if terminal.interactive else text)
                    end = text[-1]
            finally:
                if end != "\n":
                    terminal.write("\n")

    def record(self, exchange: "Exchange") -> None:
        """Print the record, where that is wanted."""
        if self.as_json:
            self.terminal.json(document(exchange.ask, exchange.outcome, exchange.record_id))


def run(exchange: "Exchange", shown: Shown, *, may_correct: bool = False) -> None:
    """Ask, show the answer, and say what became of it.

    Args:
        exchange: What to ask.
        shown: How to show it.
        may_correct: Whether to ask once more where the answer does not fit.
    """
    terminal = shown.terminal
    try:
        with exchange:
            shown.text(exchange)
    except (QaError, KeyboardInterrupt, SystemExit) as error:
        _tell_outcome(exchange, terminal)
        unfit = exchange.unfit
        # What the token limit has cut would be cut again.
        cut = exchange.outcome.finish_reason == "length"
        if unfit is None or error is not unfit or cut or not may_correct:
            shown.record(exchange)
            raise
    else:
        shown.record(exchange)
        _tell_outcome(exchange, terminal)
        return
    from qacli.structure import correction

    terminal.note(f"{unfit.what} Asking once more.")
    run(exchange.follow_up(correction(unfit)), shown)


def _tell_outcome(exchange: "Exchange", terminal: Terminal) -> None:
    outcome = exchange.outcome
    if outcome.finish_reason == "length":
        terminal.warn("The answer was cut at the token limit; --max-tokens allows more.")
    if exchange.undelivered is not None:
        terminal.warn(
            f"qa: {exchange.undelivered.what} The question and its answer are safe in the outbox; "
            "the next qa command that reaches the database delivers them."
        )
    elif exchange.record_id is not None:
        terminal.note(f"{outcome.status.capitalize()}, kept as record {exchange.record_id}.")
