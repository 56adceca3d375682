"""The Batch API of the fake provider: files and batches, with the faults of real providers.

The shapes are those of OpenAI's reference and of what users have seen: Azure's empty
`error_file_id`, OpenAI's `token_limit_exceeded` in `errors.data` of a batch that fails a moment
after it was created, an error file alone, gateways that drop metadata, files that are not visible
at once. Each line of a batch is answered as a request of its own, by the provider's script, its
default and the `[[...]]` of its question.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from . import responses
from .behaviour import Json, Reply, Request
from .wire import CHAT, error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .provider import FakeProvider

PREFIXES = ("/v1/files", "/v1/batches")
SHAPES = {"/v1/chat/completions": CHAT, responses.PATH: responses.SHAPE}
QUEUE_MESSAGE = (
    "Enqueued token limit reached for {model} in organization org-x. Limit: 2,000,000 enqueued "
    "tokens. Please try again once some in_progress batches have been completed."
)


@dataclass
class File:
    """A file that was uploaded or written by a batch."""

    id: str
    filename: str
    purpose: str
    content: bytes
    hidden: int = 0  # requests that do not see it yet

    def to_json(self) -> Json:
        """Return it as the API does."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": int(time.time()),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class Batch:
    """A batch; its statuses follow each other, one for each time that it is looked at."""

    id: str
    file: File
    endpoint: str
    window: str
    metadata: Json | None
    statuses: deque[str]
    status: str = "validating"
    output_id: str | None = None
    error_id: str | None = None
    errors: list[Json] = field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    created_at: int = field(default_factory=lambda: int(time.time()))


@dataclass(kw_only=True)
class BatchFaults:
    """The faults of the Batch API; `FakeProvider.batch_faults` has them.

    Attributes:
        statuses: The statuses of a new batch, one for each look at it; the last one stays.
        retry_after: The seconds of `Retry-After` in each response; None sends none.
        hidden: So many requests do not see a new file: 404 or 400.
        queue_refusals: The next batches are refused with 400, because the queue is full.
        queue_failures: The next batches fail a moment later, for the same reason.
        max_lines: A batch of more lines is refused in that way.
        invalid_line: The number of a line for which batches fail.
        refusal: Batches fail for this reason.
        foreign: Batches are not found: they belong to another project.
        drop_metadata: A batch has no metadata.
        no_list: Batches cannot be listed.
        empty_ids: A missing file has an empty id, as with Azure.
        upper: Statuses are in capitals, as with Together.
        skip: Custom ids that are in no file of results.
        unexecuted: Custom ids that an expired or cancelled batch has not answered.
        duplicate: Each answer is twice in the file.
        vllm: Errors have the form of vLLM's `run-batch`.
        separator: A text in each answer: U+2028 is no end of a line.
        broken_downloads: The next downloads break off in the middle.
        lost_creations: The next batches are created, but the response is lost.
        lost_uploads: The same for files.
        on_step: Called before and after each request is handled, with "before" or "after", and its
            method and path; a request is not handled if it returns True before.
    """

    statuses: tuple[str, ...] = ("in_progress", "completed")
    retry_after: float | None = 0.001
    hidden: int = 0
    queue_refusals: int = 0
    queue_failures: int = 0
    max_lines: int | None = None
    invalid_line: int | None = None
    refusal: str | None = None
    foreign: bool = False
    drop_metadata: bool = False
    no_list: bool = False
    empty_ids: bool = False
    upper: bool = False
    skip: tuple[str, ...] = ()
    unexecuted: tuple[str, ...] = ()
    duplicate: bool = False
    vllm: bool = False
    separator: str = ""
    broken_downloads: int = 0
    lost_creations: int = 0
    lost_uploads: int = 0
    on_step: Callable[[str, str, str], bool] = lambda _when, _method, _path: False


class BatchApi:
    """The files and batches of one fake provider."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        self.faults = BatchFaults()
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.deleted: list[str] = []

    def handle(self, request: Request) -> tuple[Reply, Json | bytes | None]:
        """Answer a request."""
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        if self.faults.on_step("before", request.method, path):
            return Reply(drop=True), None
        parts = path.removeprefix("/v1/").split("/")
        reply, answer = self._route(request, parts, query)
        if self.faults.retry_after is not None:
            reply = _with(reply, retry_after=self.faults.retry_after)
        self.faults.on_step("after", request.method, path)
        return reply, answer

    def _route(  # noqa: C901, PLR0911 - one case a route
        self, request: Request, parts: list[str], query: dict[str, list[str]]
    ) -> tuple[Reply, Json | bytes | None]:
        match request.method, parts:
            case "POST", ["files"]:
                return self._upload(request)
            case "GET", ["files"]:
                return Reply(), _page([file.to_json() for file in self.files.values()], query)
            case "GET", ["files", name, "content"] if name in self.files:
                return self._download(self.files[name])
            case "GET", ["files", name] if name in self.files:
                return Reply(), self.files[name].to_json()
            case "DELETE", ["files", name] if name in self.files:
                del self.files[name]
                self.deleted.append(name)
                return Reply(), {"id": name, "object": "file", "deleted": True}
            case "POST", ["batches"]:
                return self._create(request)
            case "GET", ["batches"] if not self.faults.no_list:
                return Reply(), _page([self._json(b) for b in self.batches.values()], query)
            case "GET", ["batches", name] if name in self.batches and not self.faults.foreign:
                self._advance(self.batches[name])
                return Reply(), self._json(self.batches[name])
            case "POST", ["batches", name, "cancel"] if name in self.batches:
                batch = self.batches[name]
                batch.status, batch.statuses = "cancelling", deque(["cancelled"])
                return Reply(), self._json(batch)
            case _, ["batches", name, *_]:
                message = f"No batch found with id '{name}'."
                return Reply(status=404, message=message), None
            case _, ["files", name, *_]:
                return Reply(status=404, message=f"No such File object: {name}"), None
        message = f"Invalid URL ({request.method} {request.path})"
        return Reply(status=404, message=message, code="unknown_url"), None

    def _upload(self, request: Request) -> tuple[Reply, Json | None]:
        fields = _multipart(request)
        filename, content = fields["file"]
        purpose = fields["purpose"][1].decode()
        file = File(f"file-{uuid.uuid4().hex[:24]}", filename, purpose, content)
        file.hidden = self.faults.hidden
        self.files[file.id] = file
        if self.faults.lost_uploads:
            self.faults.lost_uploads -= 1
            return Reply(drop=True), None
        return Reply(), file.to_json()

    def _download(self, file: File) -> tuple[Reply, bytes]:
        if self.faults.broken_downloads:
            self.faults.broken_downloads -= 1
            return Reply(cut=1), file.content
        return Reply(), file.content

    def _create(self, request: Request) -> tuple[Reply, Json | None]:
        body, faults = request.body, self.faults
        file = self.files.get(str(body.get("input_file_id")))
        if file is None or file.hidden:
            if file is not None:
                file.hidden -= 1
            message = f"Invalid value: no such file {body.get('input_file_id')}."
            return Reply(status=400, message=message, param="input_file_id"), None
        lines = [json.loads(line) for line in file.content.split(b"\n") if line]
        models = {line["body"]["model"] for line in lines}
        is_full = faults.max_lines is not None and len(lines) > faults.max_lines
        message = QUEUE_MESSAGE.format(model=min(models))
        if faults.queue_refusals or (is_full and faults.queue_failures == 0):
            faults.queue_refusals -= bool(faults.queue_refusals)
            return Reply(status=400, message=message, code="token_limit_exceeded"), None
        batch = Batch(
            f"batch_{uuid.uuid4().hex[:24]}",
            file,
            body["endpoint"],
            body["completion_window"],
            None if faults.drop_metadata else body.get("metadata"),
            deque(faults.statuses),
            total=len(lines),
        )
        self.batches[batch.id] = batch
        self._validate(batch, lines, message)
        if faults.lost_creations:
            faults.lost_creations -= 1
            return Reply(drop=True), None
        return Reply(), self._json(batch)

    def _validate(self, batch: Batch, lines: list[Json], full: str) -> None:
        """Make a batch fail a moment later, if something is wrong with its file."""
        faults = self.faults
        models = {line["body"]["model"] for line in lines}
        if faults.queue_failures:
            faults.queue_failures -= 1
            self._fail(batch, "token_limit_exceeded", full)
        elif len(models) > 1:
            self._fail(batch, "model_mismatch", "The file has requests of several models.", line=2)
        elif len({line["custom_id"] for line in lines}) < len(lines):
            self._fail(batch, "duplicate_custom_id", "A custom_id is not unique.", line=2)
        elif {line["url"] for line in lines} != {batch.endpoint}:
            self._fail(batch, "url_mismatch", "A URL is not that of the batch.", line=1)
        elif faults.invalid_line is not None and faults.invalid_line <= len(lines):
            self._fail(batch, "invalid_request", "The line is not valid.", line=faults.invalid_line)
        elif faults.refusal is not None:
            self._fail(batch, "billing_hard_limit_reached", faults.refusal)

    def _fail(self, batch: Batch, code: str, message: str, line: int | None = None) -> None:
        batch.statuses = deque(["failed"])
        batch.errors = [{"code": code, "message": message, "param": None, "line": line}]

    def _advance(self, batch: Batch) -> None:
        """Go on to the next status; an ended batch writes its files."""
        if not batch.statuses:
            return
        batch.status = batch.statuses.popleft()
        if batch.status in {"completed", "expired", "cancelled"}:
            batch.statuses.clear()
            self._run(batch)

    def _run(self, batch: Batch) -> None:
        output, errors = [], []
        for content in batch.file.content.split(b"\n"):
            if not content:
                continue
            line = json.loads(content)
            custom_id = line["custom_id"]
            if custom_id in self.faults.skip:
                continue
            if batch.status != "completed" and custom_id in self.faults.unexecuted:
                code = f"batch_{batch.status}"
                message = "This request could not be executed before the completion window expired."
                error = {"code": code, "message": message}
                errors.append(_line(custom_id, None, error))
                continue
            status, body = self._answer(line, batch.endpoint)
            if status == 200:
                batch.completed += 1
                result = _line(custom_id, (status, body), None)
                output += [result, result] if self.faults.duplicate else [result]
            elif self.faults.vllm:
                batch.completed += 1
                output.append(_line(custom_id, (status, None), body))
            else:
                batch.failed += 1
                errors.append(_line(custom_id, (status, body), None))
        batch.output_id = self._write("output", output)
        batch.error_id = self._write("error", errors)

    def _answer(self, line: Json, endpoint: str) -> tuple[int, Json]:
        request = self._provider.request_of(line["body"], endpoint)
        reply = self._provider.choose(request)
        if reply.status != 200:
            return reply.status, error_of(request, reply)
        if self.faults.separator:
            reply = _with(reply, text=f"One{self.faults.separator}two")
        body: Json = json.loads(SHAPES[endpoint].whole(request, reply))
        return 200, body

    def _write(self, kind: str, lines: list[Json]) -> str | None:
        if not lines:
            return "" if self.faults.empty_ids else None
        # As OpenAI writes it: U+2028 and others are not escaped.
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        file = File(f"file-{uuid.uuid4().hex[:24]}", f"batch_{kind}.jsonl", "batch_output", content)
        self.files[file.id] = file
        return file.id

    def _json(self, batch: Batch) -> Json:
        status = batch.status.upper() if self.faults.upper else batch.status
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
            "input_file_id": batch.file.id,
            "completion_window": batch.window,
            "status": status,
            "output_file_id": batch.output_id,
            "error_file_id": batch.error_id,
            "created_at": batch.created_at,
            "expires_at": batch.created_at + 86400,
            "request_counts": {
                "total": batch.total,
                "completed": batch.completed,
                "failed": batch.failed,
            },
            "metadata": batch.metadata,
        }


def _line(custom_id: str, response: tuple[int, Json | None] | None, error: Json | None) -> Json:
    body = None
    if response is not None:
        request_id = uuid.uuid4().hex
        body = {"status_code": response[0], "request_id": request_id, "body": response[1]}
    name = f"batch_req_{uuid.uuid4().hex[:24]}"
    return {"id": name, "custom_id": custom_id, "response": body, "error": error}


def _page(items: list[Json], query: dict[str, list[str]]) -> Json:
    """Return a page of a list, the newest item first."""
    items.reverse()
    after = query.get("after", [None])[0]
    names = [item["id"] for item in items]
    start = names.index(after) + 1 if after in names else 0
    limit = int(query.get("limit", ["20"])[0])
    page = items[start : start + limit]
    more = {"has_more": start + limit < len(items)}
    return {"object": "list", "data": page, **more}


def _multipart(request: Request) -> dict[str, tuple[str, bytes]]:
    """Return the fields of a form: the file name, and the content."""
    kind = request.headers.get("content-type", "")
    boundary = re.search(r"boundary=([^;]+)", kind)
    assert boundary is not None, kind
    fields = {}
    for part in request.content.split(b"--" + boundary[1].strip('"').encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        names = dict(re.findall(r'(name|filename)="([^"]*)"', head.decode()))
        fields[names["name"]] = (names.get("filename", ""), content.removesuffix(b"\r\n"))
    return fields


def _with(reply: Reply, **values: object) -> Reply:
    return replace(reply, **values)  # type: ignore[arg-type]
