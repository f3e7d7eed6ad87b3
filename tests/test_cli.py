"""What scripts say about bad flags and configs: one line, exit status 2, no traceback."""

from pathlib import Path

import pytest

from siren_rope_jax.commands import evaluate, train
from tests.scripts import ROOT, complaint

SYNTHETIC = "--config=configs/synthetic.py"
SPACED = ("--config", "configs/synthetic.py", "--workdir", "x")


WRONG = [
    ([*SPACED, "--config.training.epocs=1"], "config.training.epocs", "'epochs'"),
    ([f"{SYNTHETIC}:siren_rop", "--workdir=x"], "variant", "'siren_rope'"),
    ([SYNTHETIC], "--workdir", ""),
]
ALSO_WRONG = [
    (["--config=configs/nope.py", "--config.data.path=x", "--workdir=x"], "--config", "nope"),
    (["--config", "configs/nope.py", "--config.seed=1", "--workdir=x"], "--config", "nope.py"),
    ([SYNTHETIC, "--config.training.epocs=1", "--workdir=x"], "config.training.epocs", "epochs"),
    ([SYNTHETIC, "--config.model.width=9", "--workdir=x"], "config.model.width", "9"),
    ([SYNTHETIC, "--config.training.epochs=a", "--workdir=x"], "--config.training.epochs", "a"),
    ([SYNTHETIC, "--config.variant=ordinal", "--workdir=x"], "config.variant", ":ordinal"),
    ([SYNTHETIC, "--workdir=oss://bucket/x"], "oss://bucket/x", "ossfs"),
    (["--config=configs/data/table.py", "--workdir=x"], "config", "prepare.py"),
    ([SYNTHETIC, "--workdir=x", "--wrokdir=y"], "--wrokdir", ""),
    ([SYNTHETIC, "--workdir=x"], "runs/data/synthetic", "prepare.py"),
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
