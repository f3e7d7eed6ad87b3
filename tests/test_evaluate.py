"""Predictions, results, slices and the simple baselines on a small prepared log."""

import json

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.files import write_json
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.evaluation import evaluate, slices
from siren_rope_jax.evaluation.baselines import past
from siren_rope_jax.evaluation.baselines import rates as baselines
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics import binary as metrics
from siren_rope_jax.studies import plots
from siren_rope_jax.training.kinds.ranking import Ranking, Scored
from tests.made_up import TASKS, make_log, make_run


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return make_log(tmp_path_factory.mktemp("log") / "prepared")


def scored(log, split="test", seed=0):
    """Made-up scores of a split's events, in shuffled order."""
    rng = np.random.default_rng(seed)
    event = rng.permutation(log.events(split).event)
    return event, rng.random((len(event), 2)).astype(np.float32)


def evaluated(log, event, scores):
    return Evaluated.of(log, Scored(event, scores, np.full(np.shape(scores), np.nan)))


def write_predictions(workdir, log, event, scores):
    return evaluate.write_predictions(workdir, evaluated(log, event, scores), Ranking)


def make_result(log, event, scores, split="test"):
    config = {"kind": "ranking", "variant": "ordinal", "seed": 3, "model": {"width": 8}}
    return evaluate.result(
        evaluated(log, event, scores), config, split=split, step=10, parameters=123,
        train_seconds=4.5,
        training_ended=True,
    )  # fmt: skip


def test_predictions_hold_raw_ids_labels_and_scores_by_event(log, tmp_path):
    event, scores = scored(log)
    frame = pd.read_parquet(write_predictions(tmp_path, log, event, scores))
    assert list(frame) == ["event", "user", "item", "time", "utc_offset",
                           "like", "like_score", "long", "long_score"]  # fmt: skip
    events = log.events("test")
    assert frame["event"].tolist() == events.event.tolist()
    assert frame["user"].tolist() == [f"user {u}" for u in events.user]
    values = dict(log.vocabulary("item").select(["id", "value"]).to_pandas().to_numpy().tolist())
    assert frame["item"].tolist() == [values[i] for i in events.rows["categorical/item"]]
    assert frame["time"].tolist() == events.rows["time"].tolist()
    assert frame["like"].fillna(-1).tolist() == events.rows["task/like"].tolist()
    by_event = dict(zip(event, scores[:, 1], strict=True))
    assert frame["long_score"].tolist() == [by_event[e] for e in events.event]
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.parquet"]


def test_metrics_can_be_computed_again_from_the_predictions(log, tmp_path):
    event, scores = scored(log)
    frame = pd.read_parquet(write_predictions(tmp_path, log, event, scores))
    outcome = make_result(log, event, scores)
    for task in TASKS:
        again = metrics.task_metrics(
            frame[task].fillna(-1).to_numpy(int), frame[f"{task}_score"].to_numpy(),
            pd.factorize(frame["user"])[0],
        )  # fmt: skip
        assert outcome["tasks"][task] == pytest.approx(again)


def test_a_result_survives_json_and_has_stable_keys(log, tmp_path):
    outcome = make_result(log, *scored(log))
    write_json(tmp_path / "result.json", outcome)
    assert json.loads((tmp_path / "result.json").read_text()) == outcome
    assert list(outcome) == ["variant", "dataset", "split", "protocol", "seed", "step",
                             "parameters", "events", "train_seconds", "training_ended", "version",
                             "has_utc_offset", "tasks", "baselines", "slices",
                             "config"]  # fmt: skip
    assert list(outcome["tasks"]["like"]) == ["ne", "auc", "gauc", "ece", "count", "positives"]
    assert set(outcome["baselines"]) == {"oracle", "ideal", "user_rate", "item_rate"}
    assert set(outcome["baselines"]["oracle"]) == {"like"}
    assert set(outcome["baselines"]["user_rate"]) == set(TASKS)


def test_the_order_of_the_events_does_not_matter(log):
    event, scores = scored(log)
    order = np.argsort(event)
    assert make_result(log, event, scores) == make_result(log, event[order], scores[order])


def test_every_slicing_counts_every_labelled_event_once(log):
    outcome = make_result(log, *scored(log))
    for name, groups in outcome["slices"].items():
        for task in TASKS:
            total = sum(group[task]["count"] for group in groups.values())
            assert total == outcome["tasks"][task]["count"], name


def test_slices_hold_the_events_they_name(log):
    everything = log.events()
    item = log.schema.categorical[0]
    groups = {"item": slices.by_item(item, everything), "hour": slices.by_hour(everything),
              "gap": slices.by_gap(everything, everything),
              "day": slices.by_day(everything)}  # fmt: skip
    rows = everything.rows
    count = log.vocabulary("item")["train_count"].to_numpy()
    assert (count[rows["categorical/item"][groups["item"]["known"]] - 1] >= 12).all()
    assert (count[rows["categorical/item"][groups["item"]["unknown"]] - 1] < 12).all()
    local = (rows["time"] + rows["utc_offset"]).astype("datetime64[s]")
    for hour, members in groups["hour"].items():
        assert {stamp.hour for stamp in local[members].tolist()} == {int(hour)}
    for day, members in groups["day"].items():
        assert {str(stamp.date()) for stamp in local[members].tolist()} == {day}
    assert len(groups["gap"]["first event"]) == 30
    frame = pd.DataFrame({"user": everything.user, "time": rows["time"]})
    gap = frame.groupby("user")["time"].diff().to_numpy()
    lower = 0
    for name, upper in slices.GAPS:
        members = groups["gap"].get(name, [])
        inside = (gap >= lower) & (gap < (upper or np.inf))
        assert sorted(members) == np.flatnonzero(inside).tolist()
        lower = upper


def test_events_without_a_time_are_in_no_slice_of_time(tmp_path):
    log = make_log(tmp_path / "log", no_time=0.3)
    everything = log.events()
    groups = {"hour": slices.by_hour(everything), "gap": slices.by_gap(everything, everything),
              "day": slices.by_day(everything)}  # fmt: skip
    known = everything.rows["time"] != NO_TIME
    for group in groups.values():
        members = np.sort(np.concatenate(list(group.values())))
        assert members.tolist() == np.flatnonzero(known).tolist()
    frame = pd.DataFrame({"user": everything.user, "time": everything.rows["time"]})[known]
    want = frame.groupby("user")["time"].diff().fillna(-1)
    assert past.seconds_since_last(everything)[known].tolist() == want.tolist()
    write_predictions(tmp_path, log, *scored(log))
    frame = pd.read_parquet(tmp_path / "predictions.parquet")
    assert frame["time"].isna().sum() == (log.events("test").rows["time"] == NO_TIME).sum() > 0


def test_a_long_log_is_cut_into_periods_of_several_days(tmp_path):
    log = make_log(tmp_path / "log", days=400)
    everything = log.events()
    periods = slices.by_day(everything)
    assert len(periods) <= slices.MAX_PERIODS
    starts = np.array(list(periods), "datetime64[D]")
    assert set(np.diff(starts).astype(int)) == {5}


def test_no_events_make_a_result_without_metrics(log):
    outcome = make_result(log, np.zeros(0, int), np.zeros((0, 2)))
    assert outcome["tasks"]["like"]["ne"] is None
    assert outcome["slices"] == {"item": {}, "hour": {}, "gap": {}, "day": {}}


@pytest.mark.parametrize(
    ("event", "scores", "message"),
    [
        ([1, 1], np.full((2, 2), 0.5), "scored twice"),
        ([1, 10**9], np.full((2, 2), 0.5), "the log has 1200"),
        ([1, 2], np.full((3, 2), 0.5), "shape"),
    ],
)
def test_scores_that_do_not_fit_the_log_are_refused(log, tmp_path, event, scores, message):
    with pytest.raises(ValueError, match=message):
        write_predictions(tmp_path, log, np.array(event), scores)
    assert not list(tmp_path.iterdir())


def test_the_user_rate_does_not_depend_on_the_event_itself_nor_on_later_ones(log):
    everything = log.events()
    labels = everything.rows["task/like"].copy()
    train = everything.rows["split"] == 0
    before = baselines.user_rate(labels, everything.user, train)
    at = int(np.flatnonzero((~train) & (everything.user == 7))[2])
    changed = labels.copy()
    changed[at:] = 1 - np.maximum(changed[at:], 0)
    changed[train] = labels[train]  # the base rate and the strength are fitted there
    after = baselines.user_rate(changed, everything.user, train)
    np.testing.assert_array_equal(after[: at + 1], before[: at + 1])
    assert after[at + 1] != before[at + 1]


def test_the_rates_equal_their_definition_by_a_loop(log):
    """Both are linear in the counts, so the strength can be read off and all events checked."""
    everything = log.events()
    labels, train = everything.rows["task/like"], everything.rows["split"] == 0
    items = everything.rows["categorical/item"]
    rate = labels[train & (labels >= 0)].mean()
    mine = {"user": [], "item": []}
    for n in range(len(labels)):
        earlier = (everything.user == everything.user[n]) & (np.arange(len(labels)) < n)
        same = (items == items[n]) & train
        for name, rows in (("user", earlier), ("item", same)):
            own = labels[rows & (labels >= 0)]
            mine[name].append((own.sum(), len(own)))
    got = {"user": baselines.user_rate(labels, everything.user, train),
           "item": baselines.item_rate(labels, items, train)}  # fmt: skip
    for name, value in got.items():
        positive, count = np.array(mine[name]).T
        fits = [np.allclose(value, (positive + 2.0**k * rate) / (count + 2.0**k))
                for k in range(-1, 13)]  # fmt: skip
        assert sum(fits) == 1, name


def test_an_unseen_item_has_the_base_rate():
    labels, items = np.array([1, 0, 0, 0, -1]), np.array([1, 1, 1, 1, 2])
    train = np.array([True, True, True, True, False])
    assert baselines.item_rate(labels, items, train)[4] == 0.25


def test_informative_rates_beat_the_constant_and_the_truth_beats_them(log):
    outcome = make_result(log, *scored(log))
    ne = {name: tasks["like"]["ne"] for name, tasks in outcome["baselines"].items()}
    assert ne["oracle"] < ne["user_rate"] < 1
    assert ne["oracle"] < ne["item_rate"] < 1


def test_a_run_has_its_pictures_and_its_table(log, tmp_path):
    outcome = make_run(tmp_path / "run", log, {}, variant="siren_rope")
    pictures = plots.draw_run(tmp_path / "run")
    assert {p.stem for p in pictures} == {
        "reliability", "models", "hour", "gap", "day", "learning", "gates",
    }  # fmt: skip
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    lines = evaluate.as_text(outcome).splitlines()
    about = f"made_up, test split, {outcome['events']} events (one global time split)"
    assert lines[0] == about
    own = next(line for line in lines if line.startswith("  siren_rope"))
    assert own.split()[1:3] == [f"{outcome['tasks']['like'][m]:.4f}" for m in ("ne", "auc")]
    assert sum(line.startswith("  ideal") for line in lines) == 1


@pytest.mark.parametrize("local", [True, False])
def test_hours_and_days_are_called_local_only_where_the_log_has_offsets(local):
    titles = [slices.SLICES[name].title(local) for name in ("hour", "day", "history")]
    assert titles[:2] == (
        ["local hour of day", "local day"] if local else ["hour of day (UTC)", "day (UTC)"]
    )
    assert titles[2] == slices.SLICES["history"].what


def test_a_result_of_one_class_has_a_table_too(log):
    event = log.events("test").event[:1]
    assert "–" in evaluate.as_text(make_result(log, event, np.full((1, 2), 0.5)))
