"""Measure the claims of `qa` about speed and memory: `python -m benchmarks`. See README.md here.

Each file measures one claim, or a few in the same setting. `measure` runs and times processes;
`setting` starts providers and databases.
"""
