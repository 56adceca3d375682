"""Answers as HTML: each rendered once while it is in the cache, in limited time for a page."""

import threading
from collections import OrderedDict
from hashlib import blake2b

from markupsafe import Markup

from qacli.web.ui import markdown
from qacli.web.ui.limits import CpuBudget

PAGE_SECONDS = 1.0
"""Processor time for all answers of a page that are not in the cache."""

CACHED = 8_000_000
"""Characters of HTML that one process keeps."""


class RenderCache:
    """HTML by the digest of its Markdown; the least recently used is dropped first.

    Args:
        capacity: Characters of HTML that are kept at most.
    """

    def __init__(self, capacity: int = CACHED) -> None:
        self._capacity = capacity
        self._size = 0
        self._kept: OrderedDict[bytes, Markup] = OrderedDict()
        self._lock = threading.Lock()

    def render(self, text: str, page: CpuBudget) -> Markup:
        """Return an answer as HTML, from the cache if it is there.

        Args:
            text: The answer.
            page: The time that is left for the page. Once it is over, what is not in the cache is
                plain text, and the next view of the page continues from there.
        """
        if len(text) > markdown.LONGEST:
            return markdown.plain(text)
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()
        with self._lock:
            if (kept := self._kept.get(digest)) is not None:
                self._kept.move_to_end(digest)
                return kept
        seconds = min(markdown.ANSWER_SECONDS, page.remaining)
        if seconds <= 0:
            return markdown.plain(text)
        html = markdown.render(text, CpuBudget(seconds))
        if seconds == markdown.ANSWER_SECONDS:  # with less, it may be plainer than it could be
            self._keep(digest, html)
        return html

    def _keep(self, digest: bytes, html: Markup) -> None:
        with self._lock:
            self._size += len(html) - len(self._kept.pop(digest, ""))
            self._kept[digest] = html
            while self._size > self._capacity:
                self._size -= len(self._kept.popitem(last=False)[1])
