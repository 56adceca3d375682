"""Read the objects of a large JSON file one by one, with one of them in memory at a time."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from qacli.errors import InvalidRequest

CHUNK_CHARACTERS = 2**20
MAX_OBJECT_CHARACTERS = 2**28

TOKENS = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(:?)|[{}\[\]]', re.DOTALL)
GAP = re.compile(r"[ \t\r\n,]*")
"""Characters that can be between two objects."""

AFTER_TOKEN = re.compile(r'[\]},:"]')

ADVICE = "Nothing of it was added. Get the file again, or correct it."


def first_keys(head: str) -> set[str]:
    """Return the keys of the first object in a beginning of JSON text, as far as it goes."""
    keys: set[str] = set()
    depth, of_object = 0, 2 if head.lstrip().startswith("[") else 1
    for token in TOKENS.finditer(head):
        if token[0] in {"{", "["}:
            depth += 1
        elif token[0] in {"}", "]"}:
            depth -= 1
            if depth < of_object:
                break
        elif token[2] and depth == of_object:
            keys.add(token[1])
    return keys


def json_objects(stream: IO[str]) -> Iterator[Any]:
    """Yield the elements of a JSON array that are objects or arrays, or the only object.

    Raises:
        InvalidRequest: The text is not JSON, ends early, or has an object of more than
            `MAX_OBJECT_CHARACTERS`; the message has the number of the object and the place.
    """
    decode = json.JSONDecoder().raw_decode
    text, position, number = "", 0, 1
    is_array: bool | None = None
    while chunk := _read(stream, len(text)):
        text, start = text + chunk, 0
        while (start := _skip_gap(text, start)) < len(text):
            bracket = text[start]
            if is_array is None:
                is_array = bracket == "["
                start += is_array
                continue
            if bracket == "]" and is_array:
                return
            if bracket not in "{[":
                raise InvalidRequest(
                    f"After object {number - 1}, near character {position + start + 1}, the file "
                    "is not JSON.",
                    ADVICE,
                )
            try:
                value, start = decode(text, start)
            except (ValueError, RecursionError) as error:
                if not _is_cut(error, text):
                    raise _not_json(number, position, error) from None
                break
            yield value
            number += 1
            if not is_array:
                return
        text, position = text[start:], position + start
        if len(text) > MAX_OBJECT_CHARACTERS:
            raise InvalidRequest(
                f"Object {number} has more than {MAX_OBJECT_CHARACTERS:,} characters.", ADVICE
            )
    raise InvalidRequest(f"The file ends in the middle of object {number}.", ADVICE)


def _read(stream: IO[str], least: int) -> str:
    """Return the next chunks, this number of characters or more; less at the end of the file.

    An object is parsed again when its text has doubled, so that the time stays linear.
    """
    chunks: list[str] = []
    size = 0
    while chunk := stream.read(CHUNK_CHARACTERS):
        chunks.append(chunk)
        size += len(chunk)
        if size >= least:
            break
    return "".join(chunks)


def _skip_gap(text: str, start: int) -> int:
    gap = GAP.match(text, start)
    return start if gap is None else gap.end()


def _is_cut(error: Exception, text: str) -> bool:
    """Return whether an error of the parser can be that the text ends too early."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string") or not AFTER_TOKEN.search(text, error.pos)
    )


def _not_json(number: int, position: int, error: Exception) -> InvalidRequest:
    place = position + getattr(error, "pos", 0) + 1
    reason = getattr(error, "msg", "it is nested too deeply")
    return InvalidRequest(
        f"Object {number} is not JSON, at character {place} of the file: {reason}.", ADVICE
    )
