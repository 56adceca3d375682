"""The data layer: the only code that opens a database or writes a query."""

from qacli.store.database import engine_for
from qacli.store.records import Store

__all__ = ["Store", "engine_for"]
