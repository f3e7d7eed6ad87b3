"""Two processes that share a run do what one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from siren_rope_jax.data.synthetic import SyntheticConfig, generate

ROOT = Path(__file__).parent.parent


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
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


RETRIEVAL = (
    "--config.data.length=20",
    "--config.data.stride=10",
    "--config.model.dropout=0.0",  # rows lie in another order, and dropout goes by places
)
FILTERED = ("--config.filter_seen", "--config.model.repeat=False")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "more", "criterion", "column"),
    [
        ("synthetic", (), "ne", "like_score"),
        ("next_item", RETRIEVAL, "nll", "nll"),
        ("next_item", (*RETRIEVAL, *FILTERED), "nll", "nll"),
    ],
)
def test_two_processes_equal_one(
    tmp_path: Path, config: str, more: tuple[str, ...], criterion: str, column: str
) -> None:
    feed = tmp_path / "feed"
    generate(SyntheticConfig(num_users=150, events_per_user=20, num_items=30), feed)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    one, two = tmp_path / "one", tmp_path / "two"
    processes = [
        _start(config, feed, two, 2, f"--distributed={address},2,{i}", *more) for i in range(2)
    ]
    processes.append(_start(config, feed, one, 4, *more))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    def curve(workdir: Path) -> list[float]:
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return [line[criterion if line["kind"] == "validation" else "loss"] for line in lines]

    np.testing.assert_allclose(curve(two), curve(one), rtol=1e-4)
    said = [pq.read_table(d / "predictions.parquet")[column].to_numpy() for d in (one, two)]
    np.testing.assert_allclose(*said, atol=1e-4)
