"""The OpenAI wrapper: the only code that imports openai.

There is one way to ask, an asynchronous one, since only there has an answer one strict deadline,
headers, body and retries included. `SyncProvider` is its face for threads, `AsyncProvider` for a
batch. Everything that is not a usable answer (empty, cut off, not JSON, a proxy's page) is an
error with a reason, and retries happen only while nothing has been shown yet.

This file imports nothing: `provider.endpoint` is read by commands that never load openai.
"""
