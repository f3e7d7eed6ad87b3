"""A table divided among devices by its rows equals the same table on one device."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.models.item_ranks import rank_targets, top_items
from siren_rope_jax.models.losses import LossConfig, retrieval_loss
from siren_rope_jax.models.partition import WHOLE, Partition, table_init, table_shape
from siren_rope_jax.models.repeat import Mixture
from siren_rope_jax.models.tables import gathered_scores, log_partition, lookup
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.row_wise import touch

SHAPES = [(8, 1, 1), (1, 8, 1), (1, 2, 4), (2, 2, 2)]
POSITIONS, ITEMS, WIDTH = 48, 90, 8


def on_mesh(shape):
    return Partition(make_mesh(MeshConfig(*shape)))


static = ("k", "items", "block_elements", "partition")
ranked, lists = (
    jax.jit(rank_targets, static_argnames=static[1:]),
    jax.jit(top_items, static_argnames=static),
)


def given(rows):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    table[ITEMS:] = 0
    q = rng.normal(size=(POSITIONS, WIDTH)).astype(np.float32)
    return q, table, rng.integers(0, ITEMS, (POSITIONS, 5)).astype(np.int32)


def close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-5, 2e-5), got, expected)


@pytest.mark.parametrize("rows", [96, 92, 91])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_functions_of_a_divided_table_equal_those_of_a_whole_one(shape, rows):
    """Rows that 8, 4 or no devices can divide; values and gradients; in one chunk or in several."""
    q, table, ids = given(rows)
    bias = np.where((np.arange(rows) > 0) & (np.arange(rows) < ITEMS), 0, -np.inf)
    weight = np.random.default_rng(1).normal(size=(POSITIONS, 5)).astype(np.float32)

    def values(where, block_elements):
        def looked_up(table):
            return lookup(table, ids, where, jnp.float32)

        def total(q, table):
            own = np.stack([ids[:, 0]], 1)
            tags = np.arange(rows)[:, None]
            options = {"block_elements": block_elements, "partition": where}
            return (
                log_partition(q, table, bias, **options) @ weight[:, 0]
                + log_partition(q, table, bias, tags, own, **options) @ weight[:, 1]
                + (gathered_scores(q, table, ids, block_elements, where) * weight).sum()
                + (jnp.sin(looked_up(table)) * weight[:, :, None]).sum()
            )

        return jax.value_and_grad(total, (0, 1))(q, table), looked_up(table)

    where = on_mesh(shape)
    assert where.parts("rows") == 8
    for block_elements in (2**20, 64):
        close(jax.jit(values, static_argnums=(0, 1))(where, block_elements), values(WHOLE, 2**20))


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 2, 4)], ids=str)
@pytest.mark.parametrize("skew", [1, 8], ids=["all devices", "one device"])
def test_rows_are_found_however_many_are_asked_of_one_device(shape, skew):
    """Also where they do not fit into one message, and where a batch is not divided."""
    rng, rows = np.random.default_rng(0), 512
    table = rng.normal(size=(rows // 8, 8, WIDTH)).astype(np.float32)
    where = on_mesh(shape)
    for size in (512, 51):
        ids = (rng.permutation(rows)[:size] * skew % rows).astype(np.int32)
        ids[:3] = -1, rows, ids[5]
        weight = rng.normal(size=(size, WIDTH)).astype(np.float32)

        def values(table, ids, weight):
            found = lookup(table, ids, where, jnp.bfloat16)
            return (found.astype(jnp.float32) * weight).sum(), found

        run = jax.jit(jax.value_and_grad(values, has_aux=True))
        (_, found), slope = run(table, ids, weight)
        flat = table.reshape(rows, WIDTH)
        known = ((ids >= 0) & (ids < rows))[:, None]
        expected = np.where(known, flat[np.clip(ids, 0, rows - 1)], 0)
        np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16))
        sums = np.zeros((rows, WIDTH), np.float32)
        weight = weight.astype(jnp.bfloat16).astype(np.float32)  # as the gradient of a bfloat16
        np.add.at(sums, np.clip(ids, 0, rows - 1), weight * known)
        np.testing.assert_allclose(slope.reshape(rows, WIDTH), sums, atol=1e-5)
        asked = jax.jit(partial(touch, partition=where))(table, [ids]).mask
        expected = np.isin(np.arange(rows), ids).reshape(asked.shape)
        np.testing.assert_array_equal(asked, expected)


@pytest.mark.parametrize("with_repeat", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ranks_and_lists_of_a_divided_table_equal_those_of_a_whole_one(shape, with_repeat):
    q, table, ids = given(96)
    table[ITEMS // 2] = table[3]  # a tie between devices
    striped = table.reshape(12, 8, WIDTH)
    q[0], q[1, 2] = np.inf, np.nan
    target, seen = ids[:, 0], ids[:, 1:]
    repeat = None
    if with_repeat:
        shares = np.random.default_rng(2).dirichlet(np.ones(6), POSITIONS).astype(np.float32)
        repeat = Mixture(ids, shares[:, :5], shares[:, 5])
    allowed = np.arange(ITEMS) % 3 > 0
    for elements in (2**20, 50):
        options = {"items": ITEMS, "block_elements": elements}
        expected = ranked(q, table, target, seen, repeat, **options)
        got = ranked(q, striped, target, seen, repeat, partition=on_mesh(shape), **options)
        np.testing.assert_array_equal(got[0], expected[0])
        close(got[1], expected[1])
        for k, some in itertools.product((3, 100), (None, allowed)):
            listed = lists(q, table, seen, k, repeat, some, **options)
            others = lists(q, striped, seen, k, repeat, some, partition=on_mesh(shape), **options)
            np.testing.assert_array_equal(others[0], listed[0])
            close(others[1], listed[1])


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(),
        LossConfig(label_smoothing=0.1),
        LossConfig("sampled_softmax", negatives=7),
        LossConfig("sampled_softmax", sampler="in_batch"),
        LossConfig("gbce", negatives=7),
    ],
    ids=lambda c: f"{c.kind} {c.sampler} {c.label_smoothing}",
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_of_a_divided_table_equal_those_of_a_whole_one(shape, loss):
    q, table, ids = given(96)
    counts, mask = np.arange(96.0), np.arange(POSITIONS) % 5 > 0
    history = np.arange(POSITIONS) // 3

    def of(where):
        def mean(q, table):
            return retrieval_loss(
                loss,
                q,
                table.reshape(12, 8, WIDTH),
                ids[:, 0],
                mask,
                item_counts=counts if loss.needs_item_counts else None,
                key=jax.random.key(3),
                history_N=history,
                items=ITEMS,
                partition=where,
            )

        return jax.jit(jax.value_and_grad(mean, (0, 1)))(q, table)

    close(of(on_mesh(shape)), of(WHOLE))


def test_rows_that_pad_a_table_are_few_and_let_devices_divide_it():
    for rows in (1, 2, 15, 16, 100, 3_417, 16_384, 1_000_003):
        each, stripes = table_shape(rows)
        assert rows <= each * stripes <= rows + rows / 16
        assert stripes == min(1 << (rows // 16).bit_length() - 1 if rows >= 16 else 1, 1024)


def test_every_device_draws_its_own_rows_of_a_table():
    where, rows = on_mesh((2, 2, 2)), 100_000
    draw = table_init(jax.nn.initializers.normal(1.0), where)
    whole = table_init(jax.nn.initializers.normal(1.0), WHOLE)(jax.random.key(0), (rows, WIDTH))
    run = jax.jit(
        lambda key: draw(key, (rows, WIDTH)).unbox(),
        out_shardings=where.sharding((None, "rows", None)),
    )
    compiled = run.lower(jax.random.key(0)).compile()
    np.testing.assert_array_equal(run(jax.random.key(0)), whole)
    assert not whole.reshape(-1, WIDTH)[rows:].any() and whole.reshape(-1, WIDTH)[rows - 1].all()
    assert compiled.memory_analysis().temp_size_in_bytes < whole.nbytes / 2


def test_an_axis_that_does_not_exist_is_refused():
    with pytest.raises(KeyError, match="widht"):
        on_mesh((2, 2, 2)).spec(("widht", None))


def test_two_dimensions_cannot_claim_one_axis_of_the_mesh():
    with pytest.raises(ValueError, match="claim the mesh axis fsdp"):
        on_mesh((2, 2, 2)).spec(("rows", "width"))
