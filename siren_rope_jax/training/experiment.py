"""The description of one training run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict, to_dict
from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.models.ranker import RankerConfig
from siren_rope_jax.models.retrieval_losses import LossConfig
from siren_rope_jax.models.retriever import RetrieverConfig
from siren_rope_jax.training.optim import OptimizerConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train and how often to look.

    Attributes:
      epochs: passes over the train split, at most.
      evaluations_per_epoch: validations (and checkpoints) in each, evenly spread; one per step at
        most.
      patience: validations without a better one before stopping.
      log_every: steps between two lines of training metrics.
      tensorboard: writes the metrics as TensorBoard events too.
    """

    epochs: float = 5.0
    evaluations_per_epoch: int = 1
    patience: int = 3
    log_every: int = 50
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check(self.epochs > 0, "training.epochs", "above 0")
        check(self.evaluations_per_epoch >= 1, "training.evaluations_per_epoch", "at least 1")
        check(self.patience >= 1, "training.patience", "at least 1")
        check(self.log_every >= 1, "training.log_every", "at least 1")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run: data, model, optimiser, duration. What is common to both kinds.

    Attributes:
      variant: the model's name in tables.
      seed: of the parameters, the order of the data, dropout and negatives.
    """

    variant: str
    data: DataConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RankingExperiment(ExperimentConfig):
    """Predicts the engagement labels of every event."""

    model: RankerConfig
    task: Literal["ranking"] = "ranking"


@dataclass(frozen=True, kw_only=True)
class RetrievalExperiment(ExperimentConfig):
    """Predicts the item of every next event.

    Attributes:
      loss: of the training.
      filter_seen: whether items that the user has had before are no candidates in the evaluation.
      criterion: the validation's metric that chooses the best checkpoint; not the NLL where the
        loss estimates no probabilities (BCE, gBCE, negatives without log-Q).
    """

    model: RetrieverConfig
    loss: LossConfig = field(default_factory=LossConfig)
    filter_seen: bool = False
    criterion: Literal["nll", "mrr", "hr@10", "ndcg@10"] = "nll"
    task: Literal["retrieval"] = "retrieval"

    def __post_init__(self) -> None:
        check(
            self.loss.is_nll or not self.model.repeat,
            "loss.kind",
            "full_softmax without label_smoothing, or sampled_softmax with log_q, where "
            "model.repeat is set: the two shares of an item's probability are learnt together",
        )
        check(
            self.loss.learns_probabilities or self.criterion != "nll",
            "criterion",
            f"ndcg@10, hr@10 or mrr with this loss ({self.loss.kind}), which learns no "
            "probabilities: its NLL says nothing",
        )
        filtered = self.filter_seen and self.model.repeat
        check(not filtered, "model.repeat", "False where filter_seen leaves out what it names")


_KINDS: dict[str, type[ExperimentConfig]] = {
    "ranking": RankingExperiment,
    "retrieval": RetrievalExperiment,
}


def read_experiment(config: ConfigDict | Mapping[str, Any]) -> ExperimentConfig:
    """Checks a config file's `ConfigDict`; its `task` says of which kind it is.

    Raises:
      UserError: an unknown task, or as `from_config_dict`.
    """
    if "data" not in config and ("user" in config or "num_users" in config):
        raise UserError("config: describes a log, not an experiment; it is for prepare.py")
    task = config.get("task", "ranking")
    if task not in _KINDS:
        raise UserError(f"config.task: {task!r} is unknown{suggestion(str(task), _KINDS)}")
    return from_config_dict(_KINDS[task], config)


def identity(config: ExperimentConfig) -> Any:
    """What makes two configs the same experiment, as JSON values: all that moves a number."""
    return without_execution(json.loads(json.dumps(to_dict(config))))


def without_execution(config: dict[str, Any]) -> dict[str, Any]:
    """A config, as JSON values, without where its data lie and how a run is carried out."""
    left_out = {"data": {"path", "threads"}, "training": {"log_every", "tensorboard"}}
    return config | {
        group: {key: value for key, value in config[group].items() if key not in keys}
        for group, keys in left_out.items()
    }
