"""Checkpoints of a run, written with Orbax: parameters, optimiser state and data iterator."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.training import older_runs

_METRIC, _STEP = "validation", "step"


@dataclasses.dataclass
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes:
      step: batches trained on.
      cost: the criterion at the last validation, negated if higher is better.
      best: the lowest cost so far.
      best_step: the step at which it was reached.
      stale: validations since then.
      seconds: spent in training steps, including their compilation.
      ended: whether the epochs or the patience are used up.
    """

    step: int = 0
    cost: float = math.inf
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    ended: bool = False

    def update(self, step: int, cost: float, seconds: float) -> bool:
        """Records a validation; returns whether it is the best so far."""
        better = cost < self.best
        self.step, self.seconds, self.cost = step, seconds, cost
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best, self.best_step = cost, step
        return better


class Checkpoints:
    """The latest and the best checkpoint of a run, in `workdir/checkpoints`.

    A checkpoint appears only when it is complete. It holds `params`, `rest` (the remaining state:
    step and optimiser) and `data` (the iterator's position); the cost of the validation is its
    metric, and the run's `Progress` its metadata.
    """

    def __init__(self, workdir: Path, read_only: bool = False) -> None:
        """Opens them; with `read_only`, an unfinished checkpoint of a running training is kept.

        Raises:
          UserError: `read_only`, and there is no checkpoint.
        """
        self.directory = workdir / "checkpoints"
        if read_only and not self.directory.is_dir():
            raise UserError(self.directory, "there is no checkpoint; train first")
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            self.directory.absolute(),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(1),
                    # The last one in descending order is the best.
                    policies.BestN(get_metric_fn=_sort_key, reverse=True, n=1),
                ]
            ),
            cleanup_tmp_directories=not read_only,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    def save(self, step: int, state: Any, data: Any, progress: Progress) -> None:
        """Saves a `TrainState` in the background; returns once it is copied from the devices."""
        self._checkpointer.save_checkpointables_async(
            step,
            {"params": state.params, "rest": state.replace(params=None), "data": data},
            metrics={_METRIC: progress.cost, _STEP: step},
            custom_metadata=dataclasses.asdict(progress),
            overwrite=True,
            force=True,  # otherwise Orbax skips it while the last one is still being written
        )

    def latest(self, state: Any, data: Any) -> tuple[Any, Progress] | None:
        """Returns the state and progress, and restores `data` in place; None without a checkpoint.

        Args:
          state: a `TrainState` of specs: shapes, dtypes and shardings.
          data: the iterator.

        Raises:
          UserError: a different number of processes wrote it, or it does not fit the state.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        self._check_processes(latest.step)
        wanted = {"params": state.params, "rest": state.replace(params=None), "data": data}
        items = self._load(latest.step, wanted)
        return items["rest"].replace(params=items["params"]), self.progress()

    def progress(self) -> Progress:
        """How far the run had come at the latest checkpoint.

        Raises:
          UserError: there is no checkpoint.
        """
        latest = self._checkpointer.latest
        if latest is None:
            raise UserError(self.directory, "there is no checkpoint; train first")
        progress = self._checkpointer.metadata(latest.step).custom_metadata
        if not progress:
            raise UserError(self.directory / str(latest.step), "does not say how far it had come")
        return Progress(**progress)

    def best(self, params: Any, version: str = "") -> tuple[Any, int]:
        """Returns the parameters with the lowest cost, and their step.

        Args:
          params: their specs.
          version: the version of this package that wrote them; empty: this version.

        Raises:
          UserError: there is no checkpoint, or the parameters do not fit.
        """
        checkpoints = self._checkpointer.checkpoints
        if not checkpoints:
            raise UserError(self.directory, "there is no checkpoint; train first")
        step = min(checkpoints, key=lambda c: _sort_key(c.metrics)).step
        written = older_runs.written_params(params, version)
        restored = self._load(step, {"params": written})["params"]
        return older_runs.present_params(restored, params, version), step

    def _check_processes(self, step: int) -> None:
        """Refuses a checkpoint whose data were divided among another number of processes."""
        directory, processes = self.directory / str(step), jax.process_count()
        names = (path.stem for path in (directory / "data").glob("process_*-of-*"))
        writers = {int(name.rpartition("-")[2]) for name in names}
        if writers and processes not in writers:
            raise UserError(
                directory,
                f"was written by {max(writers)} processes, but now there are {processes}; continue "
                "with the original number",
            )

    def _load(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._checkpointer.load_checkpointables(step, items)
        except (ValueError, KeyError) as error:
            raise UserError(
                self.directory / str(step), f"does not fit this configuration: {error}"
            ) from error


def _sort_key(metrics: Any) -> tuple[float, float]:
    """The lowest cost comes first and, of equal costs, the earliest step."""
    return metrics[_METRIC], metrics[_STEP]
