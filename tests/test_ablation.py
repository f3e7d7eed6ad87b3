"""Ablations: the plan, going on where stopped, and the report's numbers."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.studies import (
    ablation,
    bootstrap,
    charts,
    jobs,
    ranking_bootstrap,
    ranking_plots,
    ranking_report,
    report,
)
from siren_rope_jax.training.workdir import claim_workdir
from tests.made_up import make_log, make_run
from tests.scripts import ROOT, printed

BASE = """
from ml_collections import ConfigDict
from siren_rope_jax.rotation.variants import variant

def get_config(name="ordinal"):
    return ConfigDict({
        "variant": name, "seed": 0,
        "data": {"path": "", "length": 16, "stride": 8, "batch_size": 32},
        "model": {"width": 8, "heads": 1, "layers": 1, "embedding_width": 4, "head_widths": (8,),
                  "dropout": 0.9, **variant(name)},
        "training": {"epochs": 1.0, "log_every": 5},
    })
"""
WILD, CRASH, DEATH = 0.97, 0.98, 0.99  # dropouts that make `train` fail


def train(config, workdir):
    """Stands in for training: writes a run's files, with the config's dropout as its noise.

    A module-level function, as worker processes import it by name.
    """
    noise = config.model.dropout
    if noise == WILD:
        raise UserError("the loss is not finite at step 3")
    if noise == DEATH:
        os.kill(os.getpid(), signal.SIGKILL)
    if noise == CRASH:
        raise ZeroDivisionError("a bug")
    train_after_a_repair(config, workdir)


def train_after_a_repair(config, workdir):
    log = PreparedLog.open(config.data.path)
    claim_workdir(workdir, config, log.fingerprint)
    make_run(workdir, log, to_dict(config),
             variant=config.variant, seed=config.seed, noise=config.model.dropout)  # fmt: skip


def make_config(tmp_path, **changes):
    (tmp_path / "base.py").write_text(BASE)
    log = tmp_path / "log"
    if not log.exists():
        make_log(log, users=60)
    data = {"name": "made_up", "base": str(tmp_path / "base.py"), "prepared": str(log)}
    values = {
        "name": "Noise",
        "variants": (
            {"name": "ordinal"},
            {"name": "siren_rope", "overrides": {"model.dropout": 0.1}},
            {"name": "middle", "argument": "ordinal", "overrides": {"model.dropout": 0.5}},
        ),
        "datasets": ({**data, **changes.pop("data", {})},),
        "seeds": (0, 1),
        "baseline": "ordinal",
    }
    return ConfigDict(values | changes)


def make_plan(tmp_path, **changes):
    spec = ablation.load_ablation(make_config(tmp_path, **changes))
    return spec, ablation.plan(spec, tmp_path / "out")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole ablation, its report written."""
    tmp_path = tmp_path_factory.mktemp("ablation")
    spec, runs = make_plan(tmp_path)
    assert jobs.execute(runs, spec.jobs, train) == []
    report.write_report(spec, tmp_path / "out", runs)
    return spec, runs, tmp_path / "out"


def test_every_variant_runs_with_every_seed_on_every_data_set(tmp_path):
    _, runs = make_plan(tmp_path)
    assert {(r.variant, r.seed) for r in runs} == {
        (v, s) for v in ("ordinal", "siren_rope", "middle") for s in (0, 1)
    }
    assert all(
        r.workdir == tmp_path / "out" / "made_up" / r.variant / f"seed_{r.seed}" for r in runs
    )
    siren = next(r for r in runs if r.variant == "siren_rope" and r.seed == 1).config
    assert (siren.variant, siren.seed, siren.model.dropout) == ("siren_rope", 1, 0.1)
    assert siren.data.path == str(tmp_path / "log")
    assert set(siren.model.encoding) == {"time", "order"}


def test_overrides_of_the_variant_win_over_those_of_the_data_set(tmp_path):
    _, runs = make_plan(tmp_path, data={"overrides": {"model.dropout": 0.7}})
    noise = {r.variant: r.config.model.dropout for r in runs}
    assert noise == {"ordinal": 0.7, "siren_rope": 0.1, "middle": 0.5}


def test_a_finished_run_is_left_alone_and_a_changed_one_is_not(tmp_path):
    _, runs = make_plan(tmp_path, seeds=(0,))
    jobs.execute(runs[:2], 1, train)
    before = [(r.workdir / "result.json").stat().st_mtime_ns for r in runs[:2]]
    assert [r.is_finished() for r in runs] == [True, True, False]
    jobs.execute(runs, 1, train)
    assert [r.is_finished() for r in runs] == [True, True, True]
    assert [(r.workdir / "result.json").stat().st_mtime_ns for r in runs[:2]] == before
    other = dataclasses.replace(runs[0].config, seed=7)
    assert not dataclasses.replace(runs[0], config=other).is_finished()
    path = runs[1].workdir / "result.json"
    write_json(path, json.loads(path.read_text()) | {"version": "0.0.1"})
    assert [r.is_finished() for r in runs] == [True, False, True]
    jobs.execute(runs, 1, train)  # measured again, that is
    assert [r.is_finished() for r in runs] == [True, True, True]


def test_a_run_that_another_version_began_is_refused(tmp_path):
    _, runs = make_plan(tmp_path, seeds=(0,))
    jobs.execute(runs[:2], 1, train)
    path = runs[1].workdir / "data.json"
    write_json(path, json.loads(path.read_text()) | {"trained_with": "0.0.1"})
    assert [r.is_finished() for r in runs[:2]] == [True, False]
    (failure,) = jobs.execute(runs[:2], 1, train)
    assert "begun by siren-rope-jax 0.0.1, and this is" in failure
    assert not runs[1].is_finished()


def test_a_run_is_finished_on_its_data_however_their_path_is_spelt(tmp_path, monkeypatch):
    _, runs = make_plan(tmp_path, seeds=(0,))
    jobs.execute(runs[:1], 1, train)
    monkeypatch.chdir(tmp_path)
    _, again = make_plan(tmp_path, seeds=(0,), data={"prepared": "log"})
    assert again[0].config != runs[0].config and again[0].is_finished()
    make_log(tmp_path / "other", users=60, seed=1)
    _, others = make_plan(tmp_path, seeds=(0,), data={"prepared": "other"})
    assert not others[0].is_finished()
    (runs[0].workdir / "data.json").unlink()
    assert not runs[0].is_finished()


def make_preparing_plan(tmp_path, **changes):
    data = {"name": "feed", "prepared": "", "config": str(ROOT / "configs/data/synthetic.py"),
            "prepare": {"num_users": 30, "num_items": 20}}  # fmt: skip
    spec, _ = make_plan(tmp_path, data=data | changes)
    return spec, tmp_path / "out"


def test_a_log_of_somebody_else_is_refused_however_often_one_tries(tmp_path):
    spec, out = make_preparing_plan(tmp_path)
    make_log(out / "data" / "feed")
    before = sorted((out / "data").rglob("*"))
    for _ in range(2):
        with pytest.raises(UserError, match="is there already and was not prepared from this"):
            ablation.prepare_logs(spec, out)
        assert sorted((out / "data").rglob("*")) == before


def test_a_log_is_prepared_once_and_again_only_where_it_is_gone(tmp_path):
    spec, out = make_preparing_plan(tmp_path)
    ablation.prepare_logs(spec, out)
    meta = out / "data" / "feed" / "meta.json"
    before = meta.stat().st_mtime_ns
    ablation.prepare_logs(spec, out)
    assert meta.stat().st_mtime_ns == before
    other, _ = make_preparing_plan(tmp_path, prepare={"num_users": 40, "num_items": 20})
    with pytest.raises(UserError, match="was not prepared from this config"):
        ablation.prepare_logs(other, out)
    shutil.rmtree(meta.parent)
    ablation.prepare_logs(other, out)
    assert len(PreparedLog.open(meta.parent).index) == 40


def test_a_log_that_cannot_be_prepared_leaves_no_record(tmp_path, monkeypatch):
    monkeypatch.setenv("SIREN_ROPE_DATA", str(tmp_path))
    config = str(ROOT / "configs/data/movielens.py")
    spec, out = make_preparing_plan(tmp_path, config=config, input="gone.inter", prepare={})
    with pytest.raises(UserError, match=r"gone\.inter"):
        ablation.prepare_logs(spec, out)
    assert not list(out.rglob("*.json"))


@pytest.mark.parametrize(
    ("config", "input", "message"),
    [
        ("movielens", "", "data set 'feed': input is missing"),
        ("synthetic", "ml-100k.inter", "data set 'feed': input: ml-100k.inter is given"),
        ("movielens", "ml-100k.inter", "set SIREN_ROPE_DATA to the folder"),
    ],
)
def test_a_missing_or_superfluous_raw_log_is_named(tmp_path, monkeypatch, config, input, message):
    monkeypatch.delenv("SIREN_ROPE_DATA", raising=False)
    path = str(ROOT / f"configs/data/{config}.py")
    spec, out = make_preparing_plan(tmp_path, config=path, input=input, prepare={})
    with pytest.raises(UserError, match=message):
        ablation.prepare_logs(spec, out)
    assert not out.exists()
    if input:
        monkeypatch.setenv("SIREN_ROPE_DATA", str(tmp_path))
        message = message.replace("set SIREN", "input .*ml-100k.inter does not exist; set SIREN")
        with pytest.raises(UserError, match=message):
            ablation.prepare_logs(spec, out)


def test_a_failed_run_does_not_stop_the_others(tmp_path, capsys):
    variants = (
        {"name": "wild", "argument": "ordinal", "overrides": {"model.dropout": WILD}},
        {"name": "ordinal"},
    )
    spec, runs = make_plan(tmp_path, variants=variants, seeds=(0,))
    failures = jobs.execute(runs, 1, train)
    assert failures == ["made_up/wild/seed_0: the loss is not finite at step 3"]
    assert [r.is_finished() for r in runs] == [False, True]
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert "**Not finished:** made_up/wild/seed_0." in text


@pytest.mark.parametrize(
    "count", [1, pytest.param(2, marks=pytest.mark.slow, id="in processes of their own")]
)
def test_a_crash_does_not_stop_the_others_and_leaves_its_traceback(tmp_path, capsys, count):
    crash = {"name": "crash", "argument": "ordinal", "overrides": {"model.dropout": CRASH}}
    death = {"name": "death", "argument": "ordinal", "overrides": {"model.dropout": DEATH}}
    variants = (crash, *[death][: count - 1], {"name": "ordinal"}, {"name": "siren_rope"})
    _, runs = make_plan(tmp_path, variants=variants, seeds=(0,), jobs=count)
    failures = jobs.execute(runs, count, train)
    bad = {run.variant: run for run in runs if not run.is_finished()}
    assert set(bad) == {v["name"] for v in variants[:-2]} and len(failures) == len(bad)
    assert "made_up/crash/seed_0: ZeroDivisionError: a bug" in "".join(failures)
    assert capsys.readouterr().out.count("FAILED") == len(bad)
    assert "in train\n" in (bad["crash"].workdir / "error.txt").read_text()
    if count > 1:
        assert "made_up/death/seed_0: its process died" in "".join(failures)
        assert "its process died" in (bad["death"].workdir / "error.txt").read_text()

    assert jobs.execute([bad["crash"]], 1, train_after_a_repair) == []
    assert bad["crash"].is_finished() and not (bad["crash"].workdir / "error.txt").exists()


def train_where_jax_asks(config, workdir):
    train(config, workdir)
    (workdir / "memory").write_text(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])


@pytest.mark.slow
def test_worker_processes_share_the_memory_of_an_accelerator(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    _, runs = make_plan(tmp_path, seeds=(0,), jobs=2)
    assert jobs.execute(runs[:1], 2, train_where_jax_asks) == []
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
    assert jobs.execute(runs[1:2], 2, train_where_jax_asks) == []
    assert [(r.workdir / "memory").read_text() for r in runs[:2]] == ["0.45", "0.2"]


def train_with_a_compiled_program(config, workdir):
    train(config, workdir)
    jax.jit(lambda x: jnp.sort(x) @ x)(jnp.arange(8.0)).block_until_ready()
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    programs = sorted(file.name for file in folder.glob("*-cache"))
    write_json(workdir / "compiled.json", {"folder": str(folder), "programs": programs})


@pytest.mark.slow
def test_worker_processes_compile_a_program_once(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    _, runs = make_plan(tmp_path, jobs=2)
    assert jobs.execute(runs, 2, train_with_a_compiled_program) == []
    notes = [json.loads((run.workdir / "compiled.json").read_text()) for run in runs]
    assert notes[0]["programs"] and all(note == notes[0] for note in notes)
    assert not Path(notes[0]["folder"]).exists()


def test_worker_processes_share_the_cores(tmp_path):
    cores = jobs.available_cores()
    shares = jobs.core_shares(2)
    assert sorted({core for share in shares for core in share}) == cores
    assert len(cores) == 1 or not set(shares[0]) & set(shares[1])
    assert all(jobs.core_shares(3 * len(cores)))


@pytest.mark.slow
def test_two_processes_write_the_same_results_as_one(finished, tmp_path):
    _, alone, _ = finished
    spec, runs = make_plan(tmp_path, jobs=2, seeds=(0,))
    assert jobs.execute(runs, spec.jobs, train) == []
    want = {(r.variant, r.seed): r.result()["tasks"] for r in alone}
    assert all(r.result()["tasks"] == want[r.variant, r.seed] for r in runs)


def test_the_report_holds_mean_and_deviation_over_seeds(finished):
    _, runs, out = finished
    numbers = json.loads((out / "report.json").read_text())
    table = numbers["datasets"]["made_up"]["variants"]["siren_rope"]
    ne = [r.result()["tasks"]["like"]["ne"] for r in runs if r.variant == "siren_rope"]
    assert table["tasks"]["like"]["ne"]["mean"] == pytest.approx(np.mean(ne))
    assert table["tasks"]["like"]["ne"]["sd"] == pytest.approx(np.std(ne, ddof=1))
    text = (out / "report.md").read_text()
    assert f"{np.mean(ne):.4f} ± {np.std(ne, ddof=1):.4f}" in text
    assert "12,355" in text
    assert "| 61 s |" in text and "81 s" not in text  # the shortest run's


def test_the_report_holds_the_paired_difference_to_the_baseline(finished):
    _, runs, out = finished
    files = {v: [r.workdir / "predictions.parquet" for r in runs if r.variant == v]
             for v in ("siren_rope", "ordinal")}  # fmt: skip
    a, b = (ranking_bootstrap.read_scores(files[v], "like") for v in ("siren_rope", "ordinal"))
    a, b = (ranking_bootstrap.resample(s.labels, s.users, s.scores)["ne"] for s in (a, b))
    want, sd = bootstrap.difference(a, b), bootstrap.seed_deviation(a, b)
    numbers = json.loads((out / "report.json").read_text())
    variants = numbers["datasets"]["made_up"]["variants"]
    got = variants["siren_rope"]["tasks"]["like"]["difference"]["ne"]
    assert (got["difference"], got["low"], got["high"]) == pytest.approx(want)
    ne = {v: table["tasks"]["like"]["ne"]["values"] for v, table in variants.items()}
    pairs = zip(ne["siren_rope"], ne["ordinal"], strict=True)
    assert got["sd"] == pytest.approx(np.std([x - y for x, y in pairs], ddof=1)) == sd
    assert got["high"] < 0  # less noise is better, beyond doubt
    assert variants["ordinal"]["tasks"]["like"]["difference"] is None
    assert (
        f"**{want.difference:+.4f} ± {sd:.4f} [{want.low:+.4f}, {want.high:+.4f}]**"
        in (out / "report.md").read_text()
    )


def test_differences_to_a_champion_mirror_those_to_the_baseline(finished):
    spec, runs, out = finished
    champion = dataclasses.replace(spec, champion="siren_rope")
    text = report.write_report(champion, out, runs).read_text()
    variants = json.loads((out / "report.json").read_text())["datasets"]["made_up"]["variants"]
    forth = variants["siren_rope"]["tasks"]["long"]["difference"]["auc"]
    back = variants["ordinal"]["tasks"]["long"]["to_champion"]["auc"]
    for a, b in (("difference", "difference"), ("low", "high"), ("high", "low")):
        assert back[a] == pytest.approx(-forth[b])
    assert variants["siren_rope"]["tasks"]["like"]["to_champion"] is None
    rows = text.split("### Difference to siren_rope")[1].split("###")[0].splitlines()
    assert rows[2].startswith("| variant | like: Δ NE | like: Δ AUC | long: Δ NE")
    assert [row.split(" | ")[0] for row in rows[4:6]] == ["| ordinal", "| middle"]
    plain = report.write_report(spec, out, runs).read_text()
    assert "### Difference to" not in plain


def test_the_share_of_the_gap_closed_is_taken_seed_by_seed(finished):
    _, runs, out = finished
    ne = {(r.variant, r.seed): r.result()["tasks"]["like"]["ne"] for r in runs}
    ideal = runs[0].result()["baselines"]["ideal"]["like"]["ne"]
    want = [(ne["ordinal", s] - ne["siren_rope", s]) / (ne["ordinal", s] - ideal) for s in (0, 1)]
    numbers = json.loads((out / "report.json").read_text())
    tasks = numbers["datasets"]["made_up"]["variants"]["siren_rope"]["tasks"]
    assert tasks["like"]["gap_closed"]["values"] == pytest.approx(want)
    assert tasks["long"]["gap_closed"] is None  # its ideal observer is not known
    baseline = numbers["datasets"]["made_up"]["variants"]["ordinal"]["tasks"]
    assert baseline["like"]["gap_closed"]["mean"] == 0


def test_a_difference_is_over_the_seeds_both_have_and_says_how_many(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0, 1, 2))
    jobs.execute(runs, 1, train)
    left = {("ordinal", 1), ("ordinal", 2), ("middle", 0)}  # the only ones that are missing
    for run in runs:
        if (run.variant, run.seed) in left:
            (run.workdir / "result.json").unlink()
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    tables = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"]["made_up"]
    siren = tables["variants"]["siren_rope"]["tasks"]["like"]
    assert siren["difference"]["seeds"] == siren["gap_closed"]["seeds"] == [0]
    ne = {
        r.variant: r.result()["tasks"]["like"]["ne"] for r in runs if r.seed == 0 if r.is_finished()
    }
    assert siren["difference"]["ne"]["difference"] == pytest.approx(
        ne["siren_rope"] - ne["ordinal"]
    )
    middle = tables["variants"]["middle"]["tasks"]["like"]
    assert middle["difference"] is middle["gap_closed"] is None  # no seed in common
    table = text.split("### like")[1].split("###")[0]
    rows = {line.split(" | ")[0]: line for line in table.splitlines()}
    assert {"| ordinal (n = 1)", "| siren_rope", "| middle (n = 2)"} <= set(rows)
    assert rows["| siren_rope"].count("(n = 1)") == 3  # of NE, of AUC, of the gap


def test_a_seed_without_an_ne_has_no_share_of_the_gap(finished):
    _, runs, _ = finished
    results = {v: [r.result() for r in runs if r.variant == v] for v in ("ordinal", "siren_rope")}
    results["siren_rope"][0]["tasks"]["like"]["ne"] = None
    closed = ranking_report._gap_closed(results["siren_rope"], results["ordinal"], "like")
    assert closed["seeds"] == [1] and closed["mean"] > 0
    results["ordinal"][1]["tasks"]["like"]["ne"] = None
    assert ranking_report._gap_closed(results["siren_rope"], results["ordinal"], "like") is None


def test_the_report_states_data_protocol_seeds_and_machine_and_shows_its_pictures(finished):
    _, _, out = finished
    text = (out / "report.md").read_text()
    assert "2023-11-20" in text and "Seeds 0, 1" in text and "cores" in text
    assert "one global time split" in text
    for name in ("oracle", "ideal", "user_rate", "item_rate"):
        assert f"| *{name}* |" in text
    pictures = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line[:2] == "!["]
    assert len(pictures) == 7
    for picture in pictures:
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_pictures_show_lines_of_the_chosen_variants_only(finished, tmp_path, monkeypatch):
    spec, runs, _ = finished
    seen = set()

    def band(axes, x, seeds, label, style):
        seen.add(label.removeprefix("mean score, "))

    for module in (charts, ranking_plots):
        monkeypatch.setattr(module, "band", band)
    everyone = {variant.name for variant in spec.variants}
    for lines, shown in (((), everyone), (("siren_rope",), {"siren_rope"})):
        seen.clear()
        report.write_report(dataclasses.replace(spec, lines=lines), tmp_path, runs)
        assert seen == shown


def test_pictures_do_without_lines_of_variants_that_failed(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0,), lines=("siren_rope",))
    jobs.execute([run for run in runs if run.variant != "siren_rope"], 1, train)
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert "**Not finished:** " in text and "made_up-learning.png" in text


def interrupted(config, workdir):
    """Ctrl-C while the second run trains."""
    if config.variant != "ordinal":
        raise KeyboardInterrupt
    train(config, workdir)


def test_an_interrupted_ablation_reports_what_is_finished(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0,))
    with pytest.raises(KeyboardInterrupt):
        report.run_and_report(spec, tmp_path / "none", runs[1:], interrupted)
    assert not (tmp_path / "none").exists()
    with pytest.raises(KeyboardInterrupt):
        report.run_and_report(spec, tmp_path / "out", runs, interrupted)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| ordinal |" in text and "**Not finished:** made_up/siren_rope/seed_0" in text


def test_some_of_the_variants_can_be_compared(tmp_path):
    spec, _ = make_plan(tmp_path, champion="siren_rope", lines=("middle", "siren_rope"))
    some = spec.only(["middle", "ordinal"])
    assert [v.name for v in some.variants] == ["ordinal", "middle"]
    assert (some.champion, some.lines) == ("", ("middle",))
    assert spec.only(["siren_rope", "ordinal"]).champion == "siren_rope"
    with pytest.raises(UserError, match="--variants: 'midle' is no variant; did you mean 'middle'"):
        spec.only(["ordinal", "midle"])
    with pytest.raises(UserError, match="--variants: 'ordinal', the baseline, must be among them"):
        spec.only(["middle"])


def test_a_single_seed_has_no_deviation(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0,), variants=({"name": "ordinal"},))
    jobs.execute(runs, 1, train)
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert " ± " not in text.split("###")[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "sirne_rope"}, "did you mean 'siren_rope'"),
        ({"champion": "midle"}, "config.champion: 'midle' is no variant; did you mean 'middle'"),
        ({"lines": ("ordinal", "midle")}, "config.lines: 'midle' is no variant; did you mean"),
        ({"champion": "ordinal"}, "config.champion: 'ordinal' is the baseline already"),
        ({"seeds": ()}, "config.seeds: is empty"),
        ({"seeds": (1, 1)}, "1 stands there twice"),
        ({"seeds": (0, 0)}, "0 stands there twice"),
        ({"sedes": (1,)}, "config.sedes: unknown key; did you mean 'seeds'"),
        ({"jobs": 0}, "at least 1"),
        ({"data": {"prepared": ""}}, "either `prepared`"),
        ({"data": {"base": "nowhere.py"}}, "no such config file"),
        ({"variants": ({"name": "sirne_rope"},), "baseline": "sirne_rope"}, "'sirne_rope'"),
        ({"variants": ({"name": "ordinal", "overrides": {"model.widht": 8}},)},
         "no key 'model.widht' to override; did you mean 'width'"),
        ({"variants": ({"name": "ordinal", "overrides": {"model.width": "wide"}},)},
         "config.model.width: expected int"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_refused_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        make_plan(tmp_path, **changes)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_runs_over_different_events_are_not_compared(tmp_path):
    spec, runs = make_plan(tmp_path, seeds=(0,))
    jobs.execute(runs, 1, train)
    path = runs[1].workdir / "predictions.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with pytest.raises(UserError, match="different events"):
        report.write_report(spec, tmp_path / "out", runs)


@pytest.mark.slow
def test_the_script_prepares_trains_compares_and_goes_on(tmp_path):
    (tmp_path / "base.py").write_text(BASE.replace("variant(name)", "variant(name, 'topic')"))
    (tmp_path / "tiny.py").write_text(f"""
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({{
        "name": "Tiny", "baseline": "ordinal", "seeds": (0,), "jobs": 1,
        "variants": ({{"name": "ordinal"}}, {{"name": "siren_rope"}}),
        "datasets": ({{
            "name": "feed", "base": {str(tmp_path / "base.py")!r},
            "config": {str(ROOT / "configs/data/synthetic.py")!r},
            "prepare": {{"num_users": 200, "num_items": 40}},
        }},),
    }})
""")
    flags = (f"--config={tmp_path / 'tiny.py'}", f"--workdir={tmp_path / 'out'}")
    first = printed("ablate", *flags, XLA_FLAGS="")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Not finished" not in text
    assert text in first and "| *ideal* |" in first
    assert first.rstrip().endswith(str(tmp_path / "out" / "report.md"))
    for name in ("| ordinal |", "| siren_rope |", "| *ideal* |", "| *time_blind* |", "closed"):
        assert name in text
    run = tmp_path / "out" / "feed" / "ordinal" / "seed_0"
    result = json.loads((run / "result.json").read_text())
    assert result["events"] == PreparedLog.open(tmp_path / "out/data/feed").index[:, 3].sum()

    # Going on: a run without a result is evaluated from its checkpoint, the other left alone.
    (run / "result.json").unlink()
    assert "2 runs, 1 of them finished before" in printed("ablate", *flags, XLA_FLAGS="")
    repeated = json.loads((run / "result.json").read_text())
    assert {k: repeated[k] for k in ("tasks", "step")} == {k: result[k] for k in ("tasks", "step")}

    other = printed("evaluate", f"--workdir={run}", "--split=validation", XLA_FLAGS="")
    assert "synthetic, validation split" in other
    assert json.loads((run / "result_validation.json").read_text())["train_seconds"] > 0
    assert (run / "plots_validation" / "reliability.png").is_file()
    with pytest.raises(UserError, match="split 'tset': there is none; did you mean 'test'"):
        evaluate_run(run, "tset")

    # Stopped before the new predictions are in place: the old result is gone.
    (run / "predictions.parquet").unlink()
    (run / "predictions.parquet").mkdir()
    with pytest.raises(OSError):
        evaluate_run(run, "test")
    assert not (run / "result.json").exists()
    assert not list(run.glob(".predictions*"))
