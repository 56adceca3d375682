"""Ask a language model, keep the question and its answer, find them again."""

__version__ = "0.1.0"
