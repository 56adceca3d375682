"""The data layer: the only code that opens a database or writes a query."""
