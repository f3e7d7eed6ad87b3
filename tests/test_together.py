"""Differences as means over data sets, and what a report of several data sets says of them."""

import json
import math

import numpy as np
import pytest
from scipy.stats import norm, t

from siren_rope_jax.studies import jobs, report
from siren_rope_jax.studies.together import together
from tests.made_up import make_log, make_plan, train


def of_dataset(value, half, kind="retrieval", part="", seeds=(0, 1), of_seeds=False):
    """What report.json holds of a data set, with one difference.

    The interval is of users, or with `of_seeds` of two seeds, whose error it then is.
    """
    error = None if half is None else half / (t.isf(0.025, 1) if of_seeds else norm.isf(0.025))
    errors = {"of_users": 0.0 if of_seeds else error, "of_seeds": error if of_seeds else 0.0}
    if half is None:
        errors = {"of_users": None, "of_seeds": None}
    difference = {"seeds": list(seeds), "mrr": {"value": value, **errors}}
    own = {"metrics": {"mrr": {}}, "difference": difference, "to_champion": None}
    base = own | {"difference": None}
    about = {"seeds": list(seeds), "query_time": "request"}
    variants = {
        name: about | {"parts": {part: of}} for name, of in (("ordinal", base), ("none", own))
    }
    return {"kind": kind, "counts": {part: {"count": 9}}, "variants": variants}


def difference(*datasets):
    return together(datasets)["variants"]["none"]["parts"][""]["difference"]


def test_a_mean_counts_data_sets_alike_and_is_narrower_than_each():
    found = difference(of_dataset(0.3, 0.2), of_dataset(0.1, 0.2, seeds=(1, 2)))
    assert found["seeds"] == [1]
    mean, half = found["mrr"]["value"], 0.2 / math.sqrt(2)
    assert mean == pytest.approx(0.2) and found["mrr"]["high"] - mean == pytest.approx(half)
    assert mean - found["mrr"]["low"] == pytest.approx(half) and 0.001 < found["mrr"]["p"] < 0.01
    at_the_end = difference(of_dataset(0.3, 0.3), of_dataset(0.3, 0.3))["mrr"]
    assert at_the_end["p"] < 0.05
    touching = difference(of_dataset(half, 0.2), of_dataset(half, 0.2))["mrr"]
    assert touching["low"] == pytest.approx(0, abs=1e-12) and touching["p"] == pytest.approx(0.05)


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    errors, held = rng.normal(size=(2_000, 3)) * [1, 2, 4], 0
    for values in errors:
        found = difference(
            *(of_dataset(v, 1.96 * s) for v, s in zip(values, (1, 2, 4), strict=True))
        )
        held += found["mrr"]["low"] < 0 < found["mrr"]["high"]
    assert abs(held / len(errors) - 0.95) < 0.02


def test_what_is_certain_of_a_mean_is_wrong_as_rarely_as_it_says_with_few_seeds_too():
    """The chance of one data set is that of its two seeds, and outweighs the other's."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(2_000):
        seeds = rng.normal(size=2) * 3
        of_two = float(np.std(seeds, ddof=1)) / math.sqrt(2) * t.isf(0.025, 1)
        first = of_dataset(float(seeds.mean()), of_two, of_seeds=True)
        second = of_dataset(float(rng.normal()), 1.96)
        wrong += difference(first, second)["mrr"]["p"] < 0.01
    assert wrong / 2_000 < 0.015


def test_what_one_data_set_lacks_has_no_mean():
    found = difference(of_dataset(0.3, 0.2), of_dataset(0.1, None))["mrr"]
    assert found["value"] == pytest.approx(0.2) and found["low"] is found["p"] is None
    assert together([of_dataset(0.3, 0.2)]) is None
    assert together([of_dataset(0.3, 0.2), of_dataset(0.3, 0.2, kind="ranking")]) is None
    assert together([of_dataset(0.3, 0.2), of_dataset(0.3, 0.2, part="like")])["counts"] == {}


def test_a_report_of_two_data_sets_has_a_table_of_both(tmp_path):
    first = {"name": "first", "base": str(tmp_path / "base.py"), "prepared": str(tmp_path / "log")}
    make_log(tmp_path / "other", users=60, seed=1, min_count=24)
    second = first | {"name": "second", "prepared": str(tmp_path / "other")}
    spec, runs = make_plan(tmp_path, datasets=(first, second), champion="siren_rope", together=True)
    assert jobs.execute(runs, spec.jobs, train) == []
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    of_both = text.split("## All 2 data sets")[1].split("\n## ")[0]
    assert "### Difference to ordinal RoPE" in of_both and "### Difference to SIREN-RoPE" in of_both
    summary = json.loads((tmp_path / "out/report.json").read_text())
    values = [
        summary["datasets"][name]["variants"]["siren_rope"]["parts"]["like"]["difference"]["ne"]
        for name in ("first", "second")
    ]
    found = summary["together"]["variants"]["siren_rope"]["parts"]["like"]["difference"]["ne"]
    assert found["value"] == pytest.approx(np.mean([of["value"] for of in values]))
    assert f"{found['value']:+.4f}" in of_both
