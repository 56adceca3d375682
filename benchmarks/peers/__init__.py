"""Programs that are measured beside `qa`, or that observe it during a measurement."""
