"""Recognise a stream whose pieces each have the whole text so far.

Some endpoints of Alibaba's Model Studio send such pieces (QwenLM/qwen-code#3896 on GitHub), as its
own API does by default, and gateways that pass such an API on.
"""

from dataclasses import dataclass

MIN_PIECES = 3
MIN_CHARACTERS = 16
"""Characters that begin a piece again; fewer may be a text that repeats itself."""


@dataclass(slots=True)
class CumulativeText:
    """The pieces of one text.

    They have the whole text so far if each of the first pieces begins with all of the piece before
    it, and has more. Real text repeats itself too, but never from its first word on, each time at
    greater length.
    """

    _last: str = ""
    _pieces: int = 0
    _is_cumulative: bool | None = None

    def read(self, piece: str) -> tuple[str, str | None]:
        """Return what a piece adds to the text, and the text before it where that was wrong.

        The second value is None unless this piece shows that those before it had the whole text.
        """
        if self._is_cumulative is False:
            return piece, None
        before, grows = self._last, piece.startswith(self._last)
        if self._is_cumulative:
            if before.startswith(piece):  # sent again
                return "", None
            self._last = piece if grows else before + piece
            return (piece[len(before) :] if grows else piece), None
        self._last, self._pieces = piece, self._pieces + 1
        if self._pieces > 1 and (not grows or len(piece) == len(before)):
            self._is_cumulative = False
        elif self._pieces >= MIN_PIECES and len(before.strip()) >= MIN_CHARACTERS:
            self._is_cumulative = True
            return piece[len(before) :], before
        return piece, None
