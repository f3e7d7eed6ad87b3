"""A trained run, opened again: its model, best parameters and data."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from siren_rope_jax.checkpoint import Checkpoints
from siren_rope_jax.data.dataset import PreparedLog
from siren_rope_jax.data.pipeline import eval_batches
from siren_rope_jax.data.windows import Split
from siren_rope_jax.experiment import ExperimentConfig, check_data, load_config
from siren_rope_jax.recommender import Ranker
from siren_rope_jax.scoring import Scored, Scorer, init_params, make_model
from siren_rope_jax.sharding import make_mesh, replicated


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What `open` finds in a work directory.

    Attributes:
      config: the experiment.
      log: its data.
      model: the module; apply it to {"params": params}.
      params: of the checkpoint with the lowest validation NE, on `mesh`.
      step: of that checkpoint.
      mesh: all devices.
    """

    config: ExperimentConfig
    log: PreparedLog
    model: Ranker
    params: Any
    step: int
    mesh: Mesh

    @staticmethod
    def open(workdir: str | Path) -> "TrainedRun":
        """Opens the run in `workdir`.

        Raises:
          UserError: no run there, no checkpoint yet, or its data are gone.
        """
        config = load_config(Path(workdir))
        log = PreparedLog.open(config.data.path)
        check_data(Path(workdir), log.fingerprint)
        model, mesh = make_model(config.model, log.schema, config.data.length), make_mesh()
        shapes = jax.eval_shape(lambda: init_params(model, log.schema, config.seed, mesh))
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes
        )
        with Checkpoints(Path(workdir), read_only=True) as checkpoints:
            params, step = checkpoints.best(wanted)
        return TrainedRun(config, log, model, params, step, mesh)

    def score(self, split: Split) -> Scored:
        """Probabilities of every event of a split."""
        return Scorer(self.model, self.mesh)(
            self.params,
            eval_batches(
                self.log, self.config.data, split, jax.process_index(), jax.process_count()
            ),
        )
