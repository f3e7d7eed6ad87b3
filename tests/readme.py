"""The README's Python code, for the tests that run it."""

import re

from tests.scripts import ROOT


def python_blocks(heading: str) -> list[str]:
    """The Python code below a heading of the second level."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)
