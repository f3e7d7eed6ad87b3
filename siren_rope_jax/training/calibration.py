"""Probabilities that come true as often as they say: a scale and an offset of each task's logit.

Both are fitted by log loss on the validation split (Platt 1999) and kept in calibration.json beside
the checkpoint that they are of. A run that is opened has them in the last layer of its head, so
whatever scores, serves or exports it has calibrated probabilities without knowing of it. The order
of a task's scores stays the same. They lapse, with a warning, when training finds a better step.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import expit, logit

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.metrics.binary import EPSILON
from siren_rope_jax.models.tasks import Task

_FILE = "calibration.json"
LEAST_SCALE, MOST_SCALE = 0.01, 100.0
"""Not below 0, which would turn the order around."""


class Line(NamedTuple):
    """calibrated logit = scale * logit + offset."""

    scale: float
    offset: float

    def apply(self, scores: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The calibrated probabilities, float64."""
        return expit(self.scale * _logit(scores) + self.offset)


def fitted(labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"]) -> Line:
    """The line with the least log loss of labels, 0 or 1.

    As Platt's, the labels count as a little less certain than 0 and 1, so that the line is finite
    even if the scores tell them apart without an error.
    """
    positive, x = np.asarray(labels) == 1, _logit(scores)
    count = positive.sum()
    target = np.where(positive, (count + 1) / (count + 2), 1 / (len(x) - count + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * x + line[1]
        error = expit(z) - target
        value = np.logaddexp(0, z) - target * z
        return float(value.mean()), np.array([(error * x).mean(), error.mean()])

    bounds = [(LEAST_SCALE, MOST_SCALE), (-100.0, 100.0)]
    return Line(*map(float, minimize(loss, [1.0, 0.0], jac=True, bounds=bounds).x))


def save(workdir: Path, step: int, lines: Mapping[str, Line]) -> None:
    """Writes the lines of tasks by name, of the checkpoint of this step."""
    tasks = {name: line._asdict() for name, line in lines.items()}
    write_json(workdir / _FILE, {"step": step, "tasks": tasks})


def load(workdir: Path, step: int) -> dict[str, Line]:
    """The lines of tasks by name; none, with a warning, if those there are of another checkpoint.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / _FILE
    if not path.is_file():
        return {}
    found = read_json(path)
    try:
        lines = {name: Line(**line) for name, line in found["tasks"].items()}
        fitted_to = found["step"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(path, "is damaged; calibrate the run again") from error
    if fitted_to == step:
        return lines
    of = f"{path} is of step {fitted_to}, but the best step is {step} by now"
    warnings.warn(f"{of}, so probabilities are not calibrated; calibrate again", stacklevel=2)
    return {}


def folded(params: Any, tasks: Sequence[Task], lines: Mapping[str, Line]) -> Any:
    """A ranker's parameters with the lines in the last layer of its head."""
    each = [lines.get(task.name, Line(1.0, 0.0)) for task in tasks]
    scale, offset = jnp.array([line.scale for line in each]), jnp.array([line[1] for line in each])
    name = f"dense_{len(params['head']) - 1}"

    def fold(layer: Mapping[str, Any]) -> dict[str, Any]:
        kernel, bias = layer["kernel"] * scale, layer["bias"] * scale + offset
        return {"kernel": kernel, "bias": bias}

    layer = params["head"][name]
    places = jax.tree.map(lambda x: x.sharding, layer)
    head = {**params["head"], name: jax.jit(fold, out_shardings=places)(layer)}
    return {**params, "head": head}


def _logit(scores: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return logit(np.clip(np.asarray(scores, np.float64), EPSILON, 1 - EPSILON))
