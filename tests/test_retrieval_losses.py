"""The retrieval losses agree with their definitions, with and without blocks and sampling."""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

from siren_rope_jax.models.losses import LossConfig, gbce_beta, retrieval_loss
from siren_rope_jax.models.repeat import RepeatedTarget
from siren_rope_jax.models.tables import gathered_scores, log_partition
from siren_rope_jax.training.mesh import by_row, make_mesh, replicated
from tests.refusals import refused

KINDS = {
    "full": LossConfig(block_elements=64),
    "full, one block": LossConfig(),
    "smoothed": LossConfig(label_smoothing=0.1, block_elements=64),
    "uniform": LossConfig("sampled_softmax", negatives=7, block_elements=64),
    "uniform, plain": LossConfig("sampled_softmax", negatives=7, log_q=False),
    "in batch": LossConfig("sampled_softmax", sampler="in_batch", block_elements=64),
    "in batch, plain": LossConfig("sampled_softmax", sampler="in_batch", log_q=False),
    "bce": LossConfig("bce", negatives=7, block_elements=64),
    "gbce": LossConfig("gbce", negatives=7),
}
each_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


def made_up(seed=0, positions=16, items=23, width=8, scale=1.0):
    """Queries, table, targets (some unknown), mask and item counts."""
    rng = np.random.default_rng(seed)
    q = jnp.asarray(rng.normal(size=(positions, width)) * scale, jnp.float32)
    table = jnp.asarray(rng.normal(size=(items, width)) * scale, jnp.float32)
    target = jnp.asarray(rng.integers(0, items, positions), jnp.int32)
    mask = jnp.asarray(rng.random(positions) < 0.8)
    counts = jnp.asarray(rng.integers(1, 50, items), jnp.float32)
    return q, table, target, mask, counts


def plain_softmax(q, table, target, mask, smoothing=0.0):
    """All logits at once, with the loss of optax."""
    weights = jax.nn.one_hot(target - 1, table.shape[0] - 1)
    weights = optax.smooth_labels(weights, smoothing)
    loss = optax.softmax_cross_entropy(
        q.astype(jnp.float32) @ table[1:].astype(jnp.float32).T, weights
    )
    mask = mask & (target > 0)
    return jnp.where(mask, loss, 0).sum() / jnp.maximum(mask.sum(), 1)


def value_and_gradients(loss, *given):
    """The loss, and its gradients to what is given first, queries and table."""
    return jax.jit(jax.value_and_grad(loss, (0, 1)))(*given)


def ours(config, q, table, target, mask, counts=None):
    loss = partial(retrieval_loss, config, item_counts=counts, key=jax.random.key(0))
    return value_and_gradients(loss, q, table, target, mask)


def assert_close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@partial(jax.jit, static_argnums=0)
def ours_and_plain(config, q, table, target, mask):
    """Both losses and their gradients; compiled once per shape and config."""
    plain = partial(plain_softmax, smoothing=config.label_smoothing)
    given = q, table, target, mask
    return ours(config, *given), value_and_gradients(plain, *given)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 2, 3), (12, 24, 8), (7, 41, 5)]),
    block=st.sampled_from([1, 40, 10**6]),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_blocked_softmax_equals_the_plain_one(seed, shape, block, scale):
    q, table, target, mask, _ = made_up(seed, *shape, scale)
    config = LossConfig(label_smoothing=0.1 * (block == 40), block_elements=block)
    assert_close(*ours_and_plain(config, q, table, target, mask), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("block", [64, 10**6])
def test_bfloat16_inputs_are_summed_in_float32(block):
    q, table, target, mask, _ = made_up()
    q, table = q.astype(jnp.bfloat16), table.astype(jnp.bfloat16)
    loss, gradients = ours(LossConfig(block_elements=block), q, table, target, mask)
    exact = (x.astype(jnp.float32) for x in (q, table))
    plain, expected = value_and_gradients(plain_softmax, *exact, target, mask)
    assert loss.dtype == jnp.float32 and {g.dtype for g in gradients} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(loss, plain, rtol=1e-5)  # products and sums are float32
    for found, right in zip(gradients, expected, strict=True):
        atol = 0.01 * float(jnp.abs(right).max())
        np.testing.assert_allclose(found.astype(jnp.float32), right, atol=atol)


@each_kind
def test_the_unknown_item_and_masked_positions_have_no_effect(config):
    q, table, target, mask, counts = made_up()
    value, (dq, dtable) = ours(config, q, table, target, mask, counts)
    counted = np.asarray(mask & (target > 0))
    assert np.isfinite(value) and 0 < counted.sum() < len(counted)
    assert not np.any(dtable[0]) and not np.any(dq[~counted])
    assert np.all(np.abs(dq[counted]).sum(1) > 0)
    other_q = jnp.where(counted[:, None], q, jnp.nan)
    other = ours(config, other_q, table.at[0].set(100.0), target, mask, counts)
    assert_close(other, (value, (dq, dtable)), rtol=1e-6)


@each_kind
def test_without_positions_the_loss_and_its_gradients_are_zero(config):
    q, table, target, mask, counts = made_up()
    value, gradients = ours(config, q, table, target, jnp.zeros_like(mask), counts)
    assert value == 0 and not any(np.any(g) for g in gradients)
    unknown = jnp.where(jnp.arange(len(target)) % 2 == 0, 0, len(table))
    assert ours(config, q, table, unknown, jnp.ones_like(mask), counts)[0] == 0


@each_kind
def test_extreme_scores_give_finite_losses_and_gradients(config):
    q, table, target, mask, counts = made_up(width=1)
    table = jnp.sign(table) * 1e30
    value, gradients = ours(config, jnp.sign(q), table, target, mask, counts)
    assert np.isfinite(value) and value > 0
    assert all(np.all(np.isfinite(g)) for g in gradients)


@each_kind
def test_a_catalogue_of_one_item_is_predicted_with_certainty(config):
    q, table, target = jnp.ones((1, 4)), jnp.ones((2, 4)), jnp.array([1])
    value, gradients = ours(config, q, table, target, target > 0, jnp.ones(2))
    assert all(np.all(np.isfinite(g)) for g in gradients)
    if config.kind in ("full_softmax", "sampled_softmax"):
        np.testing.assert_allclose(value, 0, atol=1e-6)
    else:
        beta = gbce_beta(7, 1, 0.75) if config.kind == "gbce" else 1
        np.testing.assert_allclose(value, beta * np.log1p(np.exp(-4)), rtol=1e-5)


@each_kind
def test_sharded_positions_give_the_same_loss_and_gradients(config):
    q, table, target, mask, counts = made_up()
    step, mesh = jax.jit(partial(ours, config)), make_mesh()
    rows = jax.device_put((q, target, mask), by_row(mesh))
    others = jax.device_put((table, counts), replicated(mesh))
    sharded = step(rows[0], others[0], *rows[1:], others[1])
    assert_close(sharded, step(q, table, target, mask, counts), rtol=1e-5, atol=1e-6)


def test_sampled_softmax_with_log_q_estimates_the_sum_over_all_items_without_bias():
    q, table, _, _, _ = made_up(positions=1)
    target = jnp.array([5])
    config = LossConfig("sampled_softmax", negatives=10)

    @jax.vmap
    def loss(key):
        return retrieval_loss(config, q, table, target, jnp.array([True]), key=key)

    losses = np.asarray(loss(jax.random.split(jax.random.key(0), 20_000)), np.float64)
    scores = np.asarray(table[1:] @ q[0], np.float64)
    estimates = np.exp(losses + scores[4])
    error = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - np.exp(scores).sum()) < 4 * error
    assert error < 0.02 * estimates.mean()


def test_in_batch_softmax_with_log_q_estimates_the_sum_over_all_items_without_bias():
    """The negatives of a position are the targets of other histories, a sample of all items."""
    q, table, _, _, counts = made_up(positions=3)
    q = q.at[1:].set(0)
    config = LossConfig("sampled_softmax", sampler="in_batch")
    share = np.asarray(counts, np.float64) / counts[1:].sum()
    scores = np.asarray(table @ q[0], np.float64)
    own, estimate = (5, 6), 0.0
    for other in range(1, len(table)):  # every possible target of another history
        mean = float(
            retrieval_loss(
                config, q, table, jnp.array([*own, other]), jnp.ones(3, bool), item_counts=counts,
                history_N=jnp.array([700, 700, 3]),
            )
        )  # fmt: skip
        # All scores of the other two positions are 0, so their losses are known.
        second = 0.0 if other == own[1] else np.log1p(1 / share[other])
        third = np.log1p(sum(1 / share[item] / 2 for item in own if item != other))
        estimate += share[other] * np.exp(3 * mean - second - third + scores[own[0]])
    np.testing.assert_allclose(estimate, np.exp(scores[1:]).sum(), rtol=1e-4)


def test_a_history_alone_in_its_batch_has_no_negatives():
    q, table, target, mask, counts = made_up()
    config = KINDS["in batch"]
    alone = jnp.zeros(len(q), jnp.int32)
    assert retrieval_loss(config, q, table, target, mask, item_counts=counts, history_N=alone) == 0


@pytest.mark.parametrize("with_repeat", [False, True], ids=["plain", "repeat"])
def test_sampled_softmax_converges_to_the_full_one(with_repeat):
    rng = np.random.default_rng(0)
    _, table, _, _, counts = made_up(scale=0.5)
    share = np.asarray(counts[1:], np.float64)
    target = jnp.asarray(rng.choice(len(share), 4000, p=share / share.sum()) + 1)
    q = jnp.asarray(rng.normal(size=(4000, table.shape[1])), jnp.float32)
    repeat = None
    if with_repeat:  # half the probability is on one of ten items
        history = jnp.asarray(rng.integers(1, 11, 4000))
        half = jnp.full(4000, 0.5)
        repeated = jnp.where(history == target, half, 0)
        repeat = RepeatedTarget(repeated, half, jnp.ones(4000))
    positions = (q, table, target, jnp.ones(4000, bool))
    given = {"item_counts": counts, "key": jax.random.key(0), "repeat": repeat}
    full = retrieval_loss(LossConfig(), *positions, **given)
    uniform = retrieval_loss(LossConfig("sampled_softmax", negatives=2000), *positions, **given)
    in_batch = retrieval_loss(KINDS["in batch"], *positions, **given)
    np.testing.assert_allclose([uniform, in_batch], full, rtol=0.02)  # the noise of one batch
    if not with_repeat:
        assert abs(retrieval_loss(KINDS["in batch, plain"], *positions, **given) - full) > 1


@each_kind
def test_only_an_nll_is_mixed_with_a_repeat(config):
    q, table, target, mask, counts = made_up()
    share = jnp.full(len(q), 0.5)
    repeat = RepeatedTarget(share, share, jnp.ones(len(q)))
    positions = (q, table, target, mask)
    given = {"item_counts": counts, "key": jax.random.key(0)}
    if config.kind in ("bce", "gbce") or config.label_smoothing or not config.log_q:
        with pytest.raises(ValueError, match="repeat"):
            retrieval_loss(config, *positions, **given, repeat=repeat)
    else:  # every target is repeated with probability 1/2
        mixed = retrieval_loss(config, *positions, **given, repeat=repeat)
        assert mixed < np.log(2) < retrieval_loss(config, *positions, **given)


@pytest.mark.parametrize("block", [3, 10**6])
def test_log_partition_leaves_out_excluded_candidates(block):
    q, table, _, _, _ = made_up(positions=5, items=9)
    bias = jnp.array([-jnp.inf, 0, 1, -2, 0, 0, -jnp.inf, 0, 0])
    tags = jnp.stack([jnp.arange(9) // 2, jnp.array([0, 1, 0, 1, 0, 1, 0, 1, 2])], axis=1)
    excluded = jnp.array([[0, 1], [1, 3], [2, 0], [3, 2], [7, 7]])
    drop = (tags == excluded[:, None]).any(-1)

    def plain(q, table):
        logits = jnp.where(drop | (bias == -jnp.inf), -jnp.inf, q @ table.T + bias)
        return jax.nn.logsumexp(logits, axis=1).sum()

    def blocked(q, table):
        return log_partition(q, table, bias, tags, excluded, block_elements=block).sum()

    results = [value_and_gradients(f, q, table) for f in (blocked, plain)]
    assert_close(*results, rtol=1e-4)


@pytest.mark.parametrize("block", [1, 200, 10**6])
def test_gathered_scores_equal_the_plain_ones(block):
    q, table, _, _, _ = made_up()
    ids = jax.random.randint(jax.random.key(1), (len(q), 11), 0, len(table))
    weight = jax.random.normal(jax.random.key(2), ids.shape)

    def plain(q, table):
        return (jnp.take_along_axis(q @ table.T, ids, 1) * weight).sum()

    def blocked(q, table):
        return (gathered_scores(q, table, ids, block) * weight).sum()

    results = [value_and_gradients(f, q, table) for f in (blocked, plain)]
    assert_close(*results, rtol=1e-4, atol=1e-5)


def test_binary_losses_are_means_over_the_target_and_the_other_negatives():
    q, table, target, mask, _ = made_up(items=6)
    key = jax.random.key(4)
    negatives = np.asarray(jax.random.randint(key, (len(q), 7), 1, len(table)))
    scores = np.asarray(q @ table.T, np.float64)
    beta, terms = gbce_beta(7, 5, 0.75), {"bce": [], "gbce": []}
    for n in np.flatnonzero(mask & (target > 0)):
        kept = [j for j in negatives[n] if j != target[n]]
        positive = -np.log(1 / (1 + np.exp(-scores[n, target[n]])))
        rest = sum(np.log1p(np.exp(scores[n, j])) for j in kept)
        terms["bce"].append((positive + rest) / (1 + len(kept)))
        terms["gbce"].append((beta * positive + rest) / (1 + len(kept)))
    for kind in ("bce", "gbce"):
        value = retrieval_loss(LossConfig(kind, negatives=7), q, table, target, mask, key=key)
        np.testing.assert_allclose(value, np.mean(terms[kind]), rtol=1e-5)


def test_gbce_without_calibration_is_bce():
    q, table, target, mask, _ = made_up()
    kinds = {"kind": "bce"}, {"kind": "gbce", "gbce_t": 0.0}, {"kind": "gbce", "gbce_t": 1.0}
    configs = (LossConfig(negatives=3, **kind) for kind in kinds)
    losses = [ours(config, q, table, target, mask)[0] for config in configs]
    assert losses[0] == losses[1] > losses[2]


def test_beta_runs_from_one_to_the_sampling_rate():
    assert gbce_beta(50, 101, 0.0) == 1
    assert gbce_beta(50, 101, 1.0) == pytest.approx(0.5)
    assert gbce_beta(50, 101, 0.5) == pytest.approx(0.75)
    assert gbce_beta(500, 101, 1.0) == 1


def test_memory_does_not_grow_with_positions_times_items():
    def temporary(items: int) -> int:
        q, target = jnp.zeros((512, 16)), jnp.ones(512, int)
        config = LossConfig(block_elements=2**18)

        def loss(q, table):
            return retrieval_loss(config, q, table, target, target > 0)

        step = jax.jit(jax.value_and_grad(loss, (0, 1)))
        shape = jax.ShapeDtypeStruct((items, 16), jnp.float32)
        return step.lower(q, shape).compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(20_000), temporary(80_000)
    # Two more tables; logits would take 512 * 4 bytes per item.
    assert large - small < 2 * 60_000 * 16 * 4
    assert large < 20e6


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"negatives": 5}, "negatives"), ({"sampler": "in_batch"}, "sampler"),
        ({"log_q": False}, "log_q"), ({"gbce_t": 0.5}, "gbce_t"),
        ({"label_smoothing": 1.0}, "label_smoothing"), ({"block_elements": 0}, "block_elements"),
        ({"kind": "bce", "label_smoothing": 0.1}, "label_smoothing"),
        ({"kind": "bce", "gbce_t": 0.5}, "gbce_t"), ({"kind": "gbce", "gbce_t": 1.5}, "gbce_t"),
        ({"kind": "gbce", "sampler": "in_batch"}, "sampler"),
        ({"kind": "gbce", "log_q": False}, "log_q"),
        ({"kind": "sampled_softmax", "sampler": "in_batch", "negatives": 5}, "negatives"),
        ({"kind": "sampled_softmax", "negatives": 0}, "negatives"),
    ],
)  # fmt: skip
def test_options_that_are_wrong_or_have_no_effect_are_refused(changes, key):
    with refused(key):
        LossConfig(**changes)


def test_missing_counts_and_keys_are_named():
    q, table, target, mask, counts = made_up()
    with pytest.raises(ValueError, match="item_counts"):
        retrieval_loss(KINDS["in batch"], q, table, target, mask)
    with pytest.raises(ValueError, match="key"):
        retrieval_loss(LossConfig("bce"), q, table, target, mask, item_counts=counts)
