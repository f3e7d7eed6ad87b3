"""Folders in a bucket or in another store that fsspec reaches by a URL: gs://, s3://, file://, ...

A prepared log in a store is copied to this machine once. A work directory in a store is a folder on
this machine while a script runs, whose files are brought to the store again and again.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.base.files import expanded, locked, read_json, replacing, write_json

CACHE = "SIREN_ROPE_CACHE"
"""The environment variable that names the folder of copies; else it is below ~/.cache."""

SECONDS = 10.0
"""Between two times that a work directory is brought to its store."""

_VERSIONS = ".versions.json"  # of the files of a copy
_OWNER = "owner.txt"  # in a store: rewritten by the process that uses a work directory
_LAST = "_CHECKPOINT_METADATA"  # completes a checkpoint
_UNFINISHED = ("orbax-checkpoint-tmp",)  # in names of what is being written


def is_url(path: str | Path) -> bool:
    """Whether it names something in a store, not on this machine."""
    return "://" in str(path)


def absolute(path: str | Path) -> str:
    """The path from anywhere on this machine; a URL as it is."""
    return str(path) if is_url(path) else str(expanded(path).absolute())


def local(path: str | Path) -> Path:
    """A folder on this machine: the path itself, or for a URL a copy that is up to date.

    Raises:
      UserError: the store cannot be reached, or has no files there.
    """
    if not is_url(path):
        return expanded(path)
    url = str(path).rstrip("/")
    cache = os.environ.get(CACHE) or Path.home() / ".cache" / "siren-rope-jax"
    name = f"{url.rpartition('/')[2]}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder = expanded(cache) / name
    with locked(folder, "another process copies it", wait=True):
        store, versions = Store(url), folder / _VERSIONS
        found = store.versions()
        if not found:
            raise UserError(url, "there are no files")
        held = read_json(versions)["versions"] if versions.is_file() else {}
        wanted = [n for n, v in found.items() if held.get(n) != v or not (folder / n).is_file()]
        if wanted:
            versions.unlink(missing_ok=True)  # until the copy is whole again
            print(f"copying {url} to {folder}", file=sys.stderr)
        for file in wanted:
            store.get(file, folder / file)
        for file in held.keys() - found.keys():
            (folder / file).unlink(missing_ok=True)
        if wanted or held.keys() != found.keys():
            write_json(versions, {"versions": found})
    return folder


@contextmanager
def workdir_of(path: str | Path, alone: bool = True) -> Iterator[Path]:
    """A work directory on this machine: the path itself or, for a URL, a mirror of that folder.

    The mirror begins with the files of the store. Every `SECONDS`, and at last, changed files are
    brought there, and removed ones removed; a checkpoint is complete there after all of its files
    are. If the last time fails, the folder stays on this machine, and the error names it.

    Args:
      path: of the directory.
      alone: whether this is the only process of the run.

    Raises:
      UserError: the store cannot be reached; another process uses that folder, which is waited for
        a little if it may have been killed; or this process is not alone, for processes must share
        one directory.
    """
    if not is_url(path):
        yield expanded(path)
        return
    if not alone:
        about = "several processes need a directory that all have mounted (gcsfuse, Filestore)"
        raise UserError(path, about)
    url = str(path).rstrip("/")
    store = Store(url)
    _claim(store)
    folder = Path(tempfile.mkdtemp(prefix="siren-rope-")) / url.rpartition("/")[2]
    mirror = _Mirror(store, folder)
    mirror.fetch()
    ended = threading.Event()
    thread = threading.Thread(target=mirror.keep_up, args=(ended,), daemon=True)
    thread.start()
    try:
        yield folder
    finally:
        ended.set()
        thread.join()
        try:
            mirror.push()
            mirror.leave()
        except UserError as error:
            raise UserError(url, f"{error.problem}; the files are in {folder}") from error
        shutil.rmtree(folder.parent, ignore_errors=True)  # also of a run that was refused


class Store:
    """A folder of a store, whose files are named by their paths in it.

    All methods raise a `UserError` about its URL if the store cannot do it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._told():
            self._files, self._root = fsspec.core.url_to_fs(url)

    def versions(self) -> dict[str, str]:
        """What tells a file from a later one of the same name, by name."""
        with self._told():
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        return {
            path[len(self._root) :].lstrip("/"): hashlib.sha256(
                repr(sorted((k, repr(v)) for k, v in about.items())).encode()
            ).hexdigest()
            for path, about in found.items()
        }

    def get(self, name: str, path: Path) -> None:
        """Copies a file to this machine."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._told(), replacing(path) as temporary:
            self._files.get_file(f"{self._root}/{name}", str(temporary))

    def put(self, path: Path, name: str) -> None:
        """Copies a file of this machine to the store."""
        target = f"{self._root}/{name}"
        with self._told():
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), target)

    def read(self, name: str) -> str | None:
        """The text of a file; None if there is none."""
        with self._told():
            self._files.invalidate_cache()
            target = f"{self._root}/{name}"
            return self._files.cat_file(target).decode() if self._files.exists(target) else None

    def write(self, name: str, text: str) -> None:
        """Writes a file."""
        with self._told():
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(f"{self._root}/{name}", text.encode())

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._told():
            if self._files.exists(f"{self._root}/{name}"):
                self._files.rm_file(f"{self._root}/{name}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of the store's own package: any
            said = one_line(str(error) or type(error).__name__, 300)
            raise UserError(self.url, f"cannot be used: {said}") from error


class _Mirror:
    """A folder of a store and its copy on this machine, which changes."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._brought: dict[str, tuple[int, int]] = {}  # size and time of what is in the store

    def leave(self) -> None:
        """Lets others use it."""
        self._store.remove(_OWNER)

    def fetch(self) -> None:
        """Copies all files of the store."""
        self._folder.mkdir(parents=True)
        for name in self._store.versions():
            if name != _OWNER:
                self._store.get(name, self._folder / name)
        self._brought = self._present()

    def keep_up(self, ended: threading.Event) -> None:
        """Brings changes to the store until the end; what fails is reported and tried again."""
        while not ended.wait(SECONDS):
            try:
                self.push()
            except UserError as error:
                print(f"warning: {error}; trying again", file=sys.stderr)

    def push(self) -> None:
        """Brings all changes to the store."""
        _sign(self._store)
        present = self._present()
        for name in sorted(present, key=_order):
            if self._brought.get(name) != present[name]:
                try:
                    self._store.put(self._folder / name, name)
                except UserError:
                    if (self._folder / name).exists():
                        raise
                    continue  # removed meanwhile
                self._brought[name] = present[name]
        for name in self._brought.keys() - present.keys():
            self._store.remove(name)
            del self._brought[name]

    def _present(self) -> dict[str, tuple[int, int]]:
        """Size and time of the files that are complete."""
        found = {}
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if hidden or any(word in name for word in _UNFINISHED):
                continue
            try:
                about: Any = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                found[name] = about.st_size, about.st_mtime_ns
        return found


def _claim(store: Store) -> None:
    """Refuses a folder that another process uses: one that goes on rewriting its file."""
    said, until = store.read(_OWNER), time.monotonic() + 2 * SECONDS
    while said is not None and time.monotonic() < until:
        time.sleep(SECONDS / 10)
        now = store.read(_OWNER)
        if now not in (said, None):
            about = "another process uses it; wait for it, or choose another --workdir"
            raise UserError(store.url, about)
        said = now
    _sign(store)


def _sign(store: Store) -> None:
    store.write(_OWNER, str(time.time_ns()))


def _order(name: str) -> tuple[bool, bool, str]:
    """What a run says before its checkpoints, and what completes one last."""
    return name.endswith(_LAST), name.startswith("checkpoints/"), name
