"""A trained run, opened again: its model, best parameters and data."""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.stores import local
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.windows import Split
from siren_rope_jax.training.calibration import Line, folded, load
from siren_rope_jax.training.checkpoint import Checkpoints, Progress
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.setup import Setup, setup
from siren_rope_jax.training.workdir import check_data, load_config, trained_with


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value, and no hash
class TrainedRun:
    """What `open` finds in a work directory.

    Attributes:
      setup: its training: config, kind, model, batches and mesh.
      log: its data.
      params: of the best checkpoint, on the mesh, with the run's calibration, if it has one; apply
        the model to {"params": params}.
      step: of that checkpoint.
      progress: of the training, at its latest checkpoint.
      calibration: of its tasks, by name.
    """

    setup: Setup
    log: PreparedLog
    params: Any
    step: int
    progress: Progress
    calibration: dict[str, Line] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        shown = {
            "variant": self.config.variant,
            "kind": self.config.kind,
            "log": str(self.log.path),
            "step": self.step,
            "parameters": self.setup.parameters,
        }
        return f"TrainedRun({', '.join(f'{key}={value!r}' for key, value in shown.items())})"

    @staticmethod
    def open(
        workdir: str | Path,
        log: str | Path | None = None,
        mesh: Mesh | None = None,
        calibrated: bool = True,
    ) -> "TrainedRun":
        """Opens the run in `workdir`; one that another version trained, with a warning.

        Args:
          workdir: the run's directory, or the URL of one in a store, which is left as it is.
          log: directory of its prepared log; None: where config.json says.
          mesh: where to compute; None: on all devices, in the shape of the training's mesh if they
            can have it.
          calibrated: whether a calibration of its probabilities counts, if it has one.

        Raises:
          UserError: there is no run or no checkpoint yet, a file of it is damaged, its parameters
            do not fit this version, or its data are gone or others.
        """
        with workdir_of(workdir, read_only=True) as folder:
            return TrainedRun._open(folder, log, mesh, calibrated)

    @staticmethod
    def _open(
        workdir: Path, log: str | Path | None, mesh: Mesh | None, calibrated: bool
    ) -> "TrainedRun":
        config = load_config(workdir)
        path = local(config.data.path if log is None else log)
        if log is None and not path.exists():
            moved = f"its prepared log is no longer at {path}; say where it is now"
            raise UserError(workdir, f"{moved} (--log=DIR or, in Python, log=DIR)")
        data = PreparedLog.open(path)
        check_data(workdir, data.fingerprint)
        of_run = setup(config, data, mesh or _mesh_like(config.mesh))
        with Checkpoints(workdir, read_only=True) as checkpoints:
            params, step = checkpoints.best(
                of_run.param_specs, of_run.unpadded_specs, trained_with(workdir)
            )
            progress = checkpoints.progress()
        lines = load(workdir, step) if calibrated else {}
        if lines:
            params = folded(params, of_run.model.data.tasks, lines)
        return TrainedRun(of_run, of_run.kind.view(data), params, step, progress, lines)

    @property
    def config(self) -> Any:
        """The experiment."""
        return self.setup.config

    @property
    def model(self) -> Any:
        """The module."""
        return self.setup.model

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose first argument is the module, compiled once for this run."""
        if function not in self._compiled:
            self._compiled[function] = jax.jit(partial(function, self.model))
        return self._compiled[function]

    @cached_property
    def _compiled(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """What `compiled` has compiled."""
        return {}

    def score(self, split: Split) -> Any:
        """What the model says of every target event of a split ("train", "validation", "test").

        Returns:
          a named tuple of NumPy arrays over N events, `event` being their numbers in the log:
          `Scored` (ranking), `Ranked` (retrieval) or `Predicted` (a language model).

        Raises:
          UserError: the split has no target.
        """
        return self.setup.score(self.params, split)


def _mesh_like(config: MeshConfig) -> Mesh:
    """Of this shape; or all devices along `data`, if they are others than those of the training."""
    try:
        return make_mesh(config)
    except UserError:
        return make_mesh()
