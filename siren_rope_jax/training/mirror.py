"""Work directories in a store: a folder on this machine, whose changes are brought to the store.

One process at a time owns such a folder: the one whose token is in its file owner.txt. It rewrites
that file all the time, so that others see that it lives.
"""

import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import expanded
from siren_rope_jax.base.stores import Store, is_url
from siren_rope_jax.training.checkpoint import METADATA

SECONDS = 10.0
"""Between two times that a work directory is brought to its store."""

_OWNER = "owner.txt"
_STEP = re.compile(r"checkpoints/\d+/")
_UNFINISHED = "orbax-checkpoint-tmp"  # in names of what is being written


@contextmanager
def workdir_of(path: str | Path, read_only: bool = False) -> Iterator[Path]:
    """A work directory on this machine: the path itself or, for a URL, a mirror of that folder.

    The mirror begins with the files of the store. Every `SECONDS`, and at last, changed files are
    brought there, and removed ones removed; a checkpoint is complete there after all of its files
    are. If the last time fails, the folder stays on this machine, and the error names it. Should
    another process take the folder of the store, nothing more is brought there, and a training in
    the main thread ends as after SIGTERM.

    Args:
      path: of the directory.
      read_only: whether nothing is to be brought to the store, so that others may use it, too.

    Raises:
      UserError: the store cannot be reached; another process uses that folder, which is waited for
        a little if it may have been killed; or there are several processes, which must share one
        directory. Errors of the block about the folder on this machine name the URL instead.
    """
    url = str(path).rstrip("/")
    if not is_url(path):
        yield expanded(path)
    elif read_only:
        with _fetched(Store(url)) as mirror, mirror.named():
            yield mirror.folder
    elif jax.process_count() > 1:
        raise UserError(url, "several processes need a directory that all have mounted")
    else:
        store = Store(url)
        with _owned(store) as owner, _fetched(store) as mirror, mirror.kept_up(owner):
            yield mirror.folder


class _Lost(UserError):
    """Another process has taken the folder."""


class _Owner:
    """A process that owns a folder of a store, or did."""

    def __init__(self, store: Store) -> None:
        self._store, self._token, self._count = store, uuid.uuid4().hex, itertools.count()
        self._lock = threading.RLock()  # no thread reads what another one is writing

    def sign(self) -> None:
        """Shows that this process owns the folder, and lives."""
        with self._lock:
            self._store.write(_OWNER, f"{self._token} {next(self._count)}")

    def check(self) -> None:
        """Raises an error if this process does not own the folder."""
        with self._lock:
            said = self._store.read(_OWNER) or ""
        if not said.startswith(self._token):
            raise _Lost(self._store.url, "another process has taken it; choose another --workdir")

    def renew(self) -> None:
        """As `sign`, if this process still owns it."""
        with self._lock:
            self.check()
            self.sign()

    def leave(self) -> None:
        """Lets others use it at once; if that fails, they can after a while."""
        with suppress(UserError):
            self.check()
            self._store.remove(_OWNER)


@contextmanager
def _owned(store: Store) -> Iterator[_Owner]:
    """Owns a folder, unless another process does."""
    _await_owner(store)
    owner = _Owner(store)
    try:
        owner.sign()
        time.sleep(SECONDS / 5)  # of several that claim it at once, the last to sign will own it
        owner.check()
        with _repeated(owner.renew, SECONDS / 2):
            yield owner
    finally:
        owner.leave()


def _await_owner(store: Store) -> None:
    """Waits for the end of a folder's owner, whose file changes no more; refused if it changes."""
    said, until = store.read(_OWNER), time.monotonic() + 2 * SECONDS
    while said is not None and time.monotonic() < until:
        time.sleep(SECONDS / 10)
        now = store.read(_OWNER)
        if now not in (said, None):
            about = "another process uses it; wait for it, or choose another --workdir"
            raise UserError(store.url, about)
        said = now


@contextmanager
def _repeated(do: Callable[[], None], seconds: float) -> Iterator[None]:
    """Does it in a thread again and again; what fails is reported and tried again."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                do()
            except _Lost:  # reported in the end
                interrupt_main(signal.SIGTERM)  # nothing happens if the program does not heed it
            except Exception as error:
                print(f"warning: {error}; trying again", file=sys.stderr)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Mirror:
    """A copy of a store's folder on this machine, which changes.

    Attributes:
      folder: on this machine.
      pending: whether it may hold what is not in the store.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder, self.pending = folder, False
        self._store = store
        self._brought: dict[str, tuple[int, int] | None] = {}  # size and time of what is there

    def fetch(self) -> None:
        """Copies all files, except checkpoints that are not complete in the store.

        When changes are brought there, these are completed or removed.
        """
        self.folder.mkdir()
        names = self._store.versions().keys() - {_OWNER}
        partial = {n for n in names if (step := _STEP.match(n)) and step[0] + METADATA not in names}
        for _ in self._store.get_all(names - partial, self.folder):
            pass
        self._brought = {**self._present(), **dict.fromkeys(partial)}

    @contextmanager
    def kept_up(self, owner: _Owner) -> Iterator[None]:
        """Brings changes to the store during the block, and all of them in the end."""
        self.pending = True
        try:
            with _repeated(lambda: self._push(owner), SECONDS), self.named():
                yield
        finally:
            try:
                self._push(owner)
            except (Exception, KeyboardInterrupt) as error:
                said = error.problem if isinstance(error, UserError) else repr(error)
                where = f"the files are in {self.folder}"
                raise UserError(self._store.url, f"{said}; {where}") from error
            self.pending = False

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors of the block that are about the copy name the folder of the store instead."""
        try:
            yield
        except UserError as error:
            own, url = str(self.folder), self._store.url
            about, problem = error.about.replace(own, url), error.problem.replace(own, url)
            raise UserError(about, problem) from error

    def _push(self, owner: _Owner) -> None:
        owner.check()
        present = self._present()
        for name in sorted(present, key=_order):
            if self._brought.get(name) != present[name]:
                owner.check()
                try:
                    self._store.put(self.folder / name, name)
                except UserError:
                    if (self.folder / name).exists():
                        raise
                    continue  # removed meanwhile
                self._brought[name] = present[name]
        for name in sorted(self._brought.keys() - present.keys(), key=_order, reverse=True):
            owner.check()
            self._store.remove(name)
            del self._brought[name]

    def _present(self) -> dict[str, tuple[int, int]]:
        """Size and time of the files that are complete. Folders may come and go meanwhile."""
        found = {}
        for folder, folders, files in os.walk(self.folder, onerror=self._unless_gone):
            folders[:] = filter(_is_complete, folders)
            for path in (Path(folder, name) for name in files if _is_complete(name)):
                with suppress(FileNotFoundError):
                    about = path.stat()
                    name = path.relative_to(self.folder).as_posix()
                    found[name] = about.st_size, about.st_mtime_ns
        return found

    def _unless_gone(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or not self.folder.is_dir():
            raise error  # else what cannot be seen would be removed from the store


@contextmanager
def _fetched(store: Store) -> Iterator[_Mirror]:
    """A mirror with all files, which is removed in the end unless some are still to be brought."""
    place = Path(tempfile.mkdtemp(prefix="siren-rope-"))
    mirror = _Mirror(store, place / store.url.rpartition("/")[2])
    try:
        mirror.fetch()
        yield mirror
    finally:
        if not mirror.pending:
            shutil.rmtree(place, ignore_errors=True)


def _is_complete(name: str) -> bool:
    return not name.startswith(".") and _UNFINISHED not in name


def _order(name: str) -> tuple[bool, bool, str]:
    """What a run says before its checkpoints, and what completes one last."""
    return name.endswith(METADATA), name.startswith("checkpoints/"), name
