"""The default endpoint, model and lease."""

OPENAI_BASE_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-6-luna"
LOCAL = "local"
"""The name of the model on this machine, and of its endpoint."""

FLAG = "a flag"
"""The source of a setting that has its value from the command line."""

LEASE_SECONDS = 60.0
"""Seconds after which other workers take over the items of one that has not renewed its lease."""
