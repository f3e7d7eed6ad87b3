"""Texts as a prepared log: a document is a user, its tokens are the user's events.

Tokens are byte pairs (BPE) that the training documents choose; every byte is a token too, so
nothing is unknown. Beside it an event has the signals of its first byte (`layout.py`), which are
known before the token is, and the time of its text if that has one.
"""

import dataclasses
import gzip
import hashlib
import platform
import re
import sysconfig
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.extras import needs
from siren_rope_jax.base.files import expanded
from siren_rope_jax.base.times import MAX_TIME, MIN_TIME, NO_TIME
from siren_rope_jax.data.schema import TEST, TRAIN, VALIDATION, Categorical, Count, Schema
from siren_rope_jax.prepare.histories import Histories
from siren_rope_jax.prepare.layout import DEPTH, LAYOUT, bracket_depth, layout
from siren_rope_jax.prepare.writer import vocabulary, write_log

SINCE_NEWLINE = "since_newline"
"""The number of tokens since the last one that ends a line."""

_BYTES = 256


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Texts that a machine has already, and how they become a log.

    Attributes:
      corpus: `python`: the modules of a folder, or of the running Python's standard library.
        `changelogs`: those that Debian packages install, with the time of every entry; a document
        is a package's, its entries in the order of their times.
      name: the data set's.
      exclude: a document is left out if a folder or file name of its path is one of these.
      tokens: size of the vocabulary, at least 256.
      validation, test: shares of the documents in these splits, which a hash of their names draws.
      most_bytes: of a document; what follows is left out.
    """

    corpus: Literal["python", "changelogs"]
    name: str
    exclude: tuple[str, ...] = ()
    tokens: int = 2048
    validation: float = 0.05
    test: float = 0.05
    most_bytes: int = 1 << 18

    def __post_init__(self) -> None:
        check(self.tokens >= _BYTES, "tokens", f"at least {_BYTES}, one for every byte")
        for key in ("validation", "test"):
            check(0 < getattr(self, key) < 0.5, key, "above 0 and below .5")
        check(self.most_bytes >= 1, "most_bytes", "at least 1")

    @property
    def counts(self) -> tuple[str, ...]:
        """The names of the events' signals."""
        return (*LAYOUT, *[DEPTH] * (self.corpus == "python"), SINCE_NEWLINE)

    def split_of(self, document: str) -> int:
        """The split of a document, which depends on its name alone."""
        place = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8]) / 2**64
        if place < self.test:
            return TEST
        return VALIDATION if place < self.test + self.validation else TRAIN


class Document(NamedTuple):
    """A text and where its parts have times.

    Attributes:
      name: tells it from all others.
      parts: its text in order, and the time of each part: Unix seconds UTC, and the offset of the
        writer's clock in seconds.
    """

    name: str
    parts: Sequence[tuple[bytes, int, int]]


def generate(config: CorpusConfig, folder: str | Path | None, output: str | Path) -> dict[str, Any]:
    """Writes the prepared log of a corpus.

    Args:
      config: which one.
      folder: of the texts; None: where this machine has them.
      output: the log's directory.

    Returns:
      the report, which is also in meta.json; its "corpus" has the SHA-256 of all texts.

    Raises:
      UserError: there is no such folder, it has no texts for every split, `tokenizers` is not
        installed, or as `write_log`.
    """
    began = time.monotonic()
    root = _folder(config) if folder is None else expanded(folder)
    if not root.is_dir():
        raise UserError(root, "is not a folder of texts")
    documents = list(_documents(config, root))
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.name.encode() + b"\0" + _text(document) + b"\0")
    split = np.array([config.split_of(document.name) for document in documents], np.int64)
    for name, which in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        if not (split == which).any():
            raise UserError(root, f"has {len(documents)} documents, and none of them is {name}")
    bpe = _Bpe([_text(d) for d, of in zip(documents, split, strict=True) if of == TRAIN], config)
    tokens = [_tokens(document, bpe, config) for document in documents]
    counts = np.zeros(len(bpe.values) + 1, np.int64)
    for columns, of in zip(tokens, split, strict=True):
        if of == TRAIN:
            counts += np.bincount(columns["token"], minlength=len(counts))
    order = np.argsort(-counts[1:], kind="stable")
    ids = np.concatenate([[0], 1 + np.argsort(order)]).astype(np.int32)
    table = vocabulary([bpe.values[o] for o in order], counts[1:][order])
    lengths = [len(columns["token"]) for columns in tokens]
    joined = {key: np.concatenate([columns[key] for columns in tokens]) for key in tokens[0]}
    in_train = np.repeat(split == TRAIN, lengths)
    times = joined["time"][joined["time"] != NO_TIME]
    span = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    schema = Schema(
        name=config.name,
        categorical=(Categorical("item", len(table), len(table)),),
        dense=(),
        context=(),
        actions=(),
        tasks=(),
        has_utc_offset=bool(len(times)),
        train_start=span[0],
        train_end=span[1] + 1,
        validation_end=span[1] + 1,
        end=span[1],
        source=_source(config, root),
        protocol="by_user",
        counts=tuple(Count(n, int(joined[f"count/{n}"][in_train].max())) for n in config.counts),
    )
    events = {
        "user_index": np.repeat(np.arange(len(documents)), lengths),
        "row": np.arange(len(in_train)),
        "split": np.repeat(split, lengths),
        "categorical/item": ids[joined.pop("token")],
        **joined,
    }
    stream = Histories([pa.record_batch(events)], schema, len(table))
    histories = [rows for block, of in stream for rows in np.split(block, of.cumsum()[:-1])]
    report = {
        "rows_read": len(in_train),
        "users": len(documents),
        "warnings": [],
        **stream.report(),
        "corpus": {
            "bytes": sum(len(_text(document)) for document in documents),
            "sha256": digest.hexdigest(),
            "folder": str(root),
            "python": platform.python_version(),
        },
        "config": to_dict(config),
        "seconds": round(time.monotonic() - began, 2),
    }
    names = [document.name for document in documents]
    return write_log(output, stream.fitted(), histories, names, {"item": table}, report)


def token_bytes(value: str) -> int:
    """The length in bytes of a token, from its value in the vocabulary."""
    return len(value)  # byte-level BPE writes every byte as one character


class _Bpe:
    """Byte pairs of a text; ids from 1 in the order of `values`."""

    def __init__(self, texts: Sequence[bytes], config: CorpusConfig) -> None:
        """Trains on texts."""
        with needs("language"):
            from tokenizers import Tokenizer, models, pre_tokenizers, trainers
        self._tokenizer = Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=config.tokens, initial_alphabet=alphabet, show_progress=False
        )
        self._tokenizer.train_from_iterator((text.decode() for text in texts), trainer)
        numbers = self._tokenizer.get_vocab()
        self.values = sorted(numbers, key=numbers.__getitem__)

    def __call__(self, text: bytes) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        """The ids of a text's tokens, and the length of each in bytes."""
        ids = np.array(self._tokenizer.encode(text.decode()).ids, np.int64)
        lengths = np.array([token_bytes(value) for value in self.values], np.int64)[ids]
        if lengths.sum() != len(text):
            raise ValueError(f"tokens of {lengths.sum()} bytes for a text of {len(text)}")
        return ids + 1, lengths


def _tokens(document: Document, bpe: _Bpe, config: CorpusConfig) -> dict[str, np.ndarray]:
    """The columns of a document's events."""
    text = _text(document)
    signals = layout(text)
    if config.corpus == "python":
        signals[DEPTH] = bracket_depth(text)
    ids, lengths, times, offsets = [], [], [], []
    for part, seconds, offset in document.parts:
        own, of_bytes = bpe(part)
        ids.append(own)
        lengths.append(of_bytes)
        times.append(np.full(len(own), seconds, np.int64))
        offsets.append(np.full(len(own), offset, np.int64))
    length = np.concatenate(lengths)
    first = np.cumsum(length) - length
    # A token ends a line if the line of the next one's first byte is another.
    line = signals["line"][first]
    begins = np.flatnonzero(np.diff(line, prepend=-1))
    since = (
        np.arange(len(line)) - begins[np.searchsorted(begins, np.arange(len(line)), "right") - 1]
    )
    columns = {f"count/{name}": signal[first] for name, signal in signals.items()}
    columns[f"count/{SINCE_NEWLINE}"] = since.astype(np.int32)
    return {
        "token": np.concatenate(ids),
        "time": np.concatenate(times),
        "utc_offset": np.concatenate(offsets),
        **{f"count/{name}": columns[f"count/{name}"] for name in config.counts},
    }


def _text(document: Document) -> bytes:
    return b"".join(part for part, _, _ in document.parts)


def _folder(config: CorpusConfig) -> Path:
    python = config.corpus == "python"
    return Path(sysconfig.get_path("stdlib") if python else "/usr/share/doc")


def _source(config: CorpusConfig, root: Path) -> str:
    if config.corpus == "python":
        return f"Python {platform.python_version()}, the modules below {root}"
    return f"changelogs of Debian packages below {root}"


def _documents(config: CorpusConfig, root: Path) -> Iterator[Document]:
    """All of a folder, by name."""
    python = config.corpus == "python"
    for path in sorted(root.rglob("*.py" if python else "changelog.Debian*")):
        name = path.relative_to(root)
        if set(name.parts) & {*config.exclude, "__pycache__", "site-packages"}:
            continue
        if not path.is_file() or path.is_symlink():
            continue
        raw = path.read_bytes()
        try:
            text = gzip.decompress(raw) if path.suffix == ".gz" else raw
            text.decode()
        except (OSError, EOFError, UnicodeDecodeError):
            continue
        parts = [(text, NO_TIME, 0)] if python else _entries(text)
        parts = _beginning(parts, config.most_bytes)
        if sum(len(part) for part, _, _ in parts) > 1:
            yield Document(name.as_posix(), parts)


def _beginning(parts: Sequence[tuple[bytes, int, int]], most: int) -> list[tuple[bytes, int, int]]:
    """The parts up to so many bytes; the last one may be cut, but not within a character."""
    kept: list[tuple[bytes, int, int]] = []
    for part, seconds, offset in parts:
        part = part[:most].decode(errors="ignore").encode()
        most -= len(part)
        if part:
            kept.append((part, seconds, offset))
    return kept


_SIGNED = re.compile(rb"^ -- .*?  (?P<date>.+)$", re.MULTILINE)
"""The last line of an entry of a Debian changelog."""


def _entries(text: bytes) -> list[tuple[bytes, int, int]]:
    """The entries of a Debian changelog, the oldest first; those without a readable date are left
    out, and so are the signatures, which would tell a time by its own text.
    """
    entries, begin = [], 0
    for signed in _SIGNED.finditer(text):
        entry, begin = text[begin : signed.start()].strip(b"\n") + b"\n\n", signed.end()
        try:
            date = parsedate_to_datetime(signed["date"].decode())
            seconds, zone = int(date.timestamp()), date.utcoffset()
        except (ValueError, TypeError, OverflowError):
            continue
        offset = int(zone.total_seconds()) if zone else 0
        if MIN_TIME <= seconds < MAX_TIME and abs(offset) <= 15 * 3600:
            entries.append((entry, seconds, offset))
    return sorted(entries, key=lambda entry: entry[1])
