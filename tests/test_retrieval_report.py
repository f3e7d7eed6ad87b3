"""An ablation of retrievers: the report's numbers, intervals and text, from made-up runs."""

import json

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.metrics.ranks import RANK_METRICS, metrics_of_ranks
from siren_rope_jax.evaluation.baselines.popularity import MEANINGS, baseline_names
from siren_rope_jax.studies import ablation, bootstrap, jobs, plots, report, retrieval_bootstrap
from siren_rope_jax.training.workdir import claim_workdir
from tests.made_up import make_log, make_retrieval_run
from tests.scripts import ROOT, printed

BASE = """
from ml_collections import ConfigDict
from siren_rope_jax.base.config import complete
from siren_rope_jax.training.experiment import RetrievalExperiment
from siren_rope_jax.rotation.variants import retrieval_variant

def get_config(name="ordinal"):
    return complete(RetrievalExperiment, {
        "variant": name, "data": {"path": "", "length": 16, "stride": 8, "batch_size": 32},
        "model": {"width": 8, "heads": 1, "layers": 1, "dropout": 0.9, **retrieval_variant(name)},
        "training": {"epochs": 1.0, "log_every": 5},
    })
"""


def train(config, workdir):
    """Stands in for training: writes a run's files, with the config's dropout as its noise."""
    log = PreparedLog.open(config.data.path)
    claim_workdir(workdir, config, log.fingerprint)
    make_retrieval_run(workdir, log, to_dict(config),
                       variant=config.variant, seed=config.seed,
                       noise=config.model.dropout)  # fmt: skip


def make_plan(tmp_path, **changes):
    (tmp_path / "base.py").write_text(BASE)
    if not (tmp_path / "log").exists():
        make_log(tmp_path / "log", users=60, items=300, min_count=1)
    values = {
        "name": "Noise",
        "variants": (
            {"name": "ordinal"},
            {"name": "siren_rope", "overrides": {"model.dropout": 0.1}},
            {"name": "siren_rope_event", "overrides": {"model.dropout": 0.5}},
        ),
        "datasets": (
            {
                "name": "made_up", "base": str(tmp_path / "base.py"),
                "prepared": str(tmp_path / "log"), "overrides": changes.pop("overrides", {}),
            },
        ),
        "seeds": (0, 1),
        "baseline": "ordinal",
    }  # fmt: skip
    spec = ablation.load_ablation(ConfigDict(values | changes))
    return spec, ablation.plan(spec, tmp_path / "out")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole ablation with a champion, its report written: runs, directory, numbers, text."""
    tmp_path = tmp_path_factory.mktemp("ablation")
    spec, runs = make_plan(tmp_path, champion="siren_rope")
    assert jobs.execute(runs, spec.jobs, train) == []
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"]["made_up"]
    return runs, tmp_path / "out", numbers, text


def table(text, heading):
    """The rows of the table under a heading, by their first cell."""
    lines = text.split(f"### {heading}\n")[1].split("###")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def files(runs, variant):
    return [r.workdir / "predictions.parquet" for r in runs if r.variant == variant]


def test_the_overview_holds_mean_and_deviation_over_seeds_and_the_time_of_the_query(finished):
    runs, _, numbers, text = finished
    rows = table(text, "Overview")
    metrics = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
    assert rows["variant"] == ["query's time", *(m.upper() for m in metrics)]
    for variant, time in (
        ("ordinal", "–"), ("siren_rope", "request"), ("siren_rope_event", "event"),
    ):  # fmt: skip
        results = [r.result()["ranking"] for r in runs if r.variant == variant]
        values = np.array([[r[m] for m in metrics] for r in results])
        spread = zip(values.mean(0), values.std(0, ddof=1), strict=True)
        cells = [f"{a:.4f} ± {b:.4f}" for a, b in spread]
        assert rows[variant] == [time, *cells]
        assert numbers["variants"][variant]["ranking"]["mrr"]["values"] == values[:, -1].tolist()
    baselines = runs[0].result()["baselines"]
    assert rows["*revisit*"] == ["", "–", *(f"{baselines['revisit'][m]:.4f}" for m in metrics[1:])]
    assert set(table(text, "All cut-offs")["variant"][1:]) == {m.upper() for m in RANK_METRICS}


@pytest.mark.parametrize(
    ("key", "other"), [("difference", "ordinal"), ("to_champion", "siren_rope")]
)
def test_the_report_holds_paired_differences_to_the_baseline_and_the_champion(finished, key, other):
    runs, _, numbers, text = finished
    rows = table(text, f"Difference to {other}")
    for variant in ("ordinal", "siren_rope", "siren_rope_event"):
        got = numbers["variants"][variant][key]
        if variant == other:
            assert got is None and variant not in rows
            continue
        a, b = (
            retrieval_bootstrap.resample(retrieval_bootstrap.read_ranks(files(runs, v)))
            for v in (variant, other)
        )
        for metric, cell in zip(retrieval_bootstrap.COMPARED, rows[variant][1:], strict=True):
            want = bootstrap.difference(a[metric], b[metric])
            sd = np.std(a[metric].by_seed - b[metric].by_seed, ddof=1)
            assert tuple(got[metric].values()) == pytest.approx((*want, sd))
            shown = f"{want.difference:+.4f} ± {sd:.4f} [{want.low:+.4f}, {want.high:+.4f}]"
            assert cell == (f"**{shown}**" if want.low > 0 or want.high < 0 else shown)
    better = numbers["variants"]["siren_rope"]["difference"]
    assert better["nll"]["high"] < 0 < better["ndcg@10"]["low"]


def test_every_table_of_metrics_names_protocol_catalogue_misses_and_filter(finished):
    runs, _, _, text = finished
    result = runs[0].result()
    unranked = result["ranking"]["unranked"]
    note = (
        f"*One global time split; full ranking over the catalogue of {result['catalogue']} items, "
        "ties against the model; items a user had before may come again; "
        f"{unranked} of {result['events']} test events have an item outside the catalogue (seen "
        "too rarely in training, or never) and count as misses; blind guessing has an NLL of "
        f"{np.log(result['catalogue']):.2f}.*"
    )
    parts = {part.split("\n")[0]: part for part in text.split("\n### ")[1:]}
    assert list(parts) == [
        "Overview", "Difference to ordinal", "Difference to siren_rope", "All cut-offs",
        "Validation", "Hour of day of the request, local where the log has UTC offsets",
        "Time since the user's last event",
        "New items and repeated ones", "Training events of the item", "Cost",
    ]  # fmt: skip
    assert unranked > 0
    of_others = ("Validation", "Cost")
    assert [name for name, part in parts.items() if note not in part] == list(of_others)


def test_the_validation_told_is_that_of_the_parameters_that_were_tested(tmp_path):
    spec, runs = make_plan(tmp_path)
    jobs.execute(runs, 1, train)
    for run in runs:
        path = run.workdir / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 200 + 50 * run.seed}))
    rows = table(report.write_report(spec, tmp_path / "out", runs).read_text(), "Validation")
    assert rows["variant"] == ["NLL", "HR@10", "NDCG@10", "MRR"]
    chosen = [
        line["nll"]
        for run in runs
        if run.variant == "siren_rope"
        for line in map(json.loads, (run.workdir / "metrics.jsonl").read_text().splitlines())
        if line["kind"] == "validation" and line["step"] == 200 + 50 * run.seed
    ]
    assert rows["siren_rope"][0] == f"{np.mean(chosen):.4f} ± {np.std(chosen, ddof=1):.4f}"


def test_where_metrics_are_missing_the_report_says_so(tmp_path):
    spec, runs = make_plan(tmp_path)
    jobs.execute(runs, 1, train)
    path = runs[0].workdir / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])  # the last line is the validation at step 500, which was chosen
    with pytest.raises(UserError, match=r"metrics.jsonl has no validation of step 500"):
        report.write_report(spec, tmp_path / "out", runs)
    path.unlink()
    with pytest.raises(UserError, match=r"metrics.jsonl has no validation of step 500"):
        report.write_report(spec, tmp_path / "out", runs)


def test_a_run_without_metrics_is_drawn_without_its_training(tmp_path):
    _, runs = make_plan(tmp_path)
    jobs.execute(runs[:1], 1, train)
    (runs[0].workdir / "metrics.jsonl").unlink()
    drawn = {path.stem for path in plots.draw_run(runs[0].workdir)}
    assert "models" in drawn and not drawn & {"learning", "gates"}


def test_one_run_that_was_held_up_does_not_change_the_training_time_told(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0, 1, 2))
    jobs.execute(runs, 1, train)
    path = runs[-1].workdir / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train_seconds": 9_000.0}))
    rows = table(report.write_report(spec, tmp_path / "out", runs).read_text(), "Cost")
    assert {rows[v][1] for v in ("ordinal", "siren_rope", "siren_rope_event")} == {"61 s"}


@pytest.mark.parametrize("filter_seen", [False, True])
def test_the_baselines_stand_below_the_models_and_are_explained(tmp_path, filter_seen):
    spec, runs = make_plan(tmp_path, seeds=(0,), overrides={"filter_seen": filter_seen})
    jobs.execute(runs, 1, train)
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    (told,) = [line for line in text.splitlines() if line.startswith("Baselines rank ")]
    names = [row.strip("*") for row in table(text, "Overview") if row.startswith("*")]
    assert names == list(baseline_names(filter_seen))
    assert [name for name in MEANINGS if f"*{name}* {MEANINGS[name]}" in told] == names


def test_slices_are_means_over_seeds_and_their_shares_stand_in_the_head(finished):
    runs, _, _, text = finished
    results = [r.result()["slices"] for r in runs if r.variant == "siren_rope"]
    want = np.mean([r["revisit"]["again"]["ndcg@10"] for r in results])
    assert f"{want:.4f}" in table(text, "New items and repeated ones")["siren_rope"]
    counts = {g: v["count"] for g, v in results[0]["popularity"].items() if g != "0"}
    total = runs[0].result()["events"]
    gaps = {g: v for g, v in results[0]["gap"].items() if v["count"]}
    rows = table(text, "Time since the user's last event")
    assert rows["variant"] == [
        f"NDCG@10, {g} ({100 * v['count'] / total:.1f} %)" for g, v in gaps.items()
    ]
    want = [np.mean([r["gap"][g]["ndcg@10"] for r in results]) for g in gaps]
    assert rows["siren_rope"] == [f"{value:.4f}" for value in want] and len(gaps) > 3
    assert table(text, "Training events of the item")["variant"][: len(counts)] == [
        f"NDCG@10, {g} ({100 * n / total:.1f} %)" for g, n in counts.items()
    ]


def test_the_report_says_which_events_are_targets(finished, tmp_path):
    runs, _, _, text = finished
    count, log = runs[0].result()["events"], PreparedLog.open(runs[0].log.path)
    size = log.index[:, 3].sum()
    told = f"Targets: {count:,} of the split's {size:,} events. A user's first event is none"
    assert f"\n{told}.\n" in text
    spec, runs = make_plan(tmp_path, seeds=(0,), overrides={"data.target_task": "like"})
    jobs.execute(runs, 1, train)
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert f"{told}, and no event is that is not a positive of like (`data.target_task`)." in text


def test_the_report_shows_its_pictures(finished):
    _, out, _, text = finished
    pictures = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line[:2] == "!["]
    kinds = ("models", "hour", "gap", "popularity", "learning", "gates")
    assert pictures == [f"made_up-{kind}.png" for kind in kinds]  # histories are of one length
    for picture in pictures:
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_a_line_of_progress_names_the_main_metrics(tmp_path, capsys):
    _, runs = make_plan(tmp_path, seeds=(0,))
    jobs.execute(runs[:1], 1, train)
    ranking = runs[0].result()["ranking"]
    want = f"ordinal/seed_0: NLL {ranking['nll']:.4f}, NDCG@10 {ranking['ndcg@10']:.4f}\n"
    assert want in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("filter_seen", True, "config.filter_seen is True of variant 'siren_rope' and False of"),
        ("data.target_task", "like", "config.data.target_task is 'like' of variant 'siren_rope'"),
    ],
)
def test_variants_that_are_not_evaluated_alike_are_refused_before_anything_runs(
    tmp_path, key, value, message
):
    variants = ({"name": "ordinal"}, {"name": "siren_rope", "overrides": {key: value}})
    with pytest.raises(UserError, match=message):
        make_plan(tmp_path, variants=variants)
    make_plan(tmp_path, overrides={key: value})  # of all alike
    assert not (tmp_path / "out").exists()


def test_the_protocol_of_the_log_is_that_of_the_tables(tmp_path):
    log = make_log(tmp_path / "log", users=60, items=300, min_count=1)
    meta = json.loads((log.path / "meta.json").read_text()) | {"protocol": "leave_one_out"}
    (log.path / "meta.json").write_text(json.dumps(meta))
    spec, runs = make_plan(tmp_path, seeds=(0,), overrides={"filter_seen": True})
    jobs.execute(runs, 1, train)
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert "Protocol: leave-one-out. " in text and "global time split" not in text
    assert "*Leave-one-out; full ranking" in text and "items a user had before are left out" in text
    assert "validation from" not in text


def make_ranks(users=40, events=12, seeds=2):
    """Random ranks; some targets, the same for all seeds, have none."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users), events)
    rank = rng.geometric(0.1, (seeds, len(user))) * (rng.random(len(user)) < 0.8)
    nll = np.where(rank > 0, rng.exponential(size=rank.shape), np.nan)
    return retrieval_bootstrap.TargetRanks(user, rank, nll)


def test_every_resample_equals_the_metrics_of_the_literally_repeated_events():
    ranks = make_ranks()
    got = retrieval_bootstrap.resample(ranks, resamples=5, seed=3)
    for r, draws in enumerate(bootstrap.user_draws(40, 5, seed=3)):
        rows = np.repeat(np.arange(len(ranks.users)), draws[ranks.users])
        want = [metrics_of_ranks(a[rows], b[rows]) for a, b in zip(*ranks[1:], strict=True)]
        for name, resampled in got.items():
            np.testing.assert_allclose(resampled.samples[r], np.mean([w[name] for w in want]))
    want = [metrics_of_ranks(a, b) for a, b in zip(*ranks[1:], strict=True)]
    for name, resampled in got.items():
        np.testing.assert_allclose(resampled.value, np.mean([w[name] for w in want]))


def test_without_a_ranked_target_there_is_no_nll():
    ranks = make_ranks()._replace(rank=np.zeros((1, 480), int), nll=np.full((1, 480), np.nan))
    got = retrieval_bootstrap.resample(ranks, resamples=3)
    assert np.isnan(got["nll"].value) and got["mrr"].value == 0


def write(path, ranks, events=(3, 4, 9)):
    nll = [None if rank is None else 1.5 for rank in ranks]
    pd.DataFrame({
        "event": np.array(events), "user": [f"u{e % 2}" for e in events],
        "rank": pd.array(ranks, "Int32"), "nll": pd.array(nll, "Float32"),
    }).to_parquet(path)  # fmt: skip
    return path


def test_ranks_are_matched_by_event_whatever_the_order_of_the_rows(tmp_path):
    a = write(tmp_path / "a.parquet", [7, None, 2])
    b = write(tmp_path / "b.parquet", [5, 1, None], events=(9, 3, 4))
    got = retrieval_bootstrap.read_ranks([a, b])
    assert got.rank.tolist() == [[7, 0, 2], [1, 0, 5]]
    assert np.isnan(got.nll[:, 1]).all() and got.users.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "other", [{"ranks": [1, 2, 3]}, {"ranks": [1, None, 3], "events": (3, 4, 8)}]
)
def test_predictions_over_different_events_or_catalogues_are_refused(tmp_path, other):
    a = write(tmp_path / "a.parquet", [1, None, 3])
    b = write(tmp_path / "b.parquet", **other)
    with pytest.raises(UserError, match=r"a\.parquet and .*b\.parquet"):
        retrieval_bootstrap.read_ranks([a], reference=b)


@pytest.mark.slow
def test_the_script_prepares_trains_and_compares(tmp_path):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "tiny.py").write_text(f"""
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({{
        "name": "Tiny", "baseline": "ordinal", "champion": "siren_rope", "seeds": (0,), "jobs": 1,
        "variants": ({{"name": "ordinal"}}, {{"name": "siren_rope"}}),
        "datasets": ({{
            "name": "feed", "base": {str(tmp_path / "base.py")!r},
            "config": {str(ROOT / "configs/data/synthetic.py")!r},
            "prepare": {{"num_users": 200, "num_items": 40}},
        }},),
    }})
""")
    flags = (f"--config={tmp_path / 'tiny.py'}", f"--workdir={tmp_path / 'out'}")
    said = printed("ablate", *flags, XLA_FLAGS="")
    text = (tmp_path / "out" / "report.md").read_text()
    assert text in said and "Not finished" not in text
    assert "[2/2] feed/siren_rope/seed_0: NLL " in said
    place = tmp_path / "out" / "feed" / "ordinal" / "seed_0"
    result = json.loads((place / "result.json").read_text())
    log = PreparedLog.open(tmp_path / "out" / "data" / "feed")
    test = log.events("test").event
    events = test[~np.isin(test, log.offsets)]  # a user's first event is no target
    frame = pd.read_parquet(place / "predictions.parquet")
    assert frame["event"].tolist() == events.tolist() and result["events"] == len(events)
    assert result["ranking"]["nll"] == pytest.approx(frame["nll"].mean(), rel=1e-6)
    assert "2 runs, 2 of them finished before" in printed("ablate", *flags, XLA_FLAGS="")
    said = printed("evaluate", f"--workdir={place}", "--split=validation", XLA_FLAGS="")
    assert "synthetic, validation split" in said and "full ranking over" in said
    assert (place / "plots_validation" / "history.png").is_file()
