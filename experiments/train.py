"""Trains one model and evaluates it on the test split.

    python experiments/train.py --config=configs/NAME.py[:VARIANT] --workdir=DIR \
        [--config.key=value ...]

The same command again resumes. Writes config.json, metrics.jsonl, checkpoints/, result.json,
predictions.parquet and plots/ into DIR.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from siren_rope_jax import cli
from siren_rope_jax.evaluate import as_text, train_and_evaluate
from siren_rope_jax.experiment import ExperimentConfig
from siren_rope_jax.plots import draw_run

_CONFIG = config_flags.DEFINE_config_file("config", help_string="The experiment.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs what the flags describe."""
    workdir = Path(_WORKDIR.value)
    print(as_text(train_and_evaluate(ExperimentConfig.from_config(_CONFIG.value), workdir)))
    draw_run(workdir)


if __name__ == "__main__":
    cli.run(main)
