"""A trained run, opened again: its model, best parameters and data."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.windows import Split
from siren_rope_jax.training.checkpoint import Checkpoints, Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.mesh import make_mesh, replicated
from siren_rope_jax.training.objectives import Objective, make_objective
from siren_rope_jax.training.ranking_scoring import Scored
from siren_rope_jax.training.retrieval_scoring import Ranked
from siren_rope_jax.training.workdir import check_data, load_config


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What `open` finds in a work directory.

    Attributes:
      config: the experiment.
      log: its data.
      objective: its model and what it does.
      params: of the best checkpoint, on `mesh`; apply the model to
        {"params": params}.
      step: of that checkpoint.
      progress: of the training, at its latest checkpoint.
      mesh: all devices.
    """

    config: ExperimentConfig
    log: PreparedLog
    objective: Objective
    params: Any
    step: int
    progress: Progress
    mesh: Mesh

    @staticmethod
    def open(workdir: str | Path, log: str | Path | None = None) -> "TrainedRun":
        """Opens the run in `workdir`.

        Args:
          workdir: the run's directory.
          log: directory of its prepared log; None: where config.json says.

        Raises:
          UserError: no run there, no checkpoint yet, another version began it, or its data are gone
            or others.
        """
        config = load_config(Path(workdir))
        path = Path(config.data.path if log is None else log)
        if log is None and not path.exists():
            raise UserError(
                f"{workdir}: its prepared log is no longer at {path}; say where it is (--log)"
            )
        data = PreparedLog.open(path)
        check_data(Path(workdir), data.fingerprint)
        mesh = make_mesh()
        objective = make_objective(config, data, mesh)
        shapes = jax.eval_shape(lambda: objective.init_params(config.seed))
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes
        )
        with Checkpoints(Path(workdir), read_only=True) as checkpoints:
            (params, step), progress = checkpoints.best(wanted), checkpoints.progress()
        return TrainedRun(config, data, objective, params, step, progress, mesh)

    @property
    def model(self) -> Any:
        """The module."""
        return self.objective.model

    @cached_property
    def apply(self) -> Callable[..., Any]:
        """The module's compiled `apply`."""
        return jax.jit(self.model.apply)

    def score(self, split: Split) -> Scored | Ranked:
        """What the model says of every event of a split."""
        return self.objective.score(self.params, split)
