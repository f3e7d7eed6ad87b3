"""Checkpoints of a run: parameters, optimiser state and data iterator together, through Orbax."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from siren_rope_jax.base.errors import UserError

_METRIC, _STEP = "validation", "step"


@dataclasses.dataclass
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes:
      step: batches trained on.
      best: the lowest cost of a validation so far (its criterion, negated where higher is
        better), and
      best_step: when it was reached.
      stale: validations since.
      seconds: spent in training steps, compiling them included.
      ended: whether the epochs or the patience are used up.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    ended: bool = False

    def update(self, step: int, cost: float, seconds: float) -> bool:
        """Notes a validation; returns whether it is the best."""
        better = cost < self.best
        self.step, self.seconds = step, seconds
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best, self.best_step = cost, step
        return better


class Checkpoints:
    """The latest and the best checkpoint of a run, below `workdir/checkpoints`.

    A checkpoint appears only when it is complete. It holds `params`, `rest` (all else of the
    state: step and optimiser) and `data` (the iterator's position), with the validation's cost as
    its metric and the run's `Progress` beside them.
    """

    def __init__(self, workdir: Path, read_only: bool = False) -> None:
        """Opens them; `read_only` leaves alone what a run may be writing at this moment.

        Raises:
          UserError: there is nothing to read.
        """
        self.directory = workdir / "checkpoints"
        if read_only and not self.directory.is_dir():
            raise UserError(f"{self.directory}: no checkpoint; train first")
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            self.directory.absolute(),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(1),
                    # Sorted by falling cost, the last one is the best; of equals the first.
                    policies.BestN(get_metric_fn=_rank, reverse=True, n=1),
                ]
            ),
            cleanup_tmp_directories=not read_only,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    def save(self, step: int, state: Any, data: Any, cost: float, progress: Progress) -> None:
        """Saves a `TrainState` in the background; returns once it is copied off the devices."""
        self._checkpointer.save_checkpointables_async(
            step,
            {"params": state.params, "rest": state.replace(params=None), "data": data},
            metrics={_METRIC: cost, _STEP: step},
            custom_metadata=dataclasses.asdict(progress),
            overwrite=True,
            force=True,  # else Orbax skips it while the last one is still being written
        )

    def latest(self, state: Any, data: Any) -> tuple[Any, Progress] | None:
        """Restores (state, progress) and the iterator `data` in place; None if none is saved.

        Args:
          state: a `TrainState` of `abstract` arrays that say what to restore, and where to.
          data: the iterator.

        Raises:
          UserError: another number of processes wrote it, or it does not fit the state.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        self._check_processes(latest.step)
        wanted = {"params": state.params, "rest": state.replace(params=None), "data": data}
        items = self._load(latest.step, wanted)
        return items["rest"].replace(params=items["params"]), self.progress()

    def progress(self) -> Progress:
        """How far the run had come at the latest one.

        Raises:
          UserError: nothing is saved yet.
        """
        latest = self._checkpointer.latest
        if latest is None:
            raise UserError(f"{self.directory}: no checkpoint; train first")
        return Progress(**(self._checkpointer.metadata(latest.step).custom_metadata or {}))

    def best(self, params: Any) -> tuple[Any, int]:
        """Restores the parameters with the lowest cost, and their step.

        Raises:
          UserError: nothing is saved yet.
        """
        checkpoints = self._checkpointer.checkpoints
        if not checkpoints:
            raise UserError(f"{self.directory}: no checkpoint; train first")
        step = min(checkpoints, key=lambda c: _rank(c.metrics)).step
        return self._load(step, {"params": params})["params"], step

    def _check_processes(self, step: int) -> None:
        """Refuses a position in the data that is of other parts of them than this process's."""
        names = (path.stem for path in (self.directory / str(step) / "data").glob("process_*-of-*"))
        wrote = {int(name.rpartition("-")[2]) for name in names}
        if wrote and jax.process_count() not in wrote:
            raise UserError(
                f"{self.directory / str(step)}: was written by {max(wrote)} processes, here are "
                f"{jax.process_count()}; go on with as many as there were"
            )

    def _load(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._checkpointer.load_checkpointables(step, items)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{self.directory / str(step)}: does not fit this configuration: {error}"
            ) from error


def _rank(metrics: Any) -> tuple[float, float]:
    """The best checkpoint's is the least; of those of one cost the first is the best."""
    return metrics[_METRIC], metrics[_STEP]


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of arrays."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)),
        tree,
    )
