"""Logs and work directories in a store: local files behind URLs, which fsspec reaches alike."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from fsspec.registry import known_implementations

from siren_rope_jax.base import stores
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import expanded, read_json
from siren_rope_jax.base.stores import CACHE, Store, local
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.studies.ablation import Ablation, Variant, plan
from siren_rope_jax.studies.datasets import Dataset
from siren_rope_jax.training import mirror
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.trained import TrainedRun
from tests.refusals import refused
from tests.scripts import ROOT, complaint, xla_flags
from tests.test_damage import experiment
from tests.test_kills import TINY, figures

OWNER, COMPLETE = "owner.txt", "_CHECKPOINT_METADATA"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of this machine are."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a folder in a store, whose mirrors are in more of a hurry than usual."""
    monkeypatch.setattr(mirror, "SECONDS", 0.2)
    return f"memory://runs/{request.node.name}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    generate(SyntheticConfig(num_users=40, events_per_user=20, num_items=15), tmp_path / "log")
    return tmp_path / "log"


def until(holds: Callable[[], object]) -> None:
    """Waits for it, but not forever."""
    end = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def names(url: str) -> set[str]:
    return set(Store(url).versions())


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


def test_what_cannot_be_reached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused((tmp_path / "none").as_uri(), "no files"):
        local((tmp_path / "none").as_uri())
    with refused("nosuch://bucket/log"):
        local("nosuch://bucket/log")
    missing = {"class": "no_such_package.Files", "err": "install no_such_package"}
    monkeypatch.setitem(known_implementations, "missing", missing)
    with refused("missing://bucket/log", "no_such_package"):
        local("missing://bucket/log")
    for path in ("gs://bucket/log", Path("gs://bucket/log")):
        with refused(path, "mount"):
            expanded(path)
    said = complaint("prepare", "--config=configs/data/table.py", "--input=gs://bucket/log.csv",
                     f"--output={tmp_path / 'out'}")  # fmt: skip
    assert said.startswith("--input: ")


def test_several_processes_cannot_share_a_mirror(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with refused(url, "mounted"), workdir_of(url):
        pass
    assert not names(url)


def test_a_mirror_brings_changes_to_the_store(url: str) -> None:
    with workdir_of(url) as folder:
        (folder / "checkpoints" / "7").mkdir(parents=True)
        (folder / "checkpoints" / "7" / "part").write_text("7")
        (folder / "metrics.jsonl").write_text("a")
        (folder / ".half").write_text("")
        until(lambda: "checkpoints/7/part" in names(url))
        with refused(url, "another process"), workdir_of(url):
            pass
        shutil.rmtree(folder / "checkpoints" / "7")
        (folder / "metrics.jsonl").write_text("ab")
    assert names(url) == {"metrics.jsonl"}
    assert not folder.exists()
    with workdir_of(url) as folder:
        assert (folder / "metrics.jsonl").read_text() == "ab"


def test_folders_that_come_and_go_do_not_end_a_mirror(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    present, walks = mirror._Mirror._present, list[bool]()

    def counted(self: mirror._Mirror) -> object:
        found = present(self)
        walks.append(True)
        return found

    monkeypatch.setattr(mirror, "SECONDS", 0.02)
    monkeypatch.setattr(mirror._Mirror, "_present", counted)
    with workdir_of(url) as folder:
        for step in itertools.count():
            new, done = folder / f"checkpoints/{step}.new", folder / f"checkpoints/{step}"
            (new / "d" / "e").mkdir(parents=True)
            (new / "d" / "e" / "part").touch()
            new.rename(done)
            shutil.rmtree(done)
            if len(walks) > 100:
                break
        (folder / "late").touch()
        until(lambda: "late" in names(url))
    assert names(url) == {"late"} and capsys.readouterr().err == ""


def test_what_fails_is_tried_again(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = iter([RuntimeError("of a store's own"), UserError(url, "is full")])
    put = Store.put

    def put_later(self: Store, path: Path, name: str) -> None:
        for failure in failures:
            raise failure
        put(self, path, name)

    monkeypatch.setattr(Store, "put", put_later)
    with workdir_of(url) as folder:
        (folder / "result.json").write_text("{}")
        until(lambda: "result.json" in names(url))
    assert capsys.readouterr().err.count("trying again") == 2


def test_files_that_cannot_be_brought_to_the_store_are_kept(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, path: Path, name: str) -> None:
        raise UserError(self.url, "No space left on device")

    with refused(url, "No space", "the files are in"), workdir_of(url) as folder:
        (folder / "result.json").write_text("{}")
        monkeypatch.setattr(Store, "put", full)
    assert (folder / "result.json").exists()
    shutil.rmtree(folder.parent)


def test_a_folder_that_cannot_be_fetched_is_left(
    url: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(url).write("config.json", "{}")

    def lost(self: Store, name: str, path: Path) -> None:
        raise UserError(self.url, "the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "get", lost)
        for read_only in (False, True):
            with refused(url, "lost"), workdir_of(url, read_only):
                pass
    assert names(url) == {"config.json"} and not list(temporary.iterdir())
    with workdir_of(url):
        assert names(url) == {"config.json", OWNER}
    assert names(url) == {"config.json"} and not list(temporary.iterdir())


@pytest.mark.parametrize("slow", ["get", "put"])
def test_a_slow_transfer_is_no_end_of_its_process(
    url: str, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr(mirror, "SECONDS", 0.5)
    transfer, begun = getattr(Store, slow), threading.Event()

    def slowly(*arguments: object) -> None:
        begun.set()
        time.sleep(6 * mirror.SECONDS)
        transfer(*arguments)

    def run() -> None:
        with workdir_of(url) as folder:
            (folder / "result.json").write_text("{}")

    Store(url).write("metrics.jsonl", "")
    monkeypatch.setattr(Store, slow, slowly)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(run)
        assert begun.wait(60)
        with refused(url, "another process"), workdir_of(url):
            pass
        running.result()
    assert names(url) == {"metrics.jsonl", "result.json"}


def test_of_two_that_claim_a_folder_at_once_one_gets_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that it is free before one of them says that it is its own."""
    await_owner, free = mirror._await_owner, threading.Barrier(2)
    other_is_refused, entered = threading.Event(), list[Path]()

    def await_both(store: Store) -> None:
        await_owner(store)
        free.wait(60)

    def claim(_: int) -> bool:
        try:
            with workdir_of(url) as folder:
                entered.append(folder)
                (folder / "result.json").write_text("{}")
                other_is_refused.wait(60)
            return True
        except UserError as error:
            other_is_refused.set()
            assert error.about == url and "another process" in error.problem
            return False

    monkeypatch.setattr(mirror, "SECONDS", 10.0)
    monkeypatch.setattr(mirror, "_await_owner", await_both)
    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(claim, range(2))) == [False, True]
    assert len(entered) == 1 and names(url) == {"result.json"}


@pytest.mark.parametrize("more", ["", " and more"])
def test_a_folder_that_was_taken_gets_nothing_more(url: str, more: str) -> None:
    with refused(url, "another process", "the files are in"), workdir_of(url) as folder:
        (folder / "metrics.jsonl").write_text("ours")
        until(lambda: Store(url).read("metrics.jsonl") == "ours")
        Store(url).write(OWNER, "another's")
        Store(url).write("metrics.jsonl", "theirs")
        if more:
            (folder / "metrics.jsonl").write_text(f"ours{more}")
        time.sleep(5 * mirror.SECONDS)
    assert Store(url).read("metrics.jsonl") == "theirs" and Store(url).read(OWNER) == "another's"
    assert (folder / "metrics.jsonl").read_text() == f"ours{more}"
    shutil.rmtree(folder.parent)


def test_a_checkpoint_that_is_stored_in_part_is_no_checkpoint(url: str) -> None:
    for name in (f"checkpoints/10/{COMPLETE}", "checkpoints/10/part", "checkpoints/20/part"):
        Store(url).write(name, "")
    with workdir_of(url, read_only=True) as folder:
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["10"]
    assert "checkpoints/20/part" in names(url)
    with workdir_of(url) as folder:
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["10"]
    assert names(url) == {f"checkpoints/10/{COMPLETE}", "checkpoints/10/part"}


def test_errors_name_the_folder_of_the_store(url: str, temporary: Path) -> None:
    with refused(f"{url}/checkpoints/3", f"remove {url}/c"), workdir_of(url) as folder:
        raise UserError(folder / "checkpoints" / "3", f"is damaged; remove {folder}/c")
    for use in (evaluate_run, TrainedRun.open):
        with refused(url, "config.json"):
            use(url)
    assert not names(url) and not list(temporary.iterdir())


def test_a_log_in_a_store_can_be_compared_on(log: Path, tmp_path: Path) -> None:
    data = Dataset("feed", str(ROOT / "configs/synthetic.py"), prepared=log.as_uri())
    (run,) = plan(Ablation("One", (Variant("ordinal"),), (data,), (0,), "ordinal"), tmp_path)
    assert run.config.data.path == log.as_uri()
    assert run.log.fingerprint == PreparedLog.open(log).fingerprint


@pytest.mark.slow
def test_a_run_in_a_store_is_used_from_python(
    url: str, log: Path, temporary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, whole = experiment(log), tmp_path / "whole"
    for workdir in (whole, url):
        fit(config, workdir)
    files = {p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file()} - {".lock"}
    assert len(names(url)) == len(files)
    assert {n for n in names(url) ^ files if "/d/" not in n} == set()  # whose names are random
    steps = sorted(int(path.name) for path in whole.glob("checkpoints/*"))
    Store(url).remove(f"checkpoints/{steps[-1]}/{COMPLETE}")
    assert TrainedRun.open(url).step <= steps[-2]
    capsys.readouterr()
    fit(config, url)
    assert f"goes on at step {steps[-2]}" in capsys.readouterr().err
    ours, theirs = (evaluate_run(workdir) for workdir in (url, whole))
    assert ours["tasks"] == theirs["tasks"] and "result.json" in names(url)
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_a_training_whose_folder_is_taken_ends(url: str, log: Path, temporary: Path) -> None:
    config = experiment(log)
    config = replace(config, training=replace(config.training, epochs=1e3, patience=10**6))

    def take() -> None:
        until(lambda: any(name.endswith(COMPLETE) for name in names(url)))
        Store(url).write(OWNER, "another's")

    with ThreadPoolExecutor() as threads:
        taking = threads.submit(take)
        with refused(url, "another process", "the files are in"):
            fit(config, url)
        taking.result()
    (kept,) = temporary.glob("*/*")
    assert not TrainedRun.open(kept).progress.ended


@pytest.mark.slow
def test_a_training_in_a_store_goes_on_on_another_machine(log: Path, tmp_path: Path) -> None:
    """After SIGTERM, for which it brings all to the store, and after SIGKILL."""
    flags = [f"--config={ROOT / 'configs/synthetic.py'}:ordinal"]
    flags += [f"--config.{key}={value}" for key, value in TINY.items()]
    flags += [f"--config.data.path={log.as_uri()}", "--config.training.epochs=30"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": xla_flags(1)}
    whole, stored = tmp_path / "whole", tmp_path / "stored"

    def start(workdir: str, machine: str) -> subprocess.Popen[str]:
        (tmp_path / machine).mkdir()
        return subprocess.Popen(
            [sys.executable, str(ROOT / "experiments/train.py"), f"--workdir={workdir}", *flags],
            env=environment | {"TMPDIR": str(tmp_path / machine)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def step_it_went_on_at(told: str) -> int:
        return int(re.search(r"goes on at step (\d+)", told)[1])

    complete = f"checkpoints/*/{COMPLETE}"
    first = start(stored.as_uri(), "first")
    until(lambda: first.poll() is not None or list(tmp_path.glob(f"first/*/stored/{complete}")))
    first.send_signal(signal.SIGTERM)
    assert "the same command goes on" in first.communicate()[1] and first.returncode == 0
    before = set(stored.glob(complete))
    assert before and not list((tmp_path / "first").glob("siren-rope-*"))
    second = start(stored.as_uri(), "second")
    until(lambda: second.poll() is not None or set(stored.glob(complete)) - before)
    second.kill()
    at = step_it_went_on_at(second.communicate()[1])
    assert at > 0 and not (stored / "result.json").exists()
    third, undisturbed = start(stored.as_uri(), "third"), start(str(whole), "fourth")
    assert step_it_went_on_at(third.communicate()[1]) > at
    undisturbed.communicate()
    assert third.returncode == undisturbed.returncode == 0
    assert figures(stored) == figures(whole)
    assert read_json(stored / "config.json")["data"]["path"] == log.as_uri()
    found = [sorted(p.name for p in run.iterdir() if p.name != ".lock") for run in (stored, whole)]
    assert found[0] == found[1]
