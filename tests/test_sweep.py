"""Sweeps: which values are tried, what is chosen, going on, and the ablation that follows."""

import dataclasses
import json
from typing import Any

import pytest
from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.studies import jobs, sweep
from siren_rope_jax.studies.sweep import Range, Sweep
from siren_rope_jax.training.experiment import identity
from tests.made_up import BASES, LOGS, make_log, make_plan
from tests.refusals import refused
from tests.scripts import run as run_script

RATE = {"key": "optimizer.learning_rate", "low": 1e-4, "high": 1e-2, "log": True}
DROPOUT = {"key": "model.dropout", "values": (0.1, 0.3)}
OWN = {"key": "model.encoding.time.network.width", "values": (8, 16)}


def make_sweep(tmp_path, kind="ranking", **changes) -> Sweep:
    (tmp_path / "base.py").write_text(BASES[kind])
    if not (log := tmp_path / "log").exists():
        make_log(log, users=60, **LOGS[kind])
    values: dict[str, Any] = {
        "name": "Settings",
        "variants": ({"name": "ordinal"}, {"name": "siren_rope", "ranges": (OWN,)}),
        "datasets": ({"name": "d", "base": str(tmp_path / "base.py"), "prepared": str(log)},),
        "ranges": (RATE, DROPOUT),
        "trials": 4,
    }
    return from_config_dict(Sweep, ConfigDict(values | changes))


def train(config, workdir) -> None:
    """Stands in for training: the validation is the better, the nearer the rate is to .002."""
    found = {
        "criterion": "ne",
        "higher_is_better": False,
        "value": abs(config.optimizer.learning_rate - 0.002) + config.model.dropout / 1000,
        "step": 7,
        "seconds": 1.5,
        "version": sweep.__version__,
        "fingerprint": PreparedLog.open(config.data.path).fingerprint,
        "config": identity(config),
    }
    workdir.mkdir(parents=True)
    write_json(workdir / "trial.json", found)


def by_variant(spec: Sweep, out) -> dict[str, dict[int, sweep.Trial]]:
    found: dict[str, dict[int, sweep.Trial]] = {}
    for trial in sweep.plan(spec, out):
        found.setdefault(trial.variant, {})[trial.number] = trial
    return found


def test_every_variant_has_as_many_trials_and_the_same_values_of_shared_keys(tmp_path):
    spec, out = make_sweep(tmp_path), tmp_path / "out"
    ordinal, siren = by_variant(spec, out).values()
    assert ordinal.keys() == siren.keys() and len(ordinal) == 4
    as_it_is = {RATE["key"]: 1e-3, DROPOUT["key"]: 0.9}
    assert ordinal[0].values == as_it_is and siren[0].values == as_it_is | {OWN["key"]: 64}
    for n, trial in ordinal.items():
        assert trial.values.items() <= siren[n].values.items()
        assert not n or siren[n].values[OWN["key"]] in OWN["values"]
    names = [trial.name for trial in sweep.plan(spec, out)]
    assert names[:3] == ["d/ordinal/trial_0", "d/siren_rope/trial_0", "d/ordinal/trial_1"]
    for trial in sweep.plan(spec, out):
        rate = trial.values[RATE["key"]]
        assert trial.config.optimizer.learning_rate == rate and 1e-4 <= rate <= 1e-2


def test_shared_choices_are_the_same_even_where_few_are_left(tmp_path):
    """A variant of few choices must not draw again on its own."""
    few = {"key": "model.dropout", "values": (0.0, 0.1, 0.2, 0.4)}
    real = {"key": "model.encoding.time.network.omega_0", "low": 3.0, "high": 30.0}
    variants = ({"name": "ordinal"}, {"name": "siren_rope", "ranges": (real,)})
    for seed in range(5):
        spec = make_sweep(tmp_path, ranges=(few,), variants=variants, seed=seed)
        ordinal, siren = by_variant(spec, tmp_path / "out").values()
        for n, trial in ordinal.items():
            assert trial.values["model.dropout"] == siren[n].values["model.dropout"]
        assert len({t.values["model.dropout"] for t in ordinal.values()}) == 4


def test_more_trials_go_on_from_fewer(tmp_path):
    spec, out = make_sweep(tmp_path), tmp_path / "out"
    longer = dataclasses.replace(spec, trials=9)
    assert jobs.execute(sweep.plan(spec, out), 1, train) == []
    done = [trial.is_finished() for trial in sweep.plan(longer, out)]
    assert sum(done) == 8 and len(done) == 18
    sweep.claim(spec, out)
    sweep.claim(longer, out)
    with refused(out):
        sweep.claim(dataclasses.replace(spec, seed=1), out)


def test_a_grid_has_every_combination_once(tmp_path):
    spec = make_sweep(tmp_path, trials=0, variants=({"name": "siren_rope", "ranges": (OWN,)},),
                      ranges=(DROPOUT,))  # fmt: skip
    pairs = [tuple(trial.values.values()) for trial in sweep.plan(spec, tmp_path / "out")]
    assert pairs == [(0.1, 8), (0.1, 16), (0.3, 8), (0.3, 16)]


def test_settings_that_belong_together_are_tried_together(tmp_path):
    pairs = ({"model.width": 16, "model.heads": 1}, {"model.width": 32, "model.heads": 2})
    variants = ({"name": "ordinal", "settings": pairs}, {"name": "siren_rope", "ranges": (OWN,)})
    spec = make_sweep(tmp_path, trials=0, variants=variants, ranges=(DROPOUT,))
    trials = by_variant(spec, tmp_path / "out")
    models = [trial.config.model for trial in trials["ordinal"].values()]
    found = [(m.width, m.heads, m.dropout) for m in models]
    assert found == [(16, 1, 0.1), (16, 1, 0.3), (32, 2, 0.1), (32, 2, 0.3)]
    assert trials["ordinal"][2].values == {"model.dropout": 0.1} | pairs[1]
    assert len(trials["siren_rope"]) == 4


def test_too_few_different_trials_are_told(tmp_path):
    with refused("config.trials", 4, 3):
        sweep.plan(make_sweep(tmp_path, ranges=(DROPOUT,)), tmp_path / "out")


def test_random_values_fill_their_range() -> None:
    by_log = from_config_dict(Range, RATE)
    plain = dataclasses.replace(by_log, log=False)
    below = [sum(r.drawn(0, n) < 1e-3 for n in range(400)) / 400 for r in (by_log, plain)]
    assert abs(below[0] - 0.5) < 0.1 and abs(below[1] - 1 / 11) < 0.06
    choices = from_config_dict(Range, DROPOUT)
    assert abs(sum(choices.drawn(0, n) == 0.1 for n in range(400)) / 400 - 0.5) < 0.1
    assert by_log.drawn(0, 1) != by_log.drawn(1, 1)


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"ranges": ({"key": "model.dropout"},)}, "config.ranges[0].values"),
        ({"ranges": (RATE | {"values": (1.0,)},)}, "config.ranges[0].values"),
        ({"ranges": ({"key": "model.dropout", "low": 0.1},)}, "config.ranges[0].low"),
        ({"ranges": (RATE | {"low": 0.0},)}, "config.ranges[0].low"),
        ({"ranges": (DROPOUT | {"log": True},)}, "config.ranges[0].log"),
        ({"trials": 0}, "config.trials"),  # of a real number
        ({"trials": 0, "ranges": (DROPOUT,)}, "config.trials"),  # 2 of one variant, 4 of the other
        ({"ranges": (DROPOUT | {"values": (0.1, 0.1)},)}, "config.ranges[0].values"),
        ({"ranges": (DROPOUT | {"key": "seed"},)}, "config.ranges[0].key"),
        ({"ranges": ()}, "config.ranges"),
        ({"variants": ({"name": "ordinal", "settings": ({"model.layers": 1},)},)}, "config.trials"),
        (
            {"variants": ({"name": "ordinal", "settings": ({"seed": 1},)},)},
            "config.variants[0].settings",
        ),
        ({"variants": ({"name": "ordinal"},) * 2}, "config.variants"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, changes, about):
    with refused(about):
        make_sweep(tmp_path, **changes)


def test_trials_that_cannot_be_compared_are_refused(tmp_path):
    with refused("config.model.no_such"):
        sweep.plan(
            make_sweep(tmp_path, ranges=(RATE, DROPOUT | {"key": "model.no_such"})), tmp_path
        )
    metrics = {"key": "criterion", "values": ("nll", "mrr")}
    spec = make_sweep(tmp_path, kind="retrieval", ranges=(RATE, metrics))
    with refused("config.criterion", "mrr", "nll"):
        sweep.plan(spec, tmp_path)


def test_an_ablation_compares_the_best_values(tmp_path):
    spec, out = make_sweep(tmp_path), tmp_path / "out"
    trials = sweep.plan(spec, out)
    assert jobs.execute(trials, 1, train) == []
    sweep.write_report(spec, out, trials)
    best = read_json(out / "best.json")["d"]
    for name in ("ordinal", "siren_rope"):
        own = [t for t in trials if t.variant == name]
        assert best[name] == min(own, key=lambda t: t.found()["value"]).values
    # What was chosen is set in the ablation, also on a data set that takes the choices of another.
    two = {"variants": ({"name": "ordinal"}, {"name": "siren_rope"})}
    chosen = str(out / "best.json")
    for data in ({"name": "d"}, {"name": "later", "tuned_on": "d"}):
        _, runs = make_plan(tmp_path, chosen=chosen, data=data, **two)
        for r in runs:
            assert r.config.optimizer.learning_rate == best[r.variant][RATE["key"]]
            assert r.config.model.dropout == best[r.variant][DROPOUT["key"]]
            assert r.chosen == best[r.variant]
    with refused("--chosen", "middle"):
        make_plan(tmp_path, chosen=chosen, data={"name": "d"})
    with refused("--chosen", "made_up"):
        make_plan(tmp_path, chosen=chosen, **two)


def test_a_variant_that_is_not_tuned_to_the_end_is_not_chosen(tmp_path):
    spec, out = make_sweep(tmp_path), tmp_path / "out"
    trials = sweep.plan(spec, out)
    *others, last = trials
    assert jobs.execute(others, 1, train) == []
    report = sweep.write_report(spec, out, trials).read_text()
    assert f"**Not finished:** {last.name}." in report
    assert read_json(out / "best.json")["d"].keys() == {"ordinal"}
    last.workdir.mkdir(parents=True)
    (last.workdir / jobs.ERROR_FILE).write_text("loss: is nan")  # a failed one has been tried
    report = sweep.write_report(spec, out, trials).read_text()
    assert f"Failed, as error.txt in their folders says: {last.name}." in report
    assert read_json(out / "best.json")["d"].keys() == {"ordinal", "siren_rope"}


@pytest.mark.slow
def test_the_command_trains_chooses_and_goes_on(tmp_path):
    make_sweep(tmp_path)
    config = tmp_path / "sweep.py"
    dataset = {"name": "d", "base": str(tmp_path / "base.py"), "prepared": str(tmp_path / "log")}
    wild = {"key": "optimizer.learning_rate", "values": (1e-2, 1e30)}
    variants = ({"name": "ordinal"}, {"name": "none"})
    values = {"name": "Settings", "variants": variants, "datasets": (dataset,)}
    values |= {"ranges": (wild,), "trials": 0}
    config.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict({values!r})\n"
    )
    out = tmp_path / "out"
    arguments = ["sweep", f"--config={config}", f"--workdir={out}"]
    mistaken = run_script(*arguments, "--variants=ordinary")
    assert mistaken.returncode == 2 and "'ordinary' is not a variant" in mistaken.stderr
    arguments.append("--variants=ordinal")
    first = run_script(*arguments)
    assert first.returncode == 0, first.stderr
    assert "trial_1: FAILED: loss" in first.stdout
    best = read_json(out / "best.json")
    assert best == {"d": {"ordinal": {"optimizer.learning_rate": 0.01}}}
    found = read_json(out / "sweep.json")
    (row,) = found["found"]["d"]["ordinal"]
    validations = [
        json.loads(line)
        for line in (out / "d/ordinal/trial_0/metrics.jsonl").read_text().splitlines()
    ]
    assert row["value"] == min(v["ne"] for v in validations if v["kind"] == "validation")
    assert found["failed"] == ["d/ordinal/trial_1"]
    assert found["missing"] == []  # of the other variant nobody has asked for any
    second = run_script(*arguments)
    assert "2 runs, 1 of them finished before" in second.stdout
    assert run_script(*arguments, "--index=5", "--of=6").returncode == 0  # has no trial to train
    # Other values in the same directory are refused, and what was found stays.
    config.write_text(config.read_text().replace("1e+30", "1.0"))
    assert run_script(*arguments).returncode == 2
    assert read_json(out / "best.json") == best
