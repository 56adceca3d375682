"""A fake OpenAI-compatible provider: a real HTTP server on 127.0.0.1, with faults on demand.

The tests and benchmarks of `qa` talk to it over real sockets, because what breaks a client (a cut
stream, a reset, a silent server) does not show when its HTTP library is replaced. One small
language (`status=429 retry_after=1`, `cut=2`, `hang`) says what goes wrong, wherever it is said: in
Python, on the command line, or as `[[...]]` inside a question, which needs nothing shared.
"""

from .behaviour import PRESETS, Behaviour, Reply, Request
from .provider import FakeProvider

__all__ = ["PRESETS", "Behaviour", "FakeProvider", "Reply", "Request"]
