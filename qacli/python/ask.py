"""`qacli.ask`: ask one question; the question and its answer are saved in the history."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack, overload

from qacli.domain import ChatRequest, Delta, Failed, Finished, Result, create_question
from qacli.model_options import check_names
from qacli.python.answer import Answer, DataFormat, SchemaSource
from qacli.python.session import Session, warn
from qacli.serializers import result_to_dict

if TYPE_CHECKING:
    from pydantic import BaseModel

    from qacli.domain import Question, Turn

Model = TypeVar("Model", bound="BaseModel")

WAKE_SECONDS = 0.2
"""Seconds of silence after which Ctrl-C is handled; see `qacli.cli.ask_runner.REDRAW_SECONDS`."""


class AskOptions(TypedDict, total=False):
    """The options of `ask` that do not change the type of its result."""

    model: str | None
    system: str | None
    follow: int | None
    tags: Sequence[str]
    files: Sequence[str | PathLike[str]]
    options: Mapping[str, Any]
    timeout: float | None
    retries: int | None
    save: bool


class AnswerStream(Iterator[str]):
    """The text of an answer in pieces, as they arrive.

    The question is sent with the first piece that is read. Closing the stream early ends the
    request, and the part that has arrived is saved.

    Attributes:
        answer: The whole answer, once all pieces were read; None before.
    """

    answer: Answer[Any] | None = None

    def __init__(self, texts: Generator[str, None, Answer[Any]]) -> None:
        self._texts = texts

    def __next__(self) -> str:
        try:
            return next(self._texts)
        except StopIteration as end:
            self.answer = self.answer or end.value
            raise

    def close(self) -> None:
        """End the request, if it has not ended."""
        self._texts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@overload
def ask(
    question: str,
    *,
    schema: None = None,
    stream: Literal[False] = False,
    **others: Unpack[AskOptions],
) -> Answer[None]: ...
@overload
def ask(
    question: str,
    *,
    schema: type[Model],
    stream: Literal[False] = False,
    **others: Unpack[AskOptions],
) -> Answer[Model]: ...
@overload
def ask(
    question: str,
    *,
    schema: str | Mapping[str, Any],
    stream: Literal[False] = False,
    **others: Unpack[AskOptions],
) -> Answer[Any]: ...
@overload
def ask(
    question: str,
    *,
    schema: SchemaSource = None,
    stream: Literal[True],
    **others: Unpack[AskOptions],
) -> AnswerStream: ...
def ask(  # noqa: PLR0913 - the options of `qa ask`, by name
    question: str,
    *,
    schema: SchemaSource = None,
    stream: bool = False,
    model: str | None = None,
    system: str | None = None,
    follow: int | None = None,
    tags: Sequence[str] = (),
    files: Sequence[str | PathLike[str]] = (),
    options: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    retries: int | None = None,
    save: bool = True,
) -> Answer[Any] | AnswerStream:
    """Ask a question, and return its answer; both are saved as by `qa ask`.

    The environment and the configuration file set the values that no argument sets.

    Args:
        question: The question.
        schema: The answer is JSON that fits this Pydantic model, JSON schema, or list of fields
            such as `name, age int`. An answer that does not fit is corrected once.
        stream: Return the pieces of the text as they arrive. With a schema there is one piece,
            because the answer is checked first.
        model: The model to ask.
        system: The system prompt; "" is none.
        follow: The id of the record that this question follows up. Its thread is sent along, and
            its model, system prompt, options and profile are the defaults.
        tags: The tags of the record.
        files: Paths or URLs of texts, images, PDF, WAV and MP3 to send before the question.
        options: Fields of the request, such as `{"temperature": 0}`.
        timeout: Seconds for one attempt.
        retries: Retries if the provider is overloaded or unreachable.
        save: Keep a record.

    Raises:
        QaError: There is no usable answer. The class says why, as the exit code of `qa ask` does,
            `record_id` names the record if there is one.
    """
    from qacli import attachments
    from qacli.provider import endpoint
    from qacli.services.follow_up import FollowUpOptions, first_system, thread_settings

    session = Session(timeout=timeout, retries=retries)
    form = DataFormat.of(schema)
    own = dict(options or {})
    check_names(own)
    parts = attachments.read_attachment([fspath(file) for file in files], None) if files else []
    before, turns = FollowUpOptions(), list["Turn"]()
    if follow is not None:
        with session:
            record = session.store().get(follow)
            session.settings = thread_settings(record, session.settings)
            present = endpoint.resolve_endpoint(session.settings, with_key=False)
            before = FollowUpOptions.of(record, present.name)
            turns = _context(session, follow)
    settings = session.settings
    name = endpoint.resolve_endpoint(settings, model or before.model, with_key=False).model
    request = ChatRequest(
        question=create_question(
            question,
            model=name,
            system=first_system(system, before.system, settings.system),
            params=before.merge(name, settings.default_params, own),
            response_format=form.params.get("response_format"),
            tags=tags,
            follows_id=follow,
            attachments=[part.to_dict() for part in parts],
        ),
        turns=turns,
        parts=[part.part for part in parts],
        stream=stream or settings.stream,
    )
    texts = AnswerStream(_texts(session, model or before.model, request, form, save=save))
    if stream:
        return texts
    for _ in texts:
        pass
    assert texts.answer is not None, "the stream has ended"  # noqa: S101 - for the type checker
    return texts.answer


def _context(session: Session, follow: int) -> "list[Turn]":
    """Return the earlier turns of a thread; warn of those that have no room."""
    from qacli.services.context import load_context

    turns, dropped = load_context(session.store(), follow, session.settings.context_tokens)
    if dropped:
        warn(f"{dropped} of the oldest turns had no room; QA_CONTEXT_TOKENS allows more.")
    return turns


def _texts(
    session: Session, model: str | None, request: ChatRequest, form: DataFormat, *, save: bool
) -> Generator[str, None, Answer[Any]]:
    """Ask, and yield the pieces of the answer; return all of it at the end."""
    from qacli.cost import Pricing
    from qacli.provider.sync import SyncProvider
    from qacli.services.ask import AskService

    with session:
        provider = SyncProvider(session.start_endpoint(model), session.settings)
        session.callback(provider.close)

        def choose(_question: "Question") -> SyncProvider:
            return provider

        service = AskService(
            provider=choose,
            outbox=session.outbox if save else None,
            store=session.store,
            prices=Pricing.load(session.settings.prices_path),
        )
        check = None if form.schema is None else form.check
        events = service.stream(
            request.question, request, check=check, heartbeat_seconds=WAKE_SECONDS
        )
        with closing(events):
            for event in events:
                match event:
                    case Delta(text):
                        yield text
                    case Failed(error):
                        raise error
                    case Finished(result):
                        return _answer(result, form)
    raise AssertionError("the last event")  # pragma: no cover - Finished or Failed is the last one


def _answer(result: Result, form: DataFormat) -> Answer[Any]:
    """Return a result as an answer; warn if it is not complete, or not in the database yet."""
    outcome = result.outcome
    text = outcome.answer or ""
    if result.undelivered is not None:
        warn(
            f"{result.undelivered.what} The question and its answer are safe in the outbox; the "
            "next call that reaches the database delivers them."
        )
    if outcome.finish_reason in {"length", "max_output_tokens"}:
        warn("The answer was cut at the token limit; max_tokens allows more.")
    return Answer(
        id=result.record_id,
        question=result.question.question,
        answer=text,
        data=form.parse(text),
        model=outcome.model,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        cost_usd=outcome.cost_usd,
        record=result_to_dict(result),
    )
