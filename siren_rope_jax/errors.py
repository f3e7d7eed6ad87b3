"""Errors a user can act on."""

import difflib
from collections.abc import Iterable

LISTED = 20
"""At most so many names stand in a message."""


class UserError(ValueError):
    """Bad input: its one message says what is wrong, where, and what would be right."""


def suggestion(name: object, known: Iterable[object]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known name, or a list of the known names.

    Names may be of any type, and are compared as texts; of many only `LISTED` are named.
    """
    names = sorted(map(str, known))
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not names:
        return ""
    more = f", ... and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"; known: {', '.join(names[:LISTED])}{more}"


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
