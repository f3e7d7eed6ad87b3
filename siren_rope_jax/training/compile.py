"""What a training step needs of a machine that need not be there: compiled, not run."""

import math
import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.hlo import Program
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.setup import setup


@dataclass(frozen=True)
class Chip:
    """One accelerator, by its maker's figures.

    Attributes:
      memory: bytes of its main memory.
      peak: FLOPs a second of products of bfloat16 matrices.
      bandwidth: bytes a second of its main memory.
      link: bytes a second that it sends to its neighbours, over all of its links.
    """

    memory: float
    peak: float
    bandwidth: float
    link: float


CHIPS = {
    "TPU v5 lite": Chip(16e9, 197e12, 819e9, 200e9),
    "TPU v5": Chip(95e9, 459e12, 2765e9, 600e9),
    "TPU v6 lite": Chip(32e9, 918e12, 1640e9, 448e9),
}
"""By JAX's `device_kind`: Google's documentation of Cloud TPU v5e, v5p and v6e."""


def compile_step(config: ExperimentConfig, data: DataSpec, topology: str) -> dict[str, Any]:
    """Compiles a training step for a topology and says what it takes, as JSON values.

    Args:
      config: of the experiment.
      data: what it must know of a log.
      topology: a name that JAX knows, such as "v5e:16x16"; "" for the devices of this machine.

    Returns:
      "memory" and "traffic" in bytes of a chip; "flops" of a step's matrix products on all chips,
      without what rematerialisation adds; "collectives" of a chip and step, by kind; how many
      "loops_of_unknown_length" count as one round in traffic and collectives; "seconds" that
      each of arithmetic, memory and links takes at its peak; "mfu", the share of the peak that is
      reached if they overlap; "bound": which of them takes longest.

    Raises:
      UserError: about the topology, or the step does not fit its memory.
    """
    mesh = make_mesh(config.mesh, _devices(topology) if topology else None)
    training = setup(config, data, mesh)
    kind, chips = mesh.devices.flat[0].device_kind, mesh.size
    try:
        compiled = training.trace().lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        remedy = "raise config.mesh.fsdp or training.slices, or set model.remat=all"
        why = f"the step does not fit {topology or 'here'}; {remedy} ({one_line(str(error), 300)})"
        raise UserError("config.mesh", why) from error
    memory: Any = compiled.memory_analysis()
    costs: Any = compiled.cost_analysis()
    program = Program(compiled.as_text())
    arguments, aliased = memory.argument_size_in_bytes, memory.alias_size_in_bytes
    sizes = {
        "arguments": arguments,
        "outputs": memory.output_size_in_bytes - aliased,
        "temporaries": memory.temp_size_in_bytes,
    }
    collectives, wire = _collectives(program, chips)
    flops = matmul_flops(training)
    report = {
        "topology": topology or "this machine",
        "chips": chips,
        "chip": kind,
        "mesh": dict(mesh.shape),
        "memory": sizes | {"total": sum(sizes.values())},
        "traffic": {"memory": program.memory_traffic(), "accessed": int(costs["bytes accessed"])},
        "flops": flops,
        "collectives": collectives,
        "loops_of_unknown_length": program.loops_of_unknown_length,
    }
    if chip := CHIPS.get(kind):
        seconds = {
            "arithmetic": flops / chips / chip.peak,
            "memory": report["traffic"]["memory"] / chip.bandwidth,
            "links": wire / chip.link,
        }
        slowest = max(seconds.values())
        report["memory"]["of"] = chip.memory
        report["seconds"] = seconds
        report["bound"] = max(seconds, key=lambda name: seconds[name])
        report["mfu"] = seconds["arithmetic"] / slowest
    return report


def as_text(report: dict[str, Any]) -> str:
    """A report for a terminal."""
    memory, traffic = report["memory"], report["traffic"]
    shape = " x ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    of = f" of {memory['of'] / 1e9:.0f}" if "of" in memory else ""
    lines = [
        f"{report['topology']}: {report['chips']} x {report['chip']} ({shape})",
        f"memory of a chip    {memory['total'] / 1e9:9.2f}{of} GB: parameters, optimiser and batch "
        f"{memory['arguments'] / 1e9:.2f}, temporaries {memory['temporaries'] / 1e9:.2f}",
        f"matrix products     {report['flops'] / report['chips'] / 1e12:9.2f} TFLOP a chip",
        f"memory traffic      {traffic['memory'] / 1e9:9.2f} GB a chip (XLA's count, caches "
        f"included: {traffic['accessed'] / 1e9:.2f})",
    ]
    for kind, found in report["collectives"].items():
        lines.append(
            f"{kind:20s}{found['bytes'] / 1e9:9.3f} GB a chip in {found['count']}, the largest of "
            f"{found['largest'] / 1e6:.1f} MB"
        )
    if unknown := report["loops_of_unknown_length"]:
        lines.append(f"{unknown} loops run as often as the data say, and count as one round")
    if "seconds" in report:
        lines += [f"{name:20s}{s * 1e3:9.2f} ms" for name, s in report["seconds"].items()]
        mfu = f"{100 * report['mfu']:.0f} % of the peak if all of it overlaps"
        lines.append(f"bound by {report['bound']}; {mfu}")
    return "\n".join(lines)


def matmul_flops(training: Any) -> float:
    """FLOPs of the matrix products of a step and its gradient, on all devices together.

    Of the program on one device with all logits at once and nothing computed twice: the usual
    basis of a model FLOPs utilisation.
    """
    plain = {"attention": "dense", "remat": "none", "scan_layers": False}
    model = replace(training.config.model, **plain)
    config = replace(training.config, model=model, mesh=MeshConfig())
    config = replace(config, training=replace(config.training, slices=1))
    if hasattr(config, "loss"):  # all scores at once, too
        config = replace(config, loss=replace(config.loss, block_elements=2**62))
    one_device = make_mesh(devices=training.mesh.devices.flat[:1].tolist())
    one = setup(config, training.data, one_device, training.steps)
    return _flops(one.trace().jaxpr.jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for line in jaxpr.eqns:
        if line.primitive.name == "dot_general":
            (contracted, _), _ = line.params["dimension_numbers"]
            shape = line.invars[0].aval.shape
            depth = math.prod(shape[axis] for axis in contracted)
            total += 2.0 * depth * math.prod(line.outvars[0].aval.shape)
            continue
        times = line.params.get("length", 1) if line.primitive.name == "scan" else 1
        for value in line.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += times * _flops(inner)
    return total


def _collectives(program: Program, devices: int) -> tuple[dict[str, dict[str, int]], float]:
    """By kind, of one chip and step: how many, their bytes, the largest; and bytes on its links."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"count": 0, "bytes": 0, "largest": 0})
    wire = 0.0
    for kind, size, group, times in program.collectives(devices):
        of_kind = found[kind]
        of_kind["count"] += times
        of_kind["bytes"] += size * times
        of_kind["largest"] = max(of_kind["largest"], size)
        share = {
            "all-reduce": 2 * (group - 1) / group,
            "reduce-scatter": group - 1.0,
            "collective-permute": 1.0,
        }
        wire += size * times * share.get(kind, (group - 1) / group)
    return dict(sorted(found.items())), wire


def _devices(topology: str) -> Any:
    shape = [int(size) for size in re.findall(r"\d+", topology.partition(":")[2])]
    few = {"chips_per_host_bounds": [*shape, 1, 1][:3]} if math.prod(shape) < 4 else {}
    os.environ.setdefault(
        "ALLOW_MULTIPLE_LIBTPU_LOAD", "1"
    )  # nothing is run, so none is in the way
    try:
        description = topologies.get_topology_desc(topology, "tpu", **few)
        return np.asarray(description.devices).tolist()
    except Exception as error:  # of libtpu: any
        raise UserError(
            "--topology",
            f"{topology!r} cannot be compiled for ({one_line(str(error), 200)}); it needs "
            "pip install 'jax[tpu]', and a name such as v5e:4x4 or v5p:4x4x4",
        ) from error
