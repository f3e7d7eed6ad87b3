"""What is measured of a ranker: the metrics of every task, beside baselines and in slices.

The functions are those of `evaluate.Kind`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from siren_rope_jax.evaluation import slices
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics.binary import (
    METRICS,
    auc,
    labelled,
    normalized_entropy,
    task_metrics,
)
from siren_rope_jax.evaluation.baselines.rates import simple_baselines


def columns(evaluated: Evaluated) -> dict[str, pa.Array]:
    """For each task its label (null where absent) and "<task>_score", a probability."""
    table = {}
    for t, task in enumerate(evaluated.log.schema.tasks):
        labels = evaluated.events.rows[f"task/{task}"]
        table[task] = pa.array(labels, mask=labels < 0)
        table[f"{task}_score"] = pa.array(evaluated.scored.score[:, t].astype(np.float32))
    return table


def measure(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of every task.

    Beside the model's stand those of `baselines` on the same events (the simple ones, and the known
    floors a synthetic log carries) and of `slices` of the events: by item (known: it has an
    embedding of its own; unknown: too rare in training or absent from it), by hour of day, by time
    since the user's last event, and by day.

    Returns:
      "tasks", "baselines", "slices".

    Raises:
      ValueError: a score that is no probability.
    """
    log, everything, events = evaluated.log, evaluated.everything, evaluated.events
    tasks, scores, item = log.schema.tasks, evaluated.scored.score, log.schema.categorical[0]
    labels = [events.rows[f"task/{task}"] for task in tasks]

    def measured(probabilities: Iterable[np.ndarray]) -> dict[str, Any]:
        return {
            task: task_metrics(y, p, events.user)
            for task, y, p in zip(tasks, labels, probabilities, strict=True)
        }

    baselines: dict[str, dict[str, Any]] = {}
    for name, floor in _known_floors(evaluated).items():
        for task, column in floor.items():
            y = events.rows[f"task/{task}"]
            baselines.setdefault(name, {})[task] = task_metrics(y, column, events.user)
    for name, probabilities in simple_baselines(log, everything, tasks).items():
        baselines[name] = measured(probabilities[events.event].T)
    groups = {
        "item": slices.by_item(item, events),
        "hour": slices.by_hour(events),
        "gap": slices.by_gap(events, everything),
        "day": slices.by_day(events),
    }
    return {
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
    }


def slice_metrics(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"]
) -> dict[str, float | int | None]:
    """NE (by the slice's own base rate), AUC, and what calibration needs, to six digits."""
    present = labelled(labels)
    labels, scores = labels[present], scores[present].astype(np.float64)
    if len(labels) == 0:
        return {"ne": None, "auc": None, "count": 0, "rate": None, "mean_score": None}
    values = {
        "ne": normalized_entropy(labels, scores),
        "auc": auc(labels, scores),
        "rate": labels.mean(),
        "mean_score": scores.mean(),
    }
    rounded = {k: None if np.isnan(v) else round(float(v), 6) for k, v in values.items()}
    return {**rounded, "count": len(labels)}


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """The metrics for the terminal, a table per task."""
    text = []
    rows = {outcome["variant"]: outcome["tasks"], **outcome["baselines"]}
    width = max(map(len, rows))
    for task, own in outcome["tasks"].items():
        text.append(f"{task}: {own['positives']:,} of {own['count']:,} positive")
        text.append(f"  {'':{width}}      NE     AUC    GAUC     ECE")
        for name, tasks in rows.items():
            if task in tasks:
                values = (tasks[task][m] for m in METRICS)
                cells = ("     –  " if v is None else f"{v:8.4f}" for v in values)
                text.append(f"  {name:{width}}{''.join(cells)}")
    return text


def headline(outcome: Mapping[str, Any]) -> str:
    """NE of every task that has one."""
    ne = {task: values["ne"] for task, values in outcome["tasks"].items()}
    return "NE " + ", ".join(f"{t} {value:.4f}" for t, value in ne.items() if value is not None)


def _known_floors(evaluated: Evaluated) -> dict[str, dict[str, np.ndarray]]:
    """The log's own baselines -> task -> probabilities, where they cover all labelled events."""
    frame, events = evaluated.log.baselines(), evaluated.events
    if frame is None:
        return {}
    aligned = frame.set_index("event").reindex(events.event)
    floors: dict[str, dict[str, np.ndarray]] = {}
    for column in aligned.columns:
        name, _, task = column.rpartition("/")
        if task in evaluated.log.schema.tasks:
            values = aligned[column].to_numpy(np.float64)
            if not np.isnan(values[events.rows[f"task/{task}"] >= 0]).any():
                floors.setdefault(name, {})[task] = values
    return floors
