"""What scripts say about bad flags and configs: one line, exit status 2, no traceback."""

from pathlib import Path

import pytest

from tests.scripts import ROOT, complaint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nope.py", "--workdir=x"], "nope.py: no such config file"),
        (
            ["--config=configs/nope.py", "--config.data.path=x", "--workdir=x"],
            "nope.py: no such config file below ",
        ),
        (["--config=configs/synthetic.py:siren_rop", "--workdir=x"], "did you mean 'siren_rope'?"),
        (
            ["--config=configs/synthetic.py", "--config.training.epocs=1", "--workdir=x"],
            "config.training.epocs: unknown key; did you mean 'epochs'?",
        ),
        (["--config=configs/synthetic.py", "--config.model.width=9", "--workdir=x"], "even number"),
        (
            ["--config=configs/synthetic.py", "--config.training.epochs=a", "--workdir=x"],
            "epochs=a",
        ),
        (
            ["--config=configs/synthetic.py", "--config.variant=ordinal", "--workdir=x"],
            "is chosen after the config file: --config=FILE.py:ordinal",
        ),
        (
            [
                "--config=configs/foursquare_nyc.py",
                "--config.variant",
                "ordinal_event",
                "--workdir=x",
            ],
            "is chosen after the config file: --config=FILE.py:ordinal_event",
        ),
        (
            ["--config=configs/synthetic.py", "--workdir=gs://bucket/x"],
            "--workdir=gs://bucket/x: is no path of this machine; mount the bucket",
        ),
        (["--config=configs/data/table.py", "--workdir=x"], "it is for prepare.py"),
        (["--config=configs/synthetic.py"], "--workdir"),
        (["--config=configs/synthetic.py", "--workdir=x"], "is no prepared log"),
        (
            ["--config=configs/synthetic.py", "--workdir=x", "--distributed=localhost:1,2,2"],
            "is neither 'auto' nor HOST:PORT,PROCESSES,INDEX with an index from 0 to",
        ),
        (
            ["--config=configs/synthetic.py", "--workdir=x", "--distributed=auto"],
            "--distributed: 'auto': cannot join: coordinator_address should be defined",
        ),
    ],
)
def test_one_line_and_status_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments]
    assert message in complaint("train", *arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
