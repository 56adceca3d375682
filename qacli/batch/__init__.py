"""Batches: many questions from a file, asked concurrently.

The database is the checkpoint: items and their states are rows, so that the same command can be run
again to ask only the items without an answer, and several processes can share a batch.
"""
