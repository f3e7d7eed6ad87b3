"""What scripts say about bad flags and configs: one line, exit status 2, no traceback."""

import importlib
import re
from pathlib import Path

import pytest

from siren_rope_jax.commands import evaluate, score, train
from tests.scripts import ROOT, complaint

SYNTHETIC = "--config=configs/synthetic.py"
SPACED = ("--config", "configs/synthetic.py", "--workdir", "x")


WRONG = [
    ([*SPACED, "--config.training.epocs=1"], "config.training.epocs", "'epochs'"),
    ([f"{SYNTHETIC}:siren_rop", "--workdir=x"], "variant", "'siren_rope'"),
    ([SYNTHETIC], "--workdir", "is missing (directory of the run)"),
    ([SYNTHETIC, "--wrokdir=y"], "--wrokdir", "'--workdir'"),
]
ALSO_WRONG = [
    (["--config=configs/nope.py", "--config.data.path=x", "--workdir=x"], "--config", "nope"),
    (["--config", "configs/nope.py", "--config.seed=1", "--workdir=x"], "--config", "nope.py"),
    ([SYNTHETIC, "--config.training.epocs=1", "--workdir=x"], "config.training.epocs", "epochs"),
    ([SYNTHETIC, "--config.model.width=9", "--workdir=x"], "config.model.width", "9"),
    ([SYNTHETIC, "--config.training.epochs=a", "--workdir=x"], "--config.training.epochs", "a"),
    ([SYNTHETIC, "--config.variant=ordinal", "--workdir=x"], "config.variant", ":ordinal"),
    ([SYNTHETIC, "--workdir=oss://bucket/x"], "oss://bucket/x", "ossfs"),
    (["--config=configs/data/table.py", "--workdir=x"], "--config", "siren-rope prepare"),
    ([SYNTHETIC, "--workdir=x", "--elsewhere"], "--elsewhere", "--distributed"),
    ([SYNTHETIC, "--workdir=x"], "runs/data/synthetic", "siren-rope prepare"),
    ([SYNTHETIC, "--workdir=x", "--distributed=host:1,2,2"], "--distributed", "host:1,2,2"),
    ([SYNTHETIC, "--workdir=x", "--distributed=auto"], "--distributed", "auto"),
]


@pytest.mark.parametrize(
    ("arguments", "about", "named"),
    [*WRONG, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALSO_WRONG)],
)
def test_one_line_and_status_2(
    tmp_path: Path, arguments: list[str], about: str, named: str
) -> None:
    arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments]
    line = complaint("train", *arguments, cwd=tmp_path)
    assert line.startswith(f"{about}: ") and named in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_says_where_the_keys_of_configs_are(flag, capsys, monkeypatch):
    for command, takes_config in ((train, True), (evaluate, False)):
        monkeypatch.setattr("sys.argv", ["siren-rope", flag])
        command.run()
        assert ("siren-rope keys" in capsys.readouterr().out) == takes_config


@pytest.mark.parametrize("command", [train, evaluate, score])
def test_help_marks_the_flags_that_must_be_given(command, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["siren-rope", "--help"])
    command.run()
    command.run()  # as a notebook may
    described = re.split(r"\n\s+-", capsys.readouterr().out)
    marked = {text.split(":")[0].lstrip("-") for text in described if "Required" in text}
    must = {train: {"config"}, evaluate: set(), score: {"candidates", "output"}}
    assert marked == {"workdir"} | must[command]


@pytest.mark.parametrize("command", ["configs", "variants"])
def test_lists_are_explained_too(command, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["siren-rope", "--help"])
    listing = importlib.import_module(f"siren_rope_jax.commands.{command}")
    listing.run()
    assert "Show this text" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["siren-rope"])
    listing.run()
    assert "Show this text" not in capsys.readouterr().out


def test_an_output_without_a_folder_is_refused_before_the_work(tmp_path):
    given = ("--config=configs/next_item.py:ordinal", "--items=9", "--output=none/report.json")
    assert complaint("compile", *given, cwd=tmp_path).startswith("--output: none is no folder")


def test_of_several_missing_flags_one_is_named_with_its_own_meaning(tmp_path):
    assert "directory of the run" in complaint("score", "--output=x", cwd=tmp_path)
    line = complaint("score", f"--workdir={tmp_path}", "--candidates=x", cwd=tmp_path)
    assert line.startswith("--output: ") and "is missing" in line and "file to write" in line
