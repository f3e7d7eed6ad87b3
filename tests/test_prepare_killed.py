"""`prepare` killed at any moment: no output or a whole one, and nothing left by the next time."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from siren_rope_jax.base.files import LOCK
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.writer import new_directory
from tests.raw_logs import raw_log, table_flags, write
from tests.refusals import refused
from tests.scripts import ROOT, printed


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_prepare_leaves_nothing_in_the_end(tmp_path, how):
    log = write(tmp_path / "log.csv", raw_log(60_000))
    flags = table_flags(log, tmp_path / "whole", "--config.tasks=like=rating>=4")
    begin = time.monotonic()
    printed("prepare", *flags)
    takes = time.monotonic() - begin
    expected = PreparedLog.open(tmp_path / "whole").fingerprint
    moments, endings = random.Random(how), []
    for _ in range(4):
        flags = table_flags(log, tmp_path / "out", "--config.tasks=like=rating>=4")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "experiments/prepare.py"), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.3, 0.9) * takes)
        process.send_signal(how)
        endings.append(process.wait())
        if (tmp_path / "out").exists():
            assert PreparedLog.open(tmp_path / "out").fingerprint == expected
            if -how in endings:
                break
            shutil.rmtree(tmp_path / "out")  # it was faster than the first
    assert -how in endings
    if not (tmp_path / "out").exists():
        printed("prepare", *flags)
    assert PreparedLog.open(tmp_path / "out").fingerprint == expected
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "whole", "out"}


def test_what_is_still_being_written_is_left_alone(tmp_path):
    out = tmp_path / "out"
    with refused(out), new_directory(out) as first, new_directory(out) as second:
        assert first.is_dir() and first != second
        (second / "file").write_text("second")
    assert (tmp_path / "out/file").read_text() == "second"


def test_what_a_killed_process_left_is_removed(tmp_path):
    with new_directory(tmp_path / "out") as directory:
        name = directory.name.removesuffix(directory.name[-8:])
    (tmp_path / "out").rmdir()
    left, of_others = tmp_path / f"{name}abcdefgh", tmp_path / ".out.backup"
    for directory in (left, of_others):
        directory.mkdir()
        (directory / "log.duckdb").write_bytes(bytes(100))
        (directory / LOCK).touch()
    with new_directory(tmp_path / "out"):
        pass
    assert not left.exists() and of_others.exists() and not list((tmp_path / "out").iterdir())
