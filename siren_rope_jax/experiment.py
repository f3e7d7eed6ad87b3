"""The description of one training run, and the directory it owns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from siren_rope_jax import __version__
from siren_rope_jax.config import from_config_dict, to_dict
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.errors import UserError, check, suggestion
from siren_rope_jax.files import read_json, write_json
from siren_rope_jax.optim import OptimizerConfig
from siren_rope_jax.ranking.model import RankerConfig
from siren_rope_jax.retrieval.losses import LossConfig
from siren_rope_jax.retrieval.model import RetrieverConfig


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


def claim_workdir(workdir: Path, config: ExperimentConfig, fingerprint: str) -> None:
    """Makes `workdir` this experiment's, on these data, by its config.json and data.json.

    Args:
      workdir: made if need be.
      config: of the experiment; where its data lie does not matter, only what they are, and
        config.json is kept up to date with it.
      fingerprint: of the prepared log.

    Raises:
      UserError: it belongs to another experiment (the first differing key is named), to other
        data, was begun by another version of this package, or holds files but no config.json.
    """
    if (workdir / "config.json").exists():
        theirs, ours = identity(load_config(workdir)), identity(config)
        if difference := _first_difference(theirs, ours, "config"):
            raise UserError(
                f"{workdir} belongs to another experiment: {difference}; choose another --workdir, "
                "or remove this one"
            )
        check_data(workdir, fingerprint)
        note_log(workdir, config.data.path, fingerprint)
        return
    if workdir.exists() and not (workdir.is_dir() and _is_unclaimed(workdir)):
        raise UserError(f"{workdir} is not empty and has no config.json; choose another --workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{workdir} cannot be made: {error.strerror}") from error
    resolved = to_dict(config)
    resolved["data"]["path"] = str(Path(config.data.path).absolute())
    write_json(workdir / "data.json", {"fingerprint": fingerprint, "trained_with": __version__})
    write_json(workdir / "config.json", resolved)


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


def note_log(workdir: Path, log: str | Path, fingerprint: str) -> None:
    """Keeps in config.json where a run's prepared log lies now, for it may have moved.

    Args:
      workdir: of the run.
      log: directory of the prepared log.
      fingerprint: of that log.

    Raises:
      UserError: there is no run, or it was trained on other data.
    """
    check_data(workdir, fingerprint)
    resolved, path = to_dict(load_config(workdir)), str(Path(log).absolute())
    if resolved["data"]["path"] != path:
        resolved["data"]["path"] = path
        write_json(workdir / "config.json", resolved)


def check_data(workdir: Path, fingerprint: str) -> None:
    """Refuses a prepared log that is not the one a run was trained on.

    Raises:
      UserError: it is another one.
    """
    path = workdir / "data.json"
    if not path.is_file() or read_json(path)["fingerprint"] != fingerprint:
        raise UserError(
            f"{workdir} was trained on other data than the log holds (prepared again since?); "
            "choose another --workdir, or restore the log"
        )


def trained_with(workdir: Path) -> str | None:
    """The version of this package that began a run; None where nothing says so."""
    path = workdir / "data.json"
    return read_json(path).get("trained_with") if path.is_file() else None


def load_config(workdir: Path) -> ExperimentConfig:
    """The config of a run, from its config.json.

    Raises:
      UserError: there is none, or another version of this package, which may compute otherwise,
        began the run.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir}: no config.json; this is not the work directory of a run")
    begun = trained_with(workdir)
    if begun != __version__:
        raise UserError(
            f"{workdir} was begun by siren-rope-jax {begun or 'of an unknown version'}, and this "
            f"is {__version__}, which may compute otherwise; install that version for it, or train "
            "again in another --workdir"
        )
    return read_experiment(read_json(path))


def _is_unclaimed(workdir: Path) -> bool:
    """Whether it is empty, or holds just what a claim that was cut short leaves."""
    left = ("data.json", ".data.json.", ".config.json.")  # the last two: begun by `write_json`
    return all(path.name.startswith(left) for path in workdir.iterdir())


def _first_difference(theirs: Any, ours: Any, where: str) -> str | None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            found = _first_difference(theirs.get(key), ours.get(key), f"{where}.{key}")
            if found:
                return found
        return None
    return None if theirs == ours else f"its {where} is {theirs!r}, not {ours!r}"
