"""The OpenAI-compatible API: existing programs ask through it, and their questions are recorded.

`POST /v1/chat/completions` and `GET /v1/models` respond like OpenAI's API, errors included, so
that the retry logic of its clients works. A question from here is a record like any other.
"""
