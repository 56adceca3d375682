"""What a chat does with what is said in it: questions that follow each other, and commands."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qacli.cli.ask_runner import (
    REDRAW_SECONDS,
    AnswerDisplay,
    load_context_or_warn,
    make_service,
    show_answer,
    start_endpoint,
    warn_about_dropped_turns,
)
from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Question, Result, create_question
from qacli.errors import InvalidRequest
from qacli.services.conversation import Context, Conversation
from qacli.suggestions import did_you_mean

if TYPE_CHECKING:
    from qacli.attachments import Attachment
    from qacli.services.ask import AskService

COMMANDS = {
    "/model": "/model NAME: ask another model; alone: which one it is",
    "/system": '/system TEXT: another system prompt, "" is none; alone: what it is',
    "/new": "/new: begin a new thread",
    "/file": "/file PATH: put a text file or an image before the next question",
    "/retry": "/retry: ask the last question again, in place of it",
    "/show": "/show: which record the last question is",
    "/help": "/help: this list",
    "/exit": "/exit: leave; so does Ctrl-D",
}
HELP = (
    *COMMANDS.values(),
    "// at the start of a question is a / that begins no command.",
    "Alt-Enter, or Esc and Enter: a new line. Tab: completion. Up: earlier lines.",
    "Ctrl-C while an answer arrives: stop it; what has arrived is kept.",
)


@dataclass(slots=True)
class ChatOptions:
    """What shapes every answer."""

    system: str | None
    temperature: float | None
    max_tokens: int | None
    tags: Sequence[str]
    tools: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """A question, and the files that go before it."""

    text: str
    files: "Sequence[Attachment]" = ()


class ChatSession:
    """A conversation on a terminal or from a script: takes questions and commands.

    Attributes:
        save: Whether anything is kept.
        left: Whether the person wants to leave.
    """

    def __init__(
        self, settings: Settings, console: Console, shape: ChatOptions, *, save: bool, raw: bool
    ) -> None:
        self.settings = settings
        self.console = console
        self.save = save
        self.left = False
        self._shape = shape
        self._display = AnswerDisplay(
            console, raw=raw, as_json=False, as_data=False, prints_id=False
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
        """The model that is asked."""
        return self._endpoint.model

    def use_model(self, name: str | None) -> None:
        """Ask this model from now on; None is the one of the settings.

        Raises:
            NotConfigured: There is no such model; the one so far stays.
        """
        with ExitStack() as stack:
            self._endpoint = start_endpoint(self.settings, name, self.console, stack)
            self._service = make_service(
                self._endpoint, self.settings, self.console, stack, save=self.save
            )
            self._stack.close()
            self._stack = stack.pop_all()

    def resume_from(self, record_id: int) -> None:
        """Begin with a record and what it follows up.

        Raises:
            NotFound: There is no such record.
            InvalidRequest: It has no answer to go on from.
        """
        turns = load_context_or_warn(record_id, self.settings, self.console)
        self._begin(Conversation.resume(self.settings.context_tokens, record_id, turns))

    def handle_line(self, text: str, stoppable: AbstractContextManager[None] | None = None) -> None:
        """Do what a line says: ask a question, or follow a command.

        Args:
            text: The line; an empty one says nothing.
            stoppable: Held while something may be cut off by Ctrl-C.

        Raises:
            QaError: It cannot be done, or there is no answer.
            KeyboardInterrupt: It was stopped.
        """
        if not text.strip():
            return
        if text.startswith("//"):
            self._ask(ChatQuestion(text[1:], self._files), self._conversation, stoppable)
        elif text.startswith("/"):
            self._follow_command(text, stoppable)
        else:
            self._ask(ChatQuestion(text, self._files), self._conversation, stoppable)

    def compose(self, question: ChatQuestion, follows_id: int | None = None) -> Question:
        """A question as it would be asked now.

        Raises:
            InvalidRequest: It cannot be asked.
        """
        return create_question(
            question.text,
            model=self.model,
            system=self._shape.system,
            temperature=self._shape.temperature,
            max_tokens=self._shape.max_tokens,
            tools=self._shape.tools,
            tags=self._shape.tags,
            follows_id=follows_id,
            attachments=[file.to_dict() for file in question.files],
        )

    def _begin(self, conversation: Conversation) -> None:
        """Go on from here; what was asked before can no longer be asked again."""
        self._conversation = self._before = conversation
        self._last = None
        self._left_out = 0
        self._omitted: set[str] = set()

    def _ask(
        self,
        chat_question: ChatQuestion,
        conversation: Conversation,
        stoppable: AbstractContextManager[None] | None,
    ) -> None:
        context = conversation.context()
        parts = [file.part for file in chat_question.files]
        question = self.compose(chat_question, conversation.follows_id)
        self._files = []
        self._last, self._before = chat_question, conversation
        self._report_unused_files(context)
        request = ChatRequest(question=question, turns=context.turns, parts=parts)
        events = self._service_after(conversation).stream(
            question, request, heartbeat_seconds=REDRAW_SECONDS
        )

        def on_result(result: Result) -> None:
            self._result = result
            after = conversation.append(result, parts)
            if after is not conversation:
                self._conversation = after

        show_answer(events, self._display, while_streaming=stoppable, on_result=on_result)

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
        """Each time there is more of it."""
        if context.left_out > self._left_out:
            warn_about_dropped_turns(context.left_out, self.console)
        if new := set(context.omitted) - self._omitted:
            self.console.warning(
                f"There was no room any more for {', '.join(sorted(new))}; /file puts it before "
                "the next question again, QA_CONTEXT_TOKENS allows more."
            )
        self._left_out = context.left_out
        self._omitted = set(context.omitted)

    def _follow_command(self, text: str, stoppable: AbstractContextManager[None] | None) -> None:
        name, *rest = text.split(maxsplit=1)
        argument = rest[0].strip() if rest else ""
        if name == "/retry":
            if self._last is None:
                raise InvalidRequest("Nothing has been asked yet.", "Ask something first.")
            self._ask(self._last, self._before, stoppable)
            return
        command = self._commands.get(name)
        if command is None:
            raise InvalidRequest(
                f"There is no command {name}.",
                f"{did_you_mean(name, COMMANDS)}/help tells the commands; "
                "// begins a question with a slash.",
            )
        with stoppable or nullcontext():
            command(argument)

    def _model(self, name: str) -> None:
        if name:
            self.use_model(name)
        self.console.warning(f"Asking {self.model}.")

    def _system(self, text: str) -> None:
        if text:
            before = self._shape.system
            self._shape.system = "" if text in {'""', "''"} else text
            try:
                self.compose(ChatQuestion("?"))
            except InvalidRequest:
                self._shape.system = before
                raise
        system = self._shape.system
        self.console.warning(f"System prompt: {system}" if system else "There is no system prompt.")

    def _new(self, _argument: str) -> None:
        self._begin(Conversation(self.settings.context_tokens))
        self.console.warning("A new thread begins.")

    def _file(self, path: str) -> None:
        from qacli import attachments

        if path:
            if path[:1] == path[-1:] and path[0] in "\"'" and len(path) > 1:
                path = path[1:-1]
            if path.startswith("~"):
                path = str(Path(path).expanduser())
            if path == attachments.STDIN:
                raise InvalidRequest("Standard input is where you type.", "Name a file.")
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
            kept = "waits in the outbox" if self.save else "is kept nowhere (--no-save)"
            self.console.warning(f"The last question {kept}.")
            return
        number, outcome = result.record_id, result.outcome
        follows = result.question.follows_id
        thread = f"; it follows up record {follows}" if follows is not None else ""
        self.console.warning(
            f"Record {number}: {outcome.status}{thread}. Outside: qa show {number} --thread"
        )

    def _help(self, _argument: str) -> None:
        for line in HELP:
            self.console.warning(line)

    def _exit(self, _argument: str) -> None:
        self.left = True
