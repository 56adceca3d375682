"""Many questions through the same provider into the same history.

The database is the checkpoint: items and their state are rows, so that the same command again
asks only what has no good answer, and several processes can share one batch.
"""
