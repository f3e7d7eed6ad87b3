"""The report of an ablation: its numbers, intervals, tables and pictures, from made-up runs."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.baselines.popularity import MEANINGS, baseline_names
from siren_rope_jax.metrics import bootstrap
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns, RankColumns
from siren_rope_jax.metrics.ranks import COMPARED, RANK_METRICS
from siren_rope_jax.studies import calibration, charts, jobs, plots, report
from siren_rope_jax.studies.predictions import read_predictions
from siren_rope_jax.studies.summary import gap_closed
from tests.made_up import make_log, make_plan, train
from tests.refusals import refused


def written(tmp_path, *arguments, **changes):
    """A whole ablation and its report: the plan, its runs, their directory, numbers and text."""
    spec, runs = make_plan(tmp_path, *arguments, **changes)
    assert jobs.execute(runs, spec.jobs, train) == []
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"]["made_up"]
    return SimpleNamespace(spec=spec, runs=runs, out=tmp_path / "out", numbers=numbers, text=text)


@pytest.fixture(scope="module")
def rankers(tmp_path_factory):
    return written(tmp_path_factory.mktemp("rankers"))


@pytest.fixture(scope="module")
def retrievers(tmp_path_factory):
    return written(tmp_path_factory.mktemp("retrievers"), "retrieval", champion="siren_rope")


def table(text, heading):
    """The rows of the table under a heading, by their first cell."""
    lines = text.split(f"### {heading}\n")[1].split("###")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def pictures(of):
    """The pictures that a report shows, all of which are there."""
    names = [line.split("](")[1].rstrip(")") for line in of.text.splitlines() if line[:2] == "!["]
    assert all((of.out / name).read_bytes().startswith(b"\x89PNG") for name in names)
    return names


def files(runs, variant):
    return [r.workdir / "predictions.parquet" for r in runs if r.variant == variant]


def test_the_report_holds_mean_and_deviation_over_seeds(rankers):
    own = rankers.numbers["variants"]["siren_rope"]["parts"]["like"]
    ne = [r.result()["tasks"]["like"]["ne"] for r in rankers.runs if r.variant == "siren_rope"]
    assert own["metrics"]["ne"]["mean"] == pytest.approx(np.mean(ne))
    assert own["metrics"]["ne"]["sd"] == pytest.approx(np.std(ne, ddof=1))
    told = f"{np.mean(ne):.4f} ± {np.std(ne, ddof=1):.4f}"
    assert table(rankers.text, "like: overview")["siren_rope"][0] == told
    assert table(rankers.text, "Overview")["siren_rope"][0] == told
    assert table(rankers.text, "Cost")["siren_rope"] == ["12,355", "61 s"]  # the shortest run's


def test_the_report_holds_the_paired_difference_to_the_baseline(rankers):
    columns = ProbabilityColumns("like", "like_score")
    a, b = (
        columns.resample(*read_predictions(files(rankers.runs, variant), columns))["ne"]
        for variant in ("siren_rope", "ordinal")
    )
    want, sd = bootstrap.difference(a, b), bootstrap.seed_deviation(a, b)
    like = {v: own["parts"]["like"] for v, own in rankers.numbers["variants"].items()}
    got = like["siren_rope"]["difference"]["ne"]
    assert (got["difference"], got["low"], got["high"]) == pytest.approx(want)
    ne = {v: own["metrics"]["ne"]["values"] for v, own in like.items()}
    pairs = zip(ne["siren_rope"], ne["ordinal"], strict=True)
    assert got["sd"] == pytest.approx(np.std([x - y for x, y in pairs], ddof=1)) == sd
    assert got["high"] < 0  # less noise is better, beyond doubt
    assert like["ordinal"]["difference"] is None
    shown = f"**{want.difference:+.4f} ± {sd:.4f} [{want.low:+.4f}, {want.high:+.4f}]**"
    rows = table(rankers.text, "Difference to ordinal")
    assert rows["siren_rope"][0] == shown and rows["variant"][0] == "like: Δ NE"


def test_differences_to_a_champion_mirror_those_to_the_baseline(rankers, tmp_path):
    spec = dataclasses.replace(rankers.spec, champion="siren_rope")
    text = report.write_report(spec, rankers.out, rankers.runs).read_text()
    numbers = json.loads((rankers.out / "report.json").read_text())["datasets"]["made_up"]
    parts = {variant: own["parts"] for variant, own in numbers["variants"].items()}
    forth = parts["siren_rope"]["long"]["difference"]["auc"]
    back = parts["ordinal"]["long"]["to_champion"]["auc"]
    for a, b in (("difference", "difference"), ("low", "high"), ("high", "low")):
        assert back[a] == pytest.approx(-forth[b])
    assert parts["siren_rope"]["like"]["to_champion"] is None
    rows = table(text, "Difference to siren_rope")
    assert rows["variant"][:3] == ["like: Δ NE", "like: Δ AUC", "long: Δ NE"]
    assert list(rows) == ["variant", "---", "ordinal", "middle"]
    assert "### Difference to siren_rope" not in rankers.text


def test_the_share_of_the_gap_closed_is_taken_seed_by_seed(rankers):
    ne = {(r.variant, r.seed): r.result()["tasks"]["like"]["ne"] for r in rankers.runs}
    ideal = rankers.runs[0].result()["baselines"]["ideal"]["like"]["ne"]
    want = [(ne["ordinal", s] - ne["siren_rope", s]) / (ne["ordinal", s] - ideal) for s in (0, 1)]
    parts = {variant: own["parts"] for variant, own in rankers.numbers["variants"].items()}
    assert parts["siren_rope"]["like"]["gap_closed"]["values"] == pytest.approx(want)
    assert parts["siren_rope"]["long"]["gap_closed"] is None  # its ideal observer is not known
    assert parts["ordinal"]["like"]["gap_closed"]["mean"] == 0


def test_a_difference_is_over_the_seeds_both_have_and_says_how_many(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0, 1, 2))
    jobs.execute(runs, 1, train)
    left = {("ordinal", 1), ("ordinal", 2), ("middle", 0)}  # the only ones that are missing
    for run in runs:
        if (run.variant, run.seed) in left:
            (run.workdir / "result.json").unlink()
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    tables = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"]["made_up"]
    siren = tables["variants"]["siren_rope"]["parts"]["like"]
    assert siren["difference"]["seeds"] == siren["gap_closed"]["seeds"] == [0]
    ne = {
        r.variant: r.result()["tasks"]["like"]["ne"] for r in runs if r.seed == 0 if r.is_finished()
    }
    assert siren["difference"]["ne"]["difference"] == pytest.approx(
        ne["siren_rope"] - ne["ordinal"]
    )
    middle = tables["variants"]["middle"]["parts"]["like"]
    assert middle["difference"] is middle["gap_closed"] is None  # no seed in common
    rows = table(text, "like: overview")
    assert {"ordinal (n = 1)", "siren_rope", "middle (n = 2)"} <= set(rows)
    assert "(n = 1)" in rows["siren_rope"][-1]  # the gap
    rows = table(text, "Difference to ordinal")
    assert all("(n = 1)" in cell for cell in rows["siren_rope"])
    assert not any(rows["middle (n = 2)"])


def test_a_seed_without_the_metric_has_no_share_of_the_gap():
    assert gap_closed({0: None, 1: 0.7}, {0: 0.8, 1: 0.8}, 0.6, False)["seeds"] == [1]
    assert gap_closed({0: None, 1: 0.7}, {0: 0.8, 1: None}, 0.6, False) is None
    assert gap_closed({0: 0.7}, {0: 0.8}, None, False) is None


def test_a_gap_is_closed_upwards_where_higher_is_better():
    assert gap_closed({0: 0.7}, {0: 0.6}, 0.8, True)["mean"] == pytest.approx(0.5)
    for higher_is_better in (True, False):  # the baseline is as good as the ideal observer
        assert gap_closed({0: 0.7}, {0: 0.8}, 0.8, higher_is_better) is None


def test_the_report_states_data_protocol_seeds_and_machine_and_shows_its_pictures(rankers):
    text = rankers.text
    assert "2023-11-20" in text and "Seeds 0, 1" in text and "cores" in text
    assert "one global time split" in text
    rows = table(text, "like: overview")
    assert {"*oracle*", "*ideal*", "*user_rate*", "*item_rate*"} < set(rows)
    assert "*ideal*" not in table(text, "long: overview")
    kinds = ("models", "hour", "gap", "day", "learning", "gates")
    assert pictures(rankers) == [f"made_up-{kind}.png" for kind in kinds]


def test_pictures_show_lines_of_the_chosen_variants_only(rankers, tmp_path, monkeypatch):
    seen = set()

    def band(axes, x, seeds, label, style):
        seen.add(label.removeprefix("mean score, "))

    for module in (charts, calibration):
        monkeypatch.setattr(module, "band", band)
    everyone = {variant.name for variant in rankers.spec.variants}
    for lines, shown in (((), everyone), (("siren_rope",), {"siren_rope"})):
        seen.clear()
        spec = dataclasses.replace(rankers.spec, lines=lines)
        report.write_report(spec, tmp_path, rankers.runs)
        assert seen == shown


def test_pictures_do_without_lines_of_variants_that_failed(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0,), lines=("siren_rope",))
    jobs.execute([run for run in runs if run.variant != "siren_rope"], 1, train)
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert "**Not finished:** " in text and "made_up-learning.png" in text


def test_a_single_seed_has_no_deviation(tmp_path):
    text = written(tmp_path, seeds=(0,), variants=({"name": "ordinal"},)).text
    assert " ± " not in text.split("###", 1)[1]


def test_known_and_unknown_items_are_told_apart(tmp_path):
    make_log(tmp_path / "log", users=60, min_count=24)
    of = written(tmp_path, seeds=(0,))
    result = of.runs[0].result()
    total, groups = result["tasks"]["like"]["count"], result["slices"]["item"]
    (heading,) = [x for x in of.text.split("\n### ") if x.startswith("like: by whether the item")]
    rows = table(of.text, heading.splitlines()[0])
    shares = [f"{100 * groups[g]['like']['count'] / total:.1f} %" for g in ("known", "unknown")]
    assert rows["variant"] == [
        f"NE, known ({shares[0]})", f"NE, unknown ({shares[1]})", "AUC, known", "AUC, unknown",
    ]  # fmt: skip
    values = [groups[g]["like"][m] for m in ("ne", "auc") for g in ("known", "unknown")]
    assert rows["ordinal"] == [f"{value:.4f}" for value in values]


def test_runs_over_different_events_are_not_compared(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0,))
    jobs.execute(runs, 1, train)
    other, path = (run.workdir / "predictions.parquet" for run in runs[:2])
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with refused(other, path):
        report.write_report(spec, tmp_path / "out", runs)


def test_the_overview_holds_mean_and_deviation_over_seeds_and_the_time_of_the_query(retrievers):
    rows = table(retrievers.text, "Overview")
    metrics = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
    assert rows["variant"] == ["query's time", *(m.upper() for m in metrics)]
    for variant, time in (
        ("ordinal", "–"), ("siren_rope", "request"), ("siren_rope_event", "event"),
    ):  # fmt: skip
        results = [r.result()["ranking"] for r in retrievers.runs if r.variant == variant]
        values = np.array([[r[m] for m in metrics] for r in results])
        spread = zip(values.mean(0), values.std(0, ddof=1), strict=True)
        cells = [f"{a:.4f} ± {b:.4f}" for a, b in spread]
        assert rows[variant] == [time, *cells]
        own = retrievers.numbers["variants"][variant]["parts"][""]["metrics"]
        assert own["mrr"]["values"] == values[:, -1].tolist()
    baselines = retrievers.runs[0].result()["baselines"]
    assert rows["*revisit*"] == ["", "–", *(f"{baselines['revisit'][m]:.4f}" for m in metrics[1:])]
    assert set(table(retrievers.text, "All metrics")["variant"][1:]) == {
        m.upper() for m in RANK_METRICS
    }


@pytest.mark.parametrize(
    ("key", "other"), [("difference", "ordinal"), ("to_champion", "siren_rope")]
)
def test_the_report_holds_paired_differences_to_the_baseline_and_the_champion(
    retrievers, key, other
):
    rows, columns = table(retrievers.text, f"Difference to {other}"), RankColumns("rank", "nll")
    for variant in ("ordinal", "siren_rope", "siren_rope_event"):
        got = retrievers.numbers["variants"][variant]["parts"][""][key]
        if variant == other:
            assert got is None and variant not in rows
            continue
        a, b = (
            columns.resample(*read_predictions(files(retrievers.runs, v), columns))
            for v in (variant, other)
        )
        for metric, cell in zip(COMPARED, rows[variant][1:], strict=True):
            want = bootstrap.difference(a[metric], b[metric])
            sd = np.std(a[metric].by_seed - b[metric].by_seed, ddof=1)
            assert tuple(got[metric].values()) == pytest.approx((*want, sd))
            shown = f"{want.difference:+.4f} ± {sd:.4f} [{want.low:+.4f}, {want.high:+.4f}]"
            assert cell == (f"**{shown}**" if want.low > 0 or want.high < 0 else shown)
    better = retrievers.numbers["variants"]["siren_rope"]["parts"][""]["difference"]
    assert better["nll"]["high"] < 0 < better["ndcg@10"]["low"]


def test_every_table_of_metrics_names_protocol_catalogue_misses_and_filter(retrievers):
    result = retrievers.runs[0].result()
    unranked = result["ranking"]["unranked"]
    note = (
        f"*One global time split; full ranking over the catalogue of {result['catalogue']} items, "
        "ties against the model; items a user had before may come again; "
        f"{unranked} of {result['events']} test events have an item outside the catalogue (seen "
        "too rarely in training, or never) and count as misses; blind guessing has an NLL of "
        f"{np.log(result['catalogue']):.2f}.*"
    )
    parts = {part.split("\n")[0]: part for part in retrievers.text.split("\n### ")[1:]}
    assert list(parts) == [
        "Overview", "Difference to ordinal", "Difference to siren_rope", "All metrics",
        "Validation", "By local hour of day", "By time since the user's last event",
        "By number of training events of the item", "By whether the user had the item before",
        "Cost",
    ]  # fmt: skip
    assert unranked > 0
    of_others = ("Validation", "Cost")
    assert [name for name, part in parts.items() if note not in part] == list(of_others)


def test_the_validation_told_is_that_of_the_parameters_that_were_tested(tmp_path):
    spec, runs = make_plan(tmp_path, "retrieval")
    jobs.execute(runs, 1, train)
    for run in runs:
        path = run.workdir / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 200 + 50 * run.seed}))
    rows = table(report.write_report(spec, tmp_path / "out", runs).read_text(), "Validation")
    assert rows["variant"] == ["query's time", "NLL", "HR@10", "NDCG@10", "MRR"]
    chosen = [
        line["nll"]
        for run in runs
        if run.variant == "siren_rope"
        for line in map(json.loads, (run.workdir / "metrics.jsonl").read_text().splitlines())
        if line["kind"] == "validation" and line["step"] == 200 + 50 * run.seed
    ]
    assert rows["siren_rope"][1] == f"{np.mean(chosen):.4f} ± {np.std(chosen, ddof=1):.4f}"


def test_where_metrics_are_missing_the_report_says_so(tmp_path):
    spec, runs = make_plan(tmp_path, "retrieval")
    jobs.execute(runs, 1, train)
    path = runs[0].workdir / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])  # the last line is the validation at step 500, which was chosen
    with refused(path, 500):
        report.write_report(spec, tmp_path / "out", runs)
    path.unlink()
    with refused(path, 500):
        report.write_report(spec, tmp_path / "out", runs)


def test_a_run_without_metrics_is_drawn_without_its_training(tmp_path):
    _, runs = make_plan(tmp_path, "retrieval")
    jobs.execute(runs[:1], 1, train)
    (runs[0].workdir / "metrics.jsonl").unlink()
    drawn = {path.stem for path in plots.draw_run(runs[0].workdir)}
    assert "models" in drawn and not drawn & {"learning", "gates"}


def test_one_run_that_was_held_up_does_not_change_the_training_time_told(tmp_path):
    spec, runs = make_plan(tmp_path, "retrieval", seeds=(0, 1, 2))
    jobs.execute(runs, 1, train)
    path = runs[-1].workdir / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train_seconds": 9_000.0}))
    rows = table(report.write_report(spec, tmp_path / "out", runs).read_text(), "Cost")
    assert {rows[v][1] for v in ("ordinal", "siren_rope", "siren_rope_event")} == {"61 s"}


@pytest.mark.parametrize("filter_seen", [False, True])
def test_the_baselines_stand_below_the_models_and_are_explained(tmp_path, filter_seen):
    overrides = {"filter_seen": filter_seen}
    text = written(tmp_path, "retrieval", seeds=(0,), data={"overrides": overrides}).text
    (told,) = [line for line in text.splitlines() if line.startswith("Baselines: ")]
    names = [row.strip("*") for row in table(text, "Overview") if row.startswith("*")]
    assert names == list(baseline_names(filter_seen))
    assert [name for name in MEANINGS if f"*{name}*: {MEANINGS[name]}" in told] == names


def test_slices_are_means_over_seeds_and_their_shares_stand_in_the_head(retrievers):
    results = [r.result()["slices"] for r in retrievers.runs if r.variant == "siren_rope"]
    want = np.mean([r["revisit"]["again"]["ndcg@10"] for r in results])
    rows = table(retrievers.text, "By whether the user had the item before")
    assert f"{want:.4f}" in rows["siren_rope"]
    counts = {g: v["count"] for g, v in results[0]["popularity"].items() if g != "0"}
    total = retrievers.runs[0].result()["events"]
    gaps = {g: v for g, v in results[0]["gap"].items() if v["count"]}
    rows = table(retrievers.text, "By time since the user's last event")
    assert rows["variant"][1:] == [
        f"NDCG@10, {g} ({100 * v['count'] / total:.1f} %)" for g, v in gaps.items()
    ]
    want = [np.mean([r["gap"][g]["ndcg@10"] for r in results]) for g in gaps]
    assert rows["siren_rope"][1:] == [f"{value:.4f}" for value in want] and len(gaps) > 3
    rows = table(retrievers.text, "By number of training events of the item")
    assert rows["variant"][1 : 1 + len(counts)] == [
        f"NDCG@10, {g} ({100 * n / total:.1f} %)" for g, n in counts.items()
    ]


def test_the_report_says_which_events_are_targets(retrievers, tmp_path):
    count = retrievers.runs[0].result()["events"]
    size = PreparedLog.open(retrievers.runs[0].log.path).index[:, 3].sum()
    told = f"Targets: {count:,} of the split's {size:,} events. "
    told += "A user's first event is not a target"
    assert f"\n{told}.\n" in retrievers.text
    overrides = {"data.target_task": "like"}
    text = written(tmp_path, "retrieval", seeds=(0,), data={"overrides": overrides}).text
    assert f"{told}, and neither is an event that is not positive for like " in text


def test_the_report_of_retrievers_shows_its_pictures(retrievers):
    kinds = ("models", "hour", "gap", "popularity", "learning", "gates")  # histories are all alike
    assert pictures(retrievers) == [f"made_up-{kind}.png" for kind in kinds]


def test_the_protocol_of_the_log_is_that_of_the_tables(tmp_path):
    log = make_log(tmp_path / "log", users=60, items=300, min_count=1)
    meta = json.loads((log.path / "meta.json").read_text()) | {"protocol": "leave_one_out"}
    (log.path / "meta.json").write_text(json.dumps(meta))
    overrides = {"filter_seen": True}
    text = written(tmp_path, "retrieval", seeds=(0,), data={"overrides": overrides}).text
    assert "Protocol: leave-one-out. " in text and "global time split" not in text
    assert "*Leave-one-out; full ranking" in text and "items a user had before are left out" in text
    assert "validation from" not in text
