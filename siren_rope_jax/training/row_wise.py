"""Optimisers of large tables that read and write only the rows which a step touches.

A step's cost then depends on its batch, not on the catalogue. The rows that a batch asks for are
taken out of the table, the loss is differentiated by them alone, and they are put back. On a mesh
every device does so with its own rows; where a batch may touch most of them, it goes through all
of its rows and leaves the others as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.models.division import Division, Rows
from siren_rope_jax.models.exchange import route
from siren_rope_jax.models.partition import Partition

B1, B2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as optax has them
_NO_ID = np.iinfo(np.int32).max

State = dict[str, Array]
"""What an optimiser keeps of a table: arrays with the table's rows."""


@dataclass(frozen=True)
class RowWise:
    """How the rows of a table that a step touches are updated; all others stay as they are.

    Attributes:
      kind: the key of the config that chooses it. `lazy_adam`: AdamW, whose moments and weight
        decay rest while a row is not touched, with the bias correction of the step's number;
        `row_wise_adagrad`: Adagrad that keeps one number per row, the sum of its mean squared
        gradients, and has no weight decay.
      rate: times the learning rate of the other parameters.
    """

    kind: Literal["lazy_adam", "row_wise_adagrad"] = "lazy_adam"
    rate: float = 1.0

    def first_state(self, table: Float[Array, "Q S D"]) -> State:
        """Before the first step."""
        if self.kind == "row_wise_adagrad":
            return {"sum": jnp.zeros(table.shape[:2], jnp.float32)}
        return {"mean": jnp.zeros_like(table), "square": jnp.zeros_like(table)}

    def updated(
        self,
        rows: Float[Array, "R D"],
        gradient: Float[Array, "R D"],
        state: State,
        hyper: tuple[Int[Array, ""], Float[Array, ""]],
        decay: float,
    ) -> tuple[Float[Array, "R D"], State]:
        """Rows and their state after a step.

        Args:
          rows: as they were.
          gradient: of the loss.
          state: of these rows.
          hyper: the step's number, from 0, and the learning rate of the other parameters.
          decay: AdamW's weight decay.
        """
        step, learning_rate = hyper[0], hyper[1] * self.rate
        if self.kind == "row_wise_adagrad":
            total = state["sum"] + jnp.square(gradient).mean(axis=-1)
            scale = jax.lax.rsqrt(total + EPSILON)
            return rows - learning_rate * gradient * scale[:, None], {"sum": total}
        mean = B1 * state["mean"] + (1 - B1) * gradient
        square = B2 * state["square"] + (1 - B2) * jnp.square(gradient)
        count = step.astype(jnp.float32) + 1
        scaled = mean / (1 - B1**count)
        scaled = scaled / (jnp.sqrt(square / (1 - B2**count)) + EPSILON)
        changed = rows - learning_rate * (scaled + decay * rows)
        return changed, {"mean": mean, "square": square}


@flax.struct.dataclass
class Touched:
    """The rows of a table that a step touches.

    Attributes:
      rows: with their ids; or all rows of the table.
      mask: which of all rows are touched; None if `rows` are only these.
    """

    rows: Rows
    mask: Bool[Array, "Q S"] | None


def touch(
    table: Float[Array, "Q S D"], ids: Sequence[Int[Array, "..."]], partition: Partition
) -> Touched:
    """The rows of these ids.

    Args:
      table: all rows.
      ids: of rows, any number of times; those that no row has are ignored.
      partition: where the table lives.
    """
    flat = jnp.concatenate([x.reshape(-1) for x in ids])
    flat = jnp.pad(flat, (0, -len(flat) % partition.parts("batch")), constant_values=-1)
    division = Division.of(partition, table, flat)
    own_rows = division.table[0] * division.stripes

    def mask(division: Division, id_N: Array) -> Array:
        mask_R = jnp.zeros(own_rows, bool)
        if division.rows:
            mask_R = route(division, id_N).mark(mask_R)
        else:
            mask_R = mask_R.at[_places(division, id_N, own_rows)].set(True, mode="drop")
        return division.whole_gradient(mask_R.astype(jnp.int32)) > 0

    def some(division: Division, id_N: Array, rows_RxD: Array) -> tuple[Array, Array]:
        if division.batch:  # of all positions, since devices may hold the same rows
            id_N = jax.lax.all_gather(id_N, division.batch, tiled=True)
        place_N = _places(division, id_N, own_rows)
        place_U = jnp.unique(place_N, size=len(place_N), fill_value=own_rows)
        id_U = jnp.where(place_U < own_rows, division.id_at(place_U), _NO_ID)
        return rows_RxD[jnp.minimum(place_U, own_rows - 1)], id_U

    if len(flat) >= own_rows // 2:
        return Touched(Rows(table), division.run(mask, "rows", ("positions", flat)))
    values, of_rows = division.run(some, ("rows", "rows"), ("positions", flat), ("rows", table))
    return Touched(Rows(values, of_rows, division.table), None)


def _places(division: Division, ids: Array, none: int) -> Array:
    """Where ids are among this device's rows; `none` if they are not."""
    place, here = division.places_of_all(ids)
    return jnp.where(here, place, none)


def update(
    rule: RowWise,
    table: Float[Array, "Q S D"],
    state: State,
    touched: Touched,
    gradient: Float[Array, "..."],
    hyper: tuple[Int[Array, ""], Float[Array, ""]],
    decay: float,
    partition: Partition,
) -> tuple[Float[Array, "Q S D"], State]:
    """The table and its state after a step.

    Args:
      rule: how rows are updated.
      table: as it was.
      state: as it was.
      touched: from `touch`.
      gradient: of the loss by `touched.rows.values`.
      hyper: the step's number, from 0, and the learning rate.
      decay: AdamW's weight decay.
      partition: where the table lives.
    """

    def masked(
        division: Division, rows: Array, state: State, mask: Array, gradient: Array, hyper: Any
    ) -> tuple[Array, State]:
        del division
        before = {"rows": rows, **state}
        rows, state = rule.updated(rows, gradient, state, hyper, decay)
        after = {"rows": rows, **state}
        merged = {
            name: jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, before[name])
            for name, x in after.items()
        }
        return merged.pop("rows"), merged

    def scattered(
        division: Division, table: Array, state: State, rows: Rows, gradient: Array, hyper: Any
    ) -> tuple[Array, State]:
        ids = jnp.asarray(rows.ids)
        none = len(table) + jnp.arange(len(ids))  # beyond the table, and each of them once
        at, here = division.places_of_all(ids)
        at = jnp.where(here, at, none)
        own = jax.tree.map(lambda x: x[jnp.minimum(at, len(table) - 1)], state)
        changed, own = rule.updated(rows.values, gradient, own, hyper, decay)

        def put(whole: Array, part: Array) -> Array:
            options: Any = {"mode": "drop", "unique_indices": True, "indices_are_sorted": True}
            return whole.at[at].set(part, **options)

        return put(table, changed), jax.tree.map(put, state, own)

    division = Division.of(partition, table, ())
    function: Any = scattered if touched.mask is None else masked
    of_rows = touched.rows if touched.mask is None else touched.mask
    arrays: Any = [("rows", x) for x in (table, state, of_rows, gradient)]
    return division.run(function, ("rows", "rows"), *arrays, ("nothing", hyper))
