"""Texts for tables: numbers, and what a module says of itself."""

import ast
from pathlib import Path


def number(value: float | None, digits: int, factor: float = 1) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value * factor:.{digits}f}"


def first_line(path: Path) -> str:
    """Of the docstring of a module, which is not imported."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
