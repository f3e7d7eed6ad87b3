"""Checkpoints of a run, written with Orbax: parameters, optimiser state and progress."""

import dataclasses
import gc
import json
import logging
import math
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jaxtyping import Array
from orbax.checkpoint import v1 as ocp

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.base.files import json_digest
from siren_rope_jax.training import older_runs
from siren_rope_jax.training.checksums import checksums
from siren_rope_jax.training.processes import is_main
from siren_rope_jax.training.workdir import run_digest

T = TypeVar("T")
METADATA = "_CHECKPOINT_METADATA"
"""The file of a checkpoint that holds its metadata."""
_CHECKSUMS = "checksums"  # in a checkpoint's metadata
_LOGGERS = "absl", "asyncio"  # to which Orbax writes


@dataclasses.dataclass
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes:
      step: batches trained on; also which batch comes next.
      validated: the step of the last validation.
      cost: the criterion at the last validation, negated if higher is better.
      best: the lowest cost so far.
      best_step: the step at which it was reached.
      stale: validations since then.
      seconds: spent in training steps, including their compilation.
      loss_sum, loss_steps: of the steps since the last line of training metrics.
      ended: whether the epochs or the patience are used up.
    """

    step: int = 0
    validated: int = 0
    cost: float = math.inf
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    ended: bool = False

    def update(self, step: int, cost: float, seconds: float) -> bool:
        """Records a validation; returns whether it is the best so far."""
        better = cost < self.best
        self.step = self.validated = step
        self.seconds, self.cost = seconds, cost
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best, self.best_step = cost, step
        return better


class _Kept:
    """Tells Orbax to keep the latest checkpoint, the one before, and the best one of each.

    Attributes:
      best_of: of a checkpoint's step, the step of the one that was the best then; 0: none yet.
    """

    def __init__(self) -> None:
        self.best_of: dict[int, int] = {}

    def needed(self, steps: Sequence[int]) -> set[int]:
        """Which of these checkpoints are kept."""
        latest = sorted(steps)[-2:]
        return {*latest, *(self.best_of.get(step, 0) for step in latest)}

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        needed = self.needed([c.step for c in checkpoints])
        return [c.step in needed for c in checkpoints]


class Checkpoints:
    """The two latest checkpoints of a run and the best one, in `workdir/checkpoints`.

    A checkpoint appears only when it is complete. It holds `params` and `rest` (the remaining
    state: step and optimiser). Its metadata are the run's `Progress`, which says which batch comes
    next and which checkpoint is the best, and checksums of everything: what is loaded is what was
    saved, or the damage is reported. Checkpoints of earlier versions have no checksums.
    """

    def __init__(self, workdir: Path, read_only: bool = False) -> None:
        """Opens them; with `read_only`, an unfinished checkpoint of a running training is kept.

        Raises:
          UserError: `read_only`, and there is no checkpoint; or the latest one is damaged.
        """
        self.directory = workdir / "checkpoints"
        self._run = run_digest(workdir)
        self._kept = _Kept()
        self._checkpointer: Any = None
        self._failed = False
        if not read_only:
            self._remove_leftovers()
        elif not self.directory.is_dir():
            raise UserError(self.directory, "there is no checkpoint; train first")

    def __enter__(self) -> "Checkpoints":
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_is_no_error)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._checkpointer is not None:
                with self._writing():
                    self._checkpointer.close()
        except UserError:
            if kind is None:  # else what went wrong before is reported
                raise
        finally:
            if not self._failed:  # else threads of Orbax have more to log, until the process ends
                for name in _LOGGERS:
                    logging.getLogger(name).removeFilter(_is_no_error)

    def save(self, step: int, state: Any, progress: Progress) -> None:
        """Saves a `TrainState` in the background; returns once it is copied from the devices.

        Raises:
          UserError: a parameter is not finite, or this checkpoint or the one before cannot be
            written.
        """
        if not _are_finite(state.params):
            about = f"are not all finite at step {step}; lower config.optimizer.learning_rate"
            raise UserError("parameters", about)
        saved = dataclasses.asdict(progress)
        items = {"params": state.params, "rest": state.replace(params=None)}
        sums = {
            "run": self._run,
            "progress": json_digest(saved),
            **{name: checksums(item) for name, item in items.items()},
        }
        self._kept.best_of[step] = progress.best_step
        if self._checkpointer is None:  # made late, because `latest` may move what it would list
            self._checkpointer = self._reading(
                None,
                lambda: ocp.training.Checkpointer(
                    self.directory.absolute(),
                    preservation_policy=self._kept,
                    cleanup_tmp_directories=True,
                ),
            )
        with self._writing():
            self._checkpointer.save_checkpointables_async(
                step,
                items,
                custom_metadata=saved | {_CHECKSUMS: sums},
                overwrite=True,
                force=True,  # otherwise Orbax skips it while the last one is still being written
            )

    def latest(self, state: Any) -> tuple[Any, Progress] | None:
        """Returns the state and progress; None without a checkpoint.

        A damaged latest checkpoint is named and moved aside, and the one before is used; several
        processes, which would have to agree on it, refuse it instead.

        Args:
          state: a `TrainState` of specs: shapes, dtypes and shardings, on any mesh.

        Raises:
          UserError: no usable checkpoint is left, or the best one, which the run will need, is
            damaged.
        """
        damage: UserError | None = None
        for step in reversed(self._steps()):
            try:
                found = self._at(step, state)
            except UserError as error:
                if jax.process_count() > 1:
                    raise
                damage = damage or error
                continue
            if damage is not None:
                self._move_aside([later for later in self._steps() if later > step])
                what = damage.problem.partition(";")[0]
                print(f"warning: {damage.about}: {what}; it is moved aside", file=sys.stderr)
            return found
        if damage is not None:
            raise damage
        return None

    def _move_aside(self, steps: Sequence[int]) -> None:
        """Renames damaged checkpoints that are newer than the one that is used."""
        for step in steps:
            place = self.directory / str(step)
            shutil.rmtree(aside := place.with_name(f"{step}.damaged"), ignore_errors=True)
            place.rename(aside)

    def _at(self, step: int, state: Any) -> tuple[Any, Progress]:
        progress, sums = self._saved(step)
        items = self._load(step, {"params": state.params, "rest": state.replace(params=None)})
        self._verify(step, sums, items)
        if progress.best_step not in (0, step):
            self._best(progress, state.params)
        return items["rest"].replace(params=items["params"]), progress

    def progress(self) -> Progress:
        """How far the run had come at the latest checkpoint.

        Raises:
          UserError: there is no checkpoint, or it is damaged.
        """
        return self._while_training(lambda: self._saved(self._latest_step())[0])

    def best(self, params: Any, unpadded: Any = None, version: str = "") -> tuple[Any, int]:
        """Returns the parameters with the lowest cost, and their step.

        Args:
          params: their specs.
          unpadded: the same with tables [V, D] that nothing pads, for earlier versions.
          version: the version of this package that wrote them; empty: this version.

        Raises:
          UserError: there is no checkpoint, it is damaged, or the parameters do not fit.
        """
        written = older_runs.written_params(params, unpadded, version)

        def read() -> tuple[Any, int]:
            progress = self._saved(self._latest_step())[0]
            return self._best(progress, written), progress.best_step

        restored, step = self._while_training(read)
        return older_runs.present_params(restored, params, version), step

    def _while_training(self, read: Callable[[], T]) -> T:
        """Reads again if a running training has meanwhile replaced what is read."""
        while True:
            steps = self._steps()
            try:
                return read()
            except UserError:
                if self._steps() == steps:
                    raise

    def _best(self, progress: Progress, params: Any) -> Any:
        """The parameters of the best checkpoint, which the latest one's progress names."""
        step = progress.best_step
        if step == 0:
            raise UserError(
                self.directory,
                "no checkpoint was validated yet; the command that trained it goes on",
            )
        if step not in self._steps():
            raise UserError(
                self.directory / str(step),
                "is missing, but the parameters at this step were the best; restore it, or remove "
                f"{self.directory} and train again",
            )
        own, sums = self._saved(step)
        if math.isfinite(own.cost) and own.cost != progress.best:
            raise self._damaged(step, "its validation is not the one that was the best")
        restored = self._load(step, {"params": params})
        self._verify(step, sums, restored)
        return restored["params"]

    def _latest_step(self) -> int:
        if steps := self._steps():
            return steps[-1]
        raise UserError(self.directory, "there is no checkpoint; train first")

    def _steps(self) -> list[int]:
        """Of all checkpoints, ascending. An unfinished one has another name."""
        if not self.directory.exists():
            return []
        try:
            names = [path.name for path in self.directory.iterdir()]
        except OSError as error:
            raise UserError(self.directory, f"cannot be read: {error.strerror}") from error
        return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]*", name))

    def _saved(self, step: int) -> tuple[Progress, dict[str, Any]]:
        """The progress saved with a checkpoint, and its checksums; none of an earlier version's."""
        path = self.directory / str(step) / METADATA  # Orbax would open all arrays, too
        written = self._reading(step, lambda: json.loads(path.read_text(encoding="utf-8")))
        saved = self._reading(step, lambda: dict(written["custom_metadata"]))
        sums = saved.pop(_CHECKSUMS, {})
        try:
            progress = Progress(**saved)
        except TypeError as error:
            raise self._damaged(step, "it does not say how far the training had come") from error
        if progress.step != step or sums.get("progress", json_digest(saved)) != json_digest(saved):
            raise self._damaged(step, "it does not say how far the training had come")
        if sums.get("run", self._run) != self._run:
            raise self._damaged(step, "it is of another run")
        return progress, sums

    def _load(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        path = (self.directory / str(step)).absolute()
        return self._reading(step, lambda: ocp.load_checkpointables(path, items))

    def _verify(self, step: int, sums: Mapping[str, Any], items: Mapping[str, Any]) -> None:
        for name, item in items.items():
            if sums and sums.get(name) != checksums(item):
                raise self._damaged(step, f"the checksums of its {name} differ")

    def _reading(self, step: int | None, read: Callable[[], T]) -> T:
        """What `read` returns; whatever fails in reading a checkpoint is reported as damage."""
        with _silence() as ignored:  # Orbax writes pages about what it could not read
            try:
                return read()
            except UserError:
                raise
            except Exception as error:  # of Orbax, TensorStore, Grain: any
                why = f"it cannot be read, or does not fit this configuration ({_brief(error)})"
            before = -1
            while len(ignored) > before:  # reads that were never awaited, or go on in threads
                before = len(ignored)
                gc.collect()
                time.sleep(0.5)
        raise self._damaged(step, why)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Whatever fails in writing a checkpoint; that of the validation before stays."""
        try:
            yield
        except Exception as error:  # of Orbax, TensorStore: any
            self._failed = True
            full = any(sign in str(error) for sign in ("No space left", "RESOURCE_EXHAUSTED"))
            why = "the disk is full" if full else f"a checkpoint cannot be written: {_brief(error)}"
            raise UserError(
                self.directory,
                f"{why}; the same command goes on from the last complete one once that is mended",
            ) from error

    def _damaged(self, step: int | None, why: str) -> UserError:
        earlier = [other for other in self._steps() if step is not None and other < step]
        if step is None:
            remedy = "remove what does not belong there"
        elif earlier and step == self._steps()[-1]:
            remedy = f"restore it, or remove it to go on from step {earlier[-1]}"
        else:
            remedy = f"restore it, or remove {self.directory} and train again"
        place = self.directory if step is None else self.directory / str(step)
        return UserError(place, f"is damaged: {why}; {remedy}")

    def _remove_leftovers(self) -> None:
        """Removes what a training left of an older checkpoint when it was killed removing it."""
        try:
            steps = self._steps()
            self._kept.best_of = {step: self._saved(step)[0].best_step for step in steps[-2:]}
            if steps and is_main():
                for step in set(steps) - self._kept.needed(steps):
                    shutil.rmtree(self.directory / str(step), ignore_errors=True)
        except UserError:  # which `latest` reports
            pass
        finally:
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("leftovers of checkpoints")


def _is_no_error(record: logging.LogRecord) -> bool:
    """Keeps back pages about errors that Orbax raises as well, or has in its threads."""
    return record.levelno < logging.ERROR


@contextmanager
def _silence() -> Iterator[list[None]]:
    """Without logs, warnings, and errors that no one can catch, which it counts."""
    hook, disabled = sys.unraisablehook, logging.root.manager.disable
    ignored: list[None] = []
    sys.unraisablehook = lambda _: ignored.append(None)
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield ignored
    finally:
        logging.disable(disabled)
        sys.unraisablehook = hook


def _brief(error: Exception) -> str:
    """What an exception says first: Orbax and TensorStore go on for pages."""
    return one_line(f"{type(error).__name__}: {error}", 200)


@jax.jit
def _are_finite(params: Any) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()
