"""Pictures of models, of groups of events and of trainings: what they mark and what they omit."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from siren_rope_jax.rotation.names import in_order, words
from siren_rope_jax.rotation.variants import RANKING_VARIANTS, RETRIEVAL_VARIANTS
from siren_rope_jax.studies import charts, comparison, curves, plots, staleness, style
from siren_rope_jax.studies.charts import Panel
from siren_rope_jax.studies.comparison import Row, best_of, rows_of, side_by_side
from siren_rope_jax.studies.style import BASELINE, BEST, COLOURS, figure, lines_of
from tests.drawn import drawn_figures


@pytest.mark.parametrize(
    ("models", "drawn", "told"),
    [
        ([0.5, 0.6, np.nan], {0.62}, ["← 0.010", "← 0.001", "5.000 →"]),
        ([0.5], {0.62, 0.01, 0.001, 5.0}, []),  # beside a single model all are drawn
        ([np.nan], {0.62, 0.01, 0.001, 5.0}, []),
    ],
)
def test_a_baseline_far_from_the_models_is_a_number_and_not_a_mark(tmp_path, models, drawn, told):
    values = {"near": 0.62, "low": 0.01, "lower": 0.001, "high": 5.0, "none": np.nan}
    rows = [Row(name, simple=name) for name in values]
    with figure(tmp_path / "x.png", "", 1, 1, 3, 3) as (_, axes):
        ax = axes[0, 0]
        comparison._draw_rows(ax, rows, "")
        before = len(ax.get_lines())
        ax.plot(models, [0] * len(models), "o")
        comparison._draw_simple(ax, rows, {n: {"ne": v} for n, v in values.items()}, ["ne"])
        assert {line.get_xdata()[0] for line in ax.get_lines()[before + 1 :]} == drawn
        assert [text.get_text() for text in ax.texts] == told


def test_rows_are_in_groups_and_a_single_model_has_no_heading():
    rows = rows_of(["mine", "siren_rope", "ordinal"], ["popular"])
    assert [row.model or row.simple for row in rows] == [
        "", "ordinal", "", "siren_rope", "", "mine", "", "popular"
    ]  # fmt: skip
    assert [row.text for row in rows_of(["siren_rope"], [])] == ["SIREN-RoPE"]


def test_the_best_is_that_of_the_mean_and_needs_a_rival():
    assert best_of({"a": [1.0, 4.0], "b": [2.0, 2.0], "c": [np.nan]}, True) == "a"
    assert best_of({"a": [1.0, 4.0], "b": [2.0, 2.0], "c": [np.nan]}, False) == "b"
    assert best_of({"a": [1.0], "c": [np.nan]}, True) == ""


NE = Panel("NE", "", ("tasks", "like", "ne"), uninformed=1.0)


def make_models(names, ne=0.9, step=0.001):
    """Two seeds each; every model is a little worse than the one before."""
    return {
        name: [
            {"tasks": {"like": {"ne": ne + step * i + seed / 1e4}}, "seed": seed, "baselines": {}}
            for seed in (0, 1)
        ]
        for i, name in enumerate(names)
    }


def test_baseline_and_best_have_marks_and_bars_are_the_intervals_of_differences(
    tmp_path, monkeypatch
):
    figures = drawn_figures(monkeypatch)
    models = make_models(["siren_rope", "ordinal"])
    of = {"value": -0.001, "low": -0.004, "high": 0.003}
    differences = {"siren_rope": {"like": {"ne": of}}, "ordinal": {"like": None}}
    side_by_side(tmp_path / "x.png", models, [NE], "", "ordinal", differences)
    (ax,) = figures[0].axes
    front = [line for line in ax.get_lines() if line.get_zorder() == 3]
    marks = {line.get_color(): line.get_xdata()[0] for line in front}
    assert marks == pytest.approx({BEST: 0.90005, BASELINE: 0.90105})
    (bar,) = ax.containers
    (ends,) = bar.lines[2][0].get_segments()
    assert ends[:, 0] == pytest.approx([0.90005 - 0.003, 0.90005 + 0.004])
    assert [label.get_text() for label in ax.get_yticklabels()][1::2] == [
        words(name) for name in ("ordinal", "siren_rope")
    ]


@pytest.mark.parametrize("names", [RANKING_VARIANTS, RETRIEVAL_VARIANTS])
def test_a_picture_of_all_variants_can_be_read_at_900_pixels(tmp_path, names):
    panels = [NE._replace(title=str(i)) for i in range(4)]
    path = side_by_side(tmp_path / "x.png", make_models([*names, "mine"]), panels, "", "ordinal")
    with Image.open(path) as picture:
        width, height = picture.size
    assert width == style.WIDTH * 120 <= 900 * 1.2
    assert 0.18 * len(names) < height / 120 < 0.3 * len(names)


@pytest.mark.parametrize(("ne", "marked"), [(0.98, True), (0.6, False)])
def test_what_the_base_rate_has_is_marked_where_it_is_near(tmp_path, monkeypatch, ne, marked):
    figures = drawn_figures(monkeypatch)
    side_by_side(tmp_path / "x.png", make_models(["ordinal", "siren_rope"], ne, 0.015), [NE], "")
    (ax,) = figures[0].axes
    lines = [line for line in ax.get_lines() if line.get_label() == "no better than the base rate"]
    assert [line.get_xdata()[0] for line in lines] == [1.0] * marked


def test_of_many_models_the_baseline_and_the_best_of_each_group_have_lines():
    names = in_order([*RANKING_VARIANTS, "mine"])
    shown = plots._lined(make_models(names), [], "siren_rope", [NE])
    assert shown[:3] == ["none", "time_ladder", "hstu_bias"] and shown[-1] == "mine"
    assert "siren_rope" in shown and len(shown) < 10
    assert plots._lined(make_models(names), ["to_rope"], "siren_rope", [NE]) == ["to_rope"]
    assert plots._lined(make_models(names[:8]), [], "", [NE]) == names[:8]


def test_lines_can_be_told_apart_also_in_the_file(tmp_path):
    names = RANKING_VARIANTS[:20]
    lines = lines_of(names, names[0], names[1])
    looks = {(line.style["color"], line.style["linestyle"]) for line in lines.values()}
    assert len(looks) == len(names)
    with figure(tmp_path / "x.png", "", 1, 3, 3, 3) as (_, axes):
        for ax in axes.flat:
            for i, line in enumerate(lines.values()):
                ax.plot([0, 1], [i % 8, i], label=line.label, **line.style)
        style.legend_below(ax.figure)
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).astype(int)
    for colour in COLOURS:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(pixels - rgb).max(axis=1).min() < 10


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

    def band(axes, x, seeds, line):
        seen.append((line.label, seeds.mean(axis=0).tolist()))  # differences are of seed 1 alone

    monkeypatch.setattr(charts, "band", band)
    models = {"old": make_results({0: 0.2, 1: 0.4}), "new": make_results({1: 0.6, 2: 0.4})}
    lines = lines_of(list(models))
    path = charts.by_group(tmp_path / "x.png", models, PANELS, lines, "history", "", baseline)
    assert path.is_file()
    want = [("old", 0.3), ("new", 0.5)] + [("new", 0.2)] * (rows == 3)
    assert [label for label, _ in seen] == [label for label, _ in want]
    for (_, got), (_, value) in zip(seen, want, strict=True):
        np.testing.assert_allclose(got, [value, np.nan, np.nan, value], atol=1e-9)


@pytest.mark.parametrize("groups", [["1-4", "5-9"], ["5-9"], []])
def test_a_single_group_makes_no_picture(tmp_path, groups):
    (run,) = make_results({0: 0.2})
    run["slices"]["history"] = {group: run["slices"]["history"][group] for group in groups}
    models, lines = {"some": [run]}, lines_of(["some"])
    assert charts.by_group(tmp_path / "x.png", models, PANELS, lines, "history", "") is None
    assert not (tmp_path / "x.png").exists()


def test_a_missing_number_is_nan():
    assert charts.lookup({"a": {"b": 1}}, ("a", "b")) == 1
    assert np.isnan(charts.lookup({"a": {"b": None}}, ("a", "b")))
    assert np.isnan(charts.lookup({"a": {}}, ("a", "b", "c")))


def make_days(counts):
    """A run whose labels by day are the rarer, the fewer events there are."""
    days = {
        f"2024-01-0{i + 1}": {"like": {"count": n, "rate": n / 1000, "mean_score": n / 1000 + 0.01}}
        for i, n in enumerate(counts)
    }
    return {"seed": 0, "slices": {"day": days}, "has_utc_offset": False}


def test_days_with_few_events_are_neither_drawn_nor_do_they_set_the_scale(tmp_path, monkeypatch):
    figures = drawn_figures(monkeypatch)
    models = {"ordinal": [make_days([400, 11, 500, 49])]}
    lines = lines_of(["ordinal"])
    assert charts.calibration_by_day(tmp_path / "day.png", models, ["like"], lines, "")
    (ax,) = figures[0].axes
    days = {str(day) for line in ax.get_lines() for day in line.get_xdata()}
    assert days == {"2024-01-01", "2024-01-03"}
    low, high = ax.get_ylim()
    assert 0.39 < low < high < 0.52


@pytest.mark.parametrize("counts", [[], [100], [100, 49]])
def test_without_two_days_of_enough_events_there_is_no_picture_by_day(tmp_path, counts):
    path, models = tmp_path / "day.png", {"a": [make_days(counts)]}
    assert charts.calibration_by_day(path, models, ["like"], lines_of(["a"]), "log") is None
    assert not list(tmp_path.iterdir())


LOSS = Panel("training", "", ("train", "loss"))
VALIDATION = Panel("validation", "", ("validation", "ne"))


def make_metrics(losses, validations=(), key="ne"):
    """The lines of a metrics.jsonl, at every tenth step."""
    both = {"train": ("loss", losses), "validation": (key, validations)}
    return [
        {"step": 10 * (i + 1), "kind": kind, key: value}
        for kind, (key, values) in both.items()
        for i, value in enumerate(values)
    ]


def draw_learning(path, *runs):
    models = {f"model {i}": [run] for i, run in enumerate(runs)}
    return curves.learning(path, models, [LOSS, VALIDATION], lines_of(list(models)), "")


@pytest.mark.parametrize("steep", [True, False])
def test_the_start_of_a_training_does_not_squash_the_rest(tmp_path, monkeypatch, steep):
    figures = drawn_figures(monkeypatch)
    losses = np.linspace(0.6, 0.5, 30)
    losses[:2] = (9.0, 5.0) if steep else (0.62, 0.61)
    assert draw_learning(tmp_path / "x.png", make_metrics(losses, losses))
    for ax in figures[0].axes:
        low, high = ax.get_ylim()
        assert low < 0.5 and high > 0.59 and high - low < 0.2
        assert ("off the axis" in ax.get_xlabel()) == steep


def test_labels_of_narrow_panels_are_below_their_own_panels(tmp_path, monkeypatch):
    figures = drawn_figures(monkeypatch)
    losses = [9.0, 5.0, *np.linspace(0.6, 0.5, 28)]
    metrics = make_metrics(losses, losses)
    panels = [LOSS, VALIDATION, VALIDATION._replace(title="again")]
    curves.learning(tmp_path / "x.png", {"m": [metrics]}, panels, lines_of(["m"]), "")
    FigureCanvasAgg(figures[0]).draw()
    for ax in figures[0].axes:
        label, panel = ax.xaxis.label.get_window_extent(), ax.get_window_extent()
        assert panel.x0 <= label.x0 < label.x1 <= panel.x1


@pytest.mark.parametrize("panels", [1, 3])
def test_a_title_is_inside_its_picture(tmp_path, monkeypatch, panels):
    figures = drawn_figures(monkeypatch)
    title = "log, test split: reliability of " + ", ".join(map(words, RANKING_VARIANTS[:9]))
    for text in ("short", title):
        with figure(tmp_path / "x.png", text, 2, panels, 3.4, 2.2):
            pass
    short, long = figures
    FigureCanvasAgg(long).draw()
    box, whole = long._suptitle.get_window_extent(), long.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert long._suptitle.get_text().split() == title.split()
    assert long.get_figheight() > short.get_figheight()


def test_baselines_of_a_stream_can_be_told_apart():
    looks = [staleness._of_baseline(i) for i in range(8)]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == len(looks)


def test_a_last_loss_of_few_steps_is_left_out(tmp_path, monkeypatch):
    figures = drawn_figures(monkeypatch)
    rest = [{"step": 53, "kind": "train", "loss": 7.0}]
    assert draw_learning(tmp_path / "x.png", make_metrics([0.5] * 5) + rest)
    (line,) = figures[0].axes[0].get_lines()
    assert max(line.get_xdata()) == 50


def test_a_single_point_makes_no_curve_and_the_picture_says_so(tmp_path, monkeypatch):
    assert draw_learning(tmp_path / "x.png", make_metrics([0.5], [0.9]), make_metrics([])) is None
    assert not list(tmp_path.iterdir())
    figures = drawn_figures(monkeypatch)
    assert draw_learning(tmp_path / "x.png", make_metrics([0.5, 0.4], [0.9]))
    (ax,), (legend,) = figures[0].axes, figures[0].legends
    assert ax.get_title() == "training" and "only once" in legend.get_title().get_text()


@pytest.mark.parametrize("start", [1.0, 0.0, -0.1, np.pi])
def test_a_gate_that_hardly_moves_looks_like_one(tmp_path, monkeypatch, start):
    figures = drawn_figures(monkeypatch)
    log = make_metrics([], start + np.array([0.004, 0.01]), "gate/order")
    models, lines = {"siren_rope": [log]}, lines_of(["siren_rope"])
    curves.gates(tmp_path / "x.png", models, {"siren_rope": {"order": start}}, lines, "")
    (ax,) = figures[0].axes
    low, high = ax.get_ylim()
    assert high - low >= max(curves.LEAST_SPAN, abs(start)) and low <= 0 <= high
    (line,) = [line for line in ax.get_lines() if len(line.get_xdata()) == 3]
    assert line.get_xdata()[0] == 0 and line.get_ydata()[0] == start
    assert "start" in {line.get_label() for line in ax.get_lines()}


def test_without_gates_there_is_no_picture_of_them(tmp_path):
    lines = lines_of(["ordinal"])
    assert (
        curves.gates(tmp_path / "x.png", {"ordinal": [make_metrics([1.0])]}, {}, lines, "") is None
    )
