"""Two processes that share a run compute the same as one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from flax.traverse_util import flatten_dict

from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.training.trained import TrainedRun
from tests.scripts import ROOT, checkpoints, restored_step, xla_flags


def _start(config: str, feed: Path, workdir: Path, devices: int, *more: str) -> subprocess.Popen:
    command = [
        sys.executable,
        str(ROOT / "experiments/train.py"),
        f"--config={ROOT}/configs/{config}.py:siren_rope",
        f"--config.data.path={feed}",
        f"--workdir={workdir}",
        "--config.data.batch_size=8",
        "--config.model.width=16",
        "--config.training.epochs=1",
        *more,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": xla_flags(devices),
    }
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def _start_two(config: str, feed: Path, workdir: Path, *more: str) -> list[subprocess.Popen]:
    address = _free_address()
    return [
        _start(config, feed, workdir, 4, f"--distributed={address},2,{i}", *more) for i in range(2)
    ]


def _finish(processes: list[subprocess.Popen]) -> list[str]:
    """What each process says on stderr; all must succeed."""
    errors = [process.communicate(timeout=300)[1] for process in processes]  # wait for all
    for process, text in zip(processes, errors, strict=True):
        assert process.returncode == 0, text
    return errors


def _curve(workdir: Path, criterion: str) -> list[float]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line[criterion if line["kind"] == "validation" else "loss"] for line in lines]


RETRIEVAL = (
    "--config.data.length=20",
    "--config.data.stride=10",
    "--config.model.dropout=0.0",  # depends on the order of the rows, which differs
    "--config.data.tested_lengths=(40,)",
)
FILTERED = ("--config.filter_seen", "--config.model.repeat=False")
LAZY = (
    "--config.model.repeat=False",
    "--config.loss.kind=sampled_softmax",
    "--config.loss.sampler=shared",
    "--config.optimizer.lazy_adam=('items',)",
)
ALL_AXES = ("--config.mesh.fsdp=2", "--config.mesh.tensor=2")
TWENTY_STEPS = ("--config.training.epochs=0.5",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "more", "mesh", "criterion", "column"),
    [
        ("synthetic", (), ALL_AXES, "ne", "like_score"),
        ("next_item", RETRIEVAL, ALL_AXES, "nll", "nll"),
        ("next_item", (*RETRIEVAL, *LAZY), ALL_AXES, "nll", "nll"),
        ("next_item", (*RETRIEVAL, *FILTERED), (), "nll", "nll"),
    ],
    ids=["ranking", "retrieval", "lazy rows", "filtered"],
)
def test_two_processes_of_four_devices_equal_one_device(
    tmp_path: Path,
    config: str,
    more: tuple[str, ...],
    mesh: tuple[str, ...],
    criterion: str,
    column: str,
) -> None:
    """With all axes of the mesh: every process has some of every table's rows."""
    feed, one, two = tmp_path / "feed", tmp_path / "one", tmp_path / "two"
    generate(SyntheticConfig(num_users=150, events_per_user=20, num_items=200), feed)
    more = (*more, *TWENTY_STEPS)
    _finish([*_start_two(config, feed, two, *more, *mesh), _start(config, feed, one, 1, *more)])
    assert len(_curve(one, criterion)) > 0
    np.testing.assert_allclose(_curve(two, criterion), _curve(one, criterion), rtol=1e-5)
    predicted = [pq.read_table(d / "predictions.parquet")[column].to_numpy() for d in (one, two)]
    np.testing.assert_allclose(*predicted, atol=1e-4)
    if config == "next_item":
        longer = [
            pq.read_table(d / "predictions_40.parquet")[column].to_numpy() for d in (one, two)
        ]
        np.testing.assert_allclose(*longer, atol=1e-4)
    params = [flatten_dict(TrainedRun.open(d).params, sep="/") for d in (one, two)]
    apart = np.concatenate(
        [
            np.abs(params[1][name] - expected).ravel()
            for name, expected in params[0].items()
            if not name.endswith("/linear/bias")  # whose gradient is noise
        ]
    )
    # Adam scales up the rounding of the few gradients that are nearly zero.
    assert (apart > 1e-5).mean() < 1e-3 and apart.max() < 1e-4


@pytest.mark.slow
def test_two_processes_that_were_interrupted_go_on(tmp_path: Path) -> None:
    """They end with the same losses as one undisturbed process.

    Both are killed after a checkpoint; they go on, one is told to end, and both save and do.
    """
    feed, one, two = tmp_path / "feed", tmp_path / "one", tmp_path / "two"
    generate(SyntheticConfig(num_users=150, events_per_user=20, num_items=30), feed)
    more = (*RETRIEVAL, "--config.training.evaluations_per_epoch=5", "--config.training.epochs=2")
    for how in (signal.SIGKILL, signal.SIGTERM):
        before = checkpoints(two)
        both = _start_two("next_item", feed, two, *more)
        deadline = time.monotonic() + 300
        while not checkpoints(two) - before:
            assert all(p.poll() is None for p in both) and time.monotonic() < deadline
            time.sleep(0.01)
        for process in both if how == signal.SIGKILL else both[1:]:
            process.send_signal(how)
        said = [process.communicate(timeout=300)[1] for process in both]
        assert not (two / "result.json").exists()
        if how == signal.SIGTERM:
            assert restored_step(said[0]) > 0
            assert [process.returncode for process in both] == [0, 0]
            assert "the same command goes on" in said[0]
    said = _finish(
        [*_start_two("next_item", feed, two, *more), _start("next_item", feed, one, 1, *more)]
    )
    assert restored_step(said[0]) > 0
    np.testing.assert_allclose(_curve(two, "nll"), _curve(one, "nll"), rtol=1e-4)


@pytest.mark.slow
def test_processes_with_other_flags_are_refused(tmp_path: Path) -> None:
    feed, run = tmp_path / "feed", tmp_path / "run"
    generate(SyntheticConfig(num_users=20, events_per_user=20, num_items=30), feed)
    address = _free_address()
    both = [
        _start("next_item", feed, run, 4, f"--distributed={address},2,{i}", *RETRIEVAL, rate)
        for i, rate in enumerate(
            f"--config.optimizer.learning_rate={rate}" for rate in (0.001, 0.5)
        )
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2], said
    assert "config.optimizer.learning_rate: is 0.5 in this process, 0.001 in the main" in said[1]
    assert "as process 1" in said[0] and not run.exists()
