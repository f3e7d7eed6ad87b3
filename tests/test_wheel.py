"""The installed package without its repository: from a log to scores with the command alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from siren_rope_jax.base.config import PACKAGED, config_file
from siren_rope_jax.commands.main import COMMANDS
from tests.scripts import ROOT, run
from tests.test_own_log import write_log


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing else."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("siren_rope_jax", "configs"):  # nothing is built in the repository
        shutil.copytree(ROOT / name, place / "source" / name)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", place / "source", "--no-deps", "-w", place / "built"], check=True
    )
    (wheel,) = (place / "built").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", place / "site", wheel], check=True)
    return place / "site"


def command(installed: Path, cwd: Path, *arguments: str) -> str:
    """What `siren-rope` prints in a folder; it must succeed."""
    done = subprocess.run(
        [sys.executable, str(installed / "bin/siren-rope"), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_ones_own_log_to_scores(installed: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "clicks.csv.gz")
    columns = {
        "name": "clicks",
        "user": "uid",
        "item": "article",
        "time": "at",
        "time_unit": "iso",
        "tasks": "like=liked",
        "categorical": "device=device",
    }
    flags = [f"--config.{key}={value}" for key, value in columns.items()]
    command(
        installed, tmp_path, "prepare", "--config=configs/data/table.py", "--input=clicks.csv.gz",
        "--output=data", *flags,
    )  # fmt: skip
    command(
        installed, tmp_path, "train", "--config=configs/table.py:siren_rope",
        "--config.data.path=data", "--workdir=run", "--config.training.epochs=1",
    )  # fmt: skip
    # More users than are encoded at once, in any order, with a column that only they know.
    asked = pd.DataFrame({"uid": [f"u{n % 50}" for n in range(99, -1, -1)], "article": "a1"})
    asked = asked.assign(device="phone", request=range(100))
    asked.to_csv(tmp_path / "asked.csv", index=False)
    command(
        installed, tmp_path, "score", "--workdir=run", "--candidates=asked.csv",
        "--time=2024-06-21", "--output=scores.csv",
    )  # fmt: skip
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["request"].tolist() == list(range(100)) and scores["like"].between(0, 1).all()
    assert scores["user"].tolist() == asked["uid"].tolist()
    assert scores.groupby("user")["like"].nunique().eq(1).all() and scores["like"].nunique() > 9
    assert len(command(installed, tmp_path, "configs").splitlines()) == len(
        list((ROOT / "configs").rglob("*.py"))
    )


def test_every_command_has_its_script_and_says_how_it_is_used() -> None:
    scripts = {path.stem.replace("_", "-") for path in (ROOT / "experiments").glob("*.py")}
    assert scripts == set(COMMANDS)
    assert f"siren-rope {COMMANDS[0]} --config" in run(COMMANDS[0], "--help").stdout


def test_a_config_file_of_ones_own_comes_before_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_file("configs/table.py") == PACKAGED / "table.py"
    assert config_file("configs/none.py") == Path("configs/none.py")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/table.py").write_text("")
    assert config_file("configs/table.py") == Path("configs/table.py")
    assert config_file("table.py") == Path("table.py")
