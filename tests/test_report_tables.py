"""The text of a cell, and when it is bold."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from siren_rope_jax.studies.tables import differences, interval

BORDER = 0.02 / 4.3027 * math.sqrt(3)
"""The deviation of three seeds whose t-interval, wider than two standard errors, ends at zero."""


def delta(difference=0.02, low=0.01, high=0.03, sd=0.001):
    return {"difference": difference, "low": low, "high": high, "sd": sd}


@pytest.mark.parametrize(
    ("changes", "seeds", "cell"),
    [
        ({}, 3, "**+0.0200 ± 0.0010 [+0.0100, +0.0300]**"),
        ({"low": -0.001}, 3, "+0.0200 ± 0.0010 [-0.0010, +0.0300]"),
        ({"sd": 0.05}, 3, "+0.0200 ± 0.0500 [+0.0100, +0.0300]"),  # the seeds disagree
        ({"sd": 0.05}, 2, "**+0.0200 ± 0.0500 [+0.0100, +0.0300]**"),  # too few for a t-interval
        ({"sd": None}, 1, "**+0.0200 [+0.0100, +0.0300]**"),
        ({"difference": -0.02, "low": -0.03, "high": -0.01, "sd": 0.016}, 5,
         "**-0.0200 ± 0.0160 [-0.0300, -0.0100]**"),
        ({"sd": 0.0}, 4, "**+0.0200 ± 0.0000 [+0.0100, +0.0300]**"),
        ({"sd": 0.99 * BORDER}, 3, "**+0.0200 ± 0.0080 [+0.0100, +0.0300]**"),
        ({"sd": 1.01 * BORDER}, 3, "+0.0200 ± 0.0081 [+0.0100, +0.0300]"),
        ({"low": None, "high": None}, 3, "+0.0200 ± 0.0010"),
        ({"difference": None, "sd": None}, 3, "–"),
    ],
)  # fmt: skip
def test_a_difference_is_bold_where_the_intervals_exclude_zero(changes, seeds, cell):
    assert interval(delta(**changes), seeds) == cell


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_border_is_that_of_a_t_test_of_the_values_by_seed(seeds):
    values = np.arange(seeds) / seeds
    for mean in np.linspace(0.01, 1, 100):
        by_seed = values - values.mean() + mean
        cell = interval(delta(mean, 0.5 * mean, 2 * mean, by_seed.std(ddof=1)), seeds)
        assert cell.startswith("**") == (ttest_1samp(by_seed, 0).pvalue < 0.05)


def test_an_interval_alone_needs_no_deviation():
    alone = {"difference": 0.02, "low": 0.01, "high": 0.03}
    assert interval(alone) == "**+0.0200 [+0.0100, +0.0300]**"


def test_cells_are_empty_where_nothing_is_compared():
    assert differences(None, ("ne", "auc"), 3) == ["", ""]
    of = {"seeds": [0, 1], "ne": delta()}
    assert differences(of, ("ne",), 3) == [f"{interval(delta(), 2)} (n = 2)"]
