"""Read the objects of a large JSON file one by one, with one of them in memory at a time."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from qacli.errors import InvalidRequest

CHUNK_CHARACTERS = 2**20
MAX_OBJECT_CHARACTERS = 2**28
BRACKETS = re.compile(r'["{}\[\]]')
STRING_END = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
TOKENS = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(:?)|[{}\[\]]', re.DOTALL)
BETWEEN = " \t\r\n,"
"""Characters that can be between two objects."""

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
    scanner = _Scanner()
    while chunk := stream.read(CHUNK_CHARACTERS):
        scanner.add(chunk)
        while bracket := scanner.next_bracket():
            if text := scanner.object_at(bracket):
                yield _parse(text, scanner.number, scanner.position - len(text))
            if scanner.depth <= 0:
                return
    raise InvalidRequest(f"The file ends in the middle of object {scanner.number}.", ADVICE)


class _Scanner:
    """Finds the ends of objects in a text that arrives in pieces.

    Attributes:
        number: The number of the object that was found last, from 1.
        depth: The number of brackets that are open.
    """

    def __init__(self) -> None:
        self.number = self.depth = 0
        self._text = ""
        self._at = self._dropped = 0
        self._start: int | None = None
        self._outer: int | None = None
        self._in_string = False

    @property
    def position(self) -> int:
        """The number of characters that were scanned."""
        return self._dropped + self._at

    def add(self, chunk: str) -> None:
        """Add text; drop what comes before the current object."""
        kept = self._at if self._start is None else self._start
        if self._at - kept > MAX_OBJECT_CHARACTERS:
            raise InvalidRequest(
                f"Object {self.number} has more than {MAX_OBJECT_CHARACTERS:,} characters.", ADVICE
            )
        self._text = self._text[kept:] + chunk
        self._at -= kept
        self._dropped += kept
        self._start = None if self._start is None else 0

    def next_bracket(self) -> str | None:
        """Return the next bracket that is not in a string; None if more text is needed."""
        while True:
            if self._in_string:
                end = STRING_END.match(self._text, self._at)
                self._at = end.end() if end else self._at
                if self._text[self._at : self._at + 1] != '"':
                    return None
                self._in_string = False
                self._at += 1
            bracket = BRACKETS.search(self._text, self._at)
            end_of_gap = bracket.start() if bracket else len(self._text)
            if self._start is None and self._text[self._at : end_of_gap].strip(BETWEEN):
                raise InvalidRequest(
                    f"After object {self.number}, near character {self.position + 1}, the file is "
                    "not JSON.",
                    ADVICE,
                )
            if bracket is None:
                self._at = len(self._text)
                return None
            self._at = bracket.end()
            if bracket[0] != '"':
                return bracket[0]
            self._in_string = True

    def object_at(self, bracket: str) -> str | None:
        """Return the text of the object that ends with this bracket, if one does."""
        if bracket in "{[":
            if self._outer is None:
                self._outer = int(bracket == "[")
            if self.depth == self._outer:
                self._start = self._at - 1
                self.number += 1
            self.depth += 1
            return None
        self.depth -= 1
        if self.depth != self._outer or self._start is None:
            return None
        text = self._text[self._start : self._at]
        self._start = None
        return text


def _parse(text: str, number: int, position: int) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = position + getattr(error, "pos", 0) + 1
        reason = getattr(error, "msg", "it is nested too deeply")
        raise InvalidRequest(
            f"Object {number} is not JSON, at character {place} of the file: {reason}.", ADVICE
        ) from None
