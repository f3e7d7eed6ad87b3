"""Errors a user can act on."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: its one message says what is wrong, where, and what would be right."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known name, or the list of all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def check(holds: bool, key: str, right: str) -> None:
    """Refuses a config value.

    Args:
      holds: whether it is right.
      key: its dotted name below `config`.
      right: what it must be.

    Raises:
      UserError: it is not.
    """
    if not holds:
        raise UserError(f"config.{key}: must be {right}")
