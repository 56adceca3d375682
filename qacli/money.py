"""US dollars as text. An answer can cost less than a hundredth of a cent."""

MIN_VISIBLE_USD = 0.0001


def dollars(cost: float) -> str:
    """Return the number with four digits; a smaller cost is `<0.0001`."""
    return f"<{MIN_VISIBLE_USD}" if 0 < cost < MIN_VISIBLE_USD else f"{cost:.4f}"


def usd(cost: float) -> str:
    """Return the number with its unit."""
    return f"{dollars(cost)} USD"
