"""The OpenAI-compatible door: an existing program asks here, and its history is kept.

`POST /v1/chat/completions` and `GET /v1/models` answer as OpenAI's do, errors included, so that a
client's own logic for retries works. What is asked is a record like any other.
"""
