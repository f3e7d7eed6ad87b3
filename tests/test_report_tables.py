"""The text of a difference."""

import pytest

from siren_rope_jax.studies.tables import interval


@pytest.mark.parametrize(
    ("changes", "certain", "cell"),
    [
        ({}, False, "+0.0200 [+0.0100, +0.0300]"),
        ({}, True, "**+0.0200 [+0.0100, +0.0300]**"),
        ({"value": -0.02, "low": -0.04, "high": 0.0}, False, "-0.0200 [-0.0400, +0.0000]"),
        ({"low": None, "high": None}, False, "+0.0200"),
        ({"value": None}, False, "–"),
    ],
)
def test_a_difference_has_its_interval_and_is_bold_if_it_is_certain(changes, certain, cell):
    delta = {"value": 0.02, "low": 0.01, "high": 0.03, "p": 0.01} | changes
    assert interval(delta, certain) == cell
