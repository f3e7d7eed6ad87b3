"""Evaluates a trained run: its best checkpoint on one split.

    siren-rope evaluate --workdir=DIR [--split=test] [--lengths=400,800] [--log=DIR]

Writes result.json, predictions.parquet and plots/ into DIR (for a split other than test,
result_<split>.json and so on), and prints the metrics beside those of the baselines. A --log is
noted in config.json, so you need to give it only once. Both may be in a store, as gs://bucket/DIR.
"""

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.commands import pictures
from siren_rope_jax.evaluation.evaluate import as_text, evaluate_run
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.workdir import note_log

_FLAGS = cli.new_flags()
_WORKDIR, _LOG = cli.run_flags(_FLAGS)
_SPLIT = flags.DEFINE_string(
    "split", "test", "Events to score: train, validation or test.", flag_values=_FLAGS
)
_LENGTHS = flags.DEFINE_list(
    "lengths", None, "Rows of other lengths than that of training, too.", flag_values=_FLAGS
)


def main() -> None:
    """Runs what the flags describe."""
    with workdir_of(_WORKDIR.value) as workdir:
        if _LOG.value:
            note_log(workdir, _LOG.value)
        lengths = None
        if _LENGTHS.value is not None:
            lengths = [cli.whole_number(length, "--lengths") for length in _LENGTHS.value]
        print(as_text(evaluate_run(workdir, _SPLIT.value, lengths=lengths)))
        pictures.draw(workdir, _SPLIT.value)


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, in_stores=["workdir", "log"])
