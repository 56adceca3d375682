"""The functions for Python programs; `qacli` exports them. See docs/python.md."""
