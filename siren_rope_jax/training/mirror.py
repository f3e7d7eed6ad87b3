"""Work directories in a store: a folder on this machine, whose changes are brought to the store."""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import expanded
from siren_rope_jax.base.stores import Store, is_url

SECONDS = 10.0
"""Between two times that a work directory is brought to its store."""

_OWNER = "owner.txt"  # in a store: rewritten by the process that uses a work directory
_LAST = "_CHECKPOINT_METADATA"  # completes a checkpoint
_UNFINISHED = "orbax-checkpoint-tmp"  # in names of what is being written


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
            except Exception as error:
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
        """Size and time of the files that are complete. Folders may come and go meanwhile."""
        found = {}
        for folder, folders, files in os.walk(self._folder, onerror=self._unless_gone):
            folders[:] = filter(_is_complete, folders)
            for path in (Path(folder, name) for name in files if _is_complete(name)):
                with suppress(FileNotFoundError):
                    about = path.stat()
                    name = path.relative_to(self._folder).as_posix()
                    found[name] = about.st_size, about.st_mtime_ns
        return found

    def _unless_gone(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or not self._folder.is_dir():
            raise error  # else what cannot be seen would be removed from the store


def _is_complete(name: str) -> bool:
    return not name.startswith(".") and _UNFINISHED not in name


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
