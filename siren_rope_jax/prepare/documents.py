"""The documents of a corpus: texts that a machine has, and where their parts have times."""

import datetime
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, NO_TIME

Part = tuple[bytes, int, int]
"""Some text, its time in Unix seconds UTC, and the offset of its writer's clock in seconds."""

_UNREADABLE = "files are not readable as UTF-8 and were left out"
_UNDATED = "entries have no date that can be read and were left out"


class Document(NamedTuple):
    """A text and where its parts have times.

    Attributes:
      name: tells it from all others.
      parts: its text, in order.
    """

    name: str
    parts: Sequence[Part]

    @property
    def text(self) -> bytes:
        """All of it."""
        return b"".join(part for part, _, _ in self.parts)

    def beginning(self, most: int) -> "Document":
        """The parts up to so many bytes; the last one may be cut, but not within a character."""
        kept: list[Part] = []
        for text, seconds, offset in self.parts:
            if len(text) > most:
                cut = text[:most].decode(errors="ignore").encode()
                kept += [(cut, seconds, offset)] * bool(cut)
                break
            kept.append((text, seconds, offset))
            most -= len(text)
        return self._replace(parts=kept)


def read_documents(
    root: Path, *, changelogs: bool, exclude: Sequence[str], most_bytes: int
) -> tuple[list[Document], list[str]]:
    """The documents in a folder.

    Args:
      root: the folder.
      changelogs: those of Debian packages, instead of modules of Python.
      exclude: globs; a file is left out if a part of its path fits one of them.
      most_bytes: of a document; what follows is left out.

    Returns:
      the documents by name, of equal ones the first; and notes on what could not be read.
    """
    left_out = Counter[str]()
    texts = _texts(root, "changelog.Debian*" if changelogs else "*.py", exclude, left_out)
    if changelogs:
        documents = _by_source(entry for _, text in texts for entry in _entries(text, left_out))
    else:
        found = {text: Document(name, [(text, NO_TIME, 0)]) for name, text in [*texts][::-1]}
        documents = [*found.values()]
    kept = (document.beginning(most_bytes) for document in documents)
    notes = [f"{count} {what}" for what, count in left_out.items()]
    return sorted(document for document in kept if len(document.text) > 1), notes


def _texts(
    root: Path, glob: str, exclude: Sequence[str], left_out: Counter[str]
) -> Iterator[tuple[str, bytes]]:
    """The files below a folder that are UTF-8, by their path in it."""
    for path in sorted(root.rglob(glob)):
        name = path.relative_to(root)
        globs = (*exclude, "__pycache__", "site-packages")
        excluded = any(fnmatch(part, glob) for part in name.parts for glob in globs)
        if excluded or path.is_symlink() or not path.is_file():
            continue
        try:
            raw = path.read_bytes()
            text = gzip.decompress(raw) if path.suffix == ".gz" else raw
            text.decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError):
            left_out[_UNREADABLE] += 1
            continue
        yield name.as_posix(), text


_ENTRY = re.compile(
    rb"^(?P<head>(?P<source>\S+) \([^\n]*\n)(?P<body>.*?)^ -- [^\n]*?  (?P<date>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)
"""Of a Debian changelog: its first line begins with the name of the source package, its last one is
the signature."""


class _Entry(NamedTuple):
    """Of a changelog, without its signature, which would tell the time by its own text."""

    source: str
    head: bytes
    body: bytes
    seconds: int
    offset: int


def _entries(text: bytes, left_out: Counter[str]) -> Iterator[_Entry]:
    """Those of a changelog that have a readable date."""
    for found in _ENTRY.finditer(text):
        try:
            date = parsedate_to_datetime(found["date"].decode())
        except ValueError:
            left_out[_UNDATED] += 1
            continue
        date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)  # of a zone "-0000"
        seconds, zone = int(date.timestamp()), date.utcoffset() or datetime.timedelta()
        offset = int(zone.total_seconds())
        if not MIN_TIME <= seconds < MAX_TIME or abs(offset) > MAX_UTC_OFFSET:
            left_out[_UNDATED] += 1
            continue
        body = found["body"].rstrip(b"\n") + b"\n\n"
        yield _Entry(found["source"].decode(), found["head"], body, seconds, offset)


def _by_source(entries: Iterable[_Entry]) -> list[Document]:
    """A document for each source package, whose entries many packages may repeat.

    The first line of an entry still has the time of the entry before it: where the time changes
    would tell, otherwise, where an entry ends.
    """
    of_source: dict[str, set[_Entry]] = {}
    for entry in entries:
        of_source.setdefault(entry.source, set()).add(entry)
    documents = []
    for source, own in of_source.items():
        parts, before = list[Part](), (NO_TIME, 0)
        for entry in sorted(own, key=lambda e: (e.seconds, e.head, e.body)):
            parts += [(entry.head, *before), (entry.body, entry.seconds, entry.offset)]
            before = entry.seconds, entry.offset
        documents.append(Document(source, parts))
    return documents
