"""The OpenAI wrapper: the only code that imports openai.

`AsyncProvider` is asynchronous, because only so one deadline can cover headers, body and retries.
`SyncProvider` is its interface for threads. A response that is not a usable answer (empty,
incomplete, not JSON, a proxy's page) is an error with a reason. A request is retried only before
any text of the answer was delivered.

This file imports nothing, because commands that never load openai import `provider.endpoint`.
"""
