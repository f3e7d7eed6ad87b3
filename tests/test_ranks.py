"""Ranks and lists agree with brute force, on scores with many ties."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from siren_rope_jax.models.item_ranks import rank_targets, top_items
from siren_rope_jax.models.losses import LossConfig, retrieval_loss
from siren_rope_jax.models.repeat import Mixture, RepeatedTarget
from siren_rope_jax.training.mesh import by_row, make_mesh


@st.composite
def cases(draw):
    """Queries, table, targets (also unknown), seen items (also repeated, unknown or the target)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Few shapes, because each one is compiled.
    positions, items, width = draw(st.sampled_from([(1, 2, 0), (6, 9, 3), (11, 30, 8)]))
    levels = draw(st.sampled_from([1, 2, 5]))  # small integers: scores are exact, with ties
    q = rng.integers(-levels, levels + 1, (positions, 2)).astype(np.float32)
    table = rng.integers(-levels, levels + 1, (items, 2)).astype(np.float32)
    target = rng.integers(0, items + 2, positions).astype(np.int32)
    seen = rng.integers(0, items + 2, (positions, width)).astype(np.int32)
    return q, table, target, seen


ranked = jax.jit(rank_targets, static_argnames="block_elements")
listed = jax.jit(top_items, static_argnames=("k", "block_elements"))
blocks = st.sampled_from([1, 40, 10**6])


def repeated_items(seed, positions, items):
    """Three items per position, possibly equal or unknown; the softmax has the remaining weight."""
    rng = np.random.default_rng(seed)
    item = rng.integers(0, items, (positions, 3)).astype(np.int32)
    share = rng.dirichlet(np.ones(4), positions).astype(np.float32)
    return Mixture(item, share[:, :3], share[:, 3])


def mixed(scores, repeat):
    """Probabilities of all items by loops, normalised over the known ones."""
    exp = np.exp(scores.astype(np.float64))
    exp[:, 0] = 0
    p = exp / exp.sum(axis=1, keepdims=True) * repeat.explore[:, None]
    for n, (ids, weights) in enumerate(zip(repeat.item, repeat.weight, strict=True)):
        for item, weight in zip(ids, weights, strict=True):
            p[n, item] += weight * (item > 0)
    return p / p.sum(axis=1, keepdims=True)


def rank_by_loop(scores, target, seen):
    if not 0 < target < len(scores) or target in seen:
        return 0
    others = set(range(1, len(scores))) - {target} - set(seen.tolist())
    return 1 + sum(scores[j] >= scores[target] for j in others)


def nll_by_sum(scores, target, seen):
    if not 0 < target < len(scores) or target in seen:
        return np.nan
    return np.log(np.exp(scores[1:].astype(np.float64)).sum()) - scores[target]


@given(cases(), blocks)
def test_ranks_equal_brute_force(case, block):
    q, table, target, seen = case
    rank, nll = ranked(*case, block_elements=block)
    scores = q @ table.T
    rows = range(len(q))
    assert rank.tolist() == [rank_by_loop(scores[n], target[n], seen[n]) for n in rows]
    expected = [nll_by_sum(scores[n], target[n], seen[n]) for n in rows]
    np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=1e-5)
    assert (rank.dtype, nll.dtype) == (jnp.int32, jnp.float32)


@given(cases(), blocks, st.sampled_from([1, 7, 40]))
def test_lists_equal_brute_force(case, block, k):
    q, table, _, seen = case
    ids, scores = listed(q, table, seen, k, block_elements=block)
    every = q @ table.T
    ids, scores = np.asarray(ids), np.asarray(scores)
    for n in range(len(q)):
        allowed = sorted(set(range(1, len(table))) - set(seen[n].tolist()))
        best = sorted(allowed, key=lambda j: (-every[n, j], j))[:k]
        assert ids[n].tolist() == best + [0] * (k - len(best))
        assert scores[n].tolist() == [every[n, j] for j in best] + [-np.inf] * (k - len(best))


@given(cases())
def test_a_list_has_the_target_at_its_rank(case):
    """Without ties."""
    q, table, target, seen = case
    rng = np.random.default_rng(0)
    q, table = (x + rng.normal(size=x.shape).astype(np.float32) for x in (q, table))
    rank, _ = ranked(q, table, target, seen, block_elements=40)
    ids, _ = listed(q, table, seen, len(table), block_elements=40)
    rank, ids = np.asarray(rank), np.asarray(ids)
    for n in np.flatnonzero(rank):
        assert ids[n, rank[n] - 1] == target[n]


def random_case(positions=16, items=50, width=24):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(positions, width)).astype(np.float32)
    table = rng.normal(size=(items, width)).astype(np.float32)
    target = rng.integers(1, items, positions).astype(np.int32)
    seen = rng.integers(0, items, (positions, 4)).astype(np.int32)
    return q, table, target, np.where(seen == target[:, None], 0, seen)


@pytest.mark.parametrize("block", [1, 400, 10**6])
def test_items_with_the_same_row_tie(block):
    q, table, target, seen = random_case()
    same = np.repeat(table, 2, axis=0)  # items 2 i and 2 i + 1 tie, as do 1 and the unknown one
    rank, nll = rank_targets(q, same, 2 * target, seen[:, :0], block_elements=block)
    alone, single = rank_targets(q, table, target, seen[:, :0], block_elements=block)
    ahead = (q @ table[0] > (q * table[target]).sum(1)).astype(int)  # item 1
    np.testing.assert_array_equal(rank, 2 * np.asarray(alone) + ahead)
    assert np.all(nll > single)
    twin, _ = rank_targets(q, same, 2 * target + 1, seen[:, :0], block_elements=block)
    np.testing.assert_array_equal(rank, twin)


def test_scores_that_are_not_finite_get_the_worst_rank():
    q, table, target, seen = random_case()
    for bad in (np.nan, np.inf, -np.inf):
        broken = q.copy()
        broken[3] = bad
        rank, nll = rank_targets(broken, table, target, seen)
        assert rank[3] == len(table) - 1 and nll[3] == np.inf
        expected, _ = rank_targets(q, table, target, seen)
        np.testing.assert_array_equal(np.delete(rank, 3), np.delete(expected, 3))
    broken = table.copy()
    lost = next(j for j in range(1, len(table)) if j not in target and j not in seen)
    broken[lost] = np.nan
    rank, _ = rank_targets(q, broken, target, seen)
    below = (q @ table[lost]) < (q * table[target]).sum(1)
    np.testing.assert_array_equal(rank, np.asarray(expected) + below)
    ids, _ = top_items(q, broken, seen, len(table))
    assert lost not in np.asarray(ids)


def test_bfloat16_is_ranked_in_float32():
    q, table, target, seen = random_case()
    q, table = jnp.asarray(q, jnp.bfloat16), jnp.asarray(table, jnp.bfloat16)
    wide = rank_targets(q.astype(jnp.float32), table.astype(jnp.float32), target, seen)
    rank, nll = rank_targets(q, table, target, seen)
    np.testing.assert_array_equal(rank, wide[0])
    np.testing.assert_allclose(nll, wide[1], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 400, 10**6])
def test_sharded_positions_get_the_same_ranks(block):
    q, table, target, seen = random_case()
    sharded = jax.device_put((q, target, seen), by_row(make_mesh()))
    expected = rank_targets(q, table, target, seen)
    for ours, theirs in zip(
        ranked(sharded[0], table, *sharded[1:], block_elements=block), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    ids, _ = listed(sharded[0], table, sharded[2], 5, block_elements=block)
    np.testing.assert_array_equal(ids, top_items(q, table, seen, 5)[0])


def test_memory_is_bounded_by_the_block():
    def temporary(positions: int) -> int:
        shapes = [(positions, 16), (20_000, 16), (positions,), (positions, 8)]
        dtypes = [jnp.float32, jnp.float32, jnp.int32, jnp.int32]
        arguments = [jax.ShapeDtypeStruct(s, d) for s, d in zip(shapes, dtypes, strict=True)]
        return (
            ranked.lower(*arguments, block_elements=2**18)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    assert temporary(2048) - temporary(256) < 2e6  # all scores would take 143 MB


@given(cases(), blocks, st.integers(0, 99))
def test_repeated_items_are_mixed_with_the_softmax(case, block, seed):
    q, table, target, seen = case
    repeat = repeated_items(seed, len(q), len(table))
    rank, nll = ranked(*case, repeat, block_elements=block)
    p = mixed(q @ table.T, repeat)
    for n, t in enumerate(target):
        if not 0 < t < len(table) or t in seen[n]:
            assert rank[n] == 0 and np.isnan(nll[n])
            continue
        np.testing.assert_allclose(nll[n], -np.log(p[n, t]), rtol=1e-4, atol=1e-4)
        # Rounding may break ties.
        expected = rank_by_loop(p[n], t, seen[n])
        near = [j for j in range(1, len(table)) if abs(p[n, j] / p[n, t] - 1) < 1e-5 and j != t]
        assert abs(int(rank[n]) - expected) <= len(near)


def test_training_and_evaluation_agree_if_the_softmax_has_no_weight():
    """An item that is not repeated is then almost impossible, but its loss is finite."""
    q, table, target = jnp.zeros((1, 2)), jnp.ones((6, 2)), jnp.array([1])
    mixture = Mixture(jnp.array([[4, 2]]), jnp.array([[0.5, 0.5]]), jnp.array([0.0]))
    rank, nll = rank_targets(q, table, target, jnp.zeros((1, 0), jnp.int32), mixture)
    repeat = RepeatedTarget(jnp.zeros(1), jnp.zeros(1), jnp.ones(1))
    loss = retrieval_loss(LossConfig(), q, table, target, target > 0, repeat=repeat)
    assert rank.tolist() == [5] and 80 < nll[0] < 100
    # Training bounds both probabilities below by the least float32; evaluation only the softmax's.
    np.testing.assert_allclose(nll[0], loss, rtol=0.05)


def test_lists_begin_with_repeated_items():
    q, table = jnp.zeros((1, 2)), jnp.ones((6, 2))
    repeat = Mixture(jnp.array([[4, 2, 4]]), jnp.array([[0.2, 0.3, 0.2]]), jnp.array([0.3]))
    ids, score = top_items(q, table, jnp.zeros((1, 0), jnp.int32), 3, repeat)
    assert ids.tolist() == [[4, 2, 1]]
    np.testing.assert_allclose(jnp.exp(score), [[0.46, 0.36, 0.06]], rtol=1e-5)
