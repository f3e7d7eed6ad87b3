"""Logs and work directories in a store: local files behind URLs, which fsspec reaches alike."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from siren_rope_jax.base import stores
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json
from siren_rope_jax.base.stores import CACHE, Store, local
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.training import mirror
from siren_rope_jax.training.mirror import workdir_of
from tests.refusals import refused
from tests.scripts import ROOT, complaint
from tests.test_kills import TINY, figures


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    generate(SyntheticConfig(num_users=40, events_per_user=20, num_items=15), tmp_path / "log")
    return tmp_path / "log"


def test_a_log_is_copied_once_and_again_if_it_changes(
    log: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = log.as_uri()
    assert PreparedLog.open(url).fingerprint == PreparedLog.open(log).fingerprint
    assert str(cache) in capsys.readouterr().err
    PreparedLog.open(url)
    assert capsys.readouterr().err == ""
    shutil.rmtree(log)
    generate(SyntheticConfig(num_users=30, events_per_user=20, num_items=15), log)
    assert PreparedLog.open(url).fingerprint == PreparedLog.open(log).fingerprint
    next(cache.glob("*/index.npy")).unlink()
    assert len(PreparedLog.open(url).index) == 30


def test_an_interrupted_copy_goes_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {p.relative_to(log).as_posix() for p in log.rglob("*") if p.is_file()}
    get, copied = Store.get, list[str]()

    def get_three(self: Store, name: str, path: Path) -> None:
        if len(copied) == 3:
            raise UserError(self.url, "the connection is lost")
        get(self, name, path)
        copied.append(name)

    monkeypatch.setattr(stores, "_AT_ONCE", 1)
    monkeypatch.setattr(Store, "get", get_three)
    with refused(log.as_uri(), "lost"):
        local(log.as_uri())
    first = set(copied)
    copied.clear()
    monkeypatch.setattr(Store, "get", lambda *a: (copied.append(a[1]), get(*a)))
    folder = local(log.as_uri())
    assert len(first) == 3 and sorted(copied) == sorted(files - first)
    assert all((folder / name).read_bytes() == (log / name).read_bytes() for name in files)


def test_what_cannot_be_reached_is_told(tmp_path: Path) -> None:
    with refused((tmp_path / "none").as_uri(), "no files"):
        local((tmp_path / "none").as_uri())
    with refused("nosuch://bucket/log"):
        local("nosuch://bucket/log")
    with refused("gs://bucket/log", "gcsfs"):  # which is not installed here
        local("gs://bucket/log")
    with refused("memory://run", "mounted"), workdir_of("memory://run", alone=False):
        pass
    said = complaint("prepare", "--config=configs/data/table.py", "--input=gs://bucket/log.csv",
                     f"--output={tmp_path / 'out'}")  # fmt: skip
    assert said.startswith("--input: ")


def test_a_mirror_brings_changes_to_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SECONDS", 0.1)
    url, files = "memory://runs/one", fsspec.filesystem("memory")
    with workdir_of(url) as folder:
        (folder / "checkpoints" / "7").mkdir(parents=True)
        (folder / "checkpoints" / "7" / "part").write_text("7")
        (folder / "metrics.jsonl").write_text("a")
        (folder / ".half").write_text("")
        while not files.exists("/runs/one/checkpoints/7/part"):
            time.sleep(0.05)
        with refused(url, "another process"), workdir_of(url):
            pass
        shutil.rmtree(folder / "checkpoints" / "7")
        (folder / "metrics.jsonl").write_text("ab")
    assert Store(url).versions().keys() == {"metrics.jsonl"}
    assert not folder.exists()
    with workdir_of(url) as folder:
        assert (folder / "metrics.jsonl").read_text() == "ab"


def test_files_that_cannot_be_brought_to_the_store_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "memory://runs/full"
    with refused(url, "the files are in"), workdir_of(url) as folder:
        (folder / "result.json").write_text("{}")
        monkeypatch.setattr(Store, "put", _full)
    assert (folder / "result.json").exists()
    shutil.rmtree(folder.parent)


def _full(self: Store, path: Path, name: str) -> None:
    raise UserError(self.url, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_in_a_store_goes_on_on_another_machine(
    log: Path, tmp_path: Path, how: int
) -> None:
    flags = [f"--config={ROOT / 'configs/synthetic.py'}:ordinal"]
    flags += [f"--config.{key}={value}" for key, value in TINY.items()]
    flags += [f"--config.data.path={log.as_uri()}", "--config.training.epochs=30"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}

    def start(workdir: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "experiments/train.py"), f"--workdir={workdir}"]
        return subprocess.Popen(command + flags, env=environment, stderr=subprocess.DEVNULL)

    whole, stored = tmp_path / "whole", tmp_path / "stored"
    process = start(stored.as_uri())
    begun = "owner.txt" if how == signal.SIGTERM else "checkpoints/*/_CHECKPOINT_METADATA"
    while process.poll() is None and not list(stored.glob(begun)):
        time.sleep(0.05)
    time.sleep(3 if how == signal.SIGTERM else 0)  # before or after its first step
    process.send_signal(how)
    process.wait()
    assert not (stored / "result.json").exists()
    for workdir in (stored.as_uri(), str(whole)):
        assert start(workdir).wait() == 0
    assert figures(stored) == figures(whole)
    assert read_json(stored / "config.json")["data"]["path"] == log.as_uri()
    names = [sorted(p.name for p in run.iterdir() if p.name != ".lock") for run in (stored, whole)]
    assert names[0] == names[1]
