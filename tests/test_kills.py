"""SIGKILL at any moment: the same command again ends as if there had been none.

SIREN_ROPE_KILLED=3 kills so many trainings again and again.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siren_rope_jax.base.files import read_json
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.training.run_log import read_metrics
from tests.made_up import BASES
from tests.scripts import ROOT, printed, restored_step, xla_flags
from tests.scripts import run as run_script

pytestmark = pytest.mark.slow
TINY = {
    "data.length": 20, "data.stride": 20, "data.batch_size": 8, "model.width": 4, "model.heads": 1,
    "model.layers": 1, "model.embedding_width": 2, "training.epochs": 8.0,
    "training.evaluations_per_epoch": 4, "training.patience": 99, "training.log_every": 2,
}  # fmt: skip
ONE_DEVICE = {"XLA_FLAGS": xla_flags(1)}
Moment = Callable[[], bool]


def kill_when(moment: Moment, delay: float, name: str, *flags: str) -> bool:
    """Runs a script and kills it `delay` seconds after `moment`; False if it ended before."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / f"experiments/{name}.py"), *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | ONE_DEVICE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not moment():
        time.sleep(0.001)
    if process.poll() is None:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL)
    return process.returncode != 0


def within(folder: Path, glob: str, least: int = 1) -> Moment:
    """The moment at which so many files fit a glob."""
    return lambda: len(list(folder.glob(glob))) >= least


def saving(run: Path) -> Moment:
    """The moment at which a checkpoint is being written that was not when the script started."""
    before = set(run.glob("checkpoints/*"))
    return lambda: any("tmp" in p.name for p in set(run.glob("checkpoints/*")) - before)


def any_moment() -> bool:
    return True


def figures(workdir: Path) -> Any:
    """All that a run says, but for how fast it was."""
    result = read_json(workdir / "result.json")
    lines = [line for line in read_metrics(workdir) if line["kind"] == "validation"]
    kept = ("tasks", "slices", "baselines", "step", "training_ended")
    return {key: result[key] for key in kept}, lines


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "log"
    generate(SyntheticConfig(num_users=40, events_per_user=20, num_items=15), path)
    return path


def training(log: Path, workdir: Path) -> list[str]:
    """The flags of one tiny training."""
    overrides = [f"--config.{key}={value}" for key, value in TINY.items()]
    config = f"--config={ROOT / 'configs/synthetic.py'}:ordinal"
    return [config, f"--config.data.path={log}", f"--workdir={workdir}", *overrides]


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a training that nobody killed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    printed("train", *training(log, workdir), **ONE_DEVICE)
    return workdir


@pytest.mark.parametrize("seed", range(int(os.environ.get("SIREN_ROPE_KILLED", 1))))
def test_a_training_killed_again_and_again(
    log: Path, whole: Path, tmp_path: Path, seed: int
) -> None:
    rng, run, kills = random.Random(seed), tmp_path / "run", 0
    kills += kill_when(within(run, "data.json"), 0.0, "train", *training(log, run))
    for most in (0.0, 0.0, 0.05, 0.1, 0.2):
        kills += kill_when(saving(run), rng.uniform(0, most), "train", *training(log, run))
    for moment in (within(run, ".predictions*"), within(run, "predictions.parquet")):
        kills += kill_when(moment, 0.0, "train", *training(log, run))
    assert kills >= 5
    done = run_script("train", *training(log, run), **ONE_DEVICE)
    assert done.returncode == 0 and restored_step(done.stderr) > 0
    assert figures(run) == figures(whole)
    kept = [sorted(p.name for p in d.glob("checkpoints/*")) for d in (run, whole)]
    assert kept[0] == kept[1]


def test_a_training_told_to_end_saves_and_goes_on(log: Path, whole: Path, tmp_path: Path) -> None:
    """SIGTERM, between validations too: status 0, one line, and the same end."""
    run = tmp_path / "run"
    for delay in (0.0, 0.2):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "experiments/train.py"), *training(log, run),
             "--config.training.checkpoint_steps=1"],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | ONE_DEVICE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        begun = saving(run)
        while process.poll() is None and not begun():
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
        assert process.returncode == 0 and "the same command goes on" in said
        assert not (run / "result.json").exists()
    done = run_script("train", *training(log, run), **ONE_DEVICE)
    assert done.returncode == 0 and restored_step(done.stderr) > 0
    assert figures(run) == figures(whole)


def test_an_evaluation_killed_again_and_again(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    flags, rng = [f"--workdir={run}"], random.Random(2)
    began = time.monotonic()
    printed("evaluate", *flags, **ONE_DEVICE)
    seconds = time.monotonic() - began
    moments = [any_moment] * 3 + [within(run, ".predictions*")]
    delays = [rng.uniform(0.3, 1.0) * seconds for _ in range(3)] + [0.0]
    kills = 0
    for moment, delay in zip(moments, delays, strict=True):
        kills += kill_when(moment, delay, "evaluate", *flags)
    assert kills >= 1
    printed("evaluate", *flags, **ONE_DEVICE)
    assert figures(run) == figures(whole)


def test_an_ablation_killed_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(
        BASES["ranking"].replace("ranking_variant(name)", "ranking_variant(name, 'topic')")
    )
    config = {
        "name": "Tiny", "baseline": "ordinal", "seeds": (0,), "jobs": 1,
        "variants": ({"name": "ordinal"}, {"name": "none"}),
        "datasets": ({"name": "feed", "base": str(tmp_path / "base.py"),
                      "config": str(ROOT / "configs/data/synthetic.py"),
                      "prepare": {"num_users": 60, "num_items": 20}},),
    }  # fmt: skip
    load = "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict"
    (tmp_path / "tiny.py").write_text(f"{load}({config})\n")

    def flags(out: Path) -> list[str]:
        return [f"--config={tmp_path / 'tiny.py'}", f"--workdir={out}"]

    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    moments = [
        within(killed, "data/.feed*"),
        within(killed, "data/feed"),
        within(killed, "feed/*/seed_0/checkpoints/*tmp*"),
        within(killed, "feed/none/seed_0/checkpoints/*"),
        within(killed, "feed-*.png"),
        within(killed, "report.json"),
    ]
    kills = sum(kill_when(moment, 0.0, "ablate", *flags(killed)) for moment in moments)
    assert kills >= 4
    printed("ablate", *flags(killed), **ONE_DEVICE)
    printed("ablate", *flags(undisturbed), **ONE_DEVICE)
    for variant in ("ordinal", "none"):
        place = f"feed/{variant}/seed_0"
        assert figures(killed / place) == figures(undisturbed / place)
    reports = [read_json(out / "report.json")["datasets"]["feed"] for out in (killed, undisturbed)]
    parts = [[own["parts"] for own in report["variants"].values()] for report in reports]
    assert parts[0] == parts[1]
