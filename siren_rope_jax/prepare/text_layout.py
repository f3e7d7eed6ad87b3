"""Where every byte stands in its text: integer signals that the bytes before it determine.

So a model may know those of the token that it is to predict.
"""

import re

import numpy as np
from jaxtyping import Int

PLACES = ("line", "column", "indent")
"""Of any text: the number of lines before this one, of bytes before this one in its line, and of
blanks and tabs among these until the first other byte."""

DEPTH = "depth"
"""Of Python: the number of open brackets."""


def layout(text: bytes) -> dict[str, Int[np.ndarray, " N"]]:
    """The signals `PLACES` of every byte."""
    if not text:
        return {name: np.zeros(0, np.int32) for name in PLACES}
    byte = np.frombuffer(text, np.uint8)
    begins = np.concatenate([[0], 1 + np.flatnonzero(byte[:-1] == ord("\n"))])
    line = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(byte)))
    column = np.arange(len(byte)) - begins[line]
    inked = ~np.isin(byte, list(b" \t"))
    first_ink = np.minimum.reduceat(np.where(inked, column, len(byte)), begins)
    indent = np.minimum(column, first_ink[line])
    signals = dict(zip(PLACES, (line, column, indent), strict=True))
    return {name: signal.astype(np.int32) for name, signal in signals.items()}


_PYTHON = re.compile(
    rb"""
      \#[^\n]*                                                          # a comment
    | (?P<three>\"{3}|'{3}) (?:\\.|(?!(?P=three)).)* (?:(?P=three)|\Z)  # strings, perhaps not ended
    | (?P<one>["'])          (?:\\.|(?!(?P=one))[^\n])* (?:(?P=one)|\Z|(?=\n))
    | (?P<opens>[(\[{])
    | (?P<closes>[)\]}])
    """,
    re.VERBOSE | re.DOTALL,
)


def bracket_depth(text: bytes) -> Int[np.ndarray, " N"]:
    """The signal `DEPTH` of every byte; brackets in strings and comments do not count."""
    change = np.zeros(len(text) + 1, np.int32)
    for token in _PYTHON.finditer(text):
        if token.lastgroup in ("opens", "closes"):
            change[token.end()] = 1 if token.lastgroup == "opens" else -1
    return np.maximum(np.cumsum(change[:-1]), 0).astype(np.int32)
