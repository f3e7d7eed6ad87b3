"""From a trained model to files: predictions.parquet and result.json of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from siren_rope_jax import __version__
from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.files import of_split, replacing, write_json
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.protocols import PROTOCOLS
from siren_rope_jax.data.windows import Split
from siren_rope_jax.evaluation import ranking_results, retrieval_results
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.mesh import is_main
from siren_rope_jax.training.objectives import count_parameters
from siren_rope_jax.training.trained import TrainedRun


class Kind(Protocol):
    """What is measured and told of one kind of model; a module is one."""

    def columns(self, evaluated: Evaluated) -> dict[str, pa.Array]:
        """What predictions.parquet holds beside the events."""

    def measure(self, evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Any]:
        """What result.json holds beside the run; `config` is the run's."""

    def lines(self, outcome: Mapping[str, Any]) -> list[str]:
        """A result for the terminal."""

    def headline(self, outcome: Mapping[str, Any]) -> str:
        """A result in a few words."""


_KINDS: Mapping[str, Kind] = {"ranking": ranking_results, "retrieval": retrieval_results}


def train_and_evaluate(config: ExperimentConfig, workdir: Path) -> dict[str, Any]:
    """Trains (or goes on training) a run, and evaluates its best checkpoint on the test split.

    Returns:
      what result.json holds.

    Raises:
      UserError: as `fit`.
    """
    fit(config, workdir)
    return evaluate_run(workdir)


def evaluate_run(workdir: Path, split: str = "test") -> dict[str, Any]:
    """Scores a split with a run's best checkpoint; writes predictions.parquet and result.json.

    Of another split than "test" they are predictions_<split>.parquet and result_<split>.json.

    Args:
      workdir: of a run that has trained.
      split: "train", "validation" or "test".

    Returns:
      what result.json holds.

    Raises:
      UserError: no run there, no checkpoint yet, or an unknown split.
    """
    if split not in get_args(Split):
        raise UserError(f"split {split!r}: there is none{suggestion(split, get_args(Split))}")
    workdir = Path(workdir)
    run = TrainedRun.open(workdir)
    evaluated = Evaluated.of(run.log, run.score(cast(Split, split)))
    config = to_dict(run.config)
    outcome = result(
        evaluated,
        config,
        split=split,
        step=run.step,
        parameters=count_parameters(run.params),
        train_seconds=run.progress.seconds,
        training_ended=run.progress.ended,
    )
    if is_main():
        path = workdir / of_split("result.json", split)
        path.unlink(missing_ok=True)  # it must never stand beside the predictions of another model
        write_predictions(workdir, evaluated, config["task"], split)
        write_json(path, outcome)
    return outcome


def result(
    evaluated: Evaluated,
    config: Mapping[str, Any],
    *,
    split: str,
    step: int,
    parameters: int,
    train_seconds: float,
    training_ended: bool,
) -> dict[str, Any]:
    """Everything that is known of a run, as the JSON object of result.json.

    Hours and days in it are local where the log has UTC offsets ("has_utc_offset"). What is
    measured depends on the kind of model: see `ranking_results` and `retrieval_results`.

    Args:
      evaluated: the scored events.
      config: of the run, as JSON values.
      split: of the events; the other arguments stand in the result unchanged, too.
      step: of the parameters.
      parameters: how many numbers were trained.
      train_seconds: wall time of training, compilation included, evaluation not.
      training_ended: False: more of it is to come.

    Raises:
      ValueError: a score that is no probability.
    """
    schema = evaluated.log.schema
    return {
        "variant": config["variant"],
        "dataset": schema.name,
        "split": split,
        "protocol": schema.protocol,
        "seed": config["seed"],
        "step": step,
        "parameters": parameters,
        "events": len(evaluated.events.event),
        "train_seconds": train_seconds,
        "training_ended": training_ended,
        "version": __version__,
        "has_utc_offset": schema.has_utc_offset,
        **_KINDS[config["task"]].measure(evaluated, config),
        "config": dict(config),
    }


def write_predictions(workdir: Path, evaluated: Evaluated, task: str, split: str = "test") -> Path:
    """Writes a split's predictions.parquet, one row per event in order of the global event index.

    Columns: event, user and item (raw ids), time (Unix seconds UTC, null where unknown),
    utc_offset (seconds), then those of the kind of model.

    Args:
      workdir: the run's directory.
      evaluated: the scored events.
      task: the kind of model: "ranking" or "retrieval".
      split: of the events.
    """
    log, events = evaluated.log, evaluated.events
    item = log.schema.categorical[0].name
    columns = {
        "event": pa.array(events.event),
        "user": log.users().take(pa.array(events.user)),
        "item": _raw(log, item, events.rows[f"categorical/{item}"]),
        "time": pa.array(events.rows["time"], mask=events.rows["time"] == NO_TIME),
        "utc_offset": pa.array(events.rows["utc_offset"]),
        **_KINDS[task].columns(evaluated),
    }
    path = Path(workdir) / of_split("predictions.parquet", split)
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return path


def as_text(outcome: Mapping[str, Any]) -> str:
    """A table of a result's metrics, with the baselines on the same events, for the terminal."""
    about = f"{outcome['dataset']}, {outcome['split']} split, {outcome['events']:,} events"
    protocol = PROTOCOLS[outcome["protocol"]].name
    return "\n".join([f"{about} ({protocol})", *_kind(outcome).lines(outcome)])


def headline(outcome: Mapping[str, Any]) -> str:
    """A result's main metrics in a few words."""
    return _kind(outcome).headline(outcome)


def _kind(outcome: Mapping[str, Any]) -> Kind:
    return _KINDS[outcome["config"]["task"]]


def _raw(log: PreparedLog, name: str, ids: np.ndarray) -> pa.ChunkedArray:
    """Raw values of encoded ids; null for id 0."""
    values = log.vocabulary(name)["value"]
    return values.take(pa.array(ids.astype(np.int64) - 1, mask=ids == 0))
