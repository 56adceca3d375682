"""What `qa` claims about speed and memory, measured: `python -m benchmarks`. See README.md here.

Each file is one claim, or a few that share their setting. `measure` runs and times processes,
`setting` provides what they run in.
"""
