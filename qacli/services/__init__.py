"""Use cases: ask a question, build its context, reuse a stored answer."""
