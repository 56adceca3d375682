"""`qa chat`: a conversation; each question is a record that follows up the one before."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from qacli.cli.console import Console
from qacli.cli.options import (
    AutoTitle,
    Continue,
    Follow,
    Model,
    NoStream,
    Raw,
    ShowReasoning,
    System,
    Tags,
    Template,
    TemplateParameters,
    Timeout,
    with_model_options,
)
from qacli.cli.preload import DATABASE, PROVIDER, preload
from qacli.cli.settings import load_settings
from qacli.cli.signals import exit_on_signals
from qacli.errors import InvalidRequest, KeyRejected, QaError
from qacli.model_options import merge_params

if TYPE_CHECKING:
    from qacli.cli.chat_session import ChatSession

EPILOG = (
    "\b\nExamples:\n"
    "  qa chat\n"
    "  qa chat -c\n"
    "  qa chat -t translate -p language=French\n"
    '  qa chat --model gpt-6-luna --system "Be brief."\n'
    "  qa chat --no-stream --timeout 60 < questions.txt\n"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(chat)


@with_model_options
def chat(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    *,
    model: Model = None,
    last: Continue = False,
    follow: Follow = None,
    tag: Tags = None,
    template: Template = None,
    parameters: TemplateParameters = None,
    system: System = None,
    params: dict[str, Any],
    timeout: Timeout = None,
    no_stream: NoStream = False,
    no_save: Annotated[
        bool, typer.Option("--no-save", help="Save no records and no history of typed lines.")
    ] = False,
    show_reasoning: ShowReasoning = None,
    auto_title: AutoTitle = None,
    raw: Raw = False,
) -> None:
    """Ask question after question, each following up the one before.

    If standard input is not a terminal, each of its lines is a question or a command, stdout has
    only the answers, and the first error ends the chat.
    """
    from qacli.cli.ask_runner import followed_record, options_of_record
    from qacli.cli.chat_session import ChatOptions, ChatQuestion, ChatSession
    from qacli.cli.question_input import fill_template, load_template
    from qacli.services.follow_up import FollowUpOptions, first_system

    console = Console.from_context(context)
    settings = load_settings(console).explicit_values(
        {"timeout": timeout, "show_reasoning": show_reasoning, "auto_title": auto_title}
    )
    prompt_template = load_template(template, settings)
    if prompt_template.schema is not None:
        raise InvalidRequest(
            f"The template {template} has a schema, and a chat shows text.",
            f"Use: qa ask -t {template}",
        )

    def fill(text: str) -> str:
        return fill_template(prompt_template, text, [text], parameters or [])[0]

    template_system = fill_template(prompt_template, "?", ["?"], parameters or [])[1]
    record = followed_record(follow, settings, console, last=last)
    before = FollowUpOptions()
    if record is not None:
        settings, before = options_of_record(record, settings, console)
    options = ChatOptions(
        first_system(system, template_system, before.system, settings.system),
        merge_params(params, prompt_template.params),
        tuple(tag or ()),
        before,
        settings.stream and not no_stream,
        fill,
    )
    with (
        exit_on_signals(),
        ChatSession(settings, console, options, save=not no_save, raw=raw or settings.raw) as chat,
    ):
        chat.use_model(model or prompt_template.model or before.model)
        # Report an invalid option before the first question.
        chat.compose(ChatQuestion("?"))
        if record is not None:
            chat.resume_from(record.id or 0)
        stdin = console.stdin
        if stdin and stdin.isatty() and (console.is_terminal or console.stderr.isatty()):
            _run_on_terminal(chat, stdin)
        else:
            _run_script(chat)


def _run_on_terminal(chat: "ChatSession", stdin: TextIO) -> None:
    """Read and answer lines until the user leaves.

    Raises:
        KeyRejected: The provider rejects the key, which is read only once.
    """
    from qacli.cli.chat_session import COMMANDS
    from qacli.cli.prompt import HISTORY, Prompt
    from qacli.cli.signals import DeferredInterrupt, no_echo

    console = chat.console
    history = chat.settings.data_path / HISTORY if chat.save else None
    prompt = Prompt(console, COMMANDS, takes_path="/file", history=history)
    console.info(f"Asking {chat.model}. /help lists the commands, Ctrl-D leaves.")
    # The modules load while the user types the first question.
    preload(PROVIDER, DATABASE)
    with DeferredInterrupt() as stop_key:
        while not (chat.ended or console.closed):
            try:
                text = prompt.read()
            except KeyboardInterrupt:
                if prompt.is_empty:
                    console.info("To leave, press Ctrl-D or type /exit.")
                continue
            except EOFError:
                return
            stop_key.reset()
            try:
                with no_echo(stdin):
                    chat.handle_line(text, stop_key.allowed)
            except KeyboardInterrupt:
                pass  # the outcome is reported already
            except KeyRejected:
                raise
            except QaError as error:
                console.error(error)
            if text.strip():
                console.info("")


def _run_script(chat: "ChatSession") -> None:
    """Handle each line of standard input; an error ends it, since later lines may depend on it."""
    for text in _lines(chat.console):
        chat.handle_line(text)
        if chat.ended or chat.console.closed:
            return


def _lines(console: Console) -> Iterator[str]:
    """Yield the lines of standard input as they arrive.

    Raises:
        InvalidRequest: A line is not UTF-8 text.
    """
    for number, line in enumerate(console.stdin.buffer if console.stdin else (), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"Line {number} of the input is not UTF-8 text: byte {error.start + 1} is "
                f"{line[error.start]:#x}.",
                "Convert it to UTF-8 first.",
            ) from None
