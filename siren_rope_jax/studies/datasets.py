"""The data sets of an ablation or a sweep: prepared logs, made from raw ones where missing."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import load_config_file, to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.files import file_digest, locked
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.make import make_log, read_config
from siren_rope_jax.prepare.readers import find_files


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set: a prepared log, or how to make it.

    Attributes:
      name: in the report, and the name of its directory.
      base: path of the experiment's config file.
      prepared: directory of a prepared log, or its URL in a store; if empty, the log is prepared
        once, in WORKDIR/data/<name>.
      config: path of the data config to prepare it with, perhaps with an argument, as in
        `configs/data/movielens_next.py:genres`.
      input: the raw log, relative to the folder in SIREN_ROPE_DATA; empty for a synthetic feed.
      items: a file of one row for each of its items, relative to the same folder; empty for none.
      prepare: overrides for the data config, by dotted key.
      overrides: for the experiment's config on this data set, by dotted key.
      tuned_on: name of the data set on which a sweep has chosen the settings that an ablation has
        here (--chosen); if empty, this one.
    """

    name: str
    base: str
    prepared: str = ""
    config: str = ""
    input: str = ""
    items: str = ""
    prepare: dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    tuned_on: str = ""

    def __post_init__(self) -> None:
        check(
            bool(self.prepared) != bool(self.config),
            "prepared",
            "the directory of a prepared log, or else `config` must be a data config to prepare "
            f"one with, but not both (data set {self.name!r})",
        )
        right = "empty where `prepared` names a log, which has what is known of its items already"
        check(not (self.prepared and self.items), "items", f"{right} (data set {self.name!r})")

    def data_config(self) -> ConfigDict:
        """The config that its log is prepared with.

        Raises:
          UserError: as `load_config_file`.
        """
        path, _, argument = self.config.partition(":")
        return load_config_file(path, self.prepare, argument)

    def log(self, workdir: Path) -> "Log":
        """Its prepared log, in a study's directory if it is not elsewhere."""
        return Log(self.prepared or str(workdir / "data" / self.name))


@dataclasses.dataclass(frozen=True)
class Log:
    """The prepared log of a data set, which may not exist yet; shared by all its runs."""

    path: str  # or the URL

    @cached_property
    def fingerprint(self) -> str:
        """The `PreparedLog.fingerprint`, read once."""
        return PreparedLog.open(self.path).fingerprint


@contextmanager
def reserved(workdir: Path, wait: bool = False) -> Iterator[None]:
    """Keeps other ablations and sweeps out of `workdir`, which is made if need be.

    Args:
      workdir: of the study.
      wait: for another one that runs there.

    Raises:
      UserError: another one runs there, or it cannot be made.
    """
    refusal = "another study runs in it; wait for it, or choose another --workdir"
    with locked(workdir, refusal, wait):
        yield


def prepare_logs(datasets: Iterable[Dataset], workdir: Path) -> None:
    """Prepares the missing logs, as WORKDIR/data/<dataset>; all are checked before.

    Raises:
      UserError: SIREN_ROPE_DATA or an `input` is needed and missing, or a directory already holds
        something that was not made from this config; or as `make_log`.
    """
    todo = []
    for dataset in datasets:
        if dataset.prepared:
            PreparedLog.open(dataset.prepared)
            continue
        with naming(f"data set {dataset.name!r}"):
            config = dataset.data_config()
            read = read_config(config, dataset.input or None, dataset.items or None)
            values = json.loads(json.dumps(to_dict(read)))
        output = workdir / "data" / dataset.name
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            source, items = (_raw_file(dataset, x) for x in (dataset.input, dataset.items))
            todo.append((config, source, items, output))
        elif not _is_made_from(
            PreparedLog.open(output).report,
            values,
            digests=_digests(dataset.input),
            item_digests=_digests(dataset.items),
        ):
            raise UserError(
                output,
                "was prepared from another config, other files or by an earlier version; remove "
                "it, or choose another --workdir",
            )
    for config, source, items, output in todo:
        make_log(config, source, output, items=items)


def _is_made_from(
    report: Mapping[str, Any], config: Mapping[str, Any], **digests: list[str] | None
) -> bool:
    """Whether a log was made with this config from files of these digests; None: any files."""
    same = [of is None or report.get(key, []) == of for key, of in digests.items()]
    return report.get("config") == config and all(same)


def _digests(given: str) -> list[str] | None:
    """Those of files that a data set names, if any; None if they are no longer there."""
    if not given:
        return []
    folder = os.environ.get("SIREN_ROPE_DATA")
    try:
        return [file_digest(path) for path in find_files(Path(folder) / given)] if folder else None
    except UserError:
        return None


def _raw_file(dataset: Dataset, given: str) -> Path | None:
    """The input of a data set, or its file of items, which must be there; None if it has none."""
    if not given:
        return None
    hint = (
        f"set it to the folder that holds {given}, for data set {dataset.name!r} "
        f"({dataset.config} says where to get it)"
    )
    if not (folder := os.environ.get("SIREN_ROPE_DATA")):
        raise UserError("SIREN_ROPE_DATA", f"is not set; {hint}")
    try:
        find_files(Path(folder) / given)
    except UserError as error:
        raise UserError("SIREN_ROPE_DATA", f"{error}; {hint}") from error
    return Path(folder) / given


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Adds to a refusal which part of a study it concerns."""
    try:
        yield
    except UserError as error:
        raise UserError(error.about, f"{error.problem} ({what})") from error
