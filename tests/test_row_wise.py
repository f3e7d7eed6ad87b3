"""Row-wise optimisers: touched rows change as in a whole table, the others not at all."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.row_wise import RowWise, touch, update

SHAPE, WIDTH, RATE, DECAY = (8, 8), 4, 0.1, 0.01
ROWS = 64
SOME = np.array([5, 63, 5, 0, 17, 8, 8, 40])
PARTITIONS = {
    "one device": WHOLE,
    "all axes": Partition(make_mesh(MeshConfig(2, 2, 2))),
    "one axis": Partition(make_mesh(MeshConfig(8))),
    "undivided": Partition(make_mesh(MeshConfig(3), jax.devices()[:3])),
}
LARGE = (128, 8)
"""Of a table of which a step takes out rows on every mesh."""


def step(
    where: Partition, rule: RowWise, table: Any, state: Any, ids: Any, number: int
) -> tuple[Any, Any]:
    """A step of the loss sum_i cos(t_i . w), i over the ids."""
    touched = touch(table, [ids], where)
    weight = jnp.linspace(0.5, 2, WIDTH)
    shape, rows = table.shape[:2], table.shape[0] * table.shape[1]
    at = jnp.arange(rows).reshape(shape) if touched.rows.ids is None else touched.rows.ids
    counts = jnp.zeros(rows).at[ids].add(1)
    each = jnp.where(at < rows, counts[jnp.minimum(at, rows - 1)], 0)

    def loss(values: Any) -> Any:
        return (jnp.cos(values @ weight) * each).sum()

    gradient = jax.grad(loss)(touched.rows.values)
    hyper = jnp.asarray(number), jnp.float32(RATE)
    return update(rule, table, state, touched, gradient, hyper, DECAY, where)


@pytest.mark.parametrize("kind", ["lazy_adam", "row_wise_adagrad"])
@pytest.mark.parametrize("name", PARTITIONS)
def test_only_touched_rows_change_and_how_many_are_taken_out_does_not_matter(
    name: str, kind: Any
) -> None:
    """Few ids take out rows; many, as here the same ones repeated, go through the whole table."""
    where, rule = PARTITIONS[name], RowWise(kind)
    first = jax.random.normal(jax.random.key(0), (*LARGE, WIDTH))
    few = many = one = (first, rule.first_state(first))
    often = np.tile(SOME, 128)
    assert (
        touch(first, [SOME], where).mask is None and touch(first, [often], where).mask is not None
    )
    for number in range(3):
        few = jax.jit(partial(step, where, rule))(*few, SOME, number)
        many = jax.jit(partial(step, where, rule))(*many, often, number)
        one = jax.jit(partial(step, WHOLE, rule))(*one, SOME, number)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6), few, one)
    rows = LARGE[0] * LARGE[1]
    untouched = np.setdiff1d(np.arange(rows), SOME)
    for table, _ in (few, many):
        moved = np.abs(table - first).reshape(rows, WIDTH)
        assert (moved[untouched] == 0).all() and (moved[SOME] > 0).all()


def test_adam_of_rows_touched_in_every_step_is_adamw() -> None:
    table = jax.random.normal(jax.random.key(0), (*SHAPE, WIDTH))
    optimizer = optax.adamw(RATE, weight_decay=DECAY)
    rule, expected, moments = RowWise(), table, optimizer.init(table)
    state = rule.first_state(table)
    weight = jnp.linspace(0.5, 2, WIDTH)

    def loss(table: Any) -> Any:
        return jnp.cos(table.reshape(ROWS, WIDTH)[SOME] @ weight).sum()

    for number in range(4):
        table, state = step(WHOLE, rule, table, state, SOME, number)
        updates, moments = optimizer.update(jax.grad(loss)(expected), moments, expected)
        expected = optax.apply_updates(expected, updates)
    table, expected = (x.reshape(ROWS, WIDTH)[SOME] for x in (table, expected))
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


def test_row_wise_adagrad_keeps_the_sum_of_the_mean_squared_gradients() -> None:
    rule, table = RowWise("row_wise_adagrad", rate=3.0), jnp.ones((*SHAPE, WIDTH))
    gradient, state = jnp.full((2, WIDTH), 2.0), rule.first_state(table)
    touched = touch(table, [np.array([3, 4])], WHOLE)
    padded = jnp.zeros(touched.rows.values.shape).at[0, :2].set(gradient)
    hyper = jnp.asarray(0), jnp.float32(RATE)
    for total in (4.0, 8.0):
        table, state = update(rule, table, state, touched, padded, hyper, DECAY, WHOLE)
        np.testing.assert_allclose(state["sum"][0, 3:5], total)
        assert not state["sum"][0, 5:].any()
    np.testing.assert_allclose(table[0, 3], 1 - 2 * RATE * 3 / np.sqrt(8), rtol=1e-5)


def test_a_step_does_not_copy_the_table() -> None:
    """Beside the table and its moments, a step of a few rows needs next to no memory."""
    rows, rule = 1_000_000, RowWise()
    table = jax.ShapeDtypeStruct((rows // 64, 64, WIDTH), jnp.float32)
    state = jax.eval_shape(rule.first_state, table)

    def few(table: Any, state: Any, ids: Any) -> Any:
        touched = touch(table, [ids], WHOLE)
        gradient = jnp.sin(touched.rows.values)
        hyper = jnp.asarray(0), jnp.float32(RATE)
        return update(rule, table, state, touched, gradient, hyper, DECAY, WHOLE)

    ids = jax.ShapeDtypeStruct((1000,), jnp.int32)
    memory = (
        jax.jit(few, donate_argnums=(0, 1)).lower(table, state, ids).compile().memory_analysis()
    )
    assert memory.temp_size_in_bytes < 2**20
    assert memory.alias_size_in_bytes == 3 * rows * WIDTH * 4
