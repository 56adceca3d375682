"""US dollars as a person reads them: an answer can cost less than a hundredth of a cent."""

SMALLEST = 0.0001


def dollars(cost: float) -> str:
    """The number; what is less than it can show is not shown as nothing."""
    return f"<{SMALLEST}" if 0 < cost < SMALLEST else f"{cost:.4f}"


def usd(cost: float) -> str:
    """The number and its unit."""
    return f"{dollars(cost)} USD"
