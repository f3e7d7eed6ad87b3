"""Fetching a log, over real connections to a server on this machine: whole and checked, or not."""

import gzip
import hashlib
import http.server
import io
import re
import threading
import zipfile

import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.download import fetch_log
from tests import scripts
from tests.raw_logs import START, load_config_file

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
ARCHIVE = zipped(**{"ml-1m/README": b"terms", "ml-1m/ratings.dat": RATINGS})
MD5 = "md5:" + hashlib.md5(ARCHIVE).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """Yields (address, {path: body or (body, length to claim)}, paths asked for)."""
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


# Named, since the archive's own date is in the checksums, and differs from process to process.
@pytest.mark.parametrize(
    "checksum",
    [MD5, "sha256:" + hashlib.sha256(ARCHIVE).hexdigest(), ""],
    ids=["md5", "sha256", "none"],
)
def test_fetches_checks_and_unpacks(tmp_path, server, capsys, checksum):
    address, bodies, asked = server
    bodies["/d/ml-1m.zip"] = ARCHIVE
    path = fetch_log(config(f"{address}/d/ml-1m.zip?x=1", checksum), tmp_path / "kept")
    assert path == tmp_path / "kept" / HOST / "d" / "ml-1m" / "ratings.dat"
    assert path.read_bytes() == RATINGS
    assert files(tmp_path / "kept" / HOST) == ["d/ml-1m.zip", "d/ml-1m/ratings.dat"]
    said = capsys.readouterr().out
    terms, fetching = said.index("terms: research use"), said.index("fetching http://127.0.0.1")
    assert terms < fetching
    assert (f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}" in said) == (not checksum)

    assert fetch_log(config(f"{address}/d/ml-1m.zip", checksum), tmp_path / "kept") == path
    assert len(asked) == 1 and "is there already" in capsys.readouterr().out


def test_a_gzipped_log_is_kept_as_it_is(tmp_path, server):
    address, bodies, _ = server
    bodies["/checkins.txt.gz"] = gzip.compress(RATINGS)
    path = fetch_log(config(f"{address}/checkins.txt.gz", member=""), tmp_path)
    assert path == tmp_path / HOST / "checkins.txt.gz"
    assert path.read_bytes() == bodies["/checkins.txt.gz"]


def test_files_of_one_name_from_different_places_are_not_confused(tmp_path, server):
    address, bodies, _ = server
    for place in ("0core", "5core"):
        bodies[f"/{place}/Books.csv.gz"] = gzip.compress(place.encode())
    for place in ("0core", "5core"):
        path = fetch_log(config(f"{address}/{place}/Books.csv.gz", member=""), tmp_path)
        assert gzip.decompress(path.read_bytes()) == place.encode()


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


BY_HAND = (
    r"fetch that file by other means and put it at .*kept/.*/ml-1m\.zip, then try again; or name "
    r"its ml-1m/ratings\.dat by --input"
)
FAILURES = {
    "another file": (ARCHIVE, "md5:" + "0" * 32, f"MD5 hash .* does not match.*; {BY_HAND}"),
    "none": (None, MD5, f"404 .*; {BY_HAND}"),
    "cut short": ((ARCHIVE[:-9], len(ARCHIVE)), MD5, f"cannot fetch .*; {BY_HAND}"),
    "cut short, no checksum": ((ARCHIVE[:-9], len(ARCHIVE)), "", f"cannot fetch .*; {BY_HAND}"),
    "a page": (b"<html>please log in</html>", "", f"what came is no zip archive; {BY_HAND}"),
    "no network": ("off", MD5, f"cannot fetch .*; {BY_HAND}"),
    "no such host": ("unknown", MD5, f"cannot fetch .*; {BY_HAND}"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_leave_nothing_and_say_what_to_do(tmp_path, server, case):
    address, bodies, _ = server
    body, checksum, message = FAILURES[case]
    if body == "off":
        address = "http://127.0.0.1:9"  # nothing listens there
    elif body == "unknown":
        address = "http://publisher.invalid"
    elif body is not None:
        bodies["/ml-1m.zip"] = body
    url = f"{address}/ml-1m.zip"
    with pytest.raises(UserError, match=message) as caught:
        fetch_log(config(url, checksum), tmp_path / "kept")
    assert f"cannot fetch {url}: " in str(caught.value) and "\n" not in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "body", [b"plain text", gzip.compress(RATINGS)[:-5]], ids=["no gzip", "cut short"]
)
def test_a_damaged_gzip_file(tmp_path, server, body):
    address, bodies, _ = server
    bodies["/x.gz"] = body
    with pytest.raises(UserError, match=r"no whole gzip file; .*or name it by --input"):
        fetch_log(config(f"{address}/x.gz", member=""), tmp_path)
    assert files(tmp_path) == []


def test_an_archive_without_the_member(tmp_path, server):
    address, bodies, _ = server
    bodies["/ml-1m.zip"] = zipped(other=b"1")
    with pytest.raises(UserError, match=r"ml-1m\.zip has no member 'ml-1m/ratings\.dat'"):
        fetch_log(config(f"{address}/ml-1m.zip"), tmp_path)
    damaged = bytearray(ARCHIVE)
    damaged[ARCHIVE.index(b"ml-1m/ratings.dat") + 60] ^= 255
    bodies["/damaged/ml-1m.zip"] = bytes(damaged)
    with pytest.raises(UserError, match=r"cannot unpack .*ml-1m\.zip: .*; remove it; fetch that"):
        fetch_log(config(f"{address}/damaged/ml-1m.zip"), tmp_path / "other")
    assert files(tmp_path) == [f"{HOST}/ml-1m.zip", f"other/{HOST}/damaged/ml-1m.zip"]


def test_a_log_without_a_link(tmp_path):
    with pytest.raises(UserError, match=r"no plain link to yelp; .*name it by --input"):
        fetch_log(load_config_file("yelp"), tmp_path)
    with pytest.raises(UserError, match="the synthetic feed is generated"):
        fetch_log(load_config_file("synthetic"), tmp_path)
    with pytest.raises(UserError, match=r"config\.download\.checksum: 'md5:12' is not"):
        fetch_log(config("http://127.0.0.1:9/x.zip", "md5:12"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot fetch .*file"):
        fetch_log(config("http://127.0.0.1:9/x.zip"), tmp_path / "file")


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
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"terms: research.*fetching .*ml-1m\.zip.*300 rows", done.stdout, re.DOTALL)
    assert PreparedLog.open(tmp_path / "out").report["files"] == ["ratings.dat"]


def test_the_script_looks_at_the_output_before_it_fetches(tmp_path, server):
    address, _, asked = server
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    link = f"--config.download.url={address}/ml-1m.zip"
    line = scripts.complaint("prepare", *prepare_flags(tmp_path), "--download", link)
    assert "out exists and is not empty" in line
    assert not asked


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--download", "--input=x"], "--input and --download: both name the log; give one"),
        (
            [],
            "input is missing: name the raw log, .* by --input; or let --download fetch https://f",
        ),
        (
            ["--download", "--config.download.url=http://127.0.0.1:9/ml-1m.zip"],
            "cannot fetch http://127.0.0.1:9/ml-1m.zip: .* by --input",
        ),
    ],
)
def test_the_script_refuses_in_one_line(tmp_path, monkeypatch, flags, message):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert re.match(message, scripts.complaint("prepare", *prepare_flags(tmp_path), *flags))
    assert files(tmp_path) == []
