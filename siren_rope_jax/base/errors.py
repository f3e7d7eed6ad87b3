"""Errors that a user can act on."""

import difflib
from collections.abc import Iterable
from pathlib import Path

LISTED = 20
"""How many names a message lists at most."""
_MOST = 1_200  # characters of a message
_QUOTED = 60  # characters of a value of the user's data in a message


class UserError(ValueError):
    """Bad input. The message says what is wrong, where, and what would be right, on one line.

    Attributes:
      about: what is wrong: a dotted config key ("config.training.epochs"), a flag ("--workdir"), an
        argument of a function, a column, or a file. Programs and tests go by it.
      problem: what is wrong with it and what would be right, in words that may improve.
    """

    def __init__(self, about: str | Path, problem: str = "") -> None:
        self.about = one_line(str(about))
        self.problem = one_line(problem)
        super().__init__(self.about, self.problem)  # both, so that processes can exchange it

    def __str__(self) -> str:
        # Config flags raise an error again with its text alone.
        return f"{self.about}: {self.problem}" if self.problem else self.about

    def below(self, where: str) -> "UserError":
        """The same error about a key of the group `where`."""
        return UserError(f"{where}.{self.about}", self.problem)


def one_line(text: str, most: int = _MOST) -> str:
    """The text on one line: line ends and other control characters are blanks; a long one is cut.

    Args:
      text: of any length.
      most: characters of the result; the end of a longer text gives way to "...".
    """
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * most]).split()
    line = " ".join(words)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def excerpt(value: object) -> str:
    """The `repr` of a value of the user's data, cut: messages go into logs that others read."""
    return one_line(repr(value), _QUOTED)


def suggestion(name: object, known: Iterable[object]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known name, or a list of the known names.

    Names may be of any type; they are compared as text, and at most `LISTED` of them are listed.
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
    """Refuses a value.

    Args:
      holds: whether the value is right.
      key: the name of the value: a field of the config that checks itself.
      right: what the value must be.

    Raises:
      UserError: the value is wrong.
    """
    if not holds:
        raise UserError(key, f"must be {right}")
