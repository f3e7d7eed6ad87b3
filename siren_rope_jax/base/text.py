"""Numbers as texts."""


def number(value: float | None, digits: int, factor: float = 1) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value * factor:.{digits}f}"
