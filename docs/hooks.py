"""What the site needs beside MkDocs: formulas as MathML, and links out of the folder of its pages.

The pages link to files of the repository by their paths, as a reader of the repository needs it.
"""

import os
import re
from configparser import ConfigParser
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

_ROOT = Path(__file__).resolve().parents[1]
_DOCS = _ROOT / "docs"
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_CELL = re.compile(r"<td.*?</td>", re.DOTALL)
_CODE = re.compile(r"<code>.*?</code>", re.DOTALL)


def on_config(config: Any) -> Any:
    """Takes the address of the repository, if it has one, from setup.cfg."""
    setup = ConfigParser()
    setup.read(_ROOT / "setup.cfg")
    config.repo_url = setup["metadata"].get("url")
    config.repo_name = config.repo_url and "Repository"
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Makes the links of a page those of the site.

    A link to a source goes to the repository; while that has no address, only its text is left.
    """
    source = (_DOCS / page.file.src_uri).resolve()  # docs/results is a link

    def of_site(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        if "://" in path:
            return link[0]
        target = (source.parent / path).resolve()
        if not target.exists() and target.suffix != ".ipynb":
            return link[0]  # MkDocs says that it is missing
        inside = target.relative_to(_ROOT)
        if target.suffix in (".md", ".png", ".txt") and inside.parts[0] in ("docs", "results"):
            place = _ROOT / inside if inside.parts[0] == "docs" else _DOCS / inside
            here = (_DOCS / page.file.src_uri).parent
            return f"[{text}]({Path(os.path.relpath(place, here)).as_posix()}{anchor})"
        if not config.repo_url:
            return text
        return f"[{text}]({config.repo_url}/blob/HEAD/{inside.as_posix()}{anchor})"

    pictures = re.sub(r"(!\[[^\]]*\]\()\.\./results/", r"\1results/", markdown)
    return _LINK.sub(of_site, pictures)


def on_page_content(html: str, **_: Any) -> str:
    """Writes formulas as MathML, which needs no script, and lets names in tables break.

    `pymdownx.arithmatex` has found the formulas.
    """

    def mathml(formula: re.Match[str]) -> str:
        return convert(unescape(formula[2]), display="block" if formula[1] == "div" else "inline")

    def breakable(cell: re.Match[str]) -> str:
        return _CODE.sub(
            lambda code: re.sub(r"(?<=\w)([._/,])(?=\w)", r"\1<wbr>", code[0]), cell[0]
        )

    return _CELL.sub(breakable, _FORMULA.sub(mathml, html))
