"""`qa ask`: one question, its answer on stdout, both in the history."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.options import AsJson, Quiet, Verbose
from qacli.cli.terminal import Terminal, ended_by_signals, safe
from qacli.config import Settings, load_settings
from qacli.errors import InvalidRequest, QaError
from qacli.exchange import Ask, Turn, compose, document

if TYPE_CHECKING:
    from qacli.asking import Asking, Exchange
    from qacli.endpoint import Endpoint
    from qacli.provider import Provider, Retry

EPILOG = (
    "\b\nExamples:\n"
    '  qa ask "Who am I?"\n'
    '  git diff | qa ask "Review this"\n'
    '  qa ask --model gpt-5-mini --system "Answer in one word." "Capital of France?"\n'
    '  qa ask -c "And in winter?"\n'
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
    question = read_question(words or [], terminal)
    settings = load_settings().given({"timeout": timeout, "retries": retries})
    with ended_by_signals(), ExitStack() as stack:
        endpoint = started_endpoint(settings, model, terminal, stack)
        earlier = _last(settings, terminal) if go_on else follow
        turns = _turns(earlier, settings, terminal) if earlier is not None else []
        asked = compose(
            question,
            model=endpoint.model,
            system=settings.system if system is None else system,
            temperature=temperature,
            max_tokens=max_tokens,
            tags=tag or (),
            follows_id=earlier,
        )
        asking = _asking(endpoint, settings, terminal, stack, save=not no_save)
        exchange = asking.ask(asked, whole_answer=no_stream, turns=turns)
        try:
            with exchange:
                _show(exchange, terminal, raw=raw, as_json=as_json)
        except (QaError, KeyboardInterrupt, SystemExit):
            _tell_outcome(exchange, terminal)
            if as_json:
                terminal.json(document(exchange.ask, exchange.outcome, exchange.record_id))
            raise
        if as_json:
            terminal.json(document(exchange.ask, exchange.outcome, exchange.record_id))
        _tell_outcome(exchange, terminal)
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


def read_question(words: list[str], terminal: Terminal) -> str:
    """The question: the arguments, standard input, or both with a blank line between.

    Raises:
        InvalidRequest: There is neither.
    """
    if words == ["-"]:
        return terminal.read()
    asked = " ".join(words)
    piped = "" if terminal.stdin is None or terminal.stdin.isatty() else terminal.read()
    if asked and piped.strip():
        return f"{asked}\n\n{piped}"
    if not (asked or piped):
        raise InvalidRequest("There is no question.", 'Ask something: qa ask "Who am I?"')
    return asked or piped


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


def _show(exchange: "Exchange", terminal: Terminal, *, raw: bool, as_json: bool) -> None:
    """Print the text as it arrives."""
    if as_json:
        for _ in exchange:
            pass
    elif terminal.interactive and not raw:
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
