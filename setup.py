"""What setup.cfg cannot say: README.md as PyPI can show it, without the files beside it.

Links and pictures lead to the repository if setup.cfg has its `url`. While there is none, their
text alone is left, and no picture.
"""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

_HERE = Path(__file__).parent
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")


def long_description() -> str:
    """README.md without relative links."""
    config = ConfigParser()
    config.read(_HERE / "setup.cfg", encoding="utf-8")
    url = config["metadata"].get("url")

    def absolute(link: re.Match[str]) -> str:
        is_picture, text, path = link.groups()
        if not url:
            return "" if is_picture else text
        return f"{is_picture}[{text}]({url}/{'raw' if is_picture else 'blob'}/HEAD/{path})"

    return _LINK.sub(absolute, (_HERE / "README.md").read_text(encoding="utf-8"))


setup(long_description=long_description())
