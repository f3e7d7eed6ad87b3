"""Fits the calibration of a trained ranker to its validation split."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.metrics.binary import calibration_error, normalized_entropy
from siren_rope_jax.models.tasks import Binary, each
from siren_rope_jax.training import calibration
from siren_rope_jax.training.processes import is_main
from siren_rope_jax.training.trained import TrainedRun

_AT_BOUND = {
    calibration.LEAST_SCALE: "the model ranks it no better than chance on the validation split, so "
    "calibration makes all of its probabilities nearly the same",
    calibration.MOST_SCALE: "the model's scores of it differ so little that calibration cannot "
    "spread them as far as the labels of the validation split ask for",
}
"""What is wrong with a task whose scale is the least or the greatest there is."""


class Change(NamedTuple):
    """What a task's line does to the validation split.

    Attributes:
      line: the scale and the offset of its logit.
      ece, ne: before and after.
    """

    line: calibration.Line
    ece: tuple[float, float]
    ne: tuple[float, float]


def calibrate(workdir: Path) -> dict[str, Change]:
    """Fits a line for every binary task, and keeps them for all who open the run.

    Warns of a task whose scores no line can calibrate, such as one that ranks by chance.

    Raises:
      UserError: the run cannot be opened, is no ranker, or has no task with two classes.
    """
    run = TrainedRun.open(workdir, calibrated=False)
    if run.config.kind != "ranking":
        raise UserError("config.kind", f"is {run.config.kind}; only ranking has probabilities")
    scored, changes = run.score("validation"), {}
    tasks = run.model.data.tasks
    for (task, score), label in zip(
        each(tasks, scored.score, "columns"), scored.label.T, strict=True
    ):
        known = ~np.isnan(label)
        labels, before = label[known].astype(int), score[known, 0]
        if isinstance(task, Binary) and 0 < labels.sum() < len(labels):
            line = calibration.fitted(labels, before)
            after = line.apply(before)
            ece = calibration_error(labels, before), calibration_error(labels, after)
            ne = normalized_entropy(labels, before), normalized_entropy(labels, after)
            changes[task.name] = Change(line, ece, ne)
            if line.scale in _AT_BOUND:
                warnings.warn(f"{task.name}: {_AT_BOUND[line.scale]}", stacklevel=2)
    if not changes:
        raise UserError(workdir, "has no task whose validation split has labels of both classes")
    if is_main():
        calibration.save(workdir, run.step, {name: of.line for name, of in changes.items()})
    return changes
