"""At each hour of a request, the past events of which hours does a retriever choose?

The last attention of a model with `repeat` says which events of the history name their items again.
Here its weights at real requests are summed by the hours of the request and of the events, and
compared with an attention that weighs all events equally. Their ratio is the *lift*: 1 everywhere
for a model that ignores the hour. Beside it stands what the users did: the same for the earlier
events with the item that came.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from matplotlib.colors import LogNorm

from siren_rope_jax.base.times import hour_of_week
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.studies.last_attention import Attended, lift, sums_over_requests
from siren_rope_jax.studies.style import figure
from siren_rope_jax.training.trained import TrainedRun

HOURS = np.arange(7 * 24)
"""Of the week, from Monday 00:00; local where the log has UTC offsets."""
HOUR_OF_DAY = HOURS % 24
WEEKEND = HOURS // 24 >= 5
WEEKEND_APART = HOUR_OF_DAY // 2 + 12 * WEEKEND
"""0..11: two hours each of Monday to Friday; 12..23: those of Saturday and Sunday."""

_apart = (HOUR_OF_DAY[:, None] - HOUR_OF_DAY) % 24
PAIRS: Mapping[str, Bool[np.ndarray, "168 168"]] = {
    "hours of day at most 1 apart": np.minimum(_apart, 24 - _apart) <= 1,
    "days both Monday to Friday, or both not": WEEKEND[:, None] == WEEKEND,
}


class HourSums(NamedTuple):
    """How requests spread something over past events; rows are the request's hours of the week.

    Attributes:
      spread: the weight that requests at one hour give to past events at another; every request
        gives 1 in total.
      even: the same if every request weighed all its past events equally.
    """

    spread: Float[np.ndarray, "168 168"]
    even: Float[np.ndarray, "168 168"]

    def lift(self, group: Int[np.ndarray, "168"]) -> Float[np.ndarray, "G G"]:
        """`spread` over `even` between groups of hours, numbered from 0; NaN where too few."""
        member = np.eye(group.max() + 1)[group]
        spread, even = (member.T @ sums @ member for sums in self)
        return lift(spread, even)

    def shares(self) -> dict[str, tuple[float, float]]:
        """The shares of `spread` and of `even` that lie on each of `PAIRS`."""
        total = max(self.spread.sum(), 1.0)
        return {
            name: (float(self.spread[pairs].sum() / total), float(self.even[pairs].sum() / total))
            for name, pairs in PAIRS.items()
        }


class AttendedHours(NamedTuple):
    """What the last attention does with the hours of the week, and what there was to learn.

    Attributes:
      model: the attention, of all requests.
      users: the past events that have the item which came, of requests where there are any.
    """

    model: HourSums
    users: HourSums

    def numbers(self) -> dict[str, Any]:
        """Shares and the lifts by hour of day (request, past event), as JSON values."""
        return {
            name: {
                "requests": round(float(sums.even.sum())),
                "shares": {k: {"share": a, "even": b} for k, (a, b) in sums.shares().items()},
                "lift_by_hour_of_day": [
                    [None if np.isnan(x) else float(x) for x in row]
                    for row in sums.lift(HOUR_OF_DAY)
                ],
            }
            for name, sums in self._asdict().items()
        }


def attended_hours(run: TrainedRun) -> AttendedHours:
    """Sums the last attention over the requests of the validation split.

    Raises:
      UserError: the model has no last attention that names items.
    """

    def of_batch(batch: Attended) -> Float[Array, "2 2 168 168"]:
        request = jnp.where(batch.asked, _hour_of_week(batch.request_time), -1)
        event = _hour_of_week(batch.time)
        rows = batch.model, batch.users
        return jnp.array([hour_sums(weight, batch.past, request, event) for weight in rows])

    model, users = sums_over_requests(run, of_batch)
    return AttendedHours(HourSums(*model), HourSums(*users))


def _hour_of_week(time: Time) -> Int[Array, "..."]:
    """0..167 from local Monday 00:00; -1 where there is no time."""
    return jnp.where(time.known, hour_of_week(time.local.day, time.local.second), -1)


def hour_sums(
    weight_BxLxL: Float[Array, "B L L"],
    past_BxLxL: Bool[Array, "B L L"],
    request_BxL: Int[Array, "B L"],
    event_BxL: Int[Array, "B L"],
) -> HourSums:
    """Sums of one batch; a request without any weight on its past counts nowhere.

    `weight_BxLxL` is what request i gives to event j: not negative, of any sum. Requests and events
    are given by their hours of the week; -1: there is no request.
    """
    weight_BxLxL = jnp.where(past_BxLxL, weight_BxLxL, 0.0)
    counts_BxLx1 = weight_BxLxL.sum(axis=-1, keepdims=True) > 0
    request_BxLxW = jax.nn.one_hot(request_BxL, len(HOURS)) * counts_BxLx1
    event_BxLxW = jax.nn.one_hot(event_BxL, len(HOURS))

    def summed(x_BxLxL: Array) -> Any:
        total_BxLx1 = x_BxLxL.sum(axis=-1, keepdims=True)
        spread_BxLxL = x_BxLxL / jnp.where(total_BxLx1 > 0, total_BxLx1, 1.0)
        by_hour_BxLxW = jnp.einsum("bij,bjw->biw", spread_BxLxL, event_BxLxW)
        return jnp.einsum("biv,biw->vw", request_BxLxW, by_hour_BxLxW)

    return HourSums(summed(weight_BxLxL), summed(past_BxLxL.astype(jnp.float32)))


def draw_attended_hours(
    path: Path, rows: Mapping[str, HourSums], title: str, local: bool = True
) -> Path:
    """The lift of each of `rows`, by hour of day (`local`, or UTC) and with the weekend apart."""
    hour = "local hour" if local else "hour (UTC)"
    columns = (
        ("by hour of day", HOUR_OF_DAY, 24, ""),
        ("weekend apart", WEEKEND_APART, 48, "\nMonday to Friday | Saturday, Sunday"),
    )
    with figure(path, title, len(rows), len(columns), 4.6, 3.9) as (picture, grid):
        for line, (name, sums) in zip(grid, rows.items(), strict=True):
            for axes, (what, group, size, days) in zip(line, columns, strict=True):
                image = axes.imshow(
                    np.maximum(sums.lift(group), 0.01),  # zero, or it would look like too few
                    origin="lower",
                    cmap="RdBu_r",
                    norm=LogNorm(0.25, 4.0),
                    extent=(0, size, 0, size),
                )
                axes.set_facecolor("#BBBBBB")
                axes.grid(False)
                if days:
                    axes.axhline(24, color="black", lw=0.6)
                    axes.axvline(24, color="black", lw=0.6)
                ticks = range(0, size + 1, 6)
                labels = [str(tick % 24) for tick in ticks[:-1]] + ["24"]
                axes.set(xticks=ticks, xticklabels=labels, yticks=ticks, yticklabels=labels)
                axes.set(title=f"{name}, {what}", ylabel=f"{hour} of the request{days}")
        for axes, (*_, days) in zip(grid[-1], columns, strict=True):
            axes.set_xlabel(f"{hour} of a past event{days}")
        bar = picture.colorbar(
            image, ax=grid, shrink=0.5, extend="both", ticks=[0.25, 0.5, 1, 2, 4]
        )
        bar.set_ticklabels(["¼", "½", "1", "2", "4"])
        bar.minorticks_off()
        bar.set_label("lift: 1 as if all past events were alike (grey: too few)")
    return path
