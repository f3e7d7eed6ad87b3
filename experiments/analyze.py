"""Shows what the rotation of a trained run learned about time.

    python experiments/analyze.py --workdir=DIR

Writes analysis.json and plots/rotation.png into DIR: the angles over a week, which hours they tell
apart, the periods they follow, and how far they are from depending on time differences alone.
"""

from pathlib import Path

from absl import flags

from siren_rope_jax import cli
from siren_rope_jax.analysis import analyze, draw
from siren_rope_jax.files import write_json
from siren_rope_jax.trained import TrainedRun

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)


def main() -> None:
    """Runs what the flags describe."""
    workdir = Path(_WORKDIR.value)
    run = TrainedRun.open(workdir)
    analysis = analyze(run)
    numbers = analysis.numbers()
    write_json(workdir / "analysis.json", numbers)
    title = f"{run.log.schema.name}: rotation of {run.config.variant}, seed {run.config.seed}"
    print(draw(workdir / "plots" / "rotation.png", analysis, title))
    for entry in numbers["spectrum"]:
        print(f"period {entry['hours']:7.1f} h: {entry['share']:.1%} of the angles' variance")
    for entry in numbers["departure"]:
        shift, change = entry["shift_hours"], entry["change"]
        print(f"all times shifted by {shift:3d} h: cos changes by {change:.3f}")


if __name__ == "__main__":
    cli.run(main)
