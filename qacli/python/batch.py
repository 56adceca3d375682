"""`qacli.batch`: ask a question for each row, once; an interrupted batch can be continued."""

import asyncio
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar, Unpack, overload

from qacli.batch.claims import reclaim_stale, refuse_open_parts
from qacli.batch.database import OutageRetry
from qacli.batch.loader import BatchSource
from qacli.batch.options import BatchOptions, StopReason
from qacli.batch.progress import Progress
from qacli.batch.run_options import check_budget, run_options_of
from qacli.batch.runner import BatchRunner
from qacli.batch.source_options import BatchInputOptions, batch_settings_of, several_models
from qacli.cost import Pricing
from qacli.db.batches import THREADS, Batches, FinishedItem
from qacli.domain import Status, create_question
from qacli.errors import Interrupted, UnfitAnswer
from qacli.model_options import check_names, merge_params
from qacli.provider.client import AsyncProvider
from qacli.provider.endpoint import Endpoint, resolve_endpoint
from qacli.python.answer import BatchResult, Data_co, DataFormat, SchemaSource
from qacli.python.rows import Rows, write_rows
from qacli.python.session import Session
from qacli.rlimits import raise_nofile_limit
from qacli.serializers import error_text
from qacli.services.answer_schema import answer_schema

if TYPE_CHECKING:
    from pydantic import BaseModel

    from qacli.db.models import Batch

Model = TypeVar("Model", bound="BaseModel")

PAGE = 100
"""Maximum number of results in memory, because an answer may be long."""

POLL_SECONDS = 0.2
"""Seconds between two searches for new results."""

RECORD_VALUES = (
    *("id", "question", "answer", "status", "model"),
    *("prompt_tokens", "completion_tokens", "cost_usd"),
)
"""The fields of a record that are attributes of a result."""

RESERVED_FILES = 100
"""Open files besides the connections to the provider."""


class BatchArguments(TypedDict, total=False):
    """The arguments of `batch` that do not change the type of its result."""

    name: str | None
    question: str | None
    template: str | None
    column: str | None
    id_column: str | None
    model: str | Sequence[str] | None
    system: str | None
    tags: Sequence[str]
    options: Mapping[str, Any]
    jobs: int
    rpm: float | None
    tpm: float | None
    retries: int
    timeout: float | None
    max_cost: float | None
    retry_failed: bool
    changed: bool


class BatchResults(Iterator[BatchResult[Data_co]], Generic[Data_co]):
    """The results of a batch, in the order of the rows.

    Asking begins with the first result that is read, and goes on in another thread while the
    results are used. Closing it stops the batch as Ctrl-C stops `qa batch`; the next call of
    `batch` with the same rows goes on.

    Attributes:
        name: The name of the batch; `qa batch show NAME` and `qa list --batch NAME` take it, too.
    """

    def __init__(self, name: str, results: Generator[BatchResult[Data_co]]) -> None:
        self.name = name
        self._results = results

    def __next__(self) -> BatchResult[Data_co]:
        return next(self._results)

    def close(self) -> None:
        """Stop asking; questions that were sent get a few seconds for their answers."""
        self._results.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@overload
def batch(
    rows: Rows, *, schema: None = None, **others: Unpack[BatchArguments]
) -> BatchResults[None]: ...
@overload
def batch(
    rows: Rows, *, schema: type[Model], **others: Unpack[BatchArguments]
) -> BatchResults[Model]: ...
@overload
def batch(
    rows: Rows, *, schema: str | Mapping[str, Any], **others: Unpack[BatchArguments]
) -> BatchResults[Any]: ...
def batch(  # noqa: PLR0913 - the options of `qa batch`, by name
    rows: Rows,
    *,
    name: str | None = None,
    question: str | None = None,
    template: str | None = None,
    column: str | None = None,
    id_column: str | None = None,
    schema: SchemaSource = None,
    model: str | Sequence[str] | None = None,
    system: str | None = None,
    tags: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    jobs: int = 32,
    rpm: float | None = None,
    tpm: float | None = None,
    retries: int = 10,
    timeout: float | None = None,
    max_cost: float | None = None,
    retry_failed: bool = False,
    changed: bool = False,
) -> BatchResults[Any]:
    """Ask a question for each row, and return the results in the order of the rows.

    All rows are read and checked before the first question is asked. A row that has an answer is
    not asked again, in this process or any other; see docs/batch.md for all guarantees.

    Args:
        rows: Texts, or dicts; or a data frame of pandas, polars or pyarrow; or the path of a file,
            as for `qa batch`.
        name: The name of the batch. None makes one of the rows and the arguments, so that the same
            call goes on with the same batch.
        question: The question, with `{column}` in place of a row's value.
        template: The name of a template whose placeholders are columns; see `qa template`.
        column: The column with the question.
        id_column: The column with the id of each row; None means `id` where there is one, and ""
            numbers the rows.
        schema: See `qacli.ask`.
        model: The model to ask; or several, and each gives a result for each row.
        system: The system prompt; "" is none.
        tags: The tags of all records.
        options: Fields of the requests, such as `{"temperature": 0}`.
        jobs: Concurrent requests at most.
        rpm: Requests per minute at most, of all processes.
        tpm: Tokens per minute at most, of all processes.
        retries: Retries for each row.
        timeout: Seconds for one attempt.
        max_cost: The budget of the batch in US dollars.
        retry_failed: Ask failed rows again; with `model` by another model.
        changed: Ask rows again that have changed since the first call.

    Raises:
        QaError: The rows or an argument cannot be used. While the results are read, the reason why
            the batch has stopped early: a row that fails alone is a result, and no exception.
    """
    session = Session(timeout=timeout)
    form = DataFormat.of(schema)
    check_names(options or {})
    reading = BatchInputOptions(
        form=None if isinstance(rows, Path) else "jsonl",
        question=question,
        column=column,
        template=template,
        id_column=id_column,
        tags=tuple(tags),
    )
    prompt = reading.load_template(session.settings)
    names = [model] if isinstance(model, str) else list(model or filter(None, [prompt.model]))
    models = several_models(session.settings, names)
    source = reading.to_source(rows if isinstance(rows, Path) else None, prompt, models)
    if form.schema is None:
        form = DataFormat(answer_schema(None, prompt, session.settings))
    params = merge_params(form.params, options or {}, prompt.params)
    if system is None and source.system_template is None:
        system = session.settings.system if prompt.system is None else prompt.system
    first_model = names[0] if names else None
    endpoint = resolve_endpoint(session.settings, first_model, with_key=False)
    create_question("?", model=endpoint.model, system=None, params=params)
    answer_settings: dict[str, Any] = {
        "model": endpoint.model,
        "system": system or None,
        "params": params,
    }
    with session, TemporaryFile(prefix="qa-batch-") as spool:
        if not isinstance(rows, Path):
            digest = write_rows(rows, spool)
            source = replace(source, spool=spool)
        settings = batch_settings_of(answer_settings, source)
        if name is None and not isinstance(rows, Path):
            name = f"rows-{sha256(f'{digest}{json.dumps(settings)}'.encode()).hexdigest()[:12]}"
        loaded = _load(
            session,
            source,
            name or source.default_batch_name(settings),
            settings,
            changed=changed,
            retry_failed=retry_failed,
            keeps_model=retry_failed and model is not None,
        )
        files = raise_nofile_limit(jobs + RESERVED_FILES)
        answering = BatchOptions(
            batch_id=loaded.id or 0,
            **answer_settings,
            aliases=session.settings.aliases,
            default_params=session.settings.default_params,
            jobs=max(files - RESERVED_FILES, 1),
            retries=retries,
            timeout=session.settings.timeout,
            rpm=rpm,
            tpm=tpm,
            lease_seconds=session.settings.lease,
        )
        prices = Pricing.load(session.settings.prices_path)
        budget = loaded.max_cost_usd if max_cost is None else max_cost
        check_budget(budget, models or (endpoint.model,), endpoint, prices, session.settings)
        run_options = run_options_of(answering, endpoint, session.settings, jobs=jobs)
        Batches(session.store()).save_run_options(answering.batch_id, run_options, max_cost)
    return BatchResults(loaded.name, _results(session, first_model, loaded, answering, form))


def _load(  # noqa: PLR0913 - the rows and what is done with them, by name
    session: Session,
    source: BatchSource,
    name: str,
    settings: dict[str, Any],
    *,
    changed: bool,
    retry_failed: bool,
    keeps_model: bool,
) -> "Batch":
    """Load the rows into the batch of this name; with `retry_failed`, its failed rows wait again.

    Raises:
        InvalidRequest: The batch has other rows or settings, or is at the provider's Batch API.
    """
    batches = Batches(session.store())
    existing = batches.find(name)
    settings["input"] = source.form
    if existing is not None:
        refuse_open_parts(batches, existing)
        # Rows can be moved only while no process has claimed any.
        reclaim_stale(batches, session.outbox, existing.id or 0)
        if keeps_model:
            settings["model"] = existing.settings["model"]
    loaded = source.load(batches, name, settings, lambda _message: None, ask_changed=changed)
    batches.resume(loaded.id or 0, retry_failed=retry_failed)
    return loaded


class _BatchThread(Thread):
    """The thread that asks, with an event loop of its own: that of the caller may be running.

    Attributes:
        progress: The progress of the batch.
        error: The error that has ended it; None if none has.
        is_over: Set at its end.
    """

    def __init__(
        self, session: Session, endpoint: Endpoint, batches: Batches, options: BatchOptions
    ) -> None:
        super().__init__(name="qa-batch", daemon=True)
        counts = batches.counts(options.batch_id)
        self.progress = Progress(
            sum(counts.values()), done=counts["answered"], failed=counts["failed"]
        )
        self.error: BaseException | None = None
        self.is_over = Event()
        self._is_ready = Event()
        self._stop_runner: Callable[[], object] = lambda: None
        self._session = session
        self._endpoint = endpoint
        self._batches = batches
        self._options = options

    def run(self) -> None:
        """Ask the rows that have no answer."""
        try:
            asyncio.run(self._ask())
        except BaseException as error:  # noqa: BLE001 - raised where the results are read
            self.error = error
        finally:
            self._is_ready.set()
            self.is_over.set()

    async def _ask(self) -> None:
        options, settings = self._options, self._session.settings
        async with AsyncProvider(self._endpoint, settings, connections=options.jobs) as provider:
            runner = BatchRunner(
                batches=self._batches,
                outbox=self._session.outbox,
                provider=provider,
                options=options,
                prices=Pricing.load(settings.prices_path),
                output=None,
                progress=self.progress,
            )
            loop = asyncio.get_running_loop()
            stop = partial(runner.stop, StopReason.SIGNAL, "the caller has closed the results")
            self._stop_runner = partial(loop.call_soon_threadsafe, stop)
            self._is_ready.set()
            await runner.run()
        if runner.stop_reason is not None:
            self.error = runner.stopped or Interrupted(
                f"The batch has stopped: {self.progress.stopping}.",
                "Call batch() again with the same rows: it asks only those without an answer.",
            )

    def stop(self) -> None:
        """Stop asking, and wait until the answers that arrive in the next seconds are stored."""
        self._is_ready.wait()
        with suppress(RuntimeError):  # the loop is closed
            self._stop_runner()
        self.join()


def _results(
    session: Session,
    model: str | None,
    loaded: "Batch",
    options: BatchOptions,
    form: DataFormat,
) -> Generator[BatchResult[Any]]:
    """Ask in another thread, and yield the results as the database has them."""
    with session:
        batches = Batches(session.store(connections=THREADS + 1))
        thread = _BatchThread(session, session.start_endpoint(model), batches, options)
        thread.start()
        try:
            for item in _finished_items(thread, batches, options):
                if item.record is not None:
                    yield _result(item, item.record, loaded, form)
        finally:
            thread.stop()
        if thread.error is not None:
            raise thread.error


def _finished_items(
    thread: _BatchThread, batches: Batches, options: BatchOptions
) -> Iterator[FinishedItem]:
    """Yield the items in their order as they are finished, until the thread has ended."""
    retry = OutageRetry(thread.progress, options.max_outage)
    read = partial(batches.finished, options.batch_id, limit=PAGE, rows=True)
    position, is_over = 0, False
    while not is_over:
        is_over = thread.is_over.wait(POLL_SECONDS)
        while items := retry.call(read, position):
            yield from items
            position = items[-1].position + 1


def _result(
    item: FinishedItem, record: dict[str, Any], loaded: "Batch", form: DataFormat
) -> BatchResult[Any]:
    """Return an item with its record as a result."""
    row = (
        dict(zip(loaded.columns or (), item.row, strict=False))
        if isinstance(item.row, list)
        else item.row
    )
    data, error = None, error_text(record["error_kind"], record["error"]) or None
    if record["status"] == Status.ANSWERED:
        try:
            data = form.parse(record["answer"])
        except UnfitAnswer as unfit:
            error = error_text(unfit.kind, unfit.what)
    return BatchResult(
        key=item.key,
        row=row,
        data=data,
        error=error,
        record=record,
        **{name: record[name] for name in RECORD_VALUES},
    )
