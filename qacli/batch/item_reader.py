"""Make the items of a batch of the rows of its file, one at a time.

A question is a column, or a template filled with columns, or the field `question` of an object,
which can have settings of its own. Lines of OpenAI's Batch API are asked as they are.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from qacli.batch.input_file import FORMATS, InputOptions, format_of
from qacli.batch.item_settings import kind_of, own_settings
from qacli.batch.options import BatchOptions
from qacli.batch.request_lines import CUSTOM_ID, is_request, request_payload
from qacli.batch.row import CellError, Row, listed
from qacli.batch.rows import file_rows
from qacli.batch_states import ROW
from qacli.errors import InvalidRequest
from qacli.prompt_templates import INPUT, Pattern
from qacli.provider.response import sanitize_json
from qacli.validation import sanitize_text, validate_text

__all__ = ["FORMATS", "BatchInput", "InputOptions", "format_of", "read_items"]

QUESTION_NAMES = ("question", "prompt", "text")
"""The columns of which the first is the question, if none is named."""

TEXT_ADVICE = (
    "In a text each line is a {question}; for a table name its format, such as --input csv."
)

OBJECT_FORMATS = frozenset({"jsonl", "json"})
"""The formats whose rows can have settings of their own."""

Builder: TypeAlias = Callable[[Mapping[str, Any]], str]
"""A function that makes a text of the fields of a row."""


@dataclass(frozen=True, slots=True)
class BatchInput:
    """One question of a batch.

    Attributes:
        position: The position in the file, from 0.
        key: The item's id in the file, or one made of its position and content.
        payload: `question`, and the item's own settings: `system`, `params`, `tags`.
        error: The reason why it cannot be asked; its payload has the line then.
        place: Its place in the file, for a message: `Line 3`.
        row: The row's cells; see `qacli.batch.row.Row`.
        columns: The names of the row's cells.
        has_id: The key is an id of the file's own.
    """

    position: int
    key: str
    payload: dict[str, Any]
    error: str | None = None
    place: str = ""
    row: list[Any] | dict[str, Any] | None = None
    columns: tuple[str, ...] = ()
    has_id: bool = False

    def stored(self) -> dict[str, Any]:
        """Return the payload as the database stores it, with the reason if it cannot be asked."""
        payload = self.payload if self.row is None else {**self.payload, ROW: self.row}
        return payload if self.error is None else {**payload, "error": self.error}

    def for_models(self, models: Sequence[str]) -> Iterator["BatchInput"]:
        """Yield the item once for each model; with no models, yield the item itself.

        The items of a row follow one another, so that rows can be added at the end of the file.
        """
        for number, model in enumerate(models):
            yield replace(
                self,
                position=self.position * len(models) + number,
                key=key_of_model(self.key, model),
                payload={
                    **self.payload,
                    "params": {**self.payload.get("params", {}), "model": model},
                },
            )
        if not models:
            yield self


def key_of_model(key: str, model: str) -> str:
    """Return the key of a row's item that is asked of one of several models."""
    return f"{key}:{model}"


def read_items(
    path: Path | None, options: InputOptions, spool: IO[bytes] | None = None
) -> Iterator[BatchInput]:
    """Yield the items of a file, in order, with those of one row in memory.

    Args:
        path: The file; None means standard input.
        options: How the file is read.
        spool: A copy to read instead; see `qacli.batch.input_file.open_binary`.

    Raises:
        InvalidRequest: A line cannot be used; the message has its number and the reason.
    """
    builders = _builders(options)
    first_positions: dict[int, int] = {}
    for position, row in enumerate(file_rows(path, options, spool)):
        try:
            if isinstance(row.fields, InvalidRequest):
                raise row.fields
            row.check_cells()
            item = _item(position, row, row.fields, options, builders)
            if item.has_id:
                # The hash of the id takes less memory, and so does the position without its line.
                first = first_positions.setdefault(hash(item.key), position)
                if first != position:
                    raise _second_id(item, _place_of(first, path, options, spool))
        except InvalidRequest as error:
            message = f"{row.place}: {error.what}"
            if not options.skip_bad:
                todo = error.todo or "Correct it, or use --skip-bad."
                raise InvalidRequest(message, todo) from None
            item = BatchInput(
                position,
                _item_key(position, row.text),
                {"question": sanitize_text(row.text) or "(empty)"},
                message,
                place=row.place,
                row=sanitize_json(row.cells),
                columns=_columns(row),
            )
        yield from item.for_models(options.models)


def _place_of(
    position: int, path: Path | None, options: InputOptions, spool: IO[bytes] | None
) -> str:
    """Return the place of the row at this position, for a message."""
    if path is None and spool is None:
        return f"item {position + 1}"  # standard input cannot be read again
    return next(islice(file_rows(path, options, spool), position, None)).place.lower()


def _second_id(item: BatchInput, first: str) -> InvalidRequest:
    return InvalidRequest(
        f"its id {item.key!r} is that of {first}, too.",
        "Give each row an id of its own, name another column with --id COLUMN, or use --id '' to "
        "number the rows.",
    )


def _builders(options: InputOptions) -> tuple[Builder, Builder | None]:
    """Return the functions that build the question and the system prompt of a row.

    The question is the template, or the column, or else `question`, `prompt` or `text`; in a
    template this is `{input}`. The system prompt is None if it is that of the batch.
    """

    def question(row: Mapping[str, Any]) -> str:
        return _cell_text(row, options.column) if options.column else _default_question(row)

    def filled(text: str, *, is_question: bool = False) -> Builder:
        pattern = Pattern.parse(text)
        if not pattern.names or not all(pattern.names):
            raise InvalidRequest(
                "The template has no {column} in it.",
                'Write it like: "Translate to French: {text}"',
            )

        def value(row: Mapping[str, Any], name: str) -> str:
            is_input = name == INPUT and INPUT not in row
            return question(row) if is_input else _cell_text(row, name)

        def fill(row: Mapping[str, Any]) -> str:
            values = {name: value(row, name) for name in pattern.names}
            if is_question and not any(text.strip() for text in values.values()):
                raise InvalidRequest(
                    f"there is no question in it: {listed(pattern.names)} has no text.",
                    "Remove the row, or use --skip-bad.",
                )
            return pattern.fill(values.__getitem__)

        return fill

    system = None if options.system_template is None else filled(options.system_template)
    if options.template is None:
        return question, system
    return filled(options.template, is_question=True), system


def _default_question(row: Mapping[str, Any]) -> str:
    for name in QUESTION_NAMES:
        value = row.get(name)
        if value in (None, ""):
            continue
        _refuse_error(name, value)
        if isinstance(value, (dict, list, bool)):
            raise InvalidRequest(
                f"its field {name!r} is {kind_of(value)}, not text.",
                f'To ask it as JSON, use --question "{{{name}}}"; else name the column of the '
                "question with --column.",
            )
        return value if isinstance(value, str) else json.dumps(value)
    if any(name in row for name in QUESTION_NAMES):
        return ""
    raise InvalidRequest(
        f"there is no question in it: it has no column {', '.join(QUESTION_NAMES[:-1])} or "
        f"{QUESTION_NAMES[-1]}; there are {listed(list(row))}.",
        'Name the column with --column, or build the question with --question "... {column}". '
        "With --skip-bad, such rows are recorded as failed.",
    )


def _cell_text(row: Mapping[str, Any], name: str) -> str:
    """Return a cell as text; a value of another type is written as JSON.

    Raises:
        InvalidRequest: There is no such column, or the cell has an error.
    """
    cell = row[name] if name in row else _inner_value(row, name)
    _refuse_error(name, cell)
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def _inner_value(row: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a value inside an object or a list of a row, such as `data.text` or `turns.0.value`.

    Raises:
        InvalidRequest: There is no such value.
    """
    value: Any = row
    for name in path.split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise InvalidRequest(
                f"there is no column {path!r}; there are {listed(list(row))}.",
                TEXT_ADVICE
                if list(row) == ["question"]
                else "Use one of them with --question, --column or --id, or use --skip-bad.",
            )
    return value


def _refuse_error(name: str, cell: object) -> None:
    """Refuse a cell of a workbook that has an error in place of a value.

    Raises:
        InvalidRequest: The cell has an error.
    """
    if isinstance(cell, CellError):
        raise InvalidRequest(
            f"the cell of {name!r} has the error {cell}.", "Correct it, or use --skip-bad."
        )


def _item(
    position: int,
    row: Row,
    fields: Mapping[str, Any],
    options: InputOptions,
    builders: tuple[Builder, Builder | None],
) -> BatchInput:
    question, system = builders
    # With a template or a column, every field is text: a field "model" may be about cars.
    has_settings = (
        options.form in OBJECT_FORMATS and options.template is None and options.column is None
    )
    cells = row.cells
    if has_settings and is_request(fields):
        payload, cells = request_payload(fields), None
    else:
        text = question(fields)
        if not text.strip():
            raise InvalidRequest("there is no question in it.")
        own_system = {} if system is None else {"system": system(fields)}
        own = own_settings(fields) if has_settings else {}
        payload = {"question": text, **own_system, **own}
    own_model = payload.get("params", {}).get("model")
    if options.models and own_model is not None:
        raise InvalidRequest(
            f"it has a model of its own, {own_model!r}, and the command asks several models.",
            "Leave that field out, or name one model with --model.",
        )
    if options.tags:
        payload["tags"] = list(dict.fromkeys((*options.tags, *payload.get("tags", ()))))
    own_id = _own_id(fields, options)
    if own_id:
        validate_text(own_id, "its id")
    key = own_id or _item_key(position, json.dumps(payload))
    # Refuse an invalid question now, and not after an hour of asking.
    BatchOptions(batch_id=0, model="m").question(key, payload)
    return BatchInput(
        position,
        key,
        payload,
        place=row.place,
        row=cells,
        columns=_columns(row) if cells is not None else (),
        has_id=bool(own_id),
    )


def _columns(row: Row) -> tuple[str, ...]:
    return tuple(map(sanitize_text, row.cells)) if isinstance(row.cells, dict) else row.columns


def _own_id(fields: Mapping[str, Any], options: InputOptions) -> str | None:
    """Return the id of a row, or None if it has none.

    Raises:
        InvalidRequest: The id is no text and no number, or its column does not exist.
    """
    if options.id_column is not None:
        if not options.id_column:
            return None
        names = [options.id_column]
        _cell_text(fields, options.id_column)
    elif options.form == "files":
        names = ["file"]
    else:
        names = [CUSTOM_ID, "id"] if is_request(fields) else ["id"]
    value = next((fields[name] for name in names if fields.get(name) not in (None, "")), None)
    if isinstance(value, (dict, list, bool)):
        raise InvalidRequest(
            f"its id is {kind_of(value)}, not text.",
            "Name another column with --id COLUMN, or use --id '' to number the rows.",
        )
    return None if value is None else str(value)


def _item_key(position: int, content: str) -> str:
    return f"{position + 1}-{sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
