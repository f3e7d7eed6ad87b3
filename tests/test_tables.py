"""What stands in a cell, and when it is bold."""

import math

import pytest

from siren_rope_jax.comparison.tables import differences, interval


def delta(difference=0.02, low=0.01, high=0.03, sd=0.001):
    return {"difference": difference, "low": low, "high": high, "sd": sd}


@pytest.mark.parametrize(
    ("changes", "seeds", "cell"),
    [
        ({}, 3, "**+0.0200 ± 0.0010 [+0.0100, +0.0300]**"),
        ({"low": -0.001}, 3, "+0.0200 ± 0.0010 [-0.0010, +0.0300]"),
        ({"sd": 0.05}, 3, "+0.0200 ± 0.0500 [+0.0100, +0.0300]"),  # the seeds disagree
        ({"sd": 0.05}, 2, "**+0.0200 ± 0.0500 [+0.0100, +0.0300]**"),  # too few to say so
        ({"sd": None}, 1, "**+0.0200 [+0.0100, +0.0300]**"),
        ({"difference": -0.02, "low": -0.03, "high": -0.01, "sd": 0.02}, 5,
         "**-0.0200 ± 0.0200 [-0.0300, -0.0100]**"),
        ({"sd": 0.0}, 4, "**+0.0200 ± 0.0000 [+0.0100, +0.0300]**"),
        ({"low": None, "high": None}, 3, "+0.0200 ± 0.0010"),
        ({"difference": None, "sd": None}, 3, "–"),
    ],
)  # fmt: skip
def test_a_difference_is_bold_where_neither_users_nor_seeds_leave_a_doubt(changes, seeds, cell):
    assert interval(delta(**changes), seeds) == cell


def test_two_standard_errors_are_the_border():
    for seeds in (3, 5, 10):
        border = 0.02 / 2 * math.sqrt(seeds)
        assert interval(delta(sd=border * 0.99), seeds).startswith("**")
        assert not interval(delta(sd=border * 1.01), seeds).startswith("**")


def test_an_interval_alone_needs_no_deviation():
    alone = {"difference": 0.02, "low": 0.01, "high": 0.03}
    assert interval(alone) == "**+0.0200 [+0.0100, +0.0300]**"


def test_cells_are_empty_where_nothing_is_compared():
    assert differences(None, ("ne", "auc"), 3) == ["", ""]
    of = {"seeds": [0, 1], "ne": delta()}
    assert differences(of, ("ne",), 3) == [f"{interval(delta(), 2)} (n = 2)"]
