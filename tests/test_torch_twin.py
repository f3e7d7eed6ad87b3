"""The benchmark's model in PyTorch is the same as ours."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.models.batch import RankingBatch
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.optim import OptimizerConfig
from siren_rope_jax.training.setup import setup
from tests.batches import DATA, random_batch, small_config

torch = pytest.importorskip("torch", reason="needs the extra bench")

from siren_rope_jax.studies import torch_twin  # noqa: E402

STEPS = 4


def experiment(**changes: Any) -> RankingExperiment:
    return RankingExperiment(
        variant="siren_rope",
        data=DataConfig("nowhere", length=12, stride=4, batch_size=4),
        model=small_config("siren_rope"),
        optimizer=OptimizerConfig(weight_decay=0.1, clip_norm=0.5, warmup_fraction=0.5),
        **changes,
    )


def packed_batch(seed: int = 0) -> RankingBatch:
    """Rows of two histories and padding; some labels do not count, some times are not known."""
    batch, rng = random_batch(seed, rows=4), np.random.default_rng(seed)
    segment = np.tile(np.repeat([1, 2, 0], [5, 4, 3]).astype(np.int32), (4, 1))
    known = rng.random(segment.shape) < 0.8
    offset = rng.integers(-12, 12, segment.shape).astype(np.int32) * 1800
    return dataclasses.replace(
        batch,
        segment=segment,
        time=dataclasses.replace(batch.time, known=known, offset=offset),
        label_mask=(rng.random(batch.labels.shape) < 0.7) & (segment > 0)[..., None],
    )


def test_loss_and_gradients_are_ours() -> None:
    config, batch = experiment(), packed_batch()
    training = setup(config, DATA, make_mesh(devices=jax.devices()[:1]), steps=STEPS)
    params = training.init_params(3)

    def loss(params: Any) -> Any:
        variables = {"params": params}
        return training.kind.loss(training.model, variables, batch, jax.random.key(0), {})[0]

    ours, gradients = jax.jit(jax.value_and_grad(loss))(params)
    twin = torch_twin.twin_of(config.model, DATA, params)
    theirs = twin.loss(torch_twin.as_tensors(batch, "cpu"))
    theirs.backward()
    assert theirs.item() == pytest.approx(float(ours), rel=1e-6)
    expected = dict(torch_twin.twin_of(config.model, DATA, gradients).named_parameters())
    for name, parameter in twin.named_parameters():
        scale = expected[name].abs().max().item()
        assert scale > 0, name
        assert (parameter.grad - expected[name]).abs().max().item() < 2e-5 * scale + 1e-8, name


def test_it_trains_as_ours() -> None:
    """With weight decay, clipping and the schedule."""
    config = experiment()
    training = setup(config, DATA, make_mesh(devices=jax.devices()[:1]), steps=STEPS)
    state, key = training.init(3), training.key(0)
    step = torch_twin.training_step(config, DATA, state.params, STEPS, "cpu", compiled=False)
    for seed in range(STEPS):
        batch = packed_batch(seed)
        theirs = step(torch_twin.as_tensors(batch, "cpu"))
        state, metrics = training.step(state, batch, key, {})
        assert theirs.item() == pytest.approx(float(metrics["loss"]), rel=1e-5)
