"""The kinds of experiments: the one place where a kind is looked up by its name."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict, made_for
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.kind import Kind
from siren_rope_jax.training.kinds.language_model import LanguageModel
from siren_rope_jax.training.kinds.ranking import Ranking
from siren_rope_jax.training.kinds.retrieval import Retrieval

KINDS: Mapping[str, type[Kind]] = {kind.name: kind for kind in (Ranking, Retrieval, LanguageModel)}


def read_experiment(config: ConfigDict | Mapping[str, Any]) -> ExperimentConfig:
    """Checks a config file's `ConfigDict`; its `kind`, by default ranking, says its class.

    Raises:
      UserError: a kind, a key or a value that cannot be, or a config of something else.
    """
    if (command := made_for(config)) not in ("", "train"):
        raise UserError("config", f"describes no experiment; it is for `siren-rope {command}`")
    name = config.get("kind", "ranking")
    if name not in KINDS:
        raise UserError("config.kind", f"{name!r} is unknown{suggestion(str(name), KINDS)}")
    return from_config_dict(KINDS[name].config_class, config)


def kind_of(config: ExperimentConfig) -> Kind:
    """The kind of an experiment, made for its config."""
    return KINDS[config.kind](config)


def kind_of_result(result: Mapping[str, Any]) -> type[Kind]:
    """The kind of experiment that a result.json is of."""
    return KINDS[result["config"]["kind"]]
