"""How fast a training step is beside what it can be compared with, all measured in one run.

The contestants take turns: a round is each of them once, and every round begins with another one.
A ratio of two times is taken within a round, so that whatever else slows the machine down slows
both of its sides, and its median over the rounds counts. The rate of the matrix product alone is
that of its fastest round, for it stands for the machine's peak.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.rotation.variants import ranking_variant
from siren_rope_jax.studies.contestants import (
    STEPS,
    TWINS,
    Contestant,
    forward,
    loop,
    matrix_product,
    step,
    twins,
)
from siren_rope_jax.studies.jobs import available_cores
from siren_rope_jax.training.compile import matmul_flops
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.mesh import make_mesh, place_batch
from siren_rope_jax.training.setup import Setup, setup

_ENVIRONMENT = ("GLIBC_TUNABLES", "OMP_WAIT_POLICY", "XLA_FLAGS")
"""Variables that change how fast a step is."""
_ONLY = {
    "block": "softmax",
    "rotation": "planes",
    "biases": (),
    "input_time_features": (),
    "input_time_network": None,
    "input_counts": (),
    "mixed_value": True,
    "late_fusion": True,
    "scan_layers": False,
}
"""The keys of the model that the one in PyTorch knows no other values of."""


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
      machine: what it was measured on.
      config: of the experiment, as JSON values.
      by_round: ratio -> its value in every round; None where it could not be measured.
      exact: what SIREN-RoPE adds to ordinal RoPE, as fractions.
      samples: contestant -> seconds of a call, by round.
      why_not: ratio -> why it could not be measured, and what to do about it.
    """

    machine: dict[str, Any]
    config: Any
    by_round: dict[str, list[float] | None]
    exact: dict[str, float]
    samples: dict[str, list[float]]
    why_not: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with the medians of the ratios."""
        medians = {
            name: None if values is None else statistics.median(values)
            for name, values in self.by_round.items()
        }
        return {
            "machine": self.machine,
            "config": self.config,
            "ratios": medians,
            "exact": self.exact,
            "samples": self.samples,
        }

    def as_text(self) -> str:
        """Tables for a terminal."""
        lines = [", ".join(f"{name} {value}" for name, value in self.machine.items()), ""]
        lines.append(f"{'':30}{'median':>10}{'quartiles':>22}")
        for name, seconds in self.samples.items():
            lines.append(_row(f"{name} [ms]", [1e3 * s for s in seconds]))
        lines.append("")
        for name, values in self.by_round.items():
            lines.append(_row(name, values) if values else f"{name:30}{self.why_not[name]}")
        lines.append("")
        for name, value in self.exact.items():
            what = " (of matrix products)" if name == "extra_flops" else ""
            lines.append(f"{name:30}{100 * value:9.2f} %{what}")
        return "\n".join(lines)


def benchmark(config: ExperimentConfig, rounds: int, seconds: float) -> Report:
    """Measures a ranker with SIREN-RoPE on one device of this machine.

    Args:
      config: of the experiment; its data are the built-in feed, whatever its data.path.
      rounds: how often each contestant is measured.
      seconds: that a measurement takes about.

    Raises:
      UserError: the config is of another experiment.
    """
    _check(config)
    mesh = make_mesh(config.mesh, make_mesh().devices.flat[:1].tolist())
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        path = Path(directory) / "feed"
        users = max(config.data.batch_size, 1_000)
        generate(SyntheticConfig(num_users=users, events_per_user=2 * config.data.length), path)
        log = PreparedLog.open(path)
        ours = setup(config, log, mesh, STEPS)
        ordinal = setup(_variant(config, "ordinal"), log, mesh, STEPS)
        host_batch = next(iter(ours.batches.train(config.seed)))
        batch = place_batch(host_batch, mesh)
        flops, exact = matmul_flops(ours), _extra(ours, ordinal)
        product, product_flops = matrix_product(mesh, config.model.dtype)
        in_torch, why_not = twins(ours, host_batch)
        contestants = {
            "train": step(ours, batch),
            "train_ordinal": step(ordinal, batch),
            "inference": forward(ours, batch),
            "inference_ordinal": forward(ordinal, batch),
            "loop": stack.enter_context(loop(ours, Path(directory) / "run")),
            **in_torch,
            "matrix_product": product,
        }
        samples = measured(contestants, rounds, seconds)
    peak = product_flops / min(samples["matrix_product"])
    by_round: dict[str, list[float] | None] = {
        name: ratios(samples[name], samples["train"]) if name in samples else None for name in TWINS
    }
    by_round |= {
        "siren_over_ordinal_train": ratios(samples["train"], samples["train_ordinal"]),
        "siren_over_ordinal_inference": ratios(samples["inference"], samples["inference_ordinal"]),
        "loop_over_step": ratios(samples["loop"], samples["train"]),
        "of_matrix_peak": [flops / s / peak for s in samples["train"]],
    }
    values = json.loads(json.dumps(to_dict(config)))
    of_machine = machine(mesh, in_torch) | {"matrix_tflops": round(peak / 1e12, 3)}
    return Report(of_machine, values, by_round, exact, samples, why_not)


def measured(
    contestants: Mapping[str, Contestant], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of a call of each contestant, by round.

    Args:
      contestants: by name.
      rounds: how many.
      seconds: that a measurement takes about; it has one call at least.
    """
    calls = {}
    for name, contestant in contestants.items():
        contestant.run(contestant.untimed)  # compiles
        calls[name] = max(round(seconds / _seconds_of_call(contestant, 1)), 1)
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in tqdm(range(rounds), unit="round", disable=None, leave=False):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(_seconds_of_call(contestants[name], calls[name]))
    return samples


def ratios(over: list[float], under: list[float]) -> list[float]:
    """The ratio of two contestants' times in each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def _seconds_of_call(contestant: Contestant, calls: int) -> float:
    contestant.run(contestant.untimed)
    began = time.perf_counter()
    contestant.run(calls)
    return (time.perf_counter() - began) / calls


def _row(name: str, values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{name:30}{middle:10.3f}{low:11.3f}{high:11.3f}"


def _check(config: ExperimentConfig) -> None:
    if config.kind != "ranking":
        raise UserError("config.kind", f"is {config.kind}; only ranking can be measured")
    if config.model.encoding != _variant(config, "siren_rope").model.encoding:
        right = "must be siren_rope's, as in --config=configs/benchmark.py"
        raise UserError("config.model.encoding", right)
    for key, value in _ONLY.items():
        if getattr(config.model, key) != value:
            why = f"must be {value!r}: the model in PyTorch has nothing else"
            raise UserError(f"config.model.{key}", why)
    if config.optimizer.row_wise or config.optimizer.accumulate > 1:
        why = "must update all parameters in every step: the model in PyTorch does"
        raise UserError("config.optimizer", why)


def _variant(config: ExperimentConfig, name: str) -> ExperimentConfig:
    """The same experiment with another variant's encoding."""
    values = to_dict(config)
    return read_experiment(values | {"model": values["model"] | ranking_variant(name)})


def _extra(ours: Setup, ordinal: Setup) -> dict[str, float]:
    """What ours adds to ordinal, as fractions."""
    return {
        "extra_flops": matmul_flops(ours) / matmul_flops(ordinal) - 1,
        "extra_parameters": ours.parameters / ordinal.parameters - 1,
        "extra_bytes": _bytes_accessed(ours) / _bytes_accessed(ordinal) - 1,
    }


def _bytes_accessed(training: Setup) -> float:
    """By the compiled step, as XLA counts them; of the whole batch at once.

    XLA counts what is in a loop, such as that over slices, only once.
    """
    config = training.config
    config = replace(config, training=replace(config.training, slices=1))
    compiled = setup(config, training.data, training.mesh, STEPS).trace().lower().compile()
    costs: Any = compiled.cost_analysis()
    return costs["bytes accessed"]


def machine(mesh: Mesh, twins: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured on: the device, its surroundings, and versions."""
    device = mesh.devices.flat[0]
    packages = ("jax", "torch") if twins else ("jax",)
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "cores": len(available_cores()),
        "load": round(os.getloadavg()[0], 1),  # of this process and of all others
        **{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        "siren-rope-jax": __version__,
        **{name: version(name) for name in packages},
    }
