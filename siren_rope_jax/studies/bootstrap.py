"""Paired bootstrap over users: how sure is the difference between two models?

Users are drawn with replacement and bring all their events along, since the events of one user
are not independent. Both models see the same draws (the draws follow from the seed and the number
of users alone), so what varies between users but not between models cancels.

Letters: N events, U users, S training seeds, R resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from siren_rope_jax.base.errors import UserError

RESAMPLES = 1000


class Resampled(NamedTuple):
    """A metric on the data itself, and on every resample.

    Attributes:
      by_seed: on the data, of every training seed.
      samples: on the resamples, a mean over training seeds.
    """

    by_seed: Float[np.ndarray, " S"]
    samples: Float[np.ndarray, " R"]

    @property
    def value(self) -> float:
        """On the data, a mean over training seeds."""
        return float(np.mean(self.by_seed))


class Interval(NamedTuple):
    """A difference between two models and its 95 % percentile interval."""

    difference: float
    low: float
    high: float


def user_draws(users: int, resamples: int, seed: int) -> Iterator[Int[np.ndarray, " U"]]:
    """How often each user is drawn, per resample: multinomial weights that sum to `users`."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(users, size=users), minlength=users)


def resample_means(
    values: Mapping[str, Float[np.ndarray, "S N"]],
    users: Int[np.ndarray, " N"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Resampled]:
    """Metrics of one model that are means over events, averaged over its training seeds.

    Args:
      values: name -> what every event adds; NaN: the event is not part of this metric, whatever
        the training seed.
      users: any integer that tells users apart.
      resamples: their number.
      seed: of the draws; two models resampled with one seed are paired.

    Returns:
      name -> values and samples; nan where none of the drawn users has a part in it.
    """
    distinct, user = np.unique(users, return_inverse=True)
    means = [np.mean(v, axis=0, dtype=np.float64) for v in values.values()]
    part = [~np.isnan(m) for m in means]
    sums = [np.where(p, v, 0.0).sum(axis=1) for p, v in zip(part, values.values(), strict=True)]
    columns = [np.where(p, m, 0.0) for p, m in zip(part, means, strict=True)] + part
    per_user = np.stack([np.bincount(user, column, len(distinct)) for column in columns])
    draws = user_draws(len(distinct), resamples, seed)
    # With the users last, a product with floats is a hundred times faster.
    totals = np.stack([per_user @ d.astype(np.float64) for d in draws])
    with np.errstate(invalid="ignore"):
        samples = totals[:, : len(values)] / totals[:, len(values) :]
        by_seed = [total / p.sum() for total, p in zip(sums, part, strict=True)]
    return {name: Resampled(by_seed[i], samples[:, i]) for i, name in enumerate(values)}


def difference(a: Resampled, b: Resampled) -> Interval:
    """Of a - b, with its 95 % percentile interval, from resamples drawn with the same seed."""
    samples = a.samples - b.samples
    samples = samples[~np.isnan(samples)]
    if samples.size == 0:
        return Interval(a.value - b.value, float("nan"), float("nan"))
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(a.value - b.value, float(low), float(high))


def seed_deviation(a: Resampled, b: Resampled) -> float:
    """Standard deviation over training seeds, the same of both, of a - b; nan of a single one."""
    differences = a.by_seed - b.by_seed
    return float(differences.std(ddof=1)) if len(differences) > 1 else float("nan")


def read_predictions(
    paths: Sequence[Path], columns: Sequence[str], what: str
) -> list[pd.DataFrame]:
    """Reads several runs' predictions.parquet, each in order of the event.

    Args:
      paths: the files.
      columns: to read, besides the event and the user.
      what: they are predictions of, for messages.

    Raises:
      UserError: there is no file, or one lacks a column.
    """
    if not paths:
        raise UserError(f"no predictions of {what}: the list of files is empty")
    frames = []
    for path in paths:
        try:
            frame = pd.read_parquet(path, columns=["event", "user", *columns])
        except (KeyError, ValueError, OSError) as error:
            raise UserError(f"{path}: no predictions of {what} ({error})") from error
        frames.append(frame.sort_values("event", ignore_index=True))
    return frames


def check_same_events(
    frames: Sequence[pd.DataFrame], paths: Sequence[Path], truth: str, what: str
) -> None:
    """Refuses predictions that are not over the same events.

    Args:
      frames: as read.
      paths: where from, for messages.
      truth: the column that all must have in common, besides the event and the user.
      what: that column is, for messages.

    Raises:
      UserError: they differ.
    """
    hint = "evaluate both models on the same split of the same prepared log"
    first = frames[0]
    for frame, path in zip(frames[1:], paths[1:], strict=True):
        both = f"{paths[0]} and {path}"
        if len(first) != len(frame) or not first["event"].equals(frame["event"]):
            sizes = f"({len(first)} and {len(frame)})"
            raise UserError(f"{both} hold different events {sizes}; {hint}")
        if not first[["user", truth]].equals(frame[["user", truth]]):
            raise UserError(f"{both} differ in users or in {what}; {hint}")
