"""Files that are complete or absent, never half-written, and a later change is noticed."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from siren_rope_jax.base.errors import UserError

LOCK = ".lock"
"""The name of a lock's file, which stays behind, empty."""
NOT_HERE = "is not a path on this machine; mount the store or fetch the files, and give that path"
"""What is wrong with a URL."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib has made one slash of two
_CHECKSUM = "checksum"  # the key of a JSON file's own checksum


def name_for_split(name: str, split: str, length: int | None = None) -> str:
    """The name of a run's file about a split: `name` for test, else with the split added to it.

    So is a `length` of rows, if it is not that of the training.
    """
    stem, dot, suffix = name.partition(".")
    added = ("_" + split) * (split != "test") + ("" if length is None else f"_{length}")
    return f"{stem}{added}{dot}{suffix}"


def expanded(path: str | Path) -> Path:
    """The path, in which a leading `~` or `~user` stands for a home folder, as in a shell.

    Raises:
      UserError: there is no such user, or it is a URL.
    """
    if _URL.match(str(path)):
        raise UserError(path, NOT_HERE)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(path, f"{error}; write the whole path") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling to write to, which replaces `path` once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The value of an existing JSON file, without the checksum that `write_json` added.

    A file without a checksum, such as one of an earlier version, is read as it is.

    Raises:
      UserError: it is not JSON, or was changed since it was written.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"is damaged ({error}); restore or remove it") from error
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from error
    if isinstance(value, dict) and _CHECKSUM in value:
        expected = value.pop(_CHECKSUM)
        if json_digest(value) != expected:
            raise UserError(
                path,
                "was changed since it was written: its checksum differs; restore or remove it",
            )
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file; an object gets a checksum of itself, which `read_json` verifies.

    Raises:
      ValueError: a number that JSON cannot hold (nan, infinity).
    """
    if isinstance(value, dict):
        value = json.loads(json.dumps(value, allow_nan=False))  # as `read_json` will see it
        value |= {_CHECKSUM: json_digest(value)}
    text = json.dumps(value, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read as a stream."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def locked(directory: Path, refusal: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a directory, its file `.lock`, which ends with the process if that dies.

    Args:
      directory: made if need be.
      refusal: what it means if another process holds the lock.
      wait: whether to wait for that process instead.

    Raises:
      UserError: another process holds it; or the directory cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(directory, f"cannot be made: {error.strerror}") from error
    lock = filelock.FileLock(directory / LOCK, blocking=wait)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(directory, refusal) from error
    # The latter is what filelock 3.16, which we support, raises on disks without locks.
    except (OSError, NotImplementedError) as error:
        raise UserError(directory, f"cannot be locked: {error}") from error
    try:
        yield
    finally:
        lock.release()


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value; the order of the keys of objects does not count."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
