"""Training: the step, and the loop around it.

The loop's order is fixed: evaluate -> save -> next batch -> step. Only then does a restored run
repeat the lost one exactly.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.experimental import multihost_utils
from jaxtyping import Array

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.training.checkpoint import Checkpoints, Progress, abstract
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.mesh import is_main, make_mesh, place_batch, replicated
from siren_rope_jax.training.objectives import make_objective
from siren_rope_jax.training.optim import make_optimizer
from siren_rope_jax.training.run_log import RunLog
from siren_rope_jax.training.workdir import claim_workdir


@flax.struct.dataclass
class TrainState:
    """What a step changes."""

    step: Array
    params: Any
    optimizer_state: Any


def train_step(
    state: TrainState,
    batch: Any,
    key: Array,
    *,
    loss_of: Callable[[Any, Any, Array], Array],
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on one batch: a pure function; returns the new state and its metrics.

    Args:
      state: before the step.
      batch: as the loss takes it.
      key: of the run; the step's number is folded in.
      loss_of: (params, batch, key) -> the loss.
      optimizer: its updates.
    """
    step_key = jax.random.fold_in(key, state.step)
    loss, gradients = jax.value_and_grad(loss_of)(state.params, batch, step_key)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": loss,
        "gradient_norm": optax.tree.norm(gradients),
        "events": (batch.segment > 0).sum(),
    }
    return TrainState(state.step + 1, params, optimizer_state), metrics


def fit(config: ExperimentConfig, workdir: Path) -> Progress:
    """Trains until the epochs or the patience are used up; resumes what `workdir` holds.

    Raises:
      UserError: of the config, the log or the work directory; or the loss is not finite.
    """
    log, mesh = PreparedLog.open(config.data.path), make_mesh()
    objective = make_objective(config, log, mesh)
    batches, epoch = objective.batches.train(config.seed)
    steps = training_steps(config, epoch)
    validated = validation_steps(steps, epoch, config.training.evaluations_per_epoch)
    optimizer = make_optimizer(config.optimizer, steps)
    params = objective.init_params(config.seed)
    _claim_for_all(workdir, config, log.fingerprint)

    init = jax.jit(
        lambda params: TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)),
        out_shardings=replicated(mesh),
    )
    state, progress, iterator = init(params), Progress(), iter(batches)
    key_of = jax.jit(jax.random.key, out_shardings=replicated(mesh))
    key = key_of(config.seed)
    # The old state's memory is the new one's: the parameters are on the device once, not twice.
    step_fn = jax.jit(
        partial(train_step, loss_of=objective.loss, optimizer=optimizer), donate_argnums=0
    )

    with Checkpoints(workdir) as checkpoints:
        if restored := checkpoints.latest(abstract(state), iterator):
            state, progress = restored
        run_log = RunLog(
            workdir,
            config.variant,
            progress.step,
            steps,
            progress.seconds,
            config.training.log_every,
            config.training.tensorboard,
        )
        with run_log:
            for step in range(progress.step, steps + 1):
                if step > progress.step and step in validated:
                    run_log.pause_clock()
                    values = objective.validate(state.params)
                    cost = values[objective.criterion] * (-1 if objective.higher_is_better else 1)
                    if not all(math.isfinite(value) for value in values.values()):
                        raise UserError(
                            f"the validation's metrics are {values} at step {step}: the parameters "
                            "are no longer finite (lower config.optimizer.learning_rate), or there "
                            "is nothing to measure (a task has only one class there, no item is "
                            "known from training, config.filter_seen leaves none)"
                        )
                    best = progress.update(step, cost, run_log.seconds)
                    progress.ended = step == steps or progress.stale >= config.training.patience
                    values |= gate_values(state.params)
                    run_log.validation(step, values, objective.criterion, best)
                    checkpoints.save(step, state, iterator, cost, progress)
                    run_log.resume_clock()
                if progress.ended:
                    break
                batch = place_batch(next(iterator), mesh)
                with jax.transfer_guard("disallow"):
                    state, metrics = step_fn(state, batch, key)
                run_log.step(step + 1, metrics)
    return progress


def training_steps(config: ExperimentConfig, epoch: int) -> int:
    """How many batches a run trains on at most: those of whole updates, one at least.

    Args:
      config: of the run.
      epoch: batches in an epoch.

    Raises:
      UserError: they are fewer than those of one update.
    """
    steps, each = max(round(config.training.epochs * epoch), 1), config.optimizer.accumulate
    if steps < each:
        raise UserError(
            f"config.optimizer.accumulate is {each}, but the training has {steps} batches only "
            f"({epoch} in an epoch); take fewer, or more config.training.epochs"
        )
    return steps - steps % each


def validation_steps(steps: int, epoch: int, per_epoch: int) -> frozenset[int]:
    """The steps after which a run validates: `per_epoch` evenly in each epoch, and the last one.

    Args:
      steps: of the run.
      epoch: steps in an epoch.
      per_epoch: validations wanted; of more than there are steps, one at each step is left.
    """
    per_epoch = min(per_epoch, epoch)
    even = (round(k * epoch / per_epoch) for k in range(1, steps * per_epoch // epoch + 2))
    return frozenset(step for step in even if step < steps) | {steps}


def _claim_for_all(workdir: Path, config: ExperimentConfig, fingerprint: str) -> None:
    """The main process claims the directory; where it is refused, no other waits in vain."""
    refusal: UserError | None = None
    if is_main():
        try:
            claim_workdir(workdir, config, fingerprint)
        except UserError as error:
            refusal = error
    refused = multihost_utils.broadcast_one_to_all(jnp.array(refusal is not None))
    if refusal is not None:
        raise refusal
    if refused:
        raise UserError(f"{workdir}: the main process was refused this work directory")


def gate_values(params: Any) -> dict[str, float]:
    """The mean of every gate (omega, lambda) by its source's name."""
    gates = {k: v for k, v in params.get("encoding", {}).items() if k.endswith("_gate")}
    values = jax.device_get(gates)
    return {f"gate/{name.removesuffix('_gate')}": float(v.mean()) for name, v in values.items()}
