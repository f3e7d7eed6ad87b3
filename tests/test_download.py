"""Downloads from a real server on this machine: complete and checked, or nothing."""

import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from urllib.parse import urlsplit

import pytest

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.download import fetch_log
from tests import scripts
from tests.raw_logs import START, load_config_file
from tests.raw_logs import config as log_config
from tests.refusals import refused

RATINGS = "".join(
    f"{1 + i % 7}::{1 + i * i % 40}::{1 + i % 5}::{START + 60 * i}\n" for i in range(300)
).encode()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


HOST = "127.0.0.1"
NOWHERE = "http://127.0.0.1:9/ml-1m.zip"  # nothing listens there
ARCHIVE = zipped(**{"ml-1m/README": b"terms", "ml-1m/ratings.dat": RATINGS})
MD5 = "md5:" + hashlib.md5(ARCHIVE).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """Yields (address, {path: body or (body, length to claim)}, requested paths)."""
    bodies, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path not in bodies:
                return self.send_error(404)
            body = bodies[path]
            body, length = body if isinstance(body, tuple) else (body, len(body))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", bodies, asked
        listening.shutdown()
        thread.join()


def config(url: str, checksum: str = "", member: str = "ml-1m/ratings.dat"):
    loaded = load_config_file("movielens_next", "1m")
    loaded.download.update({"url": url, "checksum": checksum, "member": member})
    return loaded


def files(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


SHA256 = "sha256:" + hashlib.sha256(ARCHIVE).hexdigest()
CHECKSUMS = {"md5": MD5, "sha256": SHA256, "none": ""}  # they depend on the time of this run


@pytest.mark.parametrize("kind", CHECKSUMS)
def test_fetches_checks_and_unpacks(tmp_path, server, capsys, kind):
    checksum = CHECKSUMS[kind]
    address, bodies, asked = server
    bodies["/d/ml-1m.zip"] = ARCHIVE
    path = fetch_log(config(f"{address}/d/ml-1m.zip?x=1", checksum), tmp_path / "kept")
    assert path == tmp_path / "kept" / HOST / "d" / "ml-1m" / "ratings.dat"
    assert path.read_bytes() == RATINGS
    assert files(tmp_path / "kept" / HOST) == ["d/ml-1m.zip", "d/ml-1m/ratings.dat"]
    said = capsys.readouterr().out
    assert said.index(config(address).license) < said.index(address)  # the terms come first
    assert (SHA256 in said) == (not checksum)

    assert fetch_log(config(f"{address}/d/ml-1m.zip", checksum), tmp_path / "kept") == path
    assert len(asked) == 1


def test_gzipped_logs_are_kept_as_they_are_even_if_their_files_have_one_name(tmp_path, server):
    address, bodies, _ = server
    for place in ("0core", "5core"):
        file = f"{place}/Books.csv.gz"
        bodies[f"/{file}"] = gzip.compress(place.encode())
        path = fetch_log(config(f"{address}/{file}", member=""), tmp_path)
        assert path == tmp_path / HOST / file and path.read_bytes() == bodies[f"/{file}"]


def test_a_file_put_there_by_hand_is_used_if_it_is_right(tmp_path, server):
    address, bodies, asked = server
    bodies["/ml-1m.zip"] = ARCHIVE
    file = tmp_path / HOST / "ml-1m.zip"
    file.parent.mkdir()
    file.write_bytes(ARCHIVE)
    fetch_log(config(f"{address}/ml-1m.zip", MD5), tmp_path)
    assert not asked
    file.write_bytes(ARCHIVE[:-7])
    fetch_log(config(f"{address}/ml-1m.zip", MD5), tmp_path)
    assert asked and file.read_bytes() == ARCHIVE


FAILURES = {  # what the server sends, the checksum in the config, and the name of the file
    "another file": (ARCHIVE, "md5:" + "0" * 32),
    "none": (None, MD5),
    "cut short": ((ARCHIVE[:-9], len(ARCHIVE)), MD5),
    "cut short, no checksum": ((ARCHIVE[:-9], len(ARCHIVE)), ""),
    "a page": (b"<html>please log in</html>", ""),
    "not gzip": (b"plain text", "", "ml-1m.gz"),
    "gzip cut short": (gzip.compress(RATINGS)[:-5], "", "ml-1m.gz"),
    "no network": (NOWHERE.removesuffix("/ml-1m.zip"), MD5),
    "no such host": ("http://publisher.invalid", MD5),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_leave_nothing_and_say_what_to_do(tmp_path, server, case):
    address, bodies, _ = server
    body, checksum, name = (*FAILURES[case], "ml-1m.zip")[:3]
    if isinstance(body, str):
        address = body
    elif body is not None:
        bodies[f"/{name}"] = body
    url = f"{address}/{name}"
    place = tmp_path / "kept" / urlsplit(url).hostname / name
    with refused(url, place, "ml-1m/ratings.dat", "--input"):
        fetch_log(config(url, checksum), tmp_path / "kept")
    assert files(tmp_path) == []


def test_an_archive_without_the_member(tmp_path, server):
    address, bodies, _ = server
    bodies["/ml-1m.zip"] = zipped(other=b"1")
    with refused("config.download.member", tmp_path / HOST / "ml-1m.zip", "'ml-1m/ratings.dat'"):
        fetch_log(config(f"{address}/ml-1m.zip"), tmp_path)
    damaged = bytearray(ARCHIVE)
    damaged[ARCHIVE.index(b"ml-1m/ratings.dat") + 60] ^= 255
    bodies["/damaged/ml-1m.zip"] = bytes(damaged)
    with refused(tmp_path / "other" / HOST / "damaged/ml-1m.zip", "--input"):
        fetch_log(config(f"{address}/damaged/ml-1m.zip"), tmp_path / "other")
    assert files(tmp_path) == [f"{HOST}/ml-1m.zip", f"other/{HOST}/damaged/ml-1m.zip"]


def test_a_log_without_a_link(tmp_path):
    with refused("--download", "yelp", "--input"):
        fetch_log(load_config_file("yelp"), tmp_path)
    with refused("--download"):
        fetch_log(load_config_file("synthetic"), tmp_path)
    with refused("config.download.checksum"):
        fetch_log(config(NOWHERE, "md5:12"), tmp_path)
    (tmp_path / "file").write_text("")
    with refused(NOWHERE, tmp_path / "file"):
        fetch_log(config(NOWHERE), tmp_path / "file")


def prepare_flags(tmp_path) -> list[str]:
    return [
        "--config=configs/data/movielens_next.py:1m",
        f"--output={tmp_path / 'out'}",
        f"--downloads={tmp_path / 'kept'}",
    ]


def test_the_script_fetches_and_prepares(tmp_path, server):
    address, bodies, _ = server
    bodies["/ml-1m.zip"] = ARCHIVE
    link = (f"--config.download.url={address}/ml-1m.zip", f"--config.download.checksum={MD5}")
    done = scripts.run("prepare", *prepare_flags(tmp_path), "--download", *link)
    assert (done.returncode, done.stderr) == (0, "")
    assert config(address).license in done.stdout and f"{address}/ml-1m.zip" in done.stdout
    report = PreparedLog.open(tmp_path / "out").report
    assert report["files"] == ["ratings.dat"] and report["rows_read"] == 300
    assert report["train_end"] in done.stdout


def test_the_script_looks_at_the_output_before_it_fetches(tmp_path, server):
    address, _, asked = server
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    link = f"--config.download.url={address}/ml-1m.zip"
    line = scripts.complaint("prepare", *prepare_flags(tmp_path), "--download", link)
    assert line.startswith(f"{tmp_path / 'out'}: ")
    assert not asked


@pytest.mark.parametrize(
    ("flags", "about", "named"),
    [
        (["--download", "--input=x"], "--download", "--input"),
        ([], "input", "--download"),
        (["--download", f"--config.download.url={NOWHERE}"], NOWHERE, "--input"),
    ],
)
def test_the_script_refuses_in_one_line(tmp_path, monkeypatch, flags, about, named):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    line = scripts.complaint("prepare", *prepare_flags(tmp_path), *flags)
    assert line.startswith(f"{about}: ") and named in line
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("url", "http://host/../../outside.csv"), ("url", "http://host/%2e%2e/outside.csv"),
     ("url", "file:///etc/passwd"), ("url", "ftp://host/log.csv"), ("member", "../slip.csv"),
     ("member", "/etc/slip.csv"), ("member", "a\\..\\slip.csv")],
)  # fmt: skip
def test_a_download_stays_below_its_folder(key, value):
    url = {"url": "https://host/log.zip"}
    with refused(f"config.download.{key}"):
        log_config(download=url | {key: value})
