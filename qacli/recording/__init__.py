"""Durable recording: the outbox, the recorders that write to it, and recovery."""
