"""The limits of a batch at the provider's Batch API.

OpenAI allows 50,000 requests and 200 MB in a file; others allow no less, or say so in an error:
https://platform.openai.com/docs/api-reference/batch/create.
"""

MAX_LINES = 50_000
MAX_PART_BYTES = 190_000_000
"""A little less than the limit, whatever a provider counts as a megabyte."""
