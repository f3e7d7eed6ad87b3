"""Devices ask each other for rows of a divided table, and send the rows' gradients back.

Every device asks for each of its distinct ids once, at the device that has the row. A message to a
device has room for somewhat more ids than it is expected to get; if any has more, all devices go
through another round. So nothing is ever left out, and as a rule there is one round.

Letters, beside those of `tables.py`: M devices that divide the rows, K ids of a message.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.models.division import Division, Rows


@dataclass(frozen=True)
class Route:
    """The way from a device's ids to the rows. Made by `route`, inside of `Division.run`.

    Attributes:
      division: of ids and rows.
      room: K.
      rounds: how many are needed, the same on all devices.
      distinct: the ids' owners and places as one number, ascending, each once.
      first: where in `distinct` those of a device begin.
      count: how many there are of it.
      owner, turn: for each id, which device has its row, and its place among the distinct ids that
        are asked of that device.
      size: of the device's positions.
    """

    division: Division
    room: int
    rounds: Int[Array, ""]
    distinct: Int[Array, " N"]
    first: Int[Array, " M"]
    count: Int[Array, " M"]
    owner: Int[Array, " N"]
    turn: Int[Array, " N"]
    size: int

    def fetch(self, rows: Rows, dtype: Any) -> Float[Array, "N D"]:
        """The rows of the device's ids in `dtype`; zeros if no device has them."""

        def step(number: Array, found_NxD: Array) -> Array:
            place, here = self.division.places(rows, self._asked(number))
            found_MxKxD = jnp.where(here[..., None], rows.values[place], 0).astype(dtype)
            answer = self._exchanged(found_MxKxD).reshape(-1, rows.width)
            slot = self._slot(number)
            return found_NxD + answer.at[slot].get(mode="fill", fill_value=0)

        zeros = jnp.zeros((len(self.owner), rows.width), dtype)
        return self._together(self._in_rounds(step, zeros))

    def add(
        self, rows: Rows, d_NxD: Float[Array, "N D"], drows_RxD: Float[Array, "R D"]
    ) -> Float[Array, "R D"]:
        """Adds the gradients of the device's ids to those of the rows, wherever these are."""
        d_NxD = _apart(self.division, d_NxD, 0)

        def step(number: Array, drows_RxD: Array) -> Array:
            zeros = jnp.zeros((self.division.devices * self.room, rows.width), jnp.float32)
            sums = zeros.at[self._slot(number)].add(d_NxD.astype(jnp.float32), mode="drop")
            got = self._exchanged(sums.reshape(-1, self.room, rows.width))
            place, here = self.division.places(rows, self._asked(number))
            at = jnp.where(here, place, len(drows_RxD))
            return drows_RxD.at[at].add(got, mode="drop")

        return self._in_rounds(step, drows_RxD)

    def mark(self, mask_R: Bool[Array, " R"]) -> Bool[Array, " R"]:
        """Sets the mask at the rows that any device asks for."""

        def step(number: Array, mask_R: Array) -> Array:
            place, here = self.division.places_of_all(self._asked(number))
            return mask_R.at[jnp.where(here, place, len(mask_R))].set(True, mode="drop")

        return self._in_rounds(step, mask_R)

    def _in_rounds(self, step: Callable[[Array, Any], Any], carry: Any) -> Any:
        def body(state: Any) -> Any:
            number, carry = state
            return number + 1, step(number, carry)

        start = jnp.zeros((), jnp.int32), carry
        return jax.lax.while_loop(lambda state: state[0] < self.rounds, body, start)[1]

    def _asked(self, number: Array) -> Int[Array, "M K"]:
        """The ids that other devices ask this one for in a round; -1 fills a message."""
        turn_K = number * self.room + jnp.arange(self.room)
        wanted = self.distinct.at[self.first[:, None] + turn_K].get(mode="fill", fill_value=0)
        place = wanted % (self.division.table[0] * self.division.stripes)
        place = jnp.where(turn_K < self.count[:, None], place, -1)
        asked = self._exchanged(place)
        return jnp.where(asked >= 0, self.division.id_at(jnp.maximum(asked, 0)), -1)

    def _slot(self, number: Array) -> Int[Array, " N"]:
        """Where in all messages of a round an id is; beyond the last if it has another round."""
        turn = self.turn - number * self.room
        devices = self.division.devices
        now = (turn >= 0) & (turn < self.room) & (self.owner < devices)
        return jnp.where(now, self.owner * self.room + turn, devices * self.room)

    def _exchanged(self, x_MxK: Array) -> Array:
        return jax.lax.all_to_all(x_MxK, self.division.rows, 0, 0, tiled=True)

    def _together(self, x_NxD: Array) -> Array:
        if not (spread := _spread(self.division)):
            return x_NxD
        return jax.lax.all_gather(x_NxD, spread, tiled=True)[: self.size]


def route(division: Division, id_N: Int[Array, " N"]) -> Route:
    """The way to the rows of a device's ids.

    Args:
      division: of ids and rows, which must be divided.
      id_N: any; rows that no device has are zeros.
    """
    size, id_N = len(id_N), _apart(division, id_N, -1)
    owner, place = division.owner_and_place(id_N)
    own_rows = division.table[0] * division.stripes
    number = owner * own_rows + place
    none = division.devices * own_rows
    distinct, inverse = jnp.unique(number, size=len(id_N), fill_value=none, return_inverse=True)
    bounds = jnp.searchsorted(distinct, jnp.arange(division.devices + 1) * own_rows)
    first, count = bounds[:-1], jnp.diff(bounds)
    turn = inverse.reshape(-1) - bounds[jnp.minimum(owner, division.devices)]
    room = _room(len(id_N) / division.devices, min(len(id_N), own_rows))
    rounds = jax.lax.pmax(-(-count.max() // room), division.rows)
    return Route(division, room, rounds, distinct, first, count, owner, turn, size)


def _room(expected: float, most: int) -> int:
    """How many ids a message can hold: six standard deviations above what is expected."""
    return max(min(math.ceil(expected + 6 * math.sqrt(expected)) + 8, most), 1)


def _spread(division: Division) -> tuple[str, ...]:
    """Mesh axes along which devices hold the same positions, and other rows."""
    return tuple(axis for axis in division.rows if axis not in division.batch)


def _apart(division: Division, x_N: Array, padding: int) -> Array:
    """This device's share of positions that several hold, so that only one asks for each."""
    if not (spread := _spread(division)):
        return x_N
    devices = division.partition.size(spread)
    widths = [(0, -len(x_N) % devices)] + [(0, 0)] * (x_N.ndim - 1)
    parts = jnp.pad(x_N, widths, constant_values=padding).reshape(devices, -1, *x_N.shape[1:])
    return parts[jax.lax.axis_index(spread)]
