"""Remove control characters from text that is written to a terminal.

Text that comes from a model, a provider, a client or a file can hold characters that move the
cursor, change the title of the window, or reverse the order of the text (CVE-2021-42574, "Trojan
Source").
A pipe or a file gets every byte; all text for a terminal goes through `sanitize`. To make sure of
that, `SanitizedStream` replaces the process's stdout and stderr.
"""

import codecs
import re
import sys
from typing import Any, TextIO, cast

REPLACEMENT = "\ufffd"

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
_BIDI = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Characters without a shape: soft hyphen, zero-width spaces, fillers, invisible operators, line and
# paragraph separators, annotations, tags. Source: Unicode's Default_Ignorable_Code_Point.
_INVISIBLE = (
    r"\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\u3164"
    r"\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_SELECTOR = r"\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
# Scripts that use joiners (Arabic, Indic, ...), symbols and emoji; not Latin, Greek, Cyrillic.
_JOINER_SCRIPTS = (
    r"\u0600-\u1fff\u2190-\u2bff\u3030-\u303d\u3297\u3299\ufb50-\ufeff\U0001f000-\U0001faff"
)
# The flags of England, Scotland and Wales are encoded with tag characters.
_FLAG = "(?P<flag>\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{3,6}\U000e007f)"

UNSAFE = (
    rf"{_FLAG}|[{_CONTROLS}{_BIDI}{_INVISIBLE}]"
    # A joiner next to a character that it cannot join.
    rf"|[\u200c\u200d](?=[^{_JOINER_SCRIPTS}])|(?<=[^{_JOINER_SCRIPTS}])[\u200c\u200d]"
    # A variation selector that follows another, or a character that has no variants.
    rf"|(?<=[{_SELECTOR}])[{_SELECTOR}]|(?<=[\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f])[{_SELECTOR}]"
)
_MAYBE_UNSAFE = r"[^\t\n\x20-\x7e\xa0-\xac\xae-\u02ff\u0370-\u05ff\u2010-\u2027\u3400-\u9fff]"
_NOT_ASCII = r"[^\x00-\x7f]"


def sanitize(text: str, before: str = "") -> str:
    """Return the text with U+FFFD for each character that controls a terminal or deceives.

    Tabs, newlines, joiners inside emoji and words, and variation selectors stay. Carriage returns
    are removed: they would let a line overwrite itself.

    Args:
        text: Any text.
        before: The last character that was written before this text.
    """
    if not re.search(_MAYBE_UNSAFE, text):
        return text
    text = before + text.replace("\r", "")
    return re.sub(UNSAFE, lambda match: match["flag"] or REPLACEMENT, text)[len(before) :]


def escape_json(text: str, *, ascii_only: bool = False) -> str:
    r"""Escape what `sanitize` would replace as \uXXXX; the JSON value stays the same.

    Args:
        text: One or more JSON texts.
        ascii_only: Escape everything outside ASCII, for a terminal that is not UTF-8.
    """
    if ascii_only:
        return re.sub(_NOT_ASCII, _escape, escape_json(text))
    if not re.search(_MAYBE_UNSAFE, text):
        return text
    text = text.replace("\r", "")  # JSON strings contain no raw carriage return
    return re.sub(UNSAFE, lambda match: match["flag"] or _escape(match), text)


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[index : index + 2].hex()}" for index in range(0, len(units), 2))


def one_line(text: str) -> str:
    r"""Return the text with newlines and all other unprintable characters as escapes, like \n."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )


class SanitizedStream:
    """A text stream on a terminal that sanitizes everything written to it, as text or as bytes.

    Attributes:
        unfiltered: The original stream, for code that writes its own escape sequences and has
            sanitized the text between them.
        buffer: Accepts UTF-8 bytes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = stream
        self.buffer = _SanitizedBytes(self)
        self._last = ""

    def write(self, text: str) -> int:
        """Write the sanitized text; return the length of the original."""
        clean = sanitize(text, self._last)
        self._last = clean[-1:] or self._last
        self.unfiltered.write(clean)
        return len(text)

    def writelines(self, lines: Any) -> None:  # noqa: ANN401 - as in io.TextIOBase
        """Write each text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the stream
        return getattr(self.unfiltered, name)


class _SanitizedBytes:
    """The binary side of a `SanitizedStream`."""

    def __init__(self, stream: SanitizedStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> int:
        self._stream.write(self._decoder.decode(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())


def sanitized(stream: TextIO) -> TextIO:
    """Return the stream, wrapped if it is a terminal; a pipe or a file is returned unchanged."""
    if isinstance(stream, SanitizedStream) or not stream.isatty():
        return stream
    return cast("TextIO", SanitizedStream(stream))


def unfiltered(stream: TextIO) -> TextIO:
    """Return the original stream of a `SanitizedStream`; any other stream is returned unchanged."""
    return stream.unfiltered if isinstance(stream, SanitizedStream) else stream


def sanitize_standard_streams() -> None:
    """Sanitize the process's stdout and stderr if they are terminals."""
    sys.stdout = sanitized(sys.stdout)
    sys.stderr = sanitized(sys.stderr)
