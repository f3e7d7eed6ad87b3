"""Pictures: distant baselines, small groups, differences to a baseline."""

import numpy as np
import pytest

from siren_rope_jax.studies import charts
from siren_rope_jax.studies.charts import Panel
from siren_rope_jax.studies.style import figure


def lines_and_words(tmp_path, baselines, models):
    with figure(tmp_path / "x.png", "", 1, 1, 3, 3) as (_, axes):
        words = charts._draw_baselines(axes[0, 0], baselines, np.array(models))
        return {line.get_label() for line in axes[0, 0].get_lines()}, words


def test_a_baseline_far_from_the_models_is_text_and_not_a_line(tmp_path):
    baselines = {"near": 0.62, "low": 0.01, "lower": 0.001, "high": 5.0, "none": np.nan}
    drawn, words = lines_and_words(tmp_path, baselines, [0.5, 0.6, np.nan])
    assert drawn == {"near"}
    assert words == ["← low 0.010, lower 0.001", "high 5.000 →"]


@pytest.mark.parametrize("models", [[0.5], [np.nan]])
def test_beside_a_single_model_every_baseline_is_drawn(tmp_path, models):
    assert lines_and_words(tmp_path, {"low": 0.01, "high": 5.0}, models) == ({"low", "high"}, [])


def make_results(values):
    """One run and value per seed; the second of its groups is too small, the third is absent."""
    counts = {"1-4": 100, "5-9": charts.FEW - 1, "20-49": charts.FEW}
    groups = {s: {g: {"count": n, "mrr": v} for g, n in counts.items()} for s, v in values.items()}
    return [
        {"seed": s, "has_utc_offset": True, "slices": {"history": own}} for s, own in groups.items()
    ]


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


@pytest.mark.parametrize("groups", [["5-9"], []])
def test_a_single_group_makes_no_picture(tmp_path, groups):
    (run,) = make_results({0: 0.2})
    run["slices"]["history"] = {group: run["slices"]["history"][group] for group in groups}
    assert charts.by_group(tmp_path / "x.png", {"some": [run]}, PANELS, "history", "") is None
    assert not (tmp_path / "x.png").exists()


def test_a_missing_number_is_nan():
    assert charts.lookup({"a": {"b": 1}}, ("a", "b")) == 1
    assert np.isnan(charts.lookup({"a": {"b": None}}, ("a", "b")))
    assert np.isnan(charts.lookup({"a": {}}, ("a", "b", "c")))
