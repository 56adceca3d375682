"""Batches by the provider's Batch API: request lines, result lines, and the parts that are sent."""
