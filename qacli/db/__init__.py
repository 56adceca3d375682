"""The data layer: the only code that opens a database or writes a query."""

from qacli.db.engine import engine_for
from qacli.db.records import Store

__all__ = ["Store", "engine_for"]
