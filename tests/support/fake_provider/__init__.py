"""A fake OpenAI-compatible provider: a real HTTP server on 127.0.0.1, with faults on demand.

The tests and benchmarks of `qa` use it over real sockets, because a replaced HTTP library would not
show the faults that break a client: a cut stream, a reset, a silent server. A small language
(`status=429 retry_after=1`, `cut=2`, `hang`) describes the fault: in Python, on the command line,
or as `[[...]]` inside a question. The last form needs no access to the provider's object.
"""

from .behaviour import PRESETS, Behaviour, Reply, Request
from .provider import FakeProvider

__all__ = ["PRESETS", "Behaviour", "FakeProvider", "Reply", "Request"]
