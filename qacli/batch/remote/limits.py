"""The limits of a batch at the provider's Batch API, and the times to wait.

OpenAI allows 50,000 requests and 200 MB in a file; others allow no less, or say so in an error:
https://platform.openai.com/docs/api-reference/batch/create.
"""

from dataclasses import dataclass

MAX_LINES = 50_000
MAX_PART_BYTES = 190_000_000
"""A little less than the limit, because a megabyte has two meanings."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds to wait, unless a response has a `Retry-After`.

    Attributes:
        poll: Before a batch is read again, at first.
        max_poll: The maximum of `poll`, which grows.
        look: Before a file or a batch that may exist is looked for again.
        queue: Before a part is submitted again that the full queue has refused; doubles each time.
        max_queue: The maximum of `queue`.
    """

    poll: float = 5.0
    max_poll: float = 60.0
    look: float = 3.0
    queue: float = 60.0
    max_queue: float = 1800.0
