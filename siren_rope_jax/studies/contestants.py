"""What the benchmark measures: steps, forward passes, the loop, PyTorch's steps, and a product."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.base.extras import needs
from siren_rope_jax.models.tasks import Binary
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.loop import take_step
from siren_rope_jax.training.run_log import RunLog
from siren_rope_jax.training.setup import Setup
from siren_rope_jax.training.workdir import owned

STEPS = 10_000
"""Of the learning rate's schedule."""
TWINS = ("torch_eager", "torch_compiled")
"""The contestants in PyTorch."""


@dataclass(frozen=True)
class Contestant:
    """What is measured.

    Attributes:
      run: calls it so many times and waits for the end.
      untimed: calls before each measurement.
    """

    run: Callable[[int], None]
    untimed: int = 1


def step(training: Setup, batch: Any) -> Contestant:
    """The compiled step, on one batch."""
    state, key = training.init(training.config.seed), training.key(training.config.seed)

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state, _ = training.step(state, batch, key, training.statistics)
        jax.block_until_ready(state)

    return Contestant(run)


def forward(training: Setup, batch: Any) -> Contestant:
    """The logits of one batch."""
    params = training.init_params(training.config.seed)
    apply = jax.jit(lambda params, batch: training.model.apply({"params": params}, batch))

    def run(calls: int) -> None:
        for _ in range(calls):
            logits = apply(params, batch)
        jax.block_until_ready(logits)

    return Contestant(run)


@contextmanager
def loop(training: Setup, workdir: Path) -> Iterator[Contestant]:
    """The training loop without validations and checkpoints, as `fit` has it."""
    config, log = training.config, training.batches.log
    state, key = training.init(config.seed), training.key(config.seed)
    batches = iter(training.batches.train(config.seed))
    done = 0
    with (
        owned(workdir, config, log.fingerprint),
        RunLog(workdir, config, Progress(), STEPS) as run_log,
    ):

        def run(calls: int) -> None:
            nonlocal state, done
            for _ in range(calls):
                state, metrics = take_step(training, state, next(batches), key, training.statistics)
                done += 1
                run_log.step(done, metrics)
            run_log.flush()

        # The untimed calls use up what was read ahead while others had their turn.
        yield Contestant(run, untimed=5 * config.data.threads)


def matrix_product(mesh: Mesh, dtype: str) -> tuple[Contestant, float]:
    """The product of two large matrices, and its FLOPs."""
    device = mesh.devices.flat[0]
    size = 2048 if device.platform == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)  # zeros or ones take less power
    a = jax.device_put(a, device)
    multiply = jax.jit(jnp.matmul)

    def run(calls: int) -> None:
        for _ in range(calls):
            result = multiply(a, a)
        jax.block_until_ready(result)

    return Contestant(run), 2.0 * size**3


def twins(training: Setup, host_batch: Any) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The training step of the model in PyTorch, as it is and compiled; or why not, by name."""
    try:
        with needs("bench"):
            import torch

            from siren_rope_jax.studies import torch_twin
    except UserError as error:
        return {}, dict.fromkeys(TWINS, f"not measured: {error}")
    if training.data.lists:
        return {}, dict.fromkeys(TWINS, "not measured: the twin has no lists of values")
    device = {"cpu": "cpu", "gpu": "cuda"}.get(training.mesh.devices.flat[0].platform, "")
    if not device or (device == "cuda" and not torch.cuda.is_available()):
        return {}, dict.fromkeys(TWINS, "not measured: this PyTorch does not know the device")
    if not all(isinstance(task, Binary) for task in training.data.tasks):
        return {}, dict.fromkeys(TWINS, "not measured: the twin has binary tasks alone")
    torch.set_float32_matmul_precision("high")  # JAX's default on GPUs
    batch = torch_twin.as_tensors(host_batch, device)
    params = training.init_params(training.config.seed)
    found, why_not = {}, {}
    for name in TWINS:
        train = torch_twin.training_step(
            training.config, training.data, params, STEPS, device, name == "torch_compiled"
        )

        def run(calls: int, train: Callable[[Any], Any] = train) -> None:
            for _ in range(calls):
                loss = train(batch)
            loss.item()  # waits for the device

        try:
            run(1)
        except Exception as error:  # whatever a compiler lacks
            if name != "torch_compiled":
                raise
            why_not[name] = f"not measured: {one_line(str(error), 200)}"
        else:
            found[name] = Contestant(run)
    return found, why_not
