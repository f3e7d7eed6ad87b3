"""Attention: who sees whom, in blocks as in one piece, and against softmax written out."""

from functools import cache, partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siren_rope_jax.models import blocked_attention, kernels, splash_attention
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.relation import Relation, queries_and_weights
from siren_rope_jax.rotation.biases import (
    KNOT_DISTANCE,
    KNOTS,
    PERIODS,
    Bias,
    BiasKind,
    Distance,
    Events,
    LogitBias,
    Position,
)
from siren_rope_jax.rotation.rotate import QueryKeyRotation, Rotation
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from tests.batches import SPAN, START

ROWS, LENGTH, HEADS, WIDTH, BLOCK = 2, 12, 2, 8, 4
KINDS = get_args(BiasKind)
SEGMENT = np.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
STRICT = pytest.mark.parametrize("strict", [False, True], ids=["plain", "strict"])


def relation(strict: bool) -> Relation:
    """Two packed histories and one whole one, every kind of bias, and some absent times."""
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.integers(START, START + SPAN, (ROWS, LENGTH)), axis=1)
    time = Time.from_seconds(seconds)
    time = time.replace(known=rng.random((ROWS, LENGTH)) < 0.8)
    position = np.concatenate([np.arange(5), np.arange(4), np.zeros(3, int), np.arange(12)])
    events = Events(SEGMENT, np.arange(LENGTH), position.reshape(ROWS, LENGTH), time)
    module = LogitBias(KINDS, HEADS, LENGTH, WIDTH)
    bias: Any = module.apply(module.init(jax.random.key(0)))
    turn = Rotation.from_angles(jnp.zeros((LENGTH, 1, WIDTH // 2)))
    return Relation(QueryKeyRotation(turn, turn), events, events, bias, strict)


def qkv() -> tuple[jax.Array, ...]:
    shape = (ROWS, LENGTH, HEADS, WIDTH)
    return tuple(jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(1), 3))


@STRICT
def test_a_query_sees_earlier_keys_of_its_segment_and_no_padding(strict: bool) -> None:
    of = relation(strict)
    mask = np.asarray(of.mask(of.queries, of.keys))[:, 0]
    for row, i, j in np.ndindex(mask.shape):
        same = SEGMENT[row, i] == SEGMENT[row, j] != 0
        assert mask[row, i, j] == (same and (j < i if strict else j <= i))


@STRICT
def test_masks_and_biases_of_blocks_are_parts_of_the_whole(strict: bool) -> None:
    """As a kernel takes them: at traced places, inside a loop."""
    of, (q, k, _) = relation(strict), qkv()
    _, weights = queries_and_weights(*of.rotate(q, k))

    def block(tree: Any, start: jax.Array, axis: int = -1) -> Any:
        def take(x: Any) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(jnp.asarray(x), start, BLOCK, axis)

        return jax.tree.map(take, tree)

    starts = jnp.arange(0, LENGTH, BLOCK)

    @jax.jit
    def blocks(start: jax.Array) -> Any:
        def of_keys(key_start: jax.Array) -> Any:
            queries, keys = block(of.queries, start), block(of.keys, key_start)
            own_weights = block(weights, start, axis=1)
            return of.mask(queries, keys), of.bias_block(queries, keys, own_weights)

        return jax.lax.map(of_keys, starts)

    mask, bias = (jnp.stack(x) for x in zip(*map(blocks, starts), strict=True))
    whole = of.mask(of.queries, of.keys), of.bias_block(of.queries, of.keys, weights)
    for parts, expected in zip((mask, bias), whole, strict=True):
        joined = jnp.moveaxis(parts, (0, 1), (2, 4)).reshape(expected.shape)
        np.testing.assert_allclose(joined, expected, atol=1e-6)


@STRICT
def test_softmax_attention_is_what_it_says(strict: bool) -> None:
    of, (q, k, v) = relation(strict), qkv()
    empty = jnp.arange(float(HEADS * WIDTH)).reshape(HEADS, WIDTH)
    turned = of.rotate(q, k)
    out = kernels.softmax_attention(*turned, v, of, empty)
    weights = kernels.softmax_weights(*turned, of)
    mask = of.mask(of.queries, of.keys)
    bias = of.bias_block(of.queries, of.keys, queries_and_weights(*turned)[1])
    assert bias is not None
    for row, head, i in np.ndindex(ROWS, HEADS, LENGTH):
        sees = np.flatnonzero(mask[row, 0, i])
        if not len(sees):
            np.testing.assert_array_equal(out[row, i, head], empty[head])
            continue
        logits = k[row, sees, head] @ q[row, i, head] / WIDTH**0.5 + bias[row, head, i, sees]
        weight = jax.nn.softmax(logits)
        np.testing.assert_allclose(weights[row, head, i, sees], weight, atol=1e-5)
        np.testing.assert_allclose(out[row, i, head], weight @ v[row, sees, head], atol=1e-4)
    hidden = jnp.where(mask, 0.0, weights)
    assert float(jnp.abs(hidden).max()) == 0


def test_a_query_that_sees_nothing_sends_no_gradient() -> None:
    of, (q, k, v) = relation(strict=True), qkv()
    nothing = ~np.asarray(of.mask(of.queries, of.keys)).any(axis=-1)[:, 0]
    assert nothing.any()

    def loss(*qkv: jax.Array) -> jax.Array:
        q, k, v = qkv
        out = kernels.softmax_attention(*of.rotate(q, k), v, of, jnp.zeros((HEADS, WIDTH)))
        return jnp.where(nothing[..., None, None], out, 0.0).sum()

    for gradient in jax.grad(loss, argnums=(0, 1, 2))(q, k, v):
        np.testing.assert_array_equal(gradient, 0.0)


def test_positions_beyond_the_table_count_as_its_ends() -> None:
    table = jnp.arange(5.0)  # differences -2..2
    time = Time.from_seconds(np.zeros(9, int))
    events = Events(np.ones(9, int), np.arange(9), np.arange(9), time)
    bias = Bias({"position": Position(table)})(events, events)[0]
    difference = np.arange(9)[:, None] - np.arange(9)
    np.testing.assert_array_equal(bias, np.clip(difference, -2, 2) + 2)


SOME = 21  # events of a row: not a whole number of blocks


@st.composite
def packed(draw: st.DrawFn) -> np.ndarray:
    """Two rows of histories of any length, the rest padding: [2, SOME]."""
    rows = []
    for _ in range(2):
        sizes = draw(st.lists(st.integers(1, SOME), max_size=6))
        row = np.repeat(np.arange(1, len(sizes) + 1), sizes)[:SOME]
        rows.append(np.pad(row, (0, SOME - len(row))))
    return np.array(rows)


@cache
def attended(kind: str, form: int | Partition | None, strict: bool) -> Any:
    """A compiled attention: its output, and the gradient of a sum of it.

    Dense without a form; in blocks of so many events; or by the splash kernel on a mesh.
    """
    attend = getattr(kernels, f"{kind}_attention")
    if isinstance(form, Partition):
        attend = partial(splash_attention.softmax_attention, partition=form)
    elif form is not None:
        attend = partial(getattr(blocked_attention, f"{kind}_attention"), block=form)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(arrays: Any, events: Events, cotangent: jax.Array, empty: jax.Array) -> Any:
        q, k, v, bias = arrays
        turn = Rotation.from_angles(jnp.zeros((SOME, 1, WIDTH // 2)))
        of = Relation(QueryKeyRotation(turn, turn), events, events, bias, strict, aligned=True)
        out = attend(*of.rotate(q, k), v, of, empty if kind == "softmax" else SOME)
        out = jnp.where((events.segment > 0)[..., None, None], out, 0)  # padding's is arbitrary
        return (out * cotangent).sum(), out

    return run


@pytest.mark.parametrize("kind", ["softmax", "pointwise"])
@pytest.mark.parametrize("block", [4, 64])
@STRICT
@settings(max_examples=10)
@given(packed(), st.booleans(), st.integers(0, 99))
def test_in_blocks_attention_is_the_same_and_so_is_its_gradient(
    kind: str, block: int, strict: bool, segment: np.ndarray, with_bias: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    time = Time.from_seconds(np.sort(rng.integers(START, START + SPAN, segment.shape), axis=1))
    time = time.replace(known=rng.random(segment.shape) < 0.8)
    places = np.arange(SOME)
    events = Events(segment, places, np.broadcast_to(places, segment.shape), time)
    module = LogitBias(KINDS, HEADS, SOME, WIDTH)
    bias = module.apply(module.init(jax.random.key(seed))) if with_bias else None
    q, k, v, cotangent = rng.normal(size=(4, *segment.shape, HEADS, WIDTH)).astype(np.float32)
    arguments = (q, k, v, bias), events, cotangent, np.ones((HEADS, WIDTH), np.float32)
    (_, expected), slopes = attended(kind, None, strict)(*arguments)
    (_, found), found_slopes = attended(kind, block, strict)(*arguments)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for a, b in zip(jax.tree.leaves(found_slopes), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("block", [4, 64])
@STRICT
@settings(max_examples=10)
@given(packed(), st.booleans(), st.integers(0, 99))
def test_in_blocks_the_weight_of_tags_is_the_same_and_so_is_its_gradient(
    block: int, strict: bool, segment: np.ndarray, with_bias: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    time = Time.from_seconds(np.sort(rng.integers(START, START + SPAN, segment.shape), axis=1))
    places = np.arange(SOME)
    events = Events(segment, places, np.broadcast_to(places, segment.shape), time)
    module = LogitBias(KINDS, HEADS, SOME, WIDTH)
    bias = module.apply(module.init(jax.random.key(seed))) if with_bias else None
    q, k = rng.normal(size=(2, *segment.shape, HEADS, WIDTH)).astype(np.float32)
    tags = tuple(rng.integers(0, 4, (2, *segment.shape)))
    cotangent = rng.normal(size=(*segment.shape, 2)).astype(np.float32)
    (_, expected), slopes = weighed(None, strict)((q, k, bias), events, tags, cotangent)
    (_, found), found_slopes = weighed(block, strict)((q, k, bias), events, tags, cotangent)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for a, b in zip(jax.tree.leaves(found_slopes), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@cache
def weighed(block: int | None, strict: bool) -> Any:
    """The weight of tags, all at once or in blocks, and the gradient of a sum of it."""

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(arrays: Any, events: Events, tags: Any, cotangent: jax.Array) -> Any:
        q, k, bias = arrays
        turn = Rotation.from_angles(jnp.zeros((SOME, 1, WIDTH // 2)))
        of = Relation(QueryKeyRotation(turn, turn), events, events, bias, strict, aligned=True)
        q, k = of.rotate(q, k)
        if block is None:
            weight = kernels.weight_of_tags("dense", WHOLE, (q, k), tags, of)
        else:
            weight = blocked_attention.weight_of_tags(q, k, tags, of, block=block).mean(axis=2)
        weight = jnp.where((events.segment > 0)[..., None], weight, 0)  # padding's is arbitrary
        return (weight * cotangent).sum(), weight

    return run


@pytest.mark.parametrize("mesh", [None, MeshConfig(2, 1, 2)])
@STRICT
@settings(max_examples=4)
@given(packed(), st.integers(0, 99))
def test_the_kernel_for_tpus_is_the_same_and_so_is_its_gradient(
    mesh: MeshConfig | None, strict: bool, segment: np.ndarray, seed: int
) -> None:
    """Interpreted; on a mesh, rows and heads are divided."""
    rng = np.random.default_rng(seed)
    places = np.arange(SOME)
    time = Time.from_seconds(np.zeros(segment.shape, int))
    events = Events(segment, places, np.broadcast_to(places, segment.shape), time)
    q, k, v, cotangent = rng.normal(size=(4, *segment.shape, HEADS, WIDTH)).astype(np.float32)
    arguments = (q, k, v, None), events, cotangent, np.ones((HEADS, WIDTH), np.float32)
    where = WHOLE if mesh is None else Partition(make_mesh(mesh, jax.devices()[:4]))
    (_, expected), slopes = attended("softmax", None, strict)(*arguments)
    (_, found), found_slopes = attended("softmax", where, strict)(*arguments)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    for a, b in zip(jax.tree.leaves(found_slopes), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_blocked_gradient_takes_memory_that_grows_with_the_length() -> None:
    def bytes_of(length: int) -> int:
        time = Time.from_seconds(np.zeros((1, length), int))
        places = np.arange(length)[None]
        events = Events(np.ones((1, length), int), places[0], places, time)
        turn = Rotation.from_angles(jnp.zeros((length, 1, WIDTH // 2)))
        of = Relation(QueryKeyRotation(turn, turn), events, events, aligned=True)

        def total(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return kernels.softmax(
                "auto", WHOLE, (q, k, v), relation=of, empty=None, own=(k, v)
            ).sum()

        step = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
        x = jax.ShapeDtypeStruct((1, length, HEADS, WIDTH), jnp.float32)
        return step.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    short, long = bytes_of(1_024), bytes_of(8_192)
    assert long < 9 * short and long < 8_192**2


def distance(seconds: Any, weights: Any = None) -> Distance:
    seconds = jnp.asarray(seconds, jnp.float32)[None]  # of one query
    return Distance(jnp.zeros(seconds.shape, int), seconds, jnp.ones(seconds.shape, bool), weights)


@settings(max_examples=20)
@given(st.integers(0, len(PERIODS) - 1), st.floats(0, 1e6), st.integers(0, 99))
def test_a_retention_that_does_not_decay_returns_after_its_period(
    number: int, lag: float, seed: int
) -> None:
    module = LogitBias(("time_retention",), HEADS, LENGTH)
    term = module.apply(module.init(jax.random.key(seed))).terms["time_retention"]
    only = jnp.arange(len(PERIODS)) == number
    waves = term.replace(decay=0 * term.decay, cosine=term.cosine * only, sine=term.sine * only)
    now, later = jnp.moveaxis(waves(distance([lag, lag + PERIODS[number]])), -1, 0)
    np.testing.assert_allclose(later, now, atol=2e-3)  # float32 seconds against 17 minutes
    damped = waves.replace(decay=0 * term.decay + 0.1)
    now, later = jnp.moveaxis(damped(distance([lag, lag + PERIODS[number]])), -1, 0)
    np.testing.assert_allclose(later, now * np.exp(-0.1 * 2 * np.pi), atol=2e-3)


@pytest.mark.parametrize("kind", ["time_power", "time_exponential"])
def test_what_forgets_falls_with_the_elapsed_time(kind: BiasKind) -> None:
    module = LogitBias((kind,), HEADS, LENGTH)
    term = module.apply(module.init(jax.random.key(0))).terms[kind]
    bias = np.asarray(term(distance([1, 60, 3_600, 20_000, 86_400])))
    assert (np.diff(bias) < 0).all() and (bias > 0).all() and (bias <= 1).all()
    far = np.asarray(term(distance([0, 1e9])))
    assert np.isfinite(far).all() and (far[..., 1] < 1e-3).all()


@settings(max_examples=20)
@given(st.integers(0, KNOTS - 2), st.floats(0, 1), st.integers(0, 99))
def test_a_relation_is_the_product_with_a_vector_between_those_of_two_knots(
    knot: int, share: float, seed: int
) -> None:
    module = LogitBias(("time_relation",), HEADS, LENGTH, WIDTH)
    bias = module.apply(module.init(jax.random.key(seed)))
    q = jax.random.normal(jax.random.key(seed), (1, HEADS, WIDTH))
    vectors = bias.terms["time_relation"].vectors
    vector = (1 - share) * vectors[:, knot] + share * vectors[:, knot + 1]
    lag = np.expm1((knot + share) * KNOT_DISTANCE)
    found = bias.terms["time_relation"](distance([lag], bias.weights(q)))
    expected = jnp.einsum("qhk,hk->hq", q, vector)[..., None]
    np.testing.assert_allclose(found, expected, atol=1e-5)
