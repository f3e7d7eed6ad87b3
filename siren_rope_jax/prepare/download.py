"""Downloads a raw log from its publisher: complete and checked, or not at all."""

import logging
import shutil
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
from siren_rope_jax.prepare.make import load
from siren_rope_jax.prepare.text_files import check_gzip

_TIMEOUTS = (10, 60)  # seconds: to connect; between two pieces
_CHUNK_BYTES = 1 << 20


def fetch_log(config: ConfigDict, folder: str | Path) -> Path:
    """Prints the terms of a data config's log, downloads it, and returns its path.

    The publisher's file is kept in `folder`, below its host and path, and its members beside it. A
    file that is there already, with the right checksum if one is known, is used as it is.

    Raises:
      UserError: no link, no such file behind it, no network, a wrong checksum, a damaged file; it
        says which file to put where instead.
    """
    ours = load(config)
    if not isinstance(ours, PrepareConfig):
        about = f"{ours.name} is made on this machine, from no file of the web"
        raise UserError("--download", f"{about}; leave this flag out")
    wanted = ours.download
    if not wanted.url:
        raise UserError(
            "--download",
            f"there is no direct link to {ours.name}; fetch it as the head of its config says, and "
            "name it with --input",
        )
    print(f"{ours.name}: {ours.source or 'source not stated'}")
    print(f"terms: {ours.license or 'not stated'}")
    link = urlsplit(wanted.url)
    file = Path(folder) / (link.hostname or "") / link.path.lstrip("/")
    algorithm, _, expected = wanted.checksum.partition(":")
    if file.is_file() and (not expected or pooch.file_hash(file, alg=algorithm) == expected):
        print(f"{file} is there already", flush=True)
    else:
        _retrieve(wanted, file)
    return _extract(wanted, file) if wanted.member else file


def _retrieve(wanted: Download, file: Path) -> None:
    print(f"fetching {wanted.url} to {file}", flush=True)
    pooch.get_logger().setLevel(logging.WARNING)
    checksum = wanted.checksum or None
    try:
        pooch.retrieve(wanted.url, checksum, file.name, file.parent, downloader=_download_archive)
    except (requests.RequestException, OSError, ValueError) as error:
        cause = " ".join(str(error).split())
        tip = _by_hand(wanted, file)
        raise UserError(wanted.url, f"cannot be fetched: {cause}; {tip}") from error
    file.chmod(0o644)  # only the owner could read the files that pooch makes
    if not checksum:
        print(f"no checksum is known; this file has sha256:{pooch.file_hash(file)}")


def _download_archive(url: str, output: str, owner: object) -> None:
    """Downloads as pooch does, but refuses an incomplete archive, before pooch keeps it."""
    opened: list[requests.Response] = []
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=_CHUNK_BYTES,
        timeout=_TIMEOUTS,
        # Otherwise some servers declare an archive to be compressed text, and it arrives unpacked.
        headers={"Accept-Encoding": "identity"},
        hooks={"response": lambda response, **_: opened.append(response)},
    )
    try:
        download(url, output, owner)
    finally:
        for response in opened:  # pooch leaves failed ones open
            response.close()
    name = urlsplit(url).path
    if name.endswith(".zip") and not zipfile.is_zipfile(output):
        raise ValueError("the server did not send a zip archive")
    if name.endswith(".gz"):
        try:
            check_gzip(Path(output))
        except UserError as error:
            raise ValueError("the server did not send a complete gzip file") from error


def _extract(wanted: Download, file: Path) -> Path:
    target = file.parent / wanted.member
    try:
        with zipfile.ZipFile(file) as archive, archive.open(wanted.member) as source:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
    except KeyError as error:
        problem = f"{file} has no member {wanted.member!r}"
        raise UserError("config.download.member", problem) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        tip = _by_hand(wanted, file)
        raise UserError(file, f"cannot be unpacked: {error}; remove it; {tip}") from error
    return target


def _by_hand(wanted: Download, file: Path) -> str:
    log = f"its {wanted.member}" if wanted.member else "it"
    return (
        f"fetch that file by other means and put it at {file}, then try again; or name {log} with "
        "--input"
    )
