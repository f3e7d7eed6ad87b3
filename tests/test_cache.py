"""A cache of keys and values: the same results as one full pass, however it was filled.

`test_encoded.py` has all variants.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.models.cache import CACHE, Cached
from siren_rope_jax.rotation.variants import RANKING_VARIANTS, RETRIEVAL_VARIANTS
from tests.batches import (
    DATA,
    REPRESENTATIVE,
    random_batch,
    random_next_items,
    small_model,
    small_retriever,
)

LENGTH, ROWS = DATA.context_length, 2


def part(batch: Any, start: int, stop: int) -> Any:
    return jax.tree.map(lambda x: x[:, start:stop], batch)


def filled(model: Any, params: Any, batch: Any, cuts: list[int]) -> Any:
    """The cache of a batch's events, encoded up to the first cut and added between the others."""
    padding = jax.tree.map(np.zeros_like, batch)
    first = jax.tree.map(
        lambda x, zero: np.concatenate([x[:, : cuts[0]], zero[:, cuts[0] :]], axis=1),
        batch,
        padding,
    )
    _, variables = model.apply({"params": params}, first, mutable=[CACHE])
    for start, stop in itertools.pairwise(cuts):
        places = np.broadcast_to(np.arange(start, stop, dtype=np.int32), (ROWS, stop - start))
        _, variables = model.apply(
            {"params": params, **variables},
            part(batch, start, stop),
            cached=Cached.for_events(places),
            mutable=[CACHE],
        )
    return variables


@pytest.mark.parametrize("name", sorted(REPRESENTATIVE & {*RANKING_VARIANTS}))
def test_candidates_have_the_logits_of_a_full_pass(name: str) -> None:
    model, params = small_model(name)
    batch = random_batch(rows=ROWS)
    expected = np.asarray(model.apply({"params": params}, batch))
    for cuts in ([7], [0, 3, 7], [4, 5, 6, 7]):
        cache = filled(model, params, batch, cuts)
        # The event after those in the cache, among others that differ in all features.
        others = part(random_batch(seed=3, rows=ROWS), 0, 4)
        asked = jax.tree.map(
            lambda x, y: np.concatenate([x[:, :2], y[:, 7:8], x[:, 2:]], axis=1), others, batch
        )
        asked = asked.replace(position=np.full_like(asked.position, 7))
        logits = model.apply({"params": params, **cache}, asked, cached=Cached.for_requests())
        np.testing.assert_allclose(logits[:, 2], expected[:, 7], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("name", sorted(REPRESENTATIVE & {*RETRIEVAL_VARIANTS}))
def test_requests_have_the_queries_of_a_full_pass(name: str, repeat: bool) -> None:
    model, params = small_retriever(name, repeat=repeat)
    batch = random_next_items(rows=ROWS)
    expected = model.apply({"params": params}, batch)
    for cuts in ([7], [0, 3, 7], [4, 5, 6, 7]):
        cache = filled(model, params, batch, cuts)
        last, others = part(batch, 7, 8), part(random_next_items(seed=3, rows=ROWS), 0, 3)
        asked = jax.tree.map(lambda x: np.repeat(x, 4, axis=1), last)
        times = jax.tree.map(
            lambda x, y: np.concatenate([x, y], axis=1), last.request_time, others.request_time
        )
        asked = asked.replace(request_time=times)
        found = model.apply({"params": params, **cache}, asked, cached=Cached.for_requests())
        np.testing.assert_allclose(found.query[:, 0], expected.query[:, 7], rtol=1e-5, atol=1e-5)
        if not repeat:
            continue
        mixture = found.repeat.of_requests()
        slots = np.arange(ROWS), np.full(ROWS, 7)
        whole = expected.repeat.mixtures(slots)

        def by_item(items: Any, weights: Any) -> Any:
            return jax.vmap(lambda i, w: jnp.zeros(DATA.items).at[i].add(w))(items, weights)

        np.testing.assert_allclose(
            by_item(mixture.item, mixture.weight)[::4], by_item(whole.item, whole.weight), atol=1e-5
        )
        np.testing.assert_allclose(mixture.explore[::4], whole.explore, atol=1e-5)


@pytest.mark.parametrize("changes", [{"scan_layers": True}, {"block": "hstu"}, {"layers": 1}])
def test_every_kind_of_trunk_has_a_cache(changes: dict[str, Any]) -> None:
    model, params = small_model("siren_rope_hstu_bias", **changes)
    batch = random_batch(rows=ROWS)
    expected = np.asarray(model.apply({"params": params}, batch))
    cache = filled(model, params, batch, [2, 9])
    logits = model.apply(
        {"params": params, **cache}, part(batch, 9, 10), cached=Cached.for_requests()
    )
    np.testing.assert_allclose(logits[:, 0], expected[:, 9], rtol=1e-5, atol=1e-5)


def test_a_training_step_makes_no_cache() -> None:
    model, _ = small_model("siren_rope")
    variables = model.init(jax.random.key(0), random_batch())
    assert set(variables) == {"params"}
