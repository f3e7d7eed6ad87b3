"""From a trained model to files: predictions.parquet and result.json of a run.

Letters: N evaluated events, T tasks.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from siren_rope_jax.baselines import simple_baselines
from siren_rope_jax.config import to_dict
from siren_rope_jax.data.dataset import Events, PreparedLog
from siren_rope_jax.data.schema import NO_TIME
from siren_rope_jax.data.windows import Split
from siren_rope_jax.errors import UserError, suggestion
from siren_rope_jax.experiment import ExperimentConfig
from siren_rope_jax.files import replacing, write_json
from siren_rope_jax.metrics import METRICS, task_metrics
from siren_rope_jax.scoring import count_parameters
from siren_rope_jax.sharding import is_main
from siren_rope_jax.slices import slice_metrics, slices
from siren_rope_jax.train import fit
from siren_rope_jax.trained import TrainedRun

Scores = Float[np.ndarray, "N T"]
Ids = Int[np.ndarray, " N"]


def train_and_evaluate(config: ExperimentConfig, workdir: Path) -> dict[str, Any]:
    """Trains (or goes on training) a run, and evaluates its best checkpoint on the test split.

    Returns:
      what result.json holds.

    Raises:
      UserError: as `fit`.
    """
    progress = fit(config, workdir)
    return evaluate_run(workdir, "test", train_seconds=progress.seconds)


def evaluate_run(
    workdir: Path, split: str = "test", train_seconds: float | None = None
) -> dict[str, Any]:
    """Scores a split with a run's best checkpoint; writes predictions.parquet and result.json.

    Args:
      workdir: of a run that has trained.
      split: "train", "validation" or "test".
      train_seconds: of the training; None: what result.json said before.

    Returns:
      what result.json holds.

    Raises:
      UserError: no run there, no checkpoint yet, or an unknown split.
    """
    if split not in get_args(Split):
        raise UserError(f"split {split!r}: there is none{suggestion(split, get_args(Split))}")
    workdir = Path(workdir)
    run = TrainedRun.open(workdir)
    config, log, scored = run.config, run.log, run.score(cast(Split, split))
    tasks, path = log.schema.tasks, workdir / "result.json"
    if train_seconds is None and path.is_file():
        train_seconds = json.loads(path.read_text(encoding="utf-8"))["train_seconds"]
    outcome = result(
        log,
        scored.event,
        scored.score,
        tasks,
        variant=config.variant,
        dataset=log.schema.name,
        split=split,
        seed=config.seed,
        step=run.step,
        parameters=count_parameters(run.params),
        train_seconds=train_seconds,
        config=to_dict(config),
    )
    if is_main():
        path.unlink(missing_ok=True)  # it must never stand beside the predictions of another split
        write_predictions(workdir, log, scored.event, scored.score, tasks)
        write_json(path, outcome)
    return outcome


def as_text(outcome: Mapping[str, Any]) -> str:
    """A table of a result's metrics, with the baselines on the same events, for the terminal."""
    lines = [f"{outcome['dataset']}, {outcome['split']} split, {outcome['events']:,} events"]
    rows = {outcome["variant"]: outcome["tasks"], **outcome["baselines"]}
    width = max(map(len, rows))
    for task, own in outcome["tasks"].items():
        lines.append(f"{task}: {own['positives']:,} of {own['count']:,} positive")
        lines.append(f"  {'':{width}}      NE     AUC    GAUC     ECE")
        for name, tasks in rows.items():
            if task in tasks:
                values = (tasks[task][m] for m in METRICS)
                cells = ("     –  " if v is None else f"{v:8.4f}" for v in values)
                lines.append(f"  {name:{width}}{''.join(cells)}")
    return "\n".join(lines)


def write_predictions(
    workdir: Path, log: PreparedLog, event_ids: Ids, scores: Scores, tasks: Sequence[str]
) -> Path:
    """Writes predictions.parquet, one row per event in order of the global event index.

    Columns: event, user and item (raw ids), time (Unix seconds UTC, null where unknown),
    utc_offset (seconds), then for each task its label (null where absent) and "<task>_score".

    Args:
      workdir: the run's directory.
      log: the prepared log.
      event_ids: global event indices, in any order.
      scores: probabilities.
      tasks: names of the last axis of `scores`.

    Raises:
      ValueError: an event that occurs twice or is not in the log, or shapes that do not fit.
    """
    events, scores = _select(log.events(), event_ids, scores, tasks)
    item = log.schema.categorical[0].name
    rows = events.rows
    columns = {
        "event": pa.array(events.event),
        "user": log.users().take(pa.array(events.user)),
        "item": _raw(log, item, rows[f"categorical/{item}"]),
        "time": pa.array(rows["time"], mask=rows["time"] == NO_TIME),
        "utc_offset": pa.array(rows["utc_offset"]),
    }
    for t, task in enumerate(tasks):
        labels = rows[f"task/{task}"]
        columns[task] = pa.array(labels, mask=labels < 0)
        columns[f"{task}_score"] = pa.array(scores[:, t].astype(np.float32))
    path = Path(workdir) / "predictions.parquet"
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return path


def result(
    log: PreparedLog,
    event_ids: Ids,
    scores: Scores,
    tasks: Sequence[str],
    *,
    variant: str,
    dataset: str,
    split: str,
    seed: int,
    step: int,
    parameters: int,
    train_seconds: float | None,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that is known of a run, as the JSON object of result.json.

    Beside the model's metrics per task stand those of `baselines` on the same events (the simple
    ones, and the known floors a synthetic log carries) and of `slices` of the events: by item
    (seen: it has an embedding of its own; unseen: too rare in training or absent from it), by hour
    of day, by time since the user's last event, and by day; hours and days are local where the log
    has UTC offsets ("has_utc_offset").

    Args:
      log: the prepared log.
      event_ids: global event indices, in any order.
      scores: probabilities.
      tasks: names of the last axis of `scores`.
      variant: name of the encoding; the other arguments stand in the result unchanged.
      dataset: name of the data set.
      split: of the events.
      seed: of the training run.
      step: of the parameters.
      parameters: how many numbers were trained.
      train_seconds: wall time of training, without evaluation; None: unknown.
      config: of the run, as JSON values.

    Raises:
      ValueError: as `write_predictions`, or a score that is no probability.
    """
    everything = log.events()
    events, scores = _select(everything, event_ids, scores, tasks)
    labels = [events.rows[f"task/{task}"] for task in tasks]

    def measured(probabilities: Iterable[np.ndarray]) -> dict[str, Any]:
        return {
            task: task_metrics(y, p, events.user)
            for task, y, p in zip(tasks, labels, probabilities, strict=True)
        }

    baselines: dict[str, dict[str, Any]] = {}
    for name, floor in _known_floors(log, events, tasks).items():
        for task, column in floor.items():
            y = events.rows[f"task/{task}"]
            baselines.setdefault(name, {})[task] = task_metrics(y, column, events.user)
    for name, probabilities in simple_baselines(log, everything, tuple(tasks)).items():
        baselines[name] = measured(probabilities[events.event].T)
    groups = slices(log.schema.categorical[0], events, everything)
    return {
        "variant": variant,
        "dataset": dataset,
        "split": split,
        "seed": seed,
        "step": step,
        "parameters": parameters,
        "events": len(events.event),
        "train_seconds": train_seconds,
        "has_utc_offset": log.schema.has_utc_offset,
        "tasks": measured(scores.T),
        "baselines": baselines,
        "slices": {
            name: {
                group: {
                    task: slice_metrics(y[rows], p[rows])
                    for task, y, p in zip(tasks, labels, scores.T, strict=True)
                }
                for group, rows in members.items()
            }
            for name, members in groups.items()
        },
        "config": dict(config),
    }


def _select(
    everything: Events, event_ids: Ids, scores: Scores, tasks: Sequence[str]
) -> tuple[Events, Scores]:
    """The evaluated events and their scores in order of the event."""
    if np.shape(scores) != (len(event_ids), len(tasks)):
        expected = (len(event_ids), len(tasks))
        raise ValueError(f"scores have shape {np.shape(scores)}, expected {expected}")
    order = np.argsort(event_ids, kind="stable")
    event = np.asarray(event_ids, np.int64)[order]
    if len(event) and (event[0] < 0 or event[-1] >= len(everything.event)):
        total = len(everything.event)
        raise ValueError(f"event ids {event[0]}..{event[-1]}, but the log has {total} events")
    if np.any(event[1:] == event[:-1]):
        raise ValueError("an event was scored twice")
    return Events(everything.rows[event], event, everything.user[event]), scores[order]


def _raw(log: PreparedLog, name: str, ids: np.ndarray) -> pa.ChunkedArray:
    """Raw values of encoded ids; null for id 0."""
    values = log.vocabulary(name)["value"]
    return values.take(pa.array(ids.astype(np.int64) - 1, mask=ids == 0))


def _known_floors(
    log: PreparedLog, events: Events, tasks: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """The log's own baselines -> task -> probabilities, where they cover all labelled events."""
    frame = log.baselines()
    if frame is None:
        return {}
    aligned = frame.set_index("event").reindex(events.event)
    floors: dict[str, dict[str, np.ndarray]] = {}
    for column in aligned.columns:
        name, _, task = column.rpartition("/")
        if task in tasks:
            values = aligned[column].to_numpy(np.float64)
            if not np.isnan(values[events.rows[f"task/{task}"] >= 0]).any():
                floors.setdefault(name, {})[task] = values
    return floors
