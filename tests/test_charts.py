"""Pictures: distant baselines, small groups, differences to a baseline."""

import numpy as np
import pytest

from siren_rope_jax.studies import charts
from siren_rope_jax.studies.charts import Panel
from siren_rope_jax.studies.style import figure


@pytest.mark.parametrize(
    ("models", "drawn", "told"),
    [
        ([0.5, 0.6, np.nan], {"near"}, ["← low 0.010, lower 0.001", "high 5.000 →"]),
        ([0.5], {"near", "low", "lower", "high"}, []),  # beside a single model all are drawn
        ([np.nan], {"near", "low", "lower", "high"}, []),
    ],
)
def test_a_baseline_far_from_the_models_is_text_and_not_a_line(tmp_path, models, drawn, told):
    baselines = {"near": 0.62, "low": 0.01, "lower": 0.001, "high": 5.0, "none": np.nan}
    with figure(tmp_path / "x.png", "", 1, 1, 3, 3) as (_, axes):
        assert charts._draw_baselines(axes[0, 0], baselines, np.array(models)) == told
        assert {line.get_label() for line in axes[0, 0].get_lines()} == drawn


def make_results(values):
    """One run and value per seed; the second of its groups is too small, the third is absent."""
    counts = {"1-4": 100, "5-9": charts.FEW - 1, "20-49": charts.FEW}
    return [
        {"seed": seed, "has_utc_offset": True, "slices": {"history": {
            group: {"count": count, "mrr": value} for group, count in counts.items()
        }}} for seed, value in values.items()
    ]  # fmt: skip


PANELS = [Panel("MRR", "", ("ranking", "mrr"))]


@pytest.mark.parametrize(("baseline", "rows"), [("old", 3), ("", 2), ("gone", 2)])
def test_groups_show_differences_to_the_baseline_and_leave_out_the_small(
    tmp_path, monkeypatch, baseline, rows
):
    seen = []

    def band(axes, x, seeds, label, style):
        seen.append((label, seeds.mean(axis=0).tolist()))  # differences are those of seed 1 alone

    monkeypatch.setattr(charts, "band", band)
    models = {"old": make_results({0: 0.2, 1: 0.4}), "new": make_results({1: 0.6, 2: 0.4})}
    path = charts.by_group(tmp_path / "x.png", models, PANELS, "history", "", baseline)
    assert path.is_file()
    want = [("old", 0.3), ("new", 0.5)] + [("new", 0.2)] * (rows == 3)
    assert [label for label, _ in seen] == [label for label, _ in want]
    for (_, got), (_, value) in zip(seen, want, strict=True):
        np.testing.assert_allclose(got, [value, np.nan, np.nan, value], atol=1e-9)


@pytest.mark.parametrize("groups", [["1-4", "5-9"], ["5-9"], []])
def test_a_single_group_makes_no_picture(tmp_path, groups):
    (run,) = make_results({0: 0.2})
    run["slices"]["history"] = {group: run["slices"]["history"][group] for group in groups}
    assert charts.by_group(tmp_path / "x.png", {"some": [run]}, PANELS, "history", "") is None
    assert not (tmp_path / "x.png").exists()


def test_a_missing_number_is_nan():
    assert charts.lookup({"a": {"b": 1}}, ("a", "b")) == 1
    assert np.isnan(charts.lookup({"a": {"b": None}}, ("a", "b")))
    assert np.isnan(charts.lookup({"a": {}}, ("a", "b", "c")))


def test_without_any_time_there_is_no_picture_by_day(tmp_path):
    run = {"slices": {"day": {}}, "has_utc_offset": False}
    assert charts.calibration_by_day(tmp_path / "day.png", {"a": [run]}, ["like"], "log") is None
    assert not list(tmp_path.iterdir())
