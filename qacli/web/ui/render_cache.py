"""Cache of rendered answers, with limited processor time for a page."""

import threading
from collections import OrderedDict
from hashlib import blake2b

from markupsafe import Markup

from qacli.web.ui import markdown
from qacli.web.ui.limits import CpuBudget

PAGE_SECONDS = 1.0
"""Processor time for all answers of a page that are not in the cache."""

CACHE_CHARACTERS = 8_000_000
"""Characters of HTML in the cache of one process."""


class RenderCache:
    """HTML by the digest of its Markdown; the least recently used is dropped first.

    Args:
        capacity: Maximum characters of HTML.
    """

    def __init__(self, capacity: int = CACHE_CHARACTERS) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[bytes, Markup] = OrderedDict()
        self._lock = threading.Lock()

    def render(self, text: str, page: CpuBudget) -> Markup:
        """Return an answer as HTML, from the cache where possible.

        Args:
            text: The answer.
            page: The time that is left for the page. Once it is over, answers that are not in the
                cache are plain text; the next view of the page renders more of them.
        """
        if markdown.is_too_long(text):
            return markdown.plain(text)
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()
        with self._lock:
            if (html := self._entries.get(digest)) is not None:
                self._entries.move_to_end(digest)
                return html
        seconds = min(markdown.ANSWER_SECONDS, page.remaining)
        if seconds <= 0:
            return markdown.plain(text)
        html = markdown.render(text, CpuBudget(seconds))
        if seconds == markdown.ANSWER_SECONDS:  # with less time, parts of it may be plain text
            self._store(digest, html)
        return html

    def _store(self, digest: bytes, html: Markup) -> None:
        with self._lock:
            self._size += len(html) - len(self._entries.pop(digest, ""))
            self._entries[digest] = html
            while self._size > self._capacity:
                self._size -= len(self._entries.popitem(last=False)[1])
