"""Calibrates a ranker: probabilities that come true as often as they say, by its validation split.

    siren-rope calibrate --workdir=DIR [--log=DIR]

Fits a scale and an offset of the logit of every task with two classes, writes them to
DIR/calibration.json, and prints the calibration error before and after. Whatever opens the run
afterwards (`evaluate`, `score`, `export`) has the calibrated probabilities. The order of the scores
does not change. Remove the file to have the model's own ones back. A training that goes on to a
better step leaves the file behind: probabilities are the model's own again, a warning says so, and
the run can be calibrated again. An ablation compares models as they were trained, so it evaluates a
calibrated run again.
"""

from siren_rope_jax.base import cli
from siren_rope_jax.base.text import number
from siren_rope_jax.evaluation.calibrate import calibrate
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.workdir import note_log

_FLAGS = cli.new_flags()
_WORKDIR, _LOG = cli.run_flags(_FLAGS)


def main() -> None:
    """Runs what the flags describe."""
    with workdir_of(_WORKDIR.value) as workdir:
        if _LOG.value:
            note_log(workdir, _LOG.value)
        changes = calibrate(workdir)
    print("On the validation split, to which the lines are fitted:")
    print(f"  {'':20}{'scale':>8}{'offset':>8}{'ECE':>18}{'NE':>18}")
    for name, of in changes.items():
        ece, ne = (
            f"{number(before, 4)} -> {number(after, 4)}" for before, after in (of.ece, of.ne)
        )
        line = f"{number(of.line.scale, 3):>8}{number(of.line.offset, 3):>8}"
        print(f"  {name:20}{line}{ece:>18}{ne:>18}")
    print("Evaluate the run again for what this does to the test split.")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, in_stores=["workdir", "log"])
