"""Ablations: the plan, going on where stopped, failures, and processes of their own."""

import dataclasses
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.studies import datasets, jobs, report
from tests import made_up
from tests.made_up import BASES, change, make_log, make_plan
from tests.raw_logs import raw_log, write
from tests.refusals import refused
from tests.scripts import ROOT, printed, xla_flags

WILD, CRASH, DEATH = 0.97, 0.98, 0.99  # dropouts that make `train` fail


def train(config, workdir):
    """`made_up.train`, but some dropouts make it fail."""
    noise = config.model.dropout
    if noise == WILD:
        raise UserError("loss", "is not finite at step 3")
    if noise == DEATH:
        os.kill(os.getpid(), signal.SIGKILL)
    if noise == CRASH:
        raise ZeroDivisionError("a bug")
    made_up.train(config, workdir)


def test_every_variant_runs_with_every_seed_on_every_data_set(tmp_path):
    _, runs = make_plan(tmp_path)
    assert [str(run.workdir.relative_to(tmp_path / "out" / "made_up")) for run in runs] == [
        f"{variant}/seed_{s}" for s in (0, 1) for variant in ("ordinal", "siren_rope", "middle")
    ]
    siren = next(r for r in runs if r.variant == "siren_rope" and r.seed == 1).config
    assert (siren.variant, siren.seed, siren.model.dropout) == ("siren_rope", 1, 0.1)
    assert siren.data.path == str(tmp_path / "log")
    assert set(siren.model.encoding) == {"time", "order"}
    # Overrides of the variant win over those of the data set.
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
    change(runs[1].workdir / "result.json", version="0.0.1")
    assert [r.is_finished() for r in runs] == [True, False, True]
    jobs.execute(runs, 1, train)  # measured again, that is
    assert [r.is_finished() for r in runs] == [True, True, True]
    # One that another version began is refused.
    change(runs[1].workdir / "data.json", trained_with="0.0.1")
    assert [r.is_finished() for r in runs] == [True, False, True]
    (failure,) = jobs.execute(runs, 1, train)
    assert failure.startswith("made_up/siren_rope/seed_0: ") and "0.0.1" in failure
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
        with refused(out / "data" / "feed"):
            datasets.prepare_logs(spec.datasets, out)
        assert sorted((out / "data").rglob("*")) == before


def test_a_prepared_log_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    spec, out = make_preparing_plan(tmp_path, prepared=str(tmp_path / "nolog"), config="")
    with refused(tmp_path / "nolog"):
        datasets.prepare_logs(spec.datasets, out)
    assert not out.exists()


def test_a_data_set_may_have_a_file_of_items(tmp_path, monkeypatch):
    raw = raw_log()
    write(tmp_path / "raw/log.csv", raw)
    items = pd.DataFrame({"iid": raw["iid"].unique(), "maker": "a"})
    write(tmp_path / "raw/items.csv", items)
    columns = {"user": "uid", "item": "iid", "time": "at", "categorical": "maker=maker"}
    files = {"input": "log.csv", "items": "items.csv", "prepare": columns}
    table = str(ROOT / "configs/data/table.py")
    spec, out = make_preparing_plan(tmp_path, config=table, **files)
    monkeypatch.setenv("SIREN_ROPE_DATA", str(tmp_path / "raw"))
    datasets.prepare_logs(spec.datasets, out)
    made = PreparedLog.open(out / "data" / "feed")
    assert made.vocabulary("maker")["value"].to_pylist() == ["a"]
    datasets.prepare_logs(spec.datasets, out)
    write(tmp_path / "raw/items.csv", items.assign(maker="b"))
    with refused(made.path):
        datasets.prepare_logs(spec.datasets, out)
    (tmp_path / "raw/items.csv").unlink()
    shutil.rmtree(made.path)
    with refused("SIREN_ROPE_DATA", "items.csv", "'feed'"):
        datasets.prepare_logs(spec.datasets, out)


def test_a_log_is_prepared_once_and_again_only_where_it_is_gone(tmp_path):
    spec, out = make_preparing_plan(tmp_path)
    datasets.prepare_logs(spec.datasets, out)
    meta = out / "data" / "feed" / "meta.json"
    before = meta.stat().st_mtime_ns
    datasets.prepare_logs(spec.datasets, out)
    assert meta.stat().st_mtime_ns == before
    other, _ = make_preparing_plan(tmp_path, prepare={"num_users": 40, "num_items": 20})
    with refused(meta.parent):
        datasets.prepare_logs(other.datasets, out)
    shutil.rmtree(meta.parent)
    datasets.prepare_logs(other.datasets, out)
    assert len(PreparedLog.open(meta.parent).index) == 40


def test_only_one_ablation_runs_in_a_directory(tmp_path):
    out = tmp_path / "out"
    with datasets.reserved(out), refused(out), datasets.reserved(out):
        pass
    with datasets.reserved(out):
        pass


def test_a_log_says_what_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SIREN_ROPE_DATA", str(tmp_path))
    names = ("2023/events.csv", "2024/events.csv")
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    one, other = (datasets._digests(name) for name in names)
    assert datasets._digests("") == [] and datasets._digests("2025/events.csv") is None
    for key in ("digests", "item_digests"):
        report, same = {"config": {"name": "x"}, key: one}, {"name": "x"}
        assert datasets._is_made_from(report, same, **{key: one})
        assert datasets._is_made_from(report, same, **{key: None})
        assert not datasets._is_made_from(report, same, **{key: []})
        assert not datasets._is_made_from(report, same, **{key: other})
        assert not datasets._is_made_from(report, same, **{key: [*one, *other]})
        assert not datasets._is_made_from(report, {"name": "y"}, **{key: one})


@pytest.mark.parametrize(
    ("config", "input", "about"),
    [
        ("movielens", "", "input"),
        ("synthetic", "ml-100k.inter", "input"),
        ("movielens", "ml-100k.inter", "SIREN_ROPE_DATA"),
    ],
)
def test_a_missing_or_superfluous_raw_log_is_named(tmp_path, monkeypatch, config, input, about):
    monkeypatch.delenv("SIREN_ROPE_DATA", raising=False)
    path = str(ROOT / f"configs/data/{config}.py")
    spec, out = make_preparing_plan(tmp_path, config=path, input=input, prepare={})
    with refused(about, "'feed'", input):
        datasets.prepare_logs(spec.datasets, out)
    assert not out.exists()
    if input:
        monkeypatch.setenv("SIREN_ROPE_DATA", str(tmp_path))
        named = tmp_path / input if about == "SIREN_ROPE_DATA" else input
        with refused(about, "'feed'", named):
            datasets.prepare_logs(spec.datasets, out)
        assert not list(out.rglob("*.json"))  # no record


@pytest.mark.parametrize(
    "count", [1, pytest.param(2, marks=pytest.mark.slow, id="in processes of their own")]
)
def test_a_failed_run_does_not_stop_the_others_and_leaves_its_traceback(tmp_path, capsys, count):
    noises = {"wild": WILD, "crash": CRASH} | ({"death": DEATH} if count > 1 else {})
    variants = [
        *({"name": name, "argument": "ordinal", "overrides": {"model.dropout": noise}}
          for name, noise in noises.items()),
        {"name": "ordinal"}, {"name": "siren_rope"},
    ]  # fmt: skip
    spec, runs = make_plan(tmp_path, variants=tuple(variants), seeds=(0,), jobs=count)
    failures = jobs.execute(runs, count, train)
    bad = {run.variant: run for run in runs if not run.is_finished()}
    assert set(bad) == set(noises) and len(failures) == len(bad)
    assert "made_up/wild/seed_0: loss: is not finite at step 3" in failures
    assert "made_up/crash/seed_0: ZeroDivisionError: a bug" in "".join(failures)
    assert capsys.readouterr().out.count("FAILED") == len(bad)
    assert "in train\n" in (bad["crash"].workdir / "error.txt").read_text()
    if count > 1:
        assert "made_up/death/seed_0: its process died" in "".join(failures)
        assert "its process died" in (bad["death"].workdir / "error.txt").read_text()
    text = report.write_report(spec, tmp_path / "out", runs).read_text()
    assert "**Not finished:** made_up/wild/seed_0, made_up/crash/seed_0" in text

    assert jobs.execute([bad["crash"]], 1, made_up.train) == []
    assert bad["crash"].is_finished() and not (bad["crash"].workdir / "error.txt").exists()


def train_and_note_the_process(config, workdir):
    """`train`, which also notes its share of memory and the programs that are compiled so far."""
    train(config, workdir)
    jax.jit(lambda x: jnp.sort(x) @ x)(jnp.arange(8.0)).block_until_ready()
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    programs = sorted(file.name for file in folder.glob("*-cache"))
    notes = {"folder": str(folder), "programs": programs}
    notes["memory"] = os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"]
    write_json(workdir / "notes.json", notes)


@pytest.mark.slow
def test_worker_processes_share_compiled_programs_and_an_accelerators_memory(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    _, runs = make_plan(tmp_path, jobs=2)
    assert jobs.execute(runs[:-1], 2, train_and_note_the_process) == []
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
    assert jobs.execute(runs[-1:], 2, train_and_note_the_process) == []
    *notes, other = (json.loads((run.workdir / "notes.json").read_text()) for run in runs)
    assert notes[0]["programs"] and all(note == notes[0] for note in notes)
    assert not Path(notes[0]["folder"]).exists()
    assert notes[0]["memory"] == "0.45" and other["memory"] == "0.2"


def test_worker_processes_share_the_cores(tmp_path):
    cores = jobs.available_cores()
    shares = jobs.core_shares(2)
    assert sorted({core for share in shares for core in share}) == cores
    assert len(cores) == 1 or not set(shares[0]) & set(shares[1])
    assert all(jobs.core_shares(3 * len(cores)))


@pytest.mark.slow
def test_two_processes_write_the_same_results_as_one(tmp_path):
    results = []
    for count in (1, 2):
        _, runs = make_plan(tmp_path / str(count), jobs=count, seeds=(0,))
        assert jobs.execute(runs, count, train) == []
        results.append([run.result()["tasks"] for run in runs])
    assert results[0] == results[1]


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
    assert "(`ordinal`)" in text and "**Not finished:** made_up/siren_rope/seed_0" in text


def test_some_of_the_variants_can_be_compared(tmp_path):
    spec, _ = make_plan(tmp_path, champion="siren_rope", lines=("middle", "siren_rope"))
    some = spec.only(["middle", "ordinal"])
    assert [v.name for v in some.variants] == ["ordinal", "middle"]
    assert (some.champion, some.lines) == ("", ("middle",))
    assert spec.only(["siren_rope", "ordinal"]).champion == "siren_rope"
    with refused("--variants", "'midle'", "'middle'"):
        spec.only(["ordinal", "midle"])
    with refused("--variants", "'ordinal'"):
        spec.only(["middle"])


@pytest.mark.parametrize(
    ("changes", "about", "named"),
    [
        ({"baseline": "sirne_rope"}, "config.baseline", "'siren_rope'"),
        ({"champion": "midle"}, "config.champion", "'middle'"),
        ({"lines": ("ordinal", "midle")}, "config.lines", "'middle'"),
        ({"champion": "ordinal"}, "config.champion", "'ordinal'"),
        ({"seeds": ()}, "config.seeds", ""),
        ({"seeds": (1, 1)}, "config.seeds", "1"),
        ({"seeds": (0, 0)}, "config.seeds", "0"),
        ({"sedes": (1,)}, "config.sedes", "'seeds'"),
        ({"jobs": 0}, "config.jobs", "1"),
        ({"data": {"prepared": ""}}, "config.datasets[0].prepared", "`config`"),
        ({"data": {"items": "i.csv"}}, "config.datasets[0].items", "`prepared`"),
        ({"data": {"base": "nowhere.py"}}, "nowhere.py", "'made_up'"),
        ({"variants": ({"name": "sirne_rope"},), "baseline": "sirne_rope"}, "variant",
         "'siren_rope'"),
        ({"variants": ({"name": "ordinal", "overrides": {"model.widht": 8}},)},
         "config.model.widht", "'width'? (variant 'ordinal' on data set 'made_up')"),
        ({"variants": ({"name": "ordinal", "overrides": {"model.width": "wide"}},)},
         "config.model.width", "'wide' (variant 'ordinal' on data set 'made_up')"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_refused_before_anything_runs(tmp_path, changes, about, named):
    with refused(about, named):
        make_plan(tmp_path, **changes)
    assert not (tmp_path / "out").exists()


def test_a_line_of_progress_names_the_main_metrics(tmp_path, capsys):
    _, runs = make_plan(tmp_path, "retrieval", seeds=(0,))
    jobs.execute(runs[:1], 1, train)
    ranking = runs[0].result()["ranking"]
    want = f"ordinal/seed_0: NLL {ranking['nll']:.4f}, NDCG@10 {ranking['ndcg@10']:.4f}\n"
    assert want in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "other"),
    [("filter_seen", True, False), ("data.target_task", "like", "''")],
)
def test_variants_that_are_not_evaluated_alike_are_refused_before_anything_runs(
    tmp_path, key, value, other
):
    variants = ({"name": "ordinal"}, {"name": "siren_rope", "overrides": {key: value}})
    with refused(f"config.{key}", value, "siren_rope", other, "ordinal", "made_up"):
        make_plan(tmp_path, "retrieval", variants=variants)
    make_plan(tmp_path, "retrieval", data={"overrides": {key: value}})  # of all alike
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny(tmp_path):
    """Runs the script with two variants on a feed that it prepares; returns what it prints."""
    config = {
        "name": "Tiny", "baseline": "ordinal", "seeds": (0,), "jobs": 1,
        "variants": ({"name": "ordinal"}, {"name": "siren_rope"}),
        "datasets": ({"name": "feed", "base": str(tmp_path / "base.py"),
                      "config": str(ROOT / "configs/data/synthetic.py"),
                      "prepare": {"num_users": 200, "num_items": 40}},),
    }  # fmt: skip

    def ablate(base, array_jobs=0):
        (tmp_path / "base.py").write_text(base)
        load = "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict"
        (tmp_path / "tiny.py").write_text(f"{load}({config})\n")
        flags = (f"--config={tmp_path / 'tiny.py'}", f"--workdir={tmp_path / 'out'}")
        parts = [(*flags, f"--index={i}", f"--of={array_jobs}") for i in range(array_jobs)]
        on_one_device = partial(printed, "ablate", XLA_FLAGS=xla_flags(1))
        with ThreadPoolExecutor() as threads:
            for part in threads.map(lambda given: on_one_device(*given), parts):
                assert "1 runs, 0 of them finished before" in part and "[1/1]" in part
        assert not array_jobs or not (tmp_path / "out" / "report.md").exists()
        said = on_one_device(*flags)
        text = (tmp_path / "out" / "report.md").read_text()
        assert text in said and "Not finished" not in text
        assert said.rstrip().endswith(str(tmp_path / "out" / "report.md"))
        return said

    return ablate


@pytest.mark.slow
def test_the_script_prepares_trains_compares_and_goes_on(tmp_path, tiny):
    base = BASES["ranking"].replace("ranking_variant(name)", "ranking_variant(name, 'topic')")
    said = tiny(base)
    for name in ("(`ordinal`)", "(`siren_rope`)", "| *ideal* |", "| *time_blind* |", "closed"):
        assert name in said
    run = tmp_path / "out" / "feed" / "ordinal" / "seed_0"
    result = json.loads((run / "result.json").read_text())
    assert result["events"] == PreparedLog.open(tmp_path / "out/data/feed").index[:, 3].sum()

    # Going on: a run without a result is evaluated from its checkpoint, the other left alone.
    (run / "result.json").unlink()
    assert "2 runs, 1 of them finished before" in tiny(base)
    repeated = json.loads((run / "result.json").read_text())
    assert {k: repeated[k] for k in ("tasks", "step")} == {k: result[k] for k in ("tasks", "step")}

    other = printed("evaluate", f"--workdir={run}", "--split=validation", XLA_FLAGS=xla_flags(1))
    assert "synthetic, validation split" in other
    assert json.loads((run / "result_validation.json").read_text())["train_seconds"] > 0
    assert (run / "plots_validation" / "reliability.png").is_file()
    with refused("split", "'test'"):
        evaluate_run(run, "tset")
    longer = printed("evaluate", f"--workdir={run}", "--lengths=32,128", XLA_FLAGS=xla_flags(1))
    assert "like: in rows of 32: " in longer and "like: in rows of 128: " in longer
    known = json.loads((run / "result.json").read_text())
    assert list(known["lengths"]) == ["32", "128"] and known["tasks"] == result["tasks"]

    (run / "predictions.parquet").unlink()
    (run / "predictions.parquet").mkdir()
    with refused(run / "predictions.parquet"):
        evaluate_run(run, "test")
    assert not list(run.glob(".predictions*"))


@pytest.mark.slow
def test_the_script_prepares_trains_and_compares_retrievers(tmp_path, tiny):
    assert "2 runs, 2 of them finished before" in tiny(BASES["retrieval"], array_jobs=2)
    place = tmp_path / "out" / "feed" / "ordinal" / "seed_0"
    result = json.loads((place / "result.json").read_text())
    log = PreparedLog.open(tmp_path / "out" / "data" / "feed")
    test = log.events("test").event
    events = test[~np.isin(test, log.offsets)]  # a user's first event is no target
    frame = pd.read_parquet(place / "predictions.parquet")
    assert frame["event"].tolist() == events.tolist() and result["events"] == len(events)
    assert result["ranking"]["nll"] == pytest.approx(frame["nll"].mean(), rel=1e-6)
    said = printed("evaluate", f"--workdir={place}", "--split=validation", XLA_FLAGS=xla_flags(1))
    assert "synthetic, validation split" in said and "full ranking over" in said
    assert (place / "plots_validation" / "gap.png").is_file()
