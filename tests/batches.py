"""Small random batches and models for the tests."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import pytest

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.models.batch import DataSpec, NextItemBatch, RankingBatch
from siren_rope_jax.models.ranker import Ranker, RankerConfig
from siren_rope_jax.models.retriever import Retriever, RetrieverConfig
from siren_rope_jax.models.tasks import Binary
from siren_rope_jax.rotation.sources import AngleSource
from siren_rope_jax.rotation.time import Time, TimeScale
from siren_rope_jax.rotation.variants import ranking_variant, retrieval_variant
from siren_rope_jax.training.mesh import place_batch

REPRESENTATIVE = {"ordinal", "siren_rope_hstu_bias", "siren_rope_interleaved", "time2vec"}
"""The variants that the fast tests look at; the slow ones add all others."""


def variants(cases: Iterable[Any]) -> list[Any]:
    """Cases of `parametrize`, names or tuples that begin with one; most are marked slow."""

    def marked(case: Any) -> Any:
        values = case if isinstance(case, tuple) else (case,)
        return pytest.param(*values, marks=[pytest.mark.slow] * (values[0] not in REPRESENTATIVE))

    return [marked(case) for case in cases]


@partial(jax.jit, static_argnums=0)
def trained(loss_of: Callable[[Any], jax.Array], params: Any) -> Any:
    """Parameters after 150 steps of Adam on one loss."""
    optimizer = optax.adam(1e-2)

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss_of)(params), state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=150)[0][0]


START = 1_700_000_000  # Unix seconds
SPAN = 60 * 86_400
DATA = DataSpec(
    {"item": 20, "topic": 5},
    (Binary("like"), Binary("share")),
    context_length=12,
    scale=TimeScale.fit(START, START + SPAN),
    dense=3,
    context=2,
    actions=4,
)


def random_batch(seed: int = 0, rows: int = 2, length: int = 12) -> RankingBatch:
    """Full rows of one history each, with random features and ascending times."""
    rng = np.random.default_rng(seed)
    shape = (rows, length)
    seconds = np.sort(rng.integers(START, START + SPAN, shape), axis=-1)
    return RankingBatch(
        categorical=np.stack([rng.integers(0, 20, shape), rng.integers(0, 5, shape)], -1).astype(
            np.int32
        ),
        dense=rng.normal(size=(*shape, 3)).astype(np.float32),
        context=rng.normal(size=(*shape, 2)).astype(np.float32),
        actions=rng.normal(size=(*shape, 4)).astype(np.float32),
        labels=rng.integers(0, 2, (*shape, 2)).astype(np.float32),
        label_mask=np.ones((*shape, 2), bool),
        time=Time.from_seconds(seconds),
        position=np.broadcast_to(np.arange(length, dtype=np.int32), shape),
        segment=np.ones(shape, np.int32),
        event=np.arange(rows * length, dtype=np.int32).reshape(shape),
        counts=np.zeros((*shape, 0), np.int32),
    )


def random_next_items(seed: int = 0, rows: int = 2, length: int = 12) -> NextItemBatch:
    """Full rows of one history each: `random_batch` of one more event, and what follows each."""
    events = random_batch(seed, rows, length + 1)
    now = jax.tree.map(lambda x: x[:, :-1], events)
    following = jax.tree.map(lambda x: x[:, 1:], events)
    return NextItemBatch(
        categorical=now.categorical,
        dense=now.dense,
        time=now.time,
        request_time=following.time,
        target=following.categorical[..., 0],
        position=now.position,
        segment=now.segment,
        history=np.broadcast_to(
            np.arange(rows, dtype=np.int32)[:, None] * (length + 1), (rows, length)
        ),
        event=following.event,
        counts=now.counts,
        request_counts=following.counts,
    )


def small_config(name: str, **changes: Any) -> RankerConfig:
    """A small ranking model of a named variant."""
    sizes = {"width": 16, "heads": 2, "layers": 2, "embedding_width": 4, "head_widths": (32,)}
    sizes["unknown_rate"] = 0.0  # without it, nothing is random but what a test asks for
    return from_config_dict(RankerConfig, {**sizes, **ranking_variant(name, "topic"), **changes})


def small_model(name: str, seed: int = 1, **changes: Any) -> tuple[Ranker, Any]:
    """A small model and its parameters."""
    model = Ranker(small_config(name, **changes), DATA)
    batch = jax.tree.map(jax.device_put, random_batch())
    return model, model.init(jax.random.key(seed), batch)["params"]


def small_retriever_config(name: str, **changes: Any) -> RetrieverConfig:
    """A small next-item model of a named variant."""
    sizes = {"width": 16, "heads": 2, "layers": 2, "feature_width": 4, "unknown_rate": 0.0}
    values = {**sizes, **retrieval_variant(name, "topic"), **changes}
    return from_config_dict(RetrieverConfig, values)


def small_retriever(name: str, seed: int = 1, **changes: Any) -> tuple[Retriever, Any]:
    """A small next-item model and its parameters."""
    model = Retriever(small_retriever_config(name, **changes), DATA)
    padding = jax.tree.map(jax.device_put, random_next_items())
    return model, model.init(jax.random.key(seed), padding)["params"]


def source(**entries: Any) -> AngleSource:
    """An angle source from plain dicts."""
    return from_config_dict(AngleSource, entries)


@contextmanager
def interrupted_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A training in this block ends after so many steps, as if by Ctrl-C."""
    batches = iter(range(steps + 1))

    def interrupted(*arguments: Any) -> Any:
        if next(batches) == steps:
            raise KeyboardInterrupt
        return place_batch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("siren_rope_jax.training.loop.place_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield
