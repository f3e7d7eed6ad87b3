"""The description of one training run, as far as it is the same for every kind of experiment."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import check
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.training.mesh import MeshConfig
from siren_rope_jax.training.optim import OptimizerConfig

_THREADS = 1024


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train and how often to look.

    Attributes:
      epochs: passes over the train split, at most.
      evaluations_per_epoch: validations (and checkpoints) in each, evenly spread; one per step at
        most.
      patience: validations without a better one before stopping.
      warm_start: work directory of a run whose best parameters this one begins with, such as one on
        an earlier state of the log (`warm_start.py`); empty: parameters are drawn.
      slices: parts of a batch that are differentiated one after the other. More of them take less
        memory; on a CPU they are faster if one fits the caches. They change neither the batch nor
        its loss, but what dropout and negatives are drawn.
      checkpoint_steps: steps between two checkpoints, beside those of validations; 0: no others.
      checkpoint_minutes: saves after so many minutes without a checkpoint.
      log_every: steps between two lines of training metrics.
      tensorboard: writes the metrics as TensorBoard events too.
      wandb: the project of Weights & Biases that gets them too; empty for none.
      profile_steps: the first and the last step of a trace (`profile.py`); empty: none is written.
    """

    epochs: float = 5.0
    evaluations_per_epoch: int = 1
    patience: int = 3
    warm_start: str = ""
    slices: int = 1
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10.0
    log_every: int = 50
    tensorboard: bool = False
    wandb: str = ""
    profile_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check(0 < self.epochs < math.inf, "epochs", "above 0 and finite")
        check(self.evaluations_per_epoch >= 1, "evaluations_per_epoch", "at least 1")
        check(self.patience >= 1, "patience", "at least 1")
        check(self.slices >= 1, "slices", "at least 1")
        check(self.checkpoint_steps >= 0, "checkpoint_steps", "at least 1, or 0 for none")
        check(self.checkpoint_minutes > 0, "checkpoint_minutes", "above 0")
        check(self.log_every >= 1, "log_every", "at least 1")
        ends = self.profile_steps
        in_order = not ends or (len(ends) == 2 and 1 <= ends[0] <= ends[1])
        check(in_order, "profile_steps", "empty, or the first and the last step, such as (20, 25)")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run: data, model, optimiser, duration. Every kind of experiment adds its own keys.

    Attributes:
      variant: the model's name in tables.
      data: which log, and how it is cut into batches.
      optimizer: the optimiser, its schedule, and tables that it updates by rows.
      training: for how long, with which validations and checkpoints.
      mesh: on which devices; it changes no number beyond rounding.
      seed: of the parameters, the order of the data, dropout and negatives; below 2^32.
      kind: of the experiment.
      model: of the kind's model.
    """

    variant: str
    data: DataConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    seed: int = 0
    kind: str
    model: Any

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed", "in 0..4294967295")  # more than JAX's keys can hold
        data = self.data
        right = f"small enough that a batch has fewer than 2^31 events (rows of {data.length})"
        check(data.batch_size * data.length < 2**31, "data.batch_size", right)
        check(data.threads <= _THREADS, "data.threads", f"at most {_THREADS}")


def identity(config: ExperimentConfig) -> Any:
    """What makes two configs the same experiment, as JSON values: all that moves a number."""
    return without_execution(json.loads(json.dumps(to_dict(config))))


def without_execution(config: dict[str, Any]) -> dict[str, Any]:
    """A config, as JSON values, without where its data lie and how and where it is carried out."""
    of_training = {
        "checkpoint_steps",
        "checkpoint_minutes",
        "log_every",
        "tensorboard",
        "wandb",
        "profile_steps",
    }
    left_out = {"data": {"path", "threads"}, "training": of_training}
    kept = {
        group: {key: value for key, value in config[group].items() if key not in keys}
        for group, keys in left_out.items()
    }
    return {group: value for group, value in (config | kept).items() if group != "mesh"}
