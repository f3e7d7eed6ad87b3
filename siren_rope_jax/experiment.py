"""The description of one training run, and the directory it owns."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.config import from_config_dict, to_dict
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.errors import UserError
from siren_rope_jax.optim import OptimizerConfig
from siren_rope_jax.recommender import RankerConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train and how often to look.

    Attributes:
      epochs: passes over the train split, at most.
      evaluations_per_epoch: validations (and checkpoints) in each.
      patience: validations without a better NE before stopping.
      log_every: steps between two lines of training metrics.
      tensorboard: writes the metrics as TensorBoard events too.
    """

    epochs: float = 5.0
    evaluations_per_epoch: int = 1
    patience: int = 3
    log_every: int = 50
    tensorboard: bool = False


@dataclass(frozen=True)
class ExperimentConfig:
    """One run: data, model, optimiser, duration.

    Attributes:
      variant: the model's name in tables.
      seed: of the parameters, the order of the data and dropout.
    """

    variant: str
    data: DataConfig
    model: RankerConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0

    @classmethod
    def from_config(cls, config: ConfigDict | dict[str, Any]) -> "ExperimentConfig":
        """Checks a config file's `ConfigDict`; see `from_config_dict` for what is refused."""
        return from_config_dict(cls, config)


def claim_workdir(workdir: Path, config: ExperimentConfig) -> None:
    """Makes `workdir` this experiment's, by its config.json.

    Raises:
      UserError: it belongs to another experiment (the first differing key is named), or holds
        files but no config.json.
    """
    path = workdir / "config.json"
    ours = json.loads(json.dumps(to_dict(config)))
    if path.exists():
        difference = _first_difference(json.loads(path.read_text()), ours, "config")
        if difference:
            raise UserError(
                f"{workdir} belongs to another experiment: {difference}; choose another --workdir, "
                "or remove this one"
            )
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"{workdir} is not empty and has no config.json; choose another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(ours, indent=2) + "\n")
    temporary.rename(path)


def load_config(workdir: Path) -> ExperimentConfig:
    """The config of a run, from its config.json.

    Raises:
      UserError: there is none.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir}: no config.json; this is not the work directory of a run")
    return ExperimentConfig.from_config(json.loads(path.read_text()))


def _first_difference(theirs: Any, ours: Any, where: str) -> str | None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            found = _first_difference(theirs.get(key), ours.get(key), f"{where}.{key}")
            if found:
                return found
        return None
    return None if theirs == ours else f"its {where} is {theirs!r}, not {ours!r}"
