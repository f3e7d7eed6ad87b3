"""The report of an ablation: its numbers, intervals, tables and pictures, from made-up runs."""

import dataclasses
import json
import re
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.baselines.popularity import MEANINGS, baseline_names
from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.intervals import certain, interval
from siren_rope_jax.metrics.ranks import RANK_METRICS
from siren_rope_jax.rotation.names import words
from siren_rope_jax.studies import charts, jobs, plots, report
from siren_rope_jax.studies.predictions import read_predictions
from siren_rope_jax.studies.summary import gap_closed
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.kinds.kind import titled
from tests.made_up import change, make_log, make_plan, train
from tests.refusals import refused

BOTH = pytest.mark.parametrize("kind", ["ranking", "retrieval"])


def trained(tmp_path, *arguments, **changes):
    """A whole ablation and its runs."""
    spec, runs = make_plan(tmp_path, *arguments, **changes)
    assert jobs.execute(runs, spec.jobs, train) == []
    return spec, runs


def reported(spec, runs, out):
    """A report: the plan, its runs, their directory, numbers and text."""
    text = report.write_report(spec, out, runs).read_text()
    numbers = json.loads((out / "report.json").read_text())["datasets"]["made_up"]
    return SimpleNamespace(spec=spec, runs=runs, out=out, numbers=numbers, text=text)


def written(tmp_path, *arguments, **changes):
    """The report of a whole ablation, whose slices need few events to be drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "FEW", 10)
        return reported(*trained(tmp_path, *arguments, **changes), tmp_path / "out")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """By kind."""
    champion = {"champion": "siren_rope"}
    return {k: written(tmp_path_factory.mktemp(k), k, **champion) for k in ("ranking", "retrieval")}


def table(text, heading):
    """The rows of the table under a heading: by a variant's code name, or by their first cell."""
    lines = text.split(f"### {heading}\n")[1].split("###")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return {re.sub(r"^(?:.* \()?`(\w+)`\)?", r"\1", row[0]): row[1:] for row in rows}


def pictures(of):
    """The pictures that a report shows, all of which are there."""
    names = [line.split("](")[1].rstrip(")") for line in of.text.splitlines() if line[:2] == "!["]
    assert all((of.out / name).read_bytes().startswith(b"\x89PNG") for name in names)
    return names


@BOTH
def test_the_overview_holds_mean_and_deviation_over_seeds(reports, kind):
    of, kind = reports[kind], KINDS[kind]
    for part in kind.parts(of.runs[0].result()):
        rows = table(of.text, titled(part, "overview") if part else "Overview")
        metrics = kind.applying(kind.shown, of.runs[0].result(), part)
        shown = slice(bool(kind.column), bool(kind.column) + len(metrics))
        assert rows["variant"][shown] == [kind.metrics[metric].label for metric in metrics]
        for variant, own in of.numbers["variants"].items():
            results = [r.result()[kind.measured] for r in of.runs if r.variant == variant]
            values = {
                m: [kind.part(r, part)[m] for r in results] for m in own["parts"][part]["metrics"]
            }
            cells = {m: f"{np.mean(v):.4f} ± {np.std(v, ddof=1):.4f}" for m, v in values.items()}
            assert rows[variant][shown] == [cells[metric] for metric in metrics]
            for metric, numbers in own["parts"][part]["metrics"].items():
                assert numbers["values"] == values[metric]
                assert numbers["mean"] == pytest.approx(np.mean(values[metric]))
                assert numbers["sd"] == pytest.approx(np.std(values[metric], ddof=1))


def test_tables_of_several_parts_and_of_retrievers_have_columns_of_their_own(reports):
    rankers, retrievers = reports.values()
    overview, like = table(rankers.text, "Overview"), table(rankers.text, "like: overview")
    assert overview["siren_rope"][0] == like["siren_rope"][0]
    assert table(rankers.text, "Cost")["siren_rope"] == ["12,355", "61 s"]  # the shortest run's
    rows = table(retrievers.text, "Overview")
    times = {variant: rows[variant][0] for variant in retrievers.numbers["variants"]}
    assert rows["variant"][0] == "query's time"
    assert times == {"ordinal": "–", "siren_rope": "request", "siren_rope_event": "event"}
    revisit = retrievers.runs[0].result()["baselines"]["revisit"]
    shown = [f"{revisit[m]:.4f}" for m in ("hr@1", "hr@10", "ndcg@10", "mrr")]
    assert rows["*revisit*"] == ["", "–", *shown]
    labels = table(retrievers.text, "All metrics")["variant"][1:]
    assert set(labels) == {metric.upper() for metric in RANK_METRICS}


@BOTH
@pytest.mark.parametrize(
    ("key", "other"), [("difference", "ordinal"), ("to_champion", "siren_rope")]
)
def test_the_report_holds_paired_differences_to_the_baseline_and_the_champion(
    reports, kind, key, other
):
    of, kind = reports[kind], KINDS[kind]
    rows = table(of.text, f"Difference to {words(other)}")
    labels = [titled(p, f"Δ {m.upper()}") for p in of.numbers["counts"] for m in kind.compared]
    assert rows["variant"][-len(labels) :] == labels

    def resampled(variant, columns):
        files = [r.workdir / "predictions.parquet" for r in of.runs if r.variant == variant]
        return columns.resample(*read_predictions(files, columns))

    family = []
    for variant, own in of.numbers["variants"].items():
        if variant == other:
            assert {part[key] for part in own["parts"].values()} == {None} and variant not in rows
            continue
        cells = iter(rows[variant][-len(labels) :])
        for part, numbers in own["parts"].items():
            columns = kind.resampled(part, kind.part(of.runs[0].result()[kind.measured], part))
            a, b = (resampled(v, columns) for v in (variant, other))
            for metric in kind.compared:
                want = interval(a[metric], b[metric])
                assert tuple(numbers[key][metric].values()) == pytest.approx(want)
                shown = f"{want.value:+.4f} [{want.low:+.4f}, {want.high:+.4f}]"
                cell = next(cells)
                assert cell.strip("*") == shown
                assert metric == kind.primary or "*" not in cell
                if metric == kind.primary:
                    family.append((want.p, "*" in cell))
    p_values, bold = zip(*family, strict=True)
    assert list(bold) == certain(p_values)
    assert any(bold) or kind.by_task  # of which two seeds are too few to be sure
    better = of.numbers["variants"]["siren_rope"]["parts"]["like" if kind.by_task else ""]
    assert better["difference"][kind.compared[0]]["value"] < 0  # less noise is better


def test_the_share_of_the_gap_closed_is_taken_seed_by_seed(reports):
    rankers = reports["ranking"]
    ne = {(r.variant, r.seed): r.result()["tasks"]["like"]["ne"] for r in rankers.runs}
    ideal = rankers.runs[0].result()["baselines"]["ideal"]["like"]["ne"]
    want = [(ne["ordinal", s] - ne["siren_rope", s]) / (ne["ordinal", s] - ideal) for s in (0, 1)]
    parts = {variant: own["parts"] for variant, own in rankers.numbers["variants"].items()}
    assert parts["siren_rope"]["like"]["gap_closed"]["values"] == pytest.approx(want)
    assert parts["siren_rope"]["long"]["gap_closed"] is None  # its ideal observer is not known
    assert parts["ordinal"]["like"]["gap_closed"]["mean"] == 0


def test_a_difference_is_over_the_seeds_both_have_and_says_how_many(tmp_path):
    spec, runs = trained(tmp_path, seeds=(0, 1, 2))
    left = {("ordinal", 1), ("ordinal", 2), ("middle", 0)}  # the only ones that are missing
    for run in runs:
        if (run.variant, run.seed) in left:
            (run.workdir / "result.json").unlink()
    of = reported(spec, runs, tmp_path / "out")
    siren, middle = (
        of.numbers["variants"][variant]["parts"]["like"] for variant in ("siren_rope", "middle")
    )
    assert siren["difference"]["seeds"] == siren["gap_closed"]["seeds"] == [0]
    a, b = (r.result()["tasks"]["like"]["ne"] for r in (runs[1], runs[0]))
    assert siren["difference"]["ne"]["value"] == pytest.approx(a - b)
    assert middle["difference"] is middle["gap_closed"] is None  # no seed in common
    rows = table(of.text, "like: overview")
    assert {"ordinal (n = 1)", "siren_rope", "middle (n = 2)"} <= set(rows)
    assert "(n = 1)" in rows["siren_rope"][-1]  # the gap
    rows = table(of.text, "Difference to ordinal RoPE")
    assert all("(n = 1)" in cell for cell in rows["siren_rope"])
    assert not any(rows["middle (n = 2)"])


@pytest.mark.parametrize(
    ("own", "baseline", "ideal", "higher", "seeds", "mean"),
    [
        ({0: None, 1: 0.7}, {0: 0.8, 1: 0.8}, 0.6, False, [1], 0.5),
        ({0: 0.7}, {0: 0.6}, 0.8, True, [0], 0.5),
        ({0: None, 1: 0.7}, {0: 0.8, 1: None}, 0.6, False, None, None),
        ({0: 0.7}, {0: 0.8}, None, False, None, None),
        ({0: 0.7}, {0: 0.8}, 0.8, True, None, None),  # the baseline is as good as the ideal
        ({0: 0.7}, {0: 0.8}, 0.8, False, None, None),
    ],
)
def test_a_share_of_the_gap_needs_a_gap_and_all_three(own, baseline, ideal, higher, seeds, mean):
    found = gap_closed(own, baseline, ideal, higher)
    assert found is None if seeds is None else found["seeds"] == seeds
    assert found is None or found["mean"] == pytest.approx(mean)


def test_the_report_states_data_protocol_seeds_and_machine(reports):
    text = reports["ranking"].text
    assert "2023-11-20" in text and "Seeds 0, 1" in text and "cores" in text
    assert "one global time split" in text
    rows = table(text, "like: overview")
    assert {"*oracle*", "*ideal*", "*user_rate*", "*item_rate*"} < set(rows)
    assert "*ideal*" not in table(text, "long: overview")


@pytest.mark.parametrize(("kind", "own"), [("ranking", "day"), ("retrieval", "popularity")])
def test_the_report_shows_its_pictures(reports, kind, own):  # the histories are all alike
    names = ("models", "hour", "gap", own, "learning", "gates")
    assert pictures(reports[kind]) == [f"made_up-{name}.png" for name in names]


def test_tables_have_the_variants_in_groups_in_words_and_with_the_names_for_configs(reports):
    lines = reports["retrieval"].text.split("### Overview\n")[1].split("###")[0].splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][2:] == [
        "| **Without time**", "| ordinal RoPE (`ordinal`)",
        "| **SIREN-RoPE and its parts**", "| SIREN-RoPE (`siren_rope`)",
        "| SIREN-RoPE, times of events (`siren_rope_event`)",
        "| **Without a model**", *(f"| *{name}*" for name in MEANINGS),
    ]  # fmt: skip
    assert list(table(reports["ranking"].text, "Cost"))[-2:] == ["**Others**", "middle"]


def test_where_there_are_no_curves_the_report_says_so(tmp_path):
    spec, runs = trained(tmp_path, seeds=(0,))
    for run in runs:
        path = run.workdir / "metrics.jsonl"
        last = [line for line in path.read_text().splitlines() if '"step": 500' in line]
        path.write_text("".join(f"{line}\n" for line in last))
    of = reported(spec, runs, tmp_path / "out")
    assert "\nNo learning curves: " in of.text and "-learning.png" not in of.text
    assert "made_up-gates.png" in pictures(of)  # from their start on


def test_pictures_show_lines_of_the_chosen_variants_only(reports, tmp_path, monkeypatch):
    rankers, seen = reports["ranking"], set()

    def band(axes, x, seeds, line):
        seen.add(line.label.removeprefix("mean score, ").partition(" (")[0])

    monkeypatch.setattr(charts, "band", band)
    everyone = {words(variant.name) for variant in rankers.spec.variants}
    for lines, shown in (((), everyone), (("siren_rope",), {"SIREN-RoPE"})):
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
    assert " ± " not in text.split("###", 1)[1] and "### Difference to siren_rope" not in text


def test_runs_over_different_events_are_not_compared(tmp_path):
    spec, runs = trained(tmp_path, seeds=(0,))
    other, path = (run.workdir / "predictions.parquet" for run in runs[:2])
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with refused(other, path):
        report.write_report(spec, tmp_path / "out", runs)


def test_every_table_of_metrics_names_protocol_catalogue_misses_and_filter(reports):
    retrievers = reports["retrieval"]
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
        "Overview", "Difference to ordinal RoPE", "Difference to SIREN-RoPE", "All metrics",
        "Validation", "By local hour of day", "By time since the user's last event",
        "By number of training events of the item", "By whether the user had the item before",
        "Cost", "Gates",
    ]  # fmt: skip
    assert unranked > 0
    of_others = ("Validation", "Cost", "Gates")
    assert [name for name, part in parts.items() if note not in part] == list(of_others)


def test_validations_are_of_the_parameters_tested_and_a_run_held_up_changes_no_cost(tmp_path):
    spec, runs = trained(tmp_path, "retrieval", seeds=(0, 1, 2))
    for run in runs:
        change(run.workdir / "result.json", step=200 + 50 * run.seed)
    change(runs[-1].workdir / "result.json", train_seconds=9_000.0)
    text = reported(spec, runs, tmp_path / "out").text
    rows = table(text, "Validation")
    assert rows["variant"] == ["query's time", "NLL", "HR@10", "NDCG@10", "MRR"]
    chosen = [
        line["nll"]
        for run in runs
        if run.variant == "siren_rope"
        for line in map(json.loads, (run.workdir / "metrics.jsonl").read_text().splitlines())
        if line["kind"] == "validation" and line["step"] == 200 + 50 * run.seed
    ]
    assert rows["siren_rope"][1] == f"{np.mean(chosen):.4f} ± {np.std(chosen, ddof=1):.4f}"
    rows = table(text, "Cost")
    assert {rows[v][-1] for v in ("ordinal", "siren_rope", "siren_rope_event")} == {"61 s"}


def test_where_metrics_are_missing_the_report_says_so_and_a_run_is_drawn_without(tmp_path):
    spec, runs = trained(tmp_path, "retrieval", seeds=(0,))
    path = runs[0].workdir / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])  # the last line is the validation at step 500, which was chosen
    with refused(path, 500):
        report.write_report(spec, tmp_path / "out", runs)
    path.unlink()
    with refused(path, 500):
        report.write_report(spec, tmp_path / "out", runs)
    drawn = {path.stem for path in plots.draw_run(runs[0].workdir)}
    assert "models" in drawn and not drawn & {"learning", "gates"}


@BOTH
def test_slices_are_means_over_seeds_and_their_shares_stand_in_the_head(reports, kind):
    of, kind = reports[kind], KINDS[kind]
    results = [r.result() for r in of.runs if r.variant == "siren_rope"]
    told = []
    for part, (name, metrics) in product(kind.parts(results[0]), kind.slices.items()):
        groups = {
            group: [kind.part(r["slices"][name][group], part) for r in results]
            for group in SLICES[name].groups
            if group in results[0]["slices"][name]
        }
        what = SLICES[name].title(True)
        heading = titled(part, f"by {what}") if part else f"By {what}"
        if len(groups) < 2 or not metrics:
            assert f"### {heading}\n" not in of.text
            continue
        told.append(name)
        rows, total = table(of.text, heading), kind.part(results[0][kind.measured], part)["count"]
        first, *others = (kind.metrics[metric].label for metric in metrics)
        shares = {group: 100 * own[0]["count"] / total for group, own in groups.items()}
        labels = [f"{first}, {group} ({share:.1f} %)" for group, share in shares.items()]
        labels += [f"{metric}, {group}" for metric, group in product(others, groups)]
        means = [np.mean([v[m] for v in groups[g]]) for m, g in product(metrics, groups)]
        assert rows["variant"][-len(labels) :] == labels
        assert rows["siren_rope"][-len(labels) :] == [f"{mean:.4f}" for mean in means]
    assert told == (["item"] * 2 if kind.by_task else ["hour", "gap", "popularity", "revisit"])


@pytest.fixture(scope="module")
def leave_one_out(tmp_path_factory):
    """The text about retrievers with such a split, which rank only what is new to the user."""
    path = tmp_path_factory.mktemp("leave_one_out")
    log = make_log(path / "log", users=60, items=300, min_count=1)
    change(log.path / "meta.json", protocol="leave_one_out")
    data = {"overrides": {"filter_seen": True}}
    return written(path, "retrieval", seeds=(0,), data=data).text


def test_the_protocol_of_the_log_is_that_of_the_tables(leave_one_out):
    text = leave_one_out
    assert "Protocol: leave-one-out. " in text and "global time split" not in text
    assert "*Leave-one-out; full ranking" in text and "items a user had before are left out" in text
    assert "validation from" not in text


def test_the_baselines_stand_below_the_models_and_are_explained(reports, leave_one_out):
    for text, filter_seen in ((reports["retrieval"].text, False), (leave_one_out, True)):
        (told,) = [line for line in text.splitlines() if line.startswith("Baselines: ")]
        names = [row.strip("*") for row in table(text, "Overview") if re.match(r"\*\w", row)]
        assert names == list(baseline_names(filter_seen))
        assert [name for name in MEANINGS if f"*{name}*: {MEANINGS[name]}" in told] == names


def test_the_report_says_which_events_are_targets(reports, tmp_path):
    retrievers = reports["retrieval"]
    count = retrievers.runs[0].result()["events"]
    size = PreparedLog.open(retrievers.runs[0].log.path).index[:, 3].sum()
    told = f"Targets: {count:,} of the split's {size:,} events. "
    told += "A user's first event is not a target"
    assert f"\n{told}.\n" in retrievers.text
    overrides = {"data.target_task": "like"}
    text = written(tmp_path, "retrieval", seeds=(0,), data={"overrides": overrides}).text
    assert f"{told}, and neither is an event that is not positive for like " in text


@BOTH
def test_gates_after_training_stand_in_a_table_of_those_that_have_some(reports, kind):
    of = reports[kind]
    rows = table(of.text, "Gates")
    variants = [variant for variant in of.numbers["variants"] if variant != "ordinal"]
    assert "ordinal" not in rows and len(variants) == 2
    for variant, cells in ((variant, rows[variant]) for variant in variants):
        gates = of.numbers["variants"][variant]["gates"]
        assert list(gates) == ["order", "time"]
        assert f"{gates['order']['mean']:.3f}" in cells[-2]
        assert f"{gates['time']['mean']:.3f}" in cells[-1]
        assert len(gates["time"]["values"]) == len(of.spec.seeds)
