"""Where every byte stands in its text: integer signals that the bytes before it determine.

So a model may know those of the token that it is to predict.
"""

import io
import tokenize
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

LAYOUT = ("line", "column", "indent")
"""Of any text: the number of lines before this one, of bytes before this one in its line, and of
blanks and tabs among these until the first other byte."""

DEPTH = "depth"
"""Of Python: the number of open brackets."""


def layout(text: bytes) -> dict[str, Int[np.ndarray, " N"]]:
    """The signals `LAYOUT` of every byte."""
    if not text:
        return {name: np.zeros(0, np.int32) for name in LAYOUT}
    byte = np.frombuffer(text, np.uint8)
    begins = np.concatenate([[0], 1 + np.flatnonzero(byte[:-1] == ord("\n"))])
    line = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(byte)))
    column = np.arange(len(byte)) - begins[line]
    inked = ~np.isin(byte, list(b" \t"))
    first_ink = np.minimum.reduceat(np.where(inked, column, len(byte)), begins)
    indent = np.minimum(column, first_ink[line])
    signals = dict(zip(LAYOUT, (line, column, indent), strict=True))
    return {name: signal.astype(np.int32) for name, signal in signals.items()}


def bracket_depth(text: bytes) -> Int[np.ndarray, " N"]:
    """The signal `DEPTH` of every byte; brackets in strings and comments do not count.

    From where the text is no Python any more, none is opened or closed.

    Raises:
      UnicodeDecodeError: it is not UTF-8.
    """
    change = np.zeros(len(text) + 1, np.int32)
    for place, opens in _brackets(text.decode()):
        change[place + 1] = 1 if opens else -1
    return np.maximum(np.cumsum(change[:-1]), 0).astype(np.int32)


def _brackets(text: str) -> Iterator[tuple[int, bool]]:
    """The byte at which each bracket stands, and whether it opens something."""
    lines = text.split("\n")
    begins = np.cumsum([0, *(len(line.encode()) + 1 for line in lines)]).tolist()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="\n").readline):
            if token.type == tokenize.OP and token.string in "([{)]}":
                row, column = token.start
                before = len(lines[row - 1][:column].encode())
                yield begins[row - 1] + before, token.string in "([{"
    except (tokenize.TokenError, SyntaxError):
        return
