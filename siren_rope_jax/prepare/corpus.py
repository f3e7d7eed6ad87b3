"""Texts as a prepared log: a document is a user, its tokens are the user's events.

Tokens are byte pairs (BPE) that the training documents choose; every byte is a token too, so
nothing is unknown. Beside it an event has the signals of its first byte (`text_layout.py`), which
are known before the token is, and the time of its text if that has one.
"""

import dataclasses
import hashlib
import platform
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.extras import needs
from siren_rope_jax.base.files import expanded
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.schema import TEST, TRAIN, VALIDATION, Categorical, Count, Schema
from siren_rope_jax.prepare.documents import Document, read_documents
from siren_rope_jax.prepare.histories import Histories
from siren_rope_jax.prepare.text_layout import DEPTH, PLACES, bracket_depth, layout
from siren_rope_jax.prepare.writer import vocabulary, write_log

SINCE_NEWLINE = "since_newline"
"""The number of tokens since the last one that ends a line."""

MOST_COUNTED = 1023
"""Larger values of a signal are not told apart by what is learned for each value."""

_BYTES = 256


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Texts that a machine has already, and how they become a log.

    Attributes:
      corpus: `python`: the modules of a folder, or of the running Python's standard library.
        `changelogs`: those that Debian packages install, with the time of every entry; a document
        has the entries about one source package, in the order of their times.
      name: the data set's.
      exclude: a text is left out if a folder or file name of its path fits one of these globs.
      tokens: size of the vocabulary, at least 256.
      validation: share of the documents in this split, which a hash of their names draws.
      test: share of the documents in this one, drawn likewise.
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
        return (*PLACES, *[DEPTH] * (self.corpus == "python"), SINCE_NEWLINE)

    def split_of(self, document: str) -> int:
        """The split of a document, which depends on its name alone."""
        place = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8]) / 2**64
        if place < self.test:
            return TEST
        return VALIDATION if place < self.test + self.validation else TRAIN


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
    documents, notes = read_documents(
        root,
        changelogs=config.corpus == "changelogs",
        exclude=config.exclude,
        most_bytes=config.most_bytes,
    )
    split = np.array([config.split_of(document.name) for document in documents], np.int64)
    for name, which in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        if not (split == which).any():
            about = f"has {len(documents)} texts, which leave the split {name} empty"
            raise UserError(root, about)
    bpe = _Bpe([d.text for d, of in zip(documents, split, strict=True) if of == TRAIN], config)
    columns = [_tokens(document, bpe, config) for document in documents]
    lengths = [len(own["token"]) for own in columns]
    events = {key: np.concatenate([own[key] for own in columns]) for key in columns[0]}
    events["split"] = np.repeat(split, lengths)
    train = {key: values[events["split"] == TRAIN] for key, values in events.items()}
    used = np.bincount(train["token"], minlength=len(bpe.values))
    order = np.argsort(-used, kind="stable")
    table = vocabulary([bpe.values[o] for o in order], used[order])
    events["categorical/item"] = (1 + np.argsort(order)).astype(np.int32)[events.pop("token")]
    events |= {"user_index": np.repeat(np.arange(len(documents)), lengths)}
    events |= {"row": np.arange(len(events["split"]))}
    schema = _schema(config, root, train, events["time"], len(table))
    stream = Histories([pa.record_batch(events)], schema, len(table))
    histories = [rows for block, of in stream for rows in np.split(block, of.cumsum()[:-1])]
    report = {
        "rows_read": len(events["row"]),
        "users": len(documents),
        "warnings": notes,
        **stream.report(),
        "corpus": _about(documents, root),
        "config": to_dict(config),
        "seconds": round(time.monotonic() - began, 2),
    }
    names = [document.name for document in documents]
    return write_log(output, stream.fitted(), histories, names, {"item": table}, report)


def _schema(
    config: CorpusConfig, root: Path, train: dict[str, np.ndarray], time: np.ndarray, tokens: int
) -> Schema:
    """Of a log with these columns of training events, and these times of all."""
    of_train, of_all = (of[of != NO_TIME] for of in (train["time"], time))
    first, last = (int(of_train.min()), int(of_train.max())) if len(of_train) else (0, -1)
    return Schema(
        name=config.name,
        categorical=(Categorical("item", tokens, tokens),),
        dense=(),
        context=(),
        actions=(),
        tasks=(),
        has_utc_offset=bool(len(of_all)),
        train_start=first,
        train_end=last + 1,
        validation_end=last + 1,
        end=int(of_all.max()) if len(of_all) else 0,
        source=_source(config, root),
        protocol="by_user",
        counts=tuple(
            Count(name, min(int(train[f"count/{name}"].max()), MOST_COUNTED))
            for name in config.counts
        ),
    )


def _about(documents: Iterable[Document], root: Path) -> dict[str, Any]:
    """What tells a corpus from another one."""
    digest, size = hashlib.sha256(), 0
    for document in documents:
        text = document.text
        size += len(text)
        digest.update(document.name.encode() + b"\0" + text + b"\0")
    python = platform.python_version()
    return {"bytes": size, "sha256": digest.hexdigest(), "folder": str(root), "python": python}


class _Bpe:
    """Byte pairs of a text.

    Attributes:
      values: the tokens by number. Every byte is written as one character, so a token has as many
        bytes as its value has characters.
    """

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
        self._lengths = np.array([len(value) for value in self.values], np.int64)

    def __call__(self, text: bytes) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        """The numbers of a text's tokens, and the length of each in bytes."""
        numbers = np.array(self._tokenizer.encode(text.decode()).ids, np.int64)
        lengths = self._lengths[numbers]
        if lengths.sum() != len(text):
            raise ValueError(f"tokens of {lengths.sum()} bytes for a text of {len(text)}")
        return numbers, lengths


def _tokens(document: Document, bpe: _Bpe, config: CorpusConfig) -> dict[str, np.ndarray]:
    """The columns of a document's events."""
    text = document.text
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
    is_first, at = np.diff(signals["line"][first], prepend=-1) > 0, np.arange(len(first))
    since = at - np.maximum.accumulate(np.where(is_first, at, 0))
    columns = {f"count/{name}": signal[first] for name, signal in signals.items()}
    columns[f"count/{SINCE_NEWLINE}"] = since.astype(np.int32)
    return {
        "token": np.concatenate(ids),
        "time": np.concatenate(times),
        "utc_offset": np.concatenate(offsets),
        **{f"count/{name}": columns[f"count/{name}"] for name in config.counts},
    }


def _folder(config: CorpusConfig) -> Path:
    python = config.corpus == "python"
    return Path(sysconfig.get_path("stdlib") if python else "/usr/share/doc")


def _source(config: CorpusConfig, root: Path) -> str:
    if config.corpus == "python":
        return f"Python {platform.python_version()}, the modules below {root}"
    return f"changelogs of Debian packages below {root}"
