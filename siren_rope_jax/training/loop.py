"""The training loop.

Its order is fixed: evaluate -> save -> next batch -> step. Only then does a restored run repeat the
lost one exactly. Which batch is next, its number says: that of the steps before it.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.training.checkpoint import Checkpoints, Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.interruption import Watch
from siren_rope_jax.training.mesh import make_mesh, place_batch
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.processes import check_alike, is_main
from siren_rope_jax.training.profile import Profile
from siren_rope_jax.training.run_log import GATE, RunLog
from siren_rope_jax.training.setup import Setup, setup
from siren_rope_jax.training.step import TrainState
from siren_rope_jax.training.warm_start import first_state
from siren_rope_jax.training.workdir import owned


def fit(
    config: ExperimentConfig, workdir: str | Path, mesh: Mesh | None = None, longer: bool = True
) -> Progress:
    """Trains until the epochs or the patience are used up; resumes what `workdir` holds.

    SIGTERM saves a checkpoint and returns before the end, with `ended` False. One that comes during
    the last validation is raised again at the end.

    Args:
      config: of the experiment.
      workdir: its directory, on this machine or the URL of one in a store (`mirror.py`).
      mesh: where to train; None: on all devices, in the shape of config.mesh.
      longer: whether a run of the same experiment for fewer epochs, or with less patience, goes on
        from its latest checkpoint, even if it had ended; else it is refused as another experiment.
        Its learning rate follows the schedule of the new length from there on, so with more epochs
        it rises again; with more patience the run is the very same as one with it from the start.

    Raises:
      UserError: about the config, the log, the work directory or a damaged file in it; another
        process trains there; or the loss is not finite.
    """
    log = PreparedLog.open(config.data.path)
    training = setup(config, log, mesh or make_mesh(config.mesh))
    training.batches.train(config.seed)  # refuses a batch size before a directory is claimed
    steps, specs = training.steps, training.state_specs  # or a model, or an optimiser
    for length in config.data.tested_lengths:  # or a length that the model does not reach
        training.at_length(length)
    traced = config.training.profile_steps
    if traced and traced[-1] > steps:
        few = f"is {traced}, but the training has only {steps} steps; lower it"
        raise UserError("config.training.profile_steps", few)
    key, statistics = training.key(config.seed), training.statistics
    per_epoch, patience = config.training.evaluations_per_epoch, config.training.patience

    check_alike(_started(config, log.fingerprint))

    with ExitStack() as stack:
        watch = stack.enter_context(Watch(config.training))
        workdir = stack.enter_context(workdir_of(workdir))
        _own_for_all(stack, workdir, config, log.fingerprint, longer)
        checkpoints = stack.enter_context(Checkpoints(workdir))
        restored = checkpoints.latest(specs)
        state, progress = restored or (first_state(training), Progress())
        progress.ended = progress.step >= steps or progress.stale >= patience
        if restored and is_main():
            goes_on = "has ended" if progress.ended else "goes on"
            place = f"step {progress.step} of at most {steps}"
            print(f"{config.variant}: the training {goes_on} at {place}", file=sys.stderr)
        if progress.ended:
            return progress
        if is_main() and training.undivided:
            names = ", ".join(training.undivided)
            about = f"each of {training.mesh.size} devices holds the whole table of {names}"
            remedy = "devices whose number is a power of two would divide it"
            print(f"warning: config.mesh: {about}; {remedy}", file=sys.stderr)
        run_log = stack.enter_context(RunLog(workdir, config, progress, steps))
        stack.enter_context(_interruptible(config.variant, progress))
        profile = stack.enter_context(Profile(traced, workdir / "profile", run_log.flush))
        batches = iter(training.batches.train(config.seed, progress.step))
        for step in range(progress.step, steps + 1):
            is_due, is_last = watch.look(step)
            if step > progress.validated and is_validated(
                step, steps, training.batches.epoch, per_epoch
            ):
                run_log.pause_clock()
                values = training.validate(state.params)
                best = _note(progress, training, step, values, run_log.seconds)
                progress.ended = step == steps or progress.stale >= patience
                values |= gate_values(state.params)
                run_log.validation(step, values, training.kind.criterion[0], best)
                progress.loss_sum, progress.loss_steps = run_log.loss_sum, run_log.loss_steps
                checkpoints.save(step, state, progress)
                watch.saved()
                run_log.resume_clock()
            elif (is_due or is_last) and step > progress.step:
                run_log.pause_clock()
                progress.step, progress.seconds = step, run_log.seconds
                progress.loss_sum, progress.loss_steps = run_log.loss_sum, run_log.loss_steps
                checkpoints.save(step, state, progress)
                watch.saved()
                run_log.resume_clock()
            watch.ended = progress.ended
            if progress.ended or is_last:
                break
            with profile.step(step + 1):
                state, metrics = take_step(training, state, next(batches), key, statistics)
                run_log.step(step + 1, metrics)
    if not progress.ended and is_main():
        saved = f"saved step {progress.step}" if progress.step else "had no step to save"
        where = f"received SIGTERM and {saved} of at most {steps}"
        print(f"{config.variant}: {where}; the same command goes on", file=sys.stderr)
    return progress


@contextmanager
def _interruptible(variant: str, progress: Progress) -> Iterator[None]:
    """Says after Ctrl-C what is saved."""
    try:
        yield
    except KeyboardInterrupt:
        if is_main():
            saved = f"step {progress.step} is saved" if progress.step else "nothing is saved yet"
            print(f"{variant}: {saved}; the same command goes on", file=sys.stderr)
        raise


def take_step(
    training: Setup, state: TrainState, batch: Any, key: Array, statistics: Any
) -> tuple[TrainState, dict[str, Array]]:
    """Dispatches the step of a batch of the host; returns the new state and the step's metrics."""
    batch = place_batch(batch, training.mesh)
    with jax.transfer_guard("disallow"):
        return training.step(state, batch, key, statistics)


def _note(
    progress: Progress, training: Setup, step: int, values: dict[str, float], seconds: float
) -> bool:
    """Notes a validation; returns whether it is the best.

    Raises:
      UserError: a metric is not finite.
    """
    if not all(math.isfinite(value) for value in values.values()):
        raise UserError(
            "validation",
            f"the metrics are {values} at step {step}: either the parameters are no longer finite "
            "(lower config.optimizer.learning_rate), or there is nothing to measure (a task has "
            "only one class there, no item is known from training, config.filter_seen leaves none)",
        )
    criterion, higher_is_better = training.kind.criterion
    return progress.update(step, values[criterion] * (-1 if higher_is_better else 1), seconds)


def is_validated(step: int, steps: int, epoch: int, per_epoch: int) -> bool:
    """Whether a run validates after a step: `per_epoch` times in each epoch, evenly, and at last.

    Args:
      step: from 1.
      steps: of the run.
      epoch: steps in an epoch.
      per_epoch: validations wanted; at most one per step takes place.
    """
    per_epoch = min(per_epoch, epoch)
    nearest = step * per_epoch // epoch
    even = (round(k * epoch / per_epoch) for k in (nearest, nearest + 1))
    return step == steps or step in even


def _started(config: ExperimentConfig, fingerprint: str) -> dict[str, Any]:
    """What all processes of a run must have in common: all but where each finds the log."""
    flat = flatten_dict(to_dict(config), sep=".")
    common = {f"config.{key}": value for key, value in flat.items() if key != "data.path"}
    return common | {"version": __version__, "the log's fingerprint": fingerprint}


def _own_for_all(
    stack: ExitStack, workdir: Path, config: ExperimentConfig, fingerprint: str, longer: bool
) -> None:
    """The main process owns the directory while `stack` is open; refused, the others end too."""
    refusal: Exception | None = None
    if is_main():
        try:
            stack.enter_context(owned(workdir, config, fingerprint, longer))
        except Exception as error:  # whatever it is, no other process may wait for this one
            refusal = error
    refused = multihost_utils.broadcast_one_to_all(jnp.array(refusal is not None))
    if refusal is not None:
        raise refusal
    if refused:
        raise UserError(workdir, "the main process was refused this work directory")


def gate_values(params: Any) -> dict[str, float]:
    """The mean of every gate (omega, lambda) by its source's name."""
    flat = flatten_dict(params)
    gates = {path[-2]: gate for path, gate in flat.items() if path[-1] == "gate"}
    return {f"{GATE}{name}": float(v.mean()) for name, v in jax.device_get(gates).items()}
