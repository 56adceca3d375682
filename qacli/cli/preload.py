"""Import slow modules in a thread, while the program waits for a person or for a server."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from threading import Thread
from typing import Any

PROVIDER = "qacli.provider.sync"
DATABASE = "qacli.db.records"


def preload(*modules: str) -> None:
    """Start a thread that imports modules, one after the other.

    A failed import is ignored: the import in the code that needs the module fails too.
    """
    Thread(target=_import_all, args=(modules,), name="qa-preload").start()


def _import_all(modules: tuple[str, ...]) -> None:
    with suppress(Exception):
        for module in modules:
            import_module(module)


@contextmanager
def hide_module(package: str) -> Iterator[None]:
    """Import as if a package were not installed, unless it is loaded already."""
    loaded: dict[str, Any] = sys.modules
    hidden = loaded.setdefault(package, None) is None
    try:
        yield
    finally:
        if hidden:
            del loaded[package]
