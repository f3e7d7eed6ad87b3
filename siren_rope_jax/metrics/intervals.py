"""How certain is a difference between models, over users and training seeds together?

Two things are sampled: the users whose events are evaluated, and the seeds of the trainings. A mean
over S seeds has a standard error over resampled users, with the seeds held fixed, and one over
seeds, their deviation divided by the square root of S. Half of an interval is the root of the sum
of two squares: the first error times the quantile of a normal distribution, and the second times
that of Student's t with S - 1 degrees of freedom. So it holds the truth in at least 95 of 100 cases
whatever part of the chance is of the seeds, and in up to 98 if there are two or three of them.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student_t

from siren_rope_jax.metrics.bootstrap import Resampled

LEVEL = 0.05
"""What is certain may be wrong this often; an interval holds the rest."""


class Interval(NamedTuple):
    """A metric, or the difference of one between two models, with its 95 % interval.

    Attributes:
      value: the mean over seeds, on the data.
      low, high: the ends of the interval; those of a single seed are of users alone.
      p: how probable a value so far from 0, on either side, were if the truth were 0.
      of_users, of_seeds: the standard errors over users, and over seeds (0 with a single one).
    """

    value: float
    low: float
    high: float
    p: float
    of_users: float
    of_seeds: float


UNKNOWN = Interval(*(float("nan"),) * 6)
"""Where a metric, or how certain it is, is undefined."""


def interval(a: Resampled, b: Resampled | None = None) -> Interval:
    """That of a metric, or of its difference a - b, seed by seed; NaN where it is undefined."""
    samples, by_seed = a.samples, a.by_seed
    if b is not None:
        samples, by_seed = samples - b.samples, by_seed - b.by_seed
    value = float(np.mean(by_seed))
    seeds, defined = len(by_seed), samples[~np.isnan(samples)]
    if np.isnan(value) or not len(defined):
        return UNKNOWN
    of_users, of_seeds = float(defined.std()), 0.0
    if seeds > 1:
        of_seeds = float(np.std(by_seed, ddof=1)) / seeds**0.5
    # Of a single unit that counts nothing is known of others; few resamples with one say as little.
    alike = max(of_users, of_seeds) < 1e-12 * abs(value)
    if alike or len(defined) < len(samples) / 2:
        return UNKNOWN._replace(value=value)
    return of_errors(value, of_users, of_seeds, seeds)


def of_errors(value: float, of_users: float, of_seeds: float, seeds: int) -> Interval:
    """The interval of a value with these standard errors, of so many seeds."""

    def reach(level: float) -> float:
        """Half of the interval that is wrong this often."""
        of_both = [of_users * float(norm.isf(level / 2))]
        of_both += [of_seeds * float(student_t.isf(level / 2, seeds - 1))] if seeds > 1 else []
        return math.hypot(*of_both)

    half, least = reach(LEVEL), sys.float_info.min
    if value == 0:
        p = 1.0
    elif reach(least) <= abs(value):
        p = least
    else:
        p = float(brentq(lambda level: reach(level) - abs(value), least, 1.0))
    return Interval(value, value - half, value + half, p, of_users, of_seeds)


def certain(p_values: Sequence[float | None]) -> list[bool]:
    """Which of a family of differences are not 0, with at most 5 % risk of any error (Holm 1979).

    The smallest of n values must be at most .05 / n, the next one .05 / (n - 1), and so on up to
    the first that is not. None is never certain, and does not count.
    """
    known = [p for p in p_values if p is not None]
    bound = -1.0
    for place, p in enumerate(sorted(known)):
        if p > LEVEL / (len(known) - place):
            break
        bound = p
    return [p is not None and p <= bound for p in p_values]
