"""Folders in a bucket or in another store that fsspec reaches by a URL: gs://, s3://, file://, ...

A prepared log in a store is copied to this machine once. For work directories there see
`training/mirror.py`.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.base.files import expanded, locked, read_json, replacing, write_json

CACHE = "SIREN_ROPE_CACHE"
"""The environment variable that names the folder of copies; else it is below ~/.cache."""

_VERSIONS = ".versions.json"  # of the files of a copy
_AT_ONCE = 8  # files that are copied


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
        found = {n: v for n, v in store.versions().items() if not n.startswith(".")}
        if not found:
            raise UserError(url, "there are no files")
        held = read_json(versions)["versions"] if versions.is_file() else {}
        for file in held.keys() - found.keys():
            (folder / file).unlink(missing_ok=True)
            del held[file]
        wanted = [n for n, v in found.items() if held.get(n) != v or not (folder / n).is_file()]
        if wanted:
            print(f"copying {url} to {folder}", file=sys.stderr)
        for file in store.get_all(wanted, folder):
            held[file] = found[file]
            write_json(versions, {"versions": held})  # an interrupted copy goes on from here
    return folder


class Store:
    """A folder of a store, whose files are named by their paths in it.

    All methods raise a `UserError` about its URL if the store cannot do it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with _as_user_error(self.url):
            self._files, self._root = fsspec.core.url_to_fs(url)

    def versions(self) -> dict[str, str]:
        """What tells a file from a later one of the same name, by name."""
        with _as_user_error(self.url):
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
        with _as_user_error(self.url), replacing(path) as temporary:
            self._files.get_file(f"{self._root}/{name}", str(temporary))

    def get_all(self, names: Iterable[str], folder: Path) -> Iterator[str]:
        """Copies files to a folder, several at a time; yields the name of each once it is there."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            copies = {threads.submit(self.get, name, folder / name): name for name in names}
            try:
                for copy in as_completed(copies):
                    copy.result()
                    yield copies[copy]
            finally:
                threads.shutdown(cancel_futures=True)

    def put(self, path: Path, name: str) -> None:
        """Copies a file of this machine to the store."""
        target = f"{self._root}/{name}"
        with _as_user_error(self.url):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), target)

    def read(self, name: str) -> str | None:
        """The text of a file; None if there is none."""
        with _as_user_error(self.url), suppress(FileNotFoundError):
            self._files.invalidate_cache()
            return self._files.cat_file(f"{self._root}/{name}").decode()
        return None

    def write(self, name: str, text: str) -> None:
        """Writes a file."""
        with _as_user_error(self.url):
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(f"{self._root}/{name}", text.encode())

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with _as_user_error(self.url), suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")


@contextmanager
def _as_user_error(url: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of the store's own package: any
        said = one_line(str(error) or type(error).__name__, 300)
        raise UserError(url, f"cannot be used: {said}") from error
