r"""Trains RecTools' SASRec on a prepared log and evaluates it like a run of this library.

    python -m venv peer && peer/bin/pip install 'rectools[torch]==0.19.0'
    siren-rope compare-peer --config=configs/peer/NAME.py --python=peer/bin/python \
        --workdir=DIR [--ours=RUN[,RUN...]] [--config.key=value ...]

The log must have been prepared with --config.split.kind=leave_one_out. The model, its batches, loss
and optimiser are RecTools'. The events, the length of the history and the code that ranks the items
are the same as for our runs; long histories are split into several users, because RecTools learns
only from the last events of a user. Writes result.json and predictions.parquet into DIR and prints
the metrics. With --ours, runs of `siren-rope train` on the same log, also prints their training
times and the differences. A repeated command does not train again.
"""

import sys
from pathlib import Path

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.evaluation.evaluate import as_text
from siren_rope_jax.studies.comparable import finished_run
from siren_rope_jax.studies.peer import PeerConfig, check_comparable, compare, difference_to
from siren_rope_jax.studies.tables import interval

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "The peer and its log.")
_PYTHON = flags.DEFINE_string(
    "python", sys.executable, "A Python interpreter with RecTools.", flag_values=_FLAGS
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the peer's run.", required=True, flag_values=_FLAGS
)
_OURS = flags.DEFINE_list(
    "ours", [], "Directories of runs to compare, one per seed.", flag_values=_FLAGS
)


def main() -> None:
    """Runs what the flags describe."""
    config = from_config_dict(PeerConfig, _CONFIG.value)
    workdir, ours = Path(_WORKDIR.value), [Path(path) for path in _OURS.value]
    check_comparable(ours, config)  # before the long training
    outcome = compare(config, _PYTHON.value, workdir)
    print(as_text(outcome))
    fitted = outcome["peer"]
    print(
        f"{fitted['train_seconds']:.0f} s of training; best epoch {fitted['best_epoch']} of "
        f"{fitted['epochs']}, validation NDCG@10 {outcome['validation']['ndcg@10']:.4f}; "
        + ", ".join(f"{name} {version}" for name, version in fitted["versions"].items())
    )
    for run in ours:
        print(f"{run.name}: {finished_run(run)['train_seconds']:.0f} s of training")
    if ours:
        for metric, found in difference_to(ours, workdir).items():
            print(f"ours minus the peer's {metric.upper()}: {interval(found._asdict())}")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="compare-peer")
