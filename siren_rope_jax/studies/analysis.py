"""What a trained rotation learned about time: numbers and one picture.

Logits see only differences of angles (E6), so what matters is how far apart two times are turned:
the *kernel* K(t, t') = mean over planes of cos(Theta(t) - Theta(t')), 1 where the rotation does not
tell two times apart. If the log has UTC offsets, networks see local phases, so weeks are local here
too.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.signal import detrend

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY, HOUR, WEEK, start_of_week
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.studies.style import COLOURS, figure
from siren_rope_jax.training.trained import TrainedRun

Attention = Literal["trunk", "last"]
"""The attentions of the trunk, or the one after the trunk, whose angles are its own."""


BLANK = (
    "There is nothing to show: these angles do not change with time.\nAn encoding by order alone, "
    "or none, turns all hours alike; whatever\nthe model knows of time does not come from its "
    "rotation."
)
"""What is said of a rotation that does not see time."""
_STILL = 1e-6  # radians


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What the rotation of one attention does with time.

    Attributes:
      attention: which one.
      utc_offset: local time minus UTC, in seconds, that most events have; None: the log has no
        offsets, and weeks are those of UTC.
      hours: [N] hours since Monday 00:00, over the last whole week of training.
      angles: [N, P] radians, of the first head, less their mean.
      kernel: [168, 168] K between the hours of that week.
      spectrum: period in hours -> share of the angles' variance, over the last whole weeks of
        training (eight at most), largest first.
      departure: shift in hours -> mean |change of K| between events one minute to one day apart
        when all times shift; 0 for a rotation that is linear in time.
    """

    attention: Attention
    utc_offset: int | None
    hours: Float[np.ndarray, " N"]
    angles: Float[np.ndarray, "N P"]
    kernel: Float[np.ndarray, "W W"]
    spectrum: Mapping[float, float]
    departure: Mapping[int, float]

    @property
    def sees_time(self) -> bool:
        """Whether the angles change with time at all."""
        return bool(np.abs(self.angles).max() > _STILL)

    def numbers(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        return {
            "attention": self.attention,
            "utc_offset": self.utc_offset,
            "spectrum": [{"hours": h, "share": s} for h, s in self.spectrum.items()],
            "departure": [{"shift_hours": h, "change": c} for h, c in self.departure.items()],
        }


def default_attention(run: TrainedRun) -> Attention:
    """The last one of a model that names items of the history again; else the trunk's."""
    return "last" if getattr(run.config.model, "repeat", False) else "trunk"


def usual_offset(log: PreparedLog) -> int | None:
    """The most frequent difference between local time and UTC, in seconds; None: unknown."""
    if not log.schema.has_utc_offset:
        return None
    offsets, counts = np.unique(log.events().rows["utc_offset"], return_counts=True)
    return int(offsets[counts.argmax()])


def angles_of(run: TrainedRun, attention: Attention) -> Callable[[Signals], Float[Array, "N P"]]:
    """Theta of an attention's first head as a function of the signals of events.

    Raises:
      UserError: the model has no last attention; or it turns blocks of three components, so that
        differences of angles say little.
    """
    if run.config.model.rotation == "space":
        problem = f"{run.config.variant} turns vectors in space, where angles do not add up"
        raise UserError("--workdir", f"{problem}; analyze a model that turns planes")

    def encode(module: Any, signals: Signals) -> Array:
        angles = module.trunk.encoding(signals)
        if attention not in angles:
            raise UserError(
                "attention",
                f"{run.config.variant} has no {attention!r} (it comes with model.repeat of a "
                "retriever, model.late_fusion of a ranker); choose 'trunk'",
            )
        return angles[attention][..., 0, :]

    apply = jax.jit(partial(run.model.apply, method=encode))
    return lambda signals: apply({"params": run.params}, signals)


def time_angles(
    run: TrainedRun, attention: Attention, utc_offset: int
) -> Callable[[np.ndarray], Float[Array, "N P"]]:
    """The same as a function of Unix seconds, at one fixed position.

    Raises:
      UserError: as `angles_of`.
    """
    of_signals, data = angles_of(run, attention), run.model.data

    def theta(seconds: np.ndarray) -> Array:
        zeros = jnp.zeros(seconds.shape, jnp.int32)
        time = jax.device_put(Time.from_seconds(seconds, utc_offset))
        categories = dict.fromkeys((*data.categories, *data.counts), zeros)
        return of_signals(Signals(zeros, time, categories, dict.fromkeys(data.counts, zeros)))

    return theta


def analyze(run: TrainedRun, attention: Attention | None = None) -> Analysis:
    """Looks at the rotation of a trained run, at the end of its training span.

    Raises:
      UserError: the model has no such attention, the log has no times, or no whole week from a
        Monday on lies within the training span.
    """
    attention = attention or default_attention(run)
    utc_offset = usual_offset(run.log)
    shift = utc_offset or 0
    theta, schema = time_angles(run, attention, shift), run.log.schema
    if schema.train_end <= schema.train_start:
        raise UserError(run.log.path, "its events have no times, so there is nothing to show")
    monday = start_of_week(schema.train_end + shift) - WEEK - shift
    weeks = min((monday + WEEK - schema.train_start) // WEEK, 8)
    if weeks < 1:
        raise UserError(
            run.log.path, "the training split does not span a whole week, Monday to Sunday"
        )
    week = monday + np.arange(0, WEEK, HOUR // 4)
    angles = np.asarray(theta(week))
    hourly = angles[::4]
    return Analysis(
        attention=attention,
        utc_offset=utc_offset,
        hours=(week - monday) / HOUR,
        angles=angles - angles.mean(axis=0),
        kernel=np.cos(hourly[:, None] - hourly).mean(axis=-1),
        spectrum=_spectrum(np.asarray(theta(monday + WEEK - np.arange(weeks * WEEK, 0, -HOUR)))),
        departure=_departure(theta, monday),
    )


def _spectrum(hourly: Float[np.ndarray, "H P"]) -> dict[float, float]:
    """The five strongest periods in hours, of angles without their linear trend."""
    power = np.sum(np.abs(np.fft.rfft(detrend(hourly, axis=0), axis=0)) ** 2, axis=-1)[1:]
    total = power.sum()
    top = np.argsort(-power)[: 5 if total > 1e-6 else 0]
    return {round(len(hourly) / int(k + 1), 1): float(power[k] / total) for k in top}


def _departure(theta: Callable[[np.ndarray], Array], monday: int) -> dict[int, float]:
    rng = np.random.default_rng(0)
    earlier = monday - WEEK + rng.integers(0, WEEK, 500)
    later = earlier + rng.integers(60, DAY, 500)

    def k(shift: int) -> Array:
        angles = [theta(t + shift * HOUR) for t in (earlier, later)]
        return jnp.mean(jnp.cos(angles[0] - angles[1]), axis=-1)

    still = k(0)
    return {shift: float(jnp.abs(k(shift) - still).mean()) for shift in (1, 6, 12, 24, 84, 168)}


def draw(path: Path, analysis: Analysis, title: str) -> Path:
    """Angles over a week, the kernel between its hours, and the departure from shift-invariance.

    Of a rotation that does not see time, the picture says that instead.
    """
    if not analysis.sees_time:
        with figure(path, title, 1, 1, 6.0, 1.6) as (_, axes):
            axes[0, 0].axis("off")
            axes[0, 0].text(0.5, 0.5, BLANK, ha="center", va="center", fontsize=10)
        return path
    local = analysis.utc_offset is not None
    week = "local hour of the week" if local else "hour of the week"
    with figure(path, title, 1, 3, 4.4, 3.6) as (picture, axes):
        angles, hours, departure = axes[0]
        planes = analysis.angles.shape[1]
        active = np.argsort(-analysis.angles.std(axis=0))[: len(COLOURS)]
        for plane, colour in zip(active, COLOURS, strict=False):
            angles.plot(analysis.hours, analysis.angles[:, plane], lw=1, color=colour)
        monday = "local Monday 00:00" if local else "Monday 00:00 UTC"
        angles.set(xlabel=f"hours since {monday}", ylabel="angle less its mean (rad)")
        most = f"the {len(active)} most active of " if len(active) < planes else ""
        angles.set(title=f"a line for each of\n{most}{planes} planes", xticks=range(0, 169, 48))
        image = hours.imshow(
            analysis.kernel,
            origin="lower",
            cmap="viridis",
            interpolation="nearest",  # whole cells make a smaller file
            extent=(0, 168) * 2,
        )
        hours.set(title="mean cos between two hours", xlabel=week)
        hours.set(ylabel=week, xticks=range(0, 169, 48), yticks=range(0, 169, 24))
        hours.grid(False)
        picture.colorbar(image, ax=hours, shrink=0.8)
        shifts = [str(shift) for shift in analysis.departure]
        departure.bar(shifts, list(analysis.departure.values()), color=COLOURS[0])
        departure.set(title="if all times are shifted", xlabel="shift (hours)")
        departure.set(ylabel="mean |change of the cos|")
    return path
