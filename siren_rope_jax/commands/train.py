r"""Trains one model and evaluates it on the test split.

    siren-rope train --config=configs/NAME.py[:VARIANT] --workdir=DIR \
        [--config.key=value ...]

Writes config.json, metrics.jsonl, checkpoints/, result.json, predictions.parquet and plots/ into
DIR. The same command resumes an interrupted training, on any number of devices; SIGTERM saves it
first. With a greater --config.training.epochs (or patience) a training goes on from its end. On
several hosts, run it on each of them with --distributed=auto and one shared DIR. DIR may be in a
store (gs://bucket/folder; docs/scale.md) if there is one process. --export=FOLDER also writes the
trained model for use without this package, as siren-rope export does.
"""

from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import check
from siren_rope_jax.commands import pictures
from siren_rope_jax.evaluation.evaluate import as_text, evaluate_run
from siren_rope_jax.inference.export import check_exportable, export
from siren_rope_jax.rotation.variants import check_not_variant
from siren_rope_jax.training.interruption import ending_on_sigterm
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.processes import PATIENCE, is_main, join
from siren_rope_jax.training.trained import TrainedRun

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "The experiment.")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed",
    None,
    "One of several processes: 'auto' where JAX knows the cluster (TPU pods, Slurm), else "
    "HOST:PORT,PROCESSES,INDEX with the address of process 0.",
    flag_values=_FLAGS,
)
_JOIN_SECONDS = flags.DEFINE_float(
    "join_seconds",
    PATIENCE,
    "How long each of several processes waits for all others to start.",
    lower_bound=1.0,
    flag_values=_FLAGS,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run.", required=True, flag_values=_FLAGS
)
_EXPORT = flags.DEFINE_string(
    "export",
    None,
    "A new folder, into which the model is exported when the training has ended.",
    flag_values=_FLAGS,
)


def main() -> None:
    """Runs what the flags describe."""
    overrides = config_flags.get_override_values(_FLAGS["config"])
    check_not_variant(overrides.get("variant", ""))
    config = read_experiment(_CONFIG.value)
    if _EXPORT.value:  # what would go wrong after the training
        right = "left out; run siren-rope export when the training has ended"
        check(not _DISTRIBUTED.value, "--export", right)
        check_exportable(Path(_EXPORT.value))
    if _DISTRIBUTED.value:
        join(_DISTRIBUTED.value, _JOIN_SECONDS.value)
    with workdir_of(_WORKDIR.value) as workdir, ending_on_sigterm():
        _train(config, workdir)


def _train(config: Any, workdir: Path) -> None:
    if not fit(config, workdir).ended:
        return  # after SIGTERM: the same command goes on
    outcome = evaluate_run(workdir)
    if is_main():
        print(as_text(outcome))
        pictures.draw(workdir)
    if _EXPORT.value:
        folder = export(TrainedRun.open(workdir), _EXPORT.value, outcome)
        print(f"wrote {folder}; its README.md says how to call the model")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, in_stores=["workdir"], config_for="train")
