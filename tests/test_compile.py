"""A step compiled for machines that are not there, and what is said of it."""

import dataclasses
import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from siren_rope_jax.base.files import read_json
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.losses import LossConfig
from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.tables import lookup
from siren_rope_jax.rotation.time import TimeScale
from siren_rope_jax.training.compile import as_text, compile_step, matmul_flops
from siren_rope_jax.training.hlo import Program
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.optim import OptimizerConfig
from siren_rope_jax.training.setup import setup
from tests.batches import small_retriever_config
from tests.refusals import refused
from tests.scripts import complaint, run

LENGTH, ROWS, WIDTH, NEGATIVES = 32, 16, 16, 64
DATA = DataSpec({"item": 50_000}, (), LENGTH, TimeScale.fit(1_600_000_000, 1_700_000_000))


def experiment(**mesh: int) -> RetrievalExperiment:
    return RetrievalExperiment(
        variant="ordinal",
        data=DataConfig("nowhere", length=LENGTH, stride=8, batch_size=ROWS),
        model=small_retriever_config("ordinal", width=WIDTH),
        loss=LossConfig("sampled_softmax", sampler="shared", negatives=NEGATIVES),
        mesh=MeshConfig(**mesh),
    )


def test_products_are_counted_as_the_equations_have_them() -> None:
    training = setup(experiment(), DATA, make_mesh())
    positions = ROWS * LENGTH
    layer = 4 * WIDTH**2 + 8 * WIDTH**2  # four projections, and a feed-forward part of 4 x
    attention = 2 * LENGTH * WIDTH
    forward = 2 * positions * (2 * (layer + attention) + WIDTH + NEGATIVES * WIDTH)
    assert matmul_flops(training) == pytest.approx(3 * forward, rel=0.01)


def test_a_report_of_this_machine() -> None:
    report = compile_step(experiment(data=4, fsdp=2), DATA, "")
    assert json.loads(json.dumps(report)) == report
    assert (report["chips"], report["mesh"]) == (8, {"data": 4, "fsdp": 2, "tensor": 1})
    table = 50_176 * WIDTH * 4
    assert 3 * table / 8 < report["memory"]["arguments"] < 3 * table / 8 + 2**20
    kinds = report["collectives"]
    assert kinds and all(found["largest"] < table / 8 for found in kinds.values())
    assert "mfu" not in report and "GB" in as_text(report)


@pytest.mark.parametrize("optimizer", [{}, {"lazy_adam": ("items",)}], ids=str)
def test_no_device_holds_a_whole_table_or_its_gradient(optimizer: dict[str, Any]) -> None:
    """Neither in memory nor on the wire."""
    config = dataclasses.replace(experiment(), optimizer=OptimizerConfig(**optimizer))
    data = dataclasses.replace(DATA, categories={"item": 2_000_000})
    report = compile_step(config, data, "")
    table = 2_000_000 * WIDTH * 4
    assert report["memory"]["total"] < table
    assert all(found["bytes"] < table / 8 for found in report["collectives"].values())


def test_loops_count_as_often_as_they_run() -> None:
    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 7, lambda _, y: jnp.sin(y @ y), x)

    text = jax.jit(loop).lower(jnp.ones((8, 8))).compile().as_text()
    times = [line.times for line in Program(text).instructions if line.op in ("dot", "fusion")]
    assert 7 in times


def test_collectives_are_told_with_their_groups() -> None:
    where = Partition(make_mesh(MeshConfig(8)))
    place = where.sharding((None, "rows", None))
    rows = jax.ShapeDtypeStruct((8, 8, 4), jnp.float32, sharding=place)
    ids = jax.ShapeDtypeStruct((16,), jnp.int32, sharding=where.sharding(("batch",)))
    found = jax.jit(partial(lookup, partition=where, dtype=jnp.float32)).lower(rows, ids).compile()
    collectives = Program(found.as_text()).collectives(8)
    assert {kind for kind, *_ in collectives} == {"all-to-all", "all-reduce"}
    assert all(group == 8 for _, _, group, _ in collectives)
    most = 2  # ids of a device, which may all be asked of one other
    assert ("all-to-all", 8 * most * 4, 8, 1) in collectives


def test_large_tables_that_a_mesh_cannot_divide_are_named() -> None:
    large = dataclasses.replace(DATA, categories={**DATA.categories, "item": 200_000})
    for devices, named in ((1, []), (6, ["items"]), (8, [])):
        mesh = make_mesh(devices=jax.devices()[:devices])
        assert setup(experiment(), large, mesh).undivided == named
    assert setup(experiment(), DATA, make_mesh(devices=jax.devices()[:6])).undivided == []


def test_what_cannot_be_compiled_for_is_told(tmp_path: Path) -> None:
    with refused("--topology", "v9z:2x2"):
        compile_step(experiment(), DATA, "v9z:2x2")
    with refused("config.mesh", 3, 8):
        compile_step(experiment(data=3), DATA, "")
    config = "--config=configs/next_item.py:ordinal"
    said = complaint("compile", config, f"--config.data.path={tmp_path / 'none'}")
    assert said.startswith("--items: say how many") and str(tmp_path / "none") in said


@pytest.mark.slow
def test_the_command_compiles_for_the_devices_that_are_there(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run(
        "compile", "--config=configs/next_item.py:ordinal", "--items=1000",
        f"--config.data.path={tmp_path / 'none'}", f"--output={report}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_json(report)["flops"] > 0


@pytest.mark.skipif(not find_spec("libtpu"), reason="needs pip install 'jax[tpu]'")
def test_a_step_for_a_pod_is_compiled_without_one(tmp_path: Path) -> None:
    flags = {"data.length": 256, "data.batch_size": 8, "model.layers": 1, "model.repeat": False,
             "model.dtype": "bfloat16", "loss.kind": "sampled_softmax", "mesh.fsdp": 2}  # fmt: skip
    done = run(
        "compile",
        "--config=configs/next_item.py:siren_rope",
        "--topology=v5e:2x2",
        "--items=1000000",
        f"--output={tmp_path / 'report.json'}",
        f"--config.data.path={tmp_path / 'none'}",
        *(f"--config.{key}={value}" for key, value in flags.items()),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["memory"]["total"] < report["memory"]["of"] == 16e9
    assert 0 < report["mfu"] < 1 and report["bound"] in report["seconds"]
