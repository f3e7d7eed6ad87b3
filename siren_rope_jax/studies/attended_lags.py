"""How long before a request are the past events that a retriever chooses?

The weights of its last attention at real requests are summed by the lag, the hours between an event
and the request, and compared with an attention that weighs all events equally. Their ratio is the
*lift*, as in `attended_hours`. A habit of every day shows as peaks at multiples of 24 hours, one of
every week as higher peaks at multiples of 168.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.times import HOUR
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.studies.last_attention import Attended, lift, sums_over_requests
from siren_rope_jax.studies.style import figure, legend_below, lines_of
from siren_rope_jax.training.trained import TrainedRun

LAGS = 2 * 7 * 24 + 13
"""Lags are 0 to 348 hours: two weeks, and half a day to see the last peak whole."""


class LagSums(NamedTuple):
    """How requests spread something over past events, by the lag in hours.

    Attributes:
      spread: the weight of the events at a lag; every request gives 1 in total, to all its events.
      even: the same if every request weighed all its past events equally.
    """

    spread: Float[np.ndarray, " T"]
    even: Float[np.ndarray, " T"]

    def lift(self) -> Float[np.ndarray, " T"]:
        """`spread` over `even`; NaN at lags with too few events."""
        return lift(self.spread, self.even)


class AttendedLags(NamedTuple):
    """At which lags the last attention chooses events, and at which there were any to choose.

    Attributes:
      model: the attention, of all requests.
      users: the past events that have the item which came, of requests where there are any.
    """

    model: LagSums
    users: LagSums


def attended_lags(run: TrainedRun) -> AttendedLags:
    """Sums the last attention over the requests of the validation split.

    Raises:
      UserError: the model has no last attention that names items.
    """

    def of_batch(batch: Attended) -> Float[Array, "2 2 T"]:
        lag = lag_in_hours(batch.request_time, batch.time)
        past = batch.past & batch.asked[..., None]
        return jnp.stack([lag_sums(weight, past, lag) for weight in (batch.model, batch.users)])

    model, users = sums_over_requests(run, of_batch)
    return AttendedLags(LagSums(*model), LagSums(*users))


def lag_in_hours(request: Time, event: Time) -> Int[AnyArray, "B L L"]:
    """From event j to request i, rounded to whole hours."""
    days = request.day[:, :, None] - event.day[:, None, :]
    seconds = request.second[:, :, None] - event.second[:, None, :]
    return 24 * days + (seconds + HOUR // 2) // HOUR


def lag_sums(
    weight_BxLxL: Float[Array, "B L L"],
    past_BxLxL: Bool[Array, "B L L"],
    lag_BxLxL: Int[AnyArray, "B L L"],
) -> Float[Array, "2 T"]:
    """`spread` and `even` of one batch; a request without any weight on its past counts nowhere.

    `weight_BxLxL` is what request i gives to event j: not negative, of any sum. Events that are not
    `past`, or whose lag is beyond `LAGS`, add to no sum.
    """
    weight_BxLxL = jnp.where(past_BxLxL, weight_BxLxL, 0.0)
    counts_BxLx1 = weight_BxLxL.sum(axis=-1, keepdims=True) > 0

    def summed(x_BxLxL: Array) -> Array:
        total_BxLx1 = x_BxLxL.sum(axis=-1, keepdims=True)
        spread_BxLxL = counts_BxLx1 * x_BxLxL / jnp.where(total_BxLx1 > 0, total_BxLx1, 1.0)
        place_BxLxL = jnp.where(past_BxLxL, lag_BxLxL, LAGS)
        return jnp.zeros(LAGS).at[place_BxLxL].add(spread_BxLxL, mode="drop")

    return jnp.stack([summed(weight_BxLxL), summed(past_BxLxL.astype(jnp.float32))])


def draw_attended_lags(path: Path, rows: Mapping[str, LagSums], title: str) -> Path:
    """The lift of each of `rows` by lag, one line each."""
    with figure(path, title, 1, 1, 9.0, 3.2) as (picture, grid):
        axes = grid[0, 0]
        lines = lines_of(list(rows))
        for name, sums in rows.items():
            style = lines[name].style | {"linewidth": 1.2}
            axes.plot(np.arange(LAGS), sums.lift(), label=lines[name].label, **style)
        axes.axhline(1.0, color="black", lw=0.6)
        axes.set(xlabel="hours from a past event to the request", xticks=range(0, LAGS, 24))
        axes.set(ylabel="lift: 1 as if all past\nevents were alike", xlim=(0, LAGS - 1))
        legend_below(picture)
    return path
