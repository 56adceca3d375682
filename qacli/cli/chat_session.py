"""A chat session: handle lines of input, which are questions or commands."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qacli.cli.answer_display import AnswerDisplay
from qacli.cli.ask_runner import (
    REDRAW_SECONDS,
    load_context_or_warn,
    make_service,
    name_thread,
    show_answer,
    start_endpoint,
    warn_about_dropped_turns,
)
from qacli.cli.console import Console
from qacli.cli.model_names import suggest_models
from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Question, Result, create_question
from qacli.errors import InvalidRequest
from qacli.services.conversation import Context, Conversation
from qacli.services.follow_up import FollowUpOptions
from qacli.suggestions import did_you_mean

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.services.ask import AskService

Stoppable = Callable[[], AbstractContextManager[None]]

COMMANDS = {
    "/model": "/model NAME: ask another model; without NAME: show the model",
    "/system": '/system TEXT: set the system prompt, "" removes it; without TEXT: show it',
    "/new": "/new: start a new thread",
    "/file": "/file PATH: send a text, image, PDF or sound before the next question",
    "/retry": "/retry: ask the last question again, in its place in the thread",
    "/show": "/show: show the id of the last question's record",
    "/help": "/help: show this list",
    "/exit": "/exit: leave the chat, like Ctrl-D",
}
HELP = (
    *COMMANDS.values(),
    "//: start a question with a slash.",
    "Ctrl-X Ctrl-E: write the question in your editor ($VISUAL or $EDITOR).",
    "Alt-Enter, or Esc and Enter: a new line. Tab: completion. Up: earlier lines.",
    "Ctrl-C while an answer arrives: stop it; the text so far is saved.",
)


@dataclass(slots=True)
class ChatOptions:
    """The options of every question.

    Attributes:
        before: The options of the record that the chat follows up; `params` have precedence.
        stream: Ask for an answer as a stream; otherwise in one piece.
        fill: Returns the question that is asked for a line, from the template of the chat.
    """

    system: str | None
    params: dict[str, Any]
    tags: Sequence[str]
    before: FollowUpOptions = field(default_factory=FollowUpOptions)
    stream: bool = True
    fill: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """A question, and the files that are sent before it."""

    text: str
    files: "Sequence[Attachment]" = ()


class ChatSession:
    """A conversation on a terminal or from a script.

    Attributes:
        save: The questions and answers are recorded.
        ended: The user has entered `/exit`.
    """

    def __init__(
        self, settings: Settings, console: Console, options: ChatOptions, *, save: bool, raw: bool
    ) -> None:
        self.settings = settings
        self.console = console
        self.save = save
        self.ended = False
        self._options = options
        self._display = AnswerDisplay(
            console,
            raw=raw,
            as_json=False,
            as_data=False,
            show_reasoning=settings.show_reasoning,
            buffered=not options.stream,
            prints_id=False,
        )
        self._stack = ExitStack()
        self._files: list[Attachment] = []
        self._last: ChatQuestion | None = None
        self._result: Result | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/model": self._model,
            "/system": self._system,
            "/new": self._new,
            "/file": self._file,
            "/show": self._show,
            "/help": self._help,
            "/exit": self._exit,
        }
        self._begin(Conversation(settings.context_tokens))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def model(self) -> str:
        """The model to ask."""
        return self._endpoint.model

    def use_model(self, name: str | None) -> None:
        """Ask this model from now on; None means the model of the settings.

        Raises:
            NotConfigured: The model cannot be used; the model does not change.
        """
        with ExitStack() as stack:
            self._endpoint = start_endpoint(self.settings, name, self.console, stack)
            self._service = make_service(
                self._endpoint, self.settings, self.console, stack, save=self.save
            )
            self._stack.close()
            self._stack = stack.pop_all()

    def resume_from(self, record_id: int) -> None:
        """Continue the thread of a record.

        Raises:
            NotFound: There is no such record.
            InvalidRequest: The record has no answer.
        """
        turns = load_context_or_warn(record_id, self.settings, self.console)
        self._begin(Conversation.resume(self.settings.context_tokens, record_id, turns))

    def handle_line(self, text: str, stoppable: Stoppable = nullcontext) -> None:
        """Ask the question in a line, or run its command; an empty line does nothing.

        Args:
            text: The line.
            stoppable: Makes a context that is entered while Ctrl-C may stop the answer, its title
                or the command.

        Raises:
            QaError: The command failed, or there is no answer.
            KeyboardInterrupt: The user pressed Ctrl-C.
        """
        if not text.strip():
            return
        if text.startswith("//"):
            self._ask(self._question(text[1:]), self._conversation, stoppable)
        elif text.startswith("/"):
            self._run_command(text, stoppable)
        else:
            self._ask(self._question(text), self._conversation, stoppable)

    def _question(self, text: str) -> ChatQuestion:
        return ChatQuestion(self._options.fill(text), self._files)

    def compose(self, question: ChatQuestion, follows_id: int | None = None) -> Question:
        """Return the question with the present options.

        Raises:
            InvalidRequest: The question or an option is invalid.
        """
        return create_question(
            question.text,
            model=self.model,
            system=self._options.system,
            params=self._options.before.merge(
                self.model, self.settings.default_params, self._options.params
            ),
            tags=self._options.tags,
            follows_id=follows_id,
            attachments=[file.to_dict() for file in question.files],
        )

    def _begin(self, conversation: Conversation) -> None:
        """Continue with this conversation; `/retry` cannot repeat a question from before it."""
        self._conversation = self._before = conversation
        self._last = None
        self._dropped_turns = 0
        self._omitted: set[str] = set()

    def _ask(
        self,
        chat_question: ChatQuestion,
        conversation: Conversation,
        stoppable: Stoppable,
    ) -> None:
        context = conversation.context()
        parts = [file.part for file in chat_question.files]
        question = self.compose(chat_question, conversation.follows_id)
        self._files = []
        self._last, self._before = chat_question, conversation
        self._report_unused_files(context)
        request = ChatRequest(
            question=question, turns=context.turns, parts=parts, stream=self._options.stream
        )
        events = self._service_after(conversation).stream(
            question, request, heartbeat_seconds=REDRAW_SECONDS
        )

        def on_result(result: Result) -> None:
            self._result = result
            after = conversation.append(result, parts)
            if after is not conversation:
                self._conversation = after

        with suggest_models(self._endpoint, self.settings, self.console):
            show_answer(
                events,
                self._display,
                model=self.model,
                while_streaming=stoppable(),
                on_result=on_result,
            )
        if self._result is not None and conversation.follows_uid is None:
            name_thread(self._service, self._result, self.settings, self.console, stoppable)

    def _service_after(self, conversation: Conversation) -> "AskService":
        """Return the service; a turn after one without a record is linked to it later."""
        service, follows_uid = self._service, conversation.follows_uid
        if service.outbox is None or follows_uid is None:
            return service
        from qacli.recording.recorder import SingleRecorder

        return replace(
            service, shared_recorder=SingleRecorder(service.outbox, service.store, follows_uid)
        )

    def _report_unused_files(self, context: Context) -> None:
        """Warn of turns and files that had no room, each time there are more of them."""
        if context.left_out > self._dropped_turns:
            warn_about_dropped_turns(context.left_out, self.console)
        if new := set(context.omitted) - self._omitted:
            self.console.warning(
                f"There was no room for {', '.join(sorted(new))}. To send it again: /file PATH. "
                "QA_CONTEXT_TOKENS allows more."
            )
        self._dropped_turns = context.left_out
        self._omitted = set(context.omitted)

    def _run_command(self, text: str, stoppable: Stoppable) -> None:
        name = text.split(maxsplit=1)[0]
        argument = text.removeprefix(name).strip()
        if name == "/retry":
            if self._last is None:
                raise InvalidRequest("Nothing has been asked yet.", "Ask something first.")
            self._ask(self._last, self._before, stoppable)
            return
        command = self._commands.get(name)
        if command is None:
            raise InvalidRequest(
                f"There is no command {name}.",
                f"{did_you_mean(name, COMMANDS)}/help lists the commands; "
                "// starts a question with a slash.",
            )
        with stoppable():
            command(argument)

    def _model(self, name: str) -> None:
        if name:
            self.use_model(name)
        self.console.warning(f"Asking {self.model}.")

    def _system(self, text: str) -> None:
        if text:
            before = self._options.system
            self._options.system = "" if text in {'""', "''"} else text
            try:
                self.compose(ChatQuestion("?"))
            except InvalidRequest:
                self._options.system = before
                raise
        system = self._options.system
        self.console.warning(f"System prompt: {system}" if system else "There is no system prompt.")

    def _new(self, _argument: str) -> None:
        self._begin(Conversation(self.settings.context_tokens))
        self.console.warning("Started a new thread.")

    def _file(self, path: str) -> None:
        from qacli import attachments

        if path:
            if path[:1] == path[-1:] and path[0] in "\"'" and len(path) > 1:
                path = path[1:-1]
            if path.startswith("~"):
                path = str(Path(path).expanduser())
            if path == attachments.STDIN:
                raise InvalidRequest("Standard input has the lines of the chat.", "Name a file.")
            self._files += attachments.read_attachment([path], None)
        if not self._files:
            raise InvalidRequest("No file is waiting.", "Name one: /file PATH")
        files = (f"{file.name} ({attachments.format_size(file.size)})" for file in self._files)
        self.console.warning(f"Before the next question: {', '.join(files)}.")

    def _show(self, _argument: str) -> None:
        result = self._result
        if result is None:
            raise InvalidRequest("Nothing has been asked yet.", "Ask something first.")
        if result.record_id is None:
            place = "waits in the outbox" if self.save else "is not saved (--no-save)"
            self.console.warning(f"The last question {place}.")
            return
        number, outcome = result.record_id, result.outcome
        follows = result.question.follows_id
        thread = f"; it follows up record {follows}" if follows is not None else ""
        self.console.warning(
            f"Record {number}: {outcome.status}{thread}. In a shell: qa show {number} --thread"
        )

    def _help(self, _argument: str) -> None:
        for line in HELP:
            self.console.warning(line)

    def _exit(self, _argument: str) -> None:
        self.ended = True
