"""Translate requests and responses between the Chat Completions API and the Responses API."""
