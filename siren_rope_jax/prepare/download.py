"""Fetches a raw log from where its publisher offers it: whole and checked, or not at all."""

import logging
import sys
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import replacing
from siren_rope_jax.prepare.config import Download, PrepareConfig
from siren_rope_jax.prepare.conversions import check_gzip

_TIMEOUTS = (10, 60)  # seconds: to connect; between two pieces
_CHUNK_BYTES = 1 << 20


def fetch_log(config: ConfigDict, folder: str | Path) -> Path:
    """Fetches the log of a data config, after its terms were printed, and returns its path.

    A file that lies in `folder` already, with the right checksum if one is known, is used as it is.

    Args:
      config: of one of the files in configs/data.
      folder: where the publisher's file is kept, below its host and path; its members beside it.

    Raises:
      UserError: no link, no such file behind it, no network, a wrong checksum, a damaged file; it
        says which file to put where instead.
    """
    if "num_users" in config:
        raise UserError("--download: the synthetic feed is generated; leave it out")
    prepared = PrepareConfig.load(config)
    wanted = prepared.download
    if not wanted.url:
        raise UserError(
            f"--download: there is no plain link to {prepared.name}; fetch it as the head of its "
            "config says, and name it by --input"
        )
    print(f"{prepared.name}: {prepared.source or 'source not stated'}")
    print(f"terms: {prepared.license or 'not stated'}")
    link = urlsplit(wanted.url)
    file = Path(folder) / (link.hostname or "") / link.path.lstrip("/")
    if file.is_file() and _right(file, wanted.checksum):
        print(f"{file} is there already", flush=True)
    else:
        _retrieve(wanted, file)
    return _extract(wanted, file) if wanted.member else file


def _right(file: Path, checksum: str) -> bool:
    if not checksum:
        return True
    algorithm, _, expected = checksum.partition(":")
    return pooch.file_hash(str(file), alg=algorithm) == expected


def _retrieve(wanted: Download, file: Path) -> None:
    print(f"fetching {wanted.url} to {file}", flush=True)
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            wanted.url,
            known_hash=wanted.checksum or None,
            fname=file.name,
            path=file.parent,
            downloader=_download_archive,
        )
    except (requests.RequestException, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"cannot fetch {wanted.url}: {said}; {_by_hand(wanted, file)}") from error
    file.chmod(0o644)  # pooch's files are for their owner alone
    if not wanted.checksum:
        print(f"no checksum is known; this file has sha256:{pooch.file_hash(str(file))}")


def _download_archive(url: str, output: str, owner: object) -> None:
    """As pooch's own; refuses, before the file takes its place, one that is no whole archive."""
    opened: list[requests.Response] = []
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=_CHUNK_BYTES,
        timeout=_TIMEOUTS,
        # Else some servers send an archive as if it were a compressed text, and it comes unpacked.
        headers={"Accept-Encoding": "identity"},
        hooks={"response": lambda response, **_: opened.append(response)},
    )
    try:
        download(url, output, owner)
    finally:
        for response in opened:  # pooch leaves those of failures open
            response.close()
    name = urlsplit(url).path
    if name.endswith(".zip") and not zipfile.is_zipfile(output):
        raise ValueError("what came is no zip archive")
    if name.endswith(".gz"):
        try:
            check_gzip(Path(output))
        except UserError as error:
            raise ValueError("what came is no whole gzip file") from error


def _extract(wanted: Download, file: Path) -> Path:
    target = file.parent / wanted.member
    try:
        with zipfile.ZipFile(file) as archive, archive.open(wanted.member) as source:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary, temporary.open("wb") as copy:
                while piece := source.read(_CHUNK_BYTES):
                    copy.write(piece)
    except KeyError as error:
        raise UserError(f"{file} has no member {wanted.member!r} (config.download)") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(
            f"cannot unpack {file}: {error}; remove it; {_by_hand(wanted, file)}"
        ) from error
    return target


def _by_hand(wanted: Download, file: Path) -> str:
    log = f"its {wanted.member}" if wanted.member else "it"
    return (
        f"fetch that file by other means and put it at {file}, then try again; or name {log} by "
        "--input"
    )
