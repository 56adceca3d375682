"""Ask a language model, keep the question and its answer, find them again.

The functions for Python programs are loaded at their first use; see docs/python.md.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qacli.errors import QaError
    from qacli.python.answer import Answer, BatchResult
    from qacli.python.ask import AnswerStream, ask
    from qacli.python.batch import BatchResults, batch
    from qacli.python.history import search, show

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswerStream",
    "BatchResult",
    "BatchResults",
    "QaError",
    "ask",
    "batch",
    "search",
    "show",
]

MODULES = {
    **dict.fromkeys(("Answer", "BatchResult"), "qacli.python.answer"),
    **dict.fromkeys(("AnswerStream", "ask"), "qacli.python.ask"),
    **dict.fromkeys(("BatchResults", "batch"), "qacli.python.batch"),
    **dict.fromkeys(("search", "show"), "qacli.python.history"),
    "QaError": "qacli.errors",
}
"""The module of each exported name."""


def __getattr__(name: str) -> object:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


class _Package(ModuleType):
    """The module, in which `batch` is the function also after `qacli.batch` was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import of a package below this one sets it as an attribute here.
        if not (name in MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
