"""The pages of the documentation, and the code and commands in them, for tests to run."""

import re
import shlex
from pathlib import Path

from tests.scripts import ROOT

PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
"""All pages that are written by hand, but for those of results, and docs/config.md."""


def text_of(page: str) -> str:
    """The text of a page, which is named by its path in the repository."""
    return Path(ROOT, page).read_text(encoding="utf-8")


def python_blocks(page: str, heading: str = "") -> list[str]:
    """The Python code of a page, or of what is below one of its headings of the second level."""
    text = text_of(page)
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The arguments of every `siren-rope` command of a page, in blocks and within sentences."""
    text = text_of(page)
    blocks = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    in_blocks = re.findall(r"^(?:[\w=]+ )*siren-rope (.*)$", blocks, re.MULTILINE)
    sentences = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    in_sentences = re.findall(r"`siren-rope ([^`]*)`", sentences)
    return [shlex.split(line, comments=True) for line in (*in_blocks, *in_sentences)]
