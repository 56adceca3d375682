"""The commands of `qa`, one module each."""
