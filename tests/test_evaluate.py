"""Predictions, results, slices and the simple baselines on small prepared logs, of both kinds."""

import json

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.evaluation import evaluate, slices
from siren_rope_jax.evaluation.baselines import past, rates
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics.binary import task_metrics
from siren_rope_jax.metrics.ranks import COMPARED, RANK_METRICS, metrics_of_ranks
from siren_rope_jax.models.tasks import Binary
from siren_rope_jax.studies import charts, plots
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.kinds.ranking import Scored
from siren_rope_jax.training.kinds.retrieval import Retrieval
from siren_rope_jax.training.rank_scorer import Ranked
from tests.batches import small_retriever_config
from tests.made_up import TASKS, make_log, make_result, make_run

LIKE = Binary("like")
BOTH = pytest.mark.parametrize("kind", ["ranking", "retrieval"])


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """One for each kind; that of retrieval has items of every popularity, some of them unknown."""
    path = tmp_path_factory.mktemp("logs")
    retrieval = make_log(path / "retrieval", items=400, min_count=1)
    return {"ranking": make_log(path / "ranking"), "retrieval": retrieval}


@pytest.fixture(scope="module")
def log(logs):
    return logs["ranking"]


def scores_of(event, scores):
    return Scored(event, scores, np.full(np.shape(scores), np.nan))


def made_up(log, kind="ranking", split="test"):
    """Scores of a split's events (None: of all), in shuffled order; ranks but for users' first."""
    rng = np.random.default_rng(0)
    event = rng.permutation(log.events(split).event)
    if kind == "ranking":
        return scores_of(event, rng.random((len(event), 2)).astype(np.float32))
    event = event[~np.isin(event, log.offsets)]
    item = log.schema.categorical[0]
    known = item.known_ids(log.events().rows["categorical/item"][event]) > 0
    rank = np.where(known, rng.integers(1, item.known, len(event)) // 10 + 1, 0).astype(np.int32)
    nll = np.where(known, rng.exponential(size=len(event)), np.nan).astype(np.float32)
    return Ranked(event, rank, nll)


def predictions(workdir, log, scored, kind="ranking"):
    path = workdir / "predictions.parquet"
    evaluate.write_predictions(path, Evaluated.of(log, scored), KINDS[kind])
    assert [p.name for p in workdir.iterdir()] == ["predictions.parquet"]
    return pd.read_parquet(path)


def everything(log):
    return Evaluated(log, log.events(), log.events(), None)


@BOTH
def test_predictions_hold_raw_ids_and_what_the_kind_says_by_event(logs, tmp_path, kind):
    log, scored = logs[kind], made_up(logs[kind], kind)
    frame, rows = predictions(tmp_path, log, scored, kind), log.events().rows[np.sort(scored.event)]
    of_kind = {
        "ranking": ["like", "like_score", "long", "long_score"],
        "retrieval": ["rank", "nll"],
    }
    assert list(frame) == ["event", "user", "item", "time", "utc_offset", *of_kind[kind]]
    assert frame["event"].tolist() == sorted(scored.event)
    assert frame["user"].tolist() == [f"user {u}" for u in log.events().user[frame["event"]]]
    values = dict(log.vocabulary("item").select(["id", "value"]).to_pandas().to_numpy().tolist())
    assert frame["item"].tolist() == [values[i] for i in rows["categorical/item"]]
    assert frame["time"].tolist() == rows["time"].tolist()
    if kind == "ranking":
        assert frame["like"].fillna(-1).tolist() == rows["task/like"].tolist()
        by_event = dict(zip(scored.event, scored.score[:, 1], strict=True))
        assert frame["long_score"].tolist() == [by_event[e] for e in frame["event"]]
    else:
        by_event = dict(zip(scored.event, scored.rank, strict=True))
        assert frame["rank"].fillna(0).tolist() == [by_event[e] for e in frame["event"]]
        assert frame["nll"].isna().equals(frame["rank"].isna()) and frame["rank"].isna().any()


@BOTH
def test_metrics_can_be_computed_again_from_the_predictions(logs, tmp_path, kind):
    log, scored = logs[kind], made_up(logs[kind], kind)
    frame, outcome = predictions(tmp_path, log, scored, kind), make_result(log, scored, kind)
    if kind == "retrieval":
        rank, nll = frame["rank"].fillna(0).to_numpy(int), frame["nll"].to_numpy(float)
        assert outcome["ranking"] == metrics_of_ranks(rank, nll)
        return
    for task in TASKS:
        labels, users = frame[task].fillna(-1).to_numpy(int), pd.factorize(frame["user"])[0]
        again = task_metrics(labels, frame[f"{task}_score"].to_numpy(), users)
        assert outcome["tasks"][task] == pytest.approx(again)


@BOTH
def test_a_result_survives_json_and_has_stable_keys(logs, tmp_path, kind):
    outcome = make_result(logs[kind], made_up(logs[kind], kind), kind)
    write_json(tmp_path / "result.json", outcome)
    assert read_json(tmp_path / "result.json") == outcome
    own = {"ranking": ["tasks"], "retrieval": ["filter_seen", "query_time", "catalogue", "ranking"]}
    assert list(outcome) == [
        "variant", "dataset", "split", "protocol", "seed", "step", "parameters", "events",
        "train_seconds", "training_ended", "version", "has_utc_offset", *own[kind], "baselines",
        "slices", "config",
    ]  # fmt: skip
    baselines = outcome["baselines"]
    if kind == "ranking":
        assert list(outcome["tasks"]["like"]) == ["ne", "auc", "gauc", "ece", "count", "positives"]
        assert set(baselines) == {"oracle", "ideal", "user_rate", "item_rate"}
        assert set(baselines["oracle"]) == {"like"} and set(baselines["user_rate"]) == set(TASKS)
        return
    assert (outcome["protocol"], outcome["query_time"]) == ("time", "request")
    assert set(outcome["ranking"]) == {*RANK_METRICS, "count", "unranked"}
    assert list(baselines) == ["popular", "recent", "revisit", "revisit_hour"]
    for values in baselines.values():  # over the very same events
        assert [values[k] == outcome["ranking"][k] for k in ("count", "unranked")] == [True, True]


@BOTH
def test_the_order_of_the_events_does_not_matter(logs, kind):
    scored = made_up(logs[kind], kind)
    order = np.argsort(scored.event)
    other = type(scored)(*(column[order] for column in scored))
    assert make_result(logs[kind], scored, kind) == make_result(logs[kind], other, kind)


@BOTH
def test_no_events_make_a_result_without_metrics(logs, kind):
    none = type(made_up(logs[kind], kind))(*(x[:0] for x in made_up(logs[kind], kind)))
    outcome = make_result(logs[kind], none, kind)
    measured = outcome["tasks"]["like"] if kind == "ranking" else outcome["ranking"]
    assert measured[KINDS[kind].compared[0]] is None
    assert outcome["slices"] == {name: {} for name in KINDS[kind].slices}
    assert "–" in evaluate.as_text(outcome) and "–" in evaluate.headline(outcome)


@BOTH
def test_a_run_has_its_pictures_and_its_table(logs, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(charts, "FEW", 5)  # so that the events of an hour are enough
    outcome = make_run(tmp_path / "run", logs[kind], kind, variant="siren_rope")
    pictures = plots.draw_run(tmp_path / "run")
    of_kind = {"ranking": {"reliability", "day"}, "retrieval": {"popularity"}}
    always = {"models", "hour", "gap", "learning", "gates"}
    assert {p.stem for p in pictures} == always | of_kind[kind]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    about, rule, *_ = lines = evaluate.as_text(outcome).splitlines()
    explained = [line.partition(": ")[0] for line in lines[3:] if not line.startswith("  ")]
    assert explained[: len(outcome["baselines"])] == list(outcome["baselines"])
    size = f"{outcome['events']} events"
    assert about == f"made_up, test split, {size} (one global time split)"
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:] if line.startswith("  ")}
    if kind == "ranking":
        own = [f"{outcome['tasks']['long'][m]:.4f}" for m in ("ne", "auc")]
        assert rows["siren_rope"][:2] == own
        assert sum(line.startswith("  ideal") for line in lines) == 1
        return
    unranked = outcome["ranking"]["unranked"]
    assert f"{unranked} of {outcome['events']} test events" in rule and unranked > 0
    assert f"full ranking over the catalogue of {outcome['catalogue']} items" in rule
    told_apart = {name for name, groups in outcome["slices"].items() if len(groups) > 1}
    assert told_apart == {"hour", "gap", "popularity", "revisit"}  # and all histories are alike
    metrics = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
    assert rows["siren_rope"] == [f"{outcome['ranking'][m]:.4f}" for m in metrics]
    assert list(rows) == ["siren_rope", "popular", "recent", "revisit", "revisit_hour"]
    assert rows["revisit"][0] == rows["revisit_hour"][0] == "–"
    assert evaluate.headline(outcome).endswith(f"NDCG@10 {outcome['ranking']['ndcg@10']:.4f}")


def test_names_in_pictures_are_no_formulas(log, tmp_path):
    make_run(tmp_path / "run", log, variant="a$b$^2_")
    assert len(plots.draw_run(tmp_path / "run")) > 3


def test_a_result_of_one_class_has_a_table_too(log):
    scored = scores_of(log.events("test").event[:1], np.full((1, 2), 0.5))
    assert "–" in evaluate.as_text(make_result(log, scored))


@pytest.mark.parametrize(
    ("event", "rows", "message"),
    [([1, 1], 2, "scored twice"), ([1, 10**9], 2, "the log has 1200"), ([1, 2], 3, "shape")],
)
def test_scores_that_do_not_fit_the_log_are_refused(log, event, rows, message):
    with pytest.raises(ValueError, match=message):
        Evaluated.of(log, scores_of(np.array(event), np.full((rows, 2), 0.5)))


def test_every_slicing_counts_every_labelled_event_once(log):
    outcome = make_result(log, made_up(log))
    for name, groups in outcome["slices"].items():
        for task in TASKS:
            total = sum(group[task]["count"] for group in groups.values())
            assert total == outcome["tasks"][task]["count"], name


def test_slices_hold_the_events_they_name(log):
    events, rows = log.events(), log.events().rows
    groups = {name: slices.SLICES[name].of(everything(log)) for name in slices.SLICES}
    count = log.vocabulary("item")["train_count"].to_numpy()
    assert (count[rows["categorical/item"][groups["item"]["known"]] - 1] >= 12).all()
    assert (count[rows["categorical/item"][groups["item"]["unknown"]] - 1] < 12).all()
    local = (rows["time"] + rows["utc_offset"]).astype("datetime64[s]")
    for hour, members in groups["hour"].items():
        assert {stamp.hour for stamp in local[members].tolist()} == {int(hour)}
    for day, members in groups["day"].items():
        assert {str(stamp.date()) for stamp in local[members].tolist()} == {day}
    assert len(groups["gap"]["first event"]) == 30
    gap = pd.Series(rows["time"]).groupby(events.user).diff().to_numpy()
    lower = 0
    for name, upper in {**slices.GAPS, "longer": np.inf}.items():
        inside = (gap >= lower) & (gap < upper)
        assert sorted(groups["gap"].get(name, [])) == np.flatnonzero(inside).tolist()
        lower = upper


def test_events_without_a_time_are_in_no_slice_of_time(tmp_path):
    log = make_log(tmp_path / "log", no_time=0.3)
    events, known = log.events(), log.events().rows["time"] != NO_TIME
    for name in ("hour", "gap", "day"):
        members = np.sort(np.concatenate(list(slices.SLICES[name].of(everything(log)).values())))
        assert members.tolist() == np.flatnonzero(known).tolist()
    want = pd.Series(events.rows["time"][known]).groupby(events.user[known]).diff().fillna(-1)
    assert past.seconds_since_last(events)[known].tolist() == want.tolist()
    (tmp_path / "run").mkdir()
    frame = predictions(tmp_path / "run", log, made_up(log))
    assert frame["time"].isna().sum() == (log.events("test").rows["time"] == NO_TIME).sum() > 0


def test_a_long_log_is_cut_into_periods_of_several_days(tmp_path):
    periods = slices.SLICES["day"].of(everything(make_log(tmp_path / "log", days=400)))
    assert len(periods) <= slices.MAX_PERIODS
    assert set(np.diff(np.array(list(periods), "datetime64[D]")).astype(int)) == {5}


@pytest.mark.parametrize("local", [True, False])
def test_hours_and_days_are_called_local_only_where_the_log_has_offsets(local):
    titles = [slices.SLICES[name].title(local) for name in ("hour", "day", "history")]
    of_clock = ["local hour of day", "local day"] if local else ["hour of day (UTC)", "day (UTC)"]
    assert titles == [*of_clock, slices.SLICES["history"].what]


def bucket(count, lows):
    """The name of the group of a count, such as "1-4" or "100+"."""
    low = max(edge for edge in lows if edge <= count)
    if low == lows[-1]:
        return f"{low}+"
    high = lows[lows.index(low) + 1] - 1
    return str(low) if high == low else f"{low}-{high}"


def test_the_names_of_the_groups_are_those_of_their_limits():
    for lows in (slices.HISTORIES, slices.POPULARITIES):
        assert [bucket(low, list(lows.values())) for low in lows.values()] == list(lows)


def test_slices_of_ranks_hold_the_metrics_of_the_events_they_name(logs):
    log, ranked = logs["retrieval"], made_up(logs["retrieval"], "retrieval", None)
    outcome, events = make_result(log, ranked, "retrieval"), log.events()
    items = events.rows["categorical/item"]
    counts = np.r_[0, log.vocabulary("item")["train_count"].to_numpy()]
    assert set(outcome["slices"]) == {"hour", "gap", "history", "popularity", "revisit"}
    groups = {name: {} for name in ("history", "popularity", "revisit", "hour")}
    for n, event in enumerate(ranked.event):
        before = items[log.offsets[events.user[event]] : event]
        local = events.rows[["time", "utc_offset"]][event]
        names = {
            "history": bucket(len(before), [0, 1, 5, 10, 20, 50, 100]),
            "popularity": bucket(counts[items[event]], [0, 1, 5, 20, 100]),
            "revisit": "again" if items[event] in before else "new",
            "hour": str((local["time"] + local["utc_offset"]) // 3600 % 24),
        }
        for slicing, name in names.items():
            groups[slicing].setdefault(name, []).append(n)
    for slicing, members in groups.items():
        assert set(outcome["slices"][slicing]) == set(members)
        for name, rows in members.items():
            want = metrics_of_ranks(ranked.rank[rows], ranked.nll[rows])
            got = outcome["slices"][slicing][name]
            assert list(got) == ["count", *COMPARED]
            for metric, value in got.items():
                assert value == pytest.approx(want[metric], abs=1e-6), (slicing, name, metric)
    assert len(groups["popularity"]) >= 3 and len(groups["history"]) >= 3


@pytest.mark.parametrize(
    ("variant", "query_time"),
    [("ordinal", None), ("none", None), ("siren_rope", "request"), ("siren_rope_event", "event"),
     ("hstu_bias", "request"), ("time_in_embedding", "request")],
)  # fmt: skip
def test_a_model_that_sees_no_time_has_no_time_of_the_query(logs, variant, query_time):
    model = json.loads(json.dumps(to_dict(small_retriever_config(variant))))
    facts = Retrieval.facts(logs["retrieval"].schema, {"filter_seen": False, "model": model})
    assert facts["query_time"] == query_time


def test_the_filter_reaches_the_baselines(logs):
    log = logs["retrieval"]
    free, filtered = (
        make_result(log, made_up(log, "retrieval"), "retrieval", filter_seen=f)
        for f in (False, True)
    )
    assert filtered["filter_seen"] and not free["filter_seen"]
    missed = [outcome["baselines"]["popular"]["unranked"] for outcome in (free, filtered)]
    assert missed[0] < missed[1]
    # Without the items that the user had there is nothing that these know.
    assert list(filtered["baselines"]) == ["popular", "recent"]
    assert "revisit" not in evaluate.as_text(filtered)


@pytest.mark.parametrize("filter_seen", [False, True])
def test_misses_are_of_items_outside_the_catalogue_though_train_may_have_them(
    tmp_path, filter_seen
):
    log = make_log(tmp_path / "log", items=400, min_count=3)
    item = log.schema.categorical[0]
    counts = log.vocabulary("item")["train_count"].to_numpy()
    assert 0 < counts[item.known] < 3  # the first one outside
    ranked = made_up(log, "retrieval")
    rule = Retrieval.rule(make_result(log, ranked, "retrieval", filter_seen=filter_seen))
    assert f"over the catalogue of {item.known} items" in rule
    misses = "an item outside the catalogue (seen too rarely in training, or never)"
    assert f"have {misses}{' or one had before' * filter_seen} and count as misses" in rule


def test_the_user_rate_does_not_depend_on_the_event_itself_nor_on_later_ones(log):
    events = log.events()
    labels, train = log.schema.label(events.rows, "like"), events.rows["split"] == 0
    before = rates.user_rate(LIKE, labels, events.user, train)[:, 0]
    at = int(np.flatnonzero((~train) & (events.user == 7))[2])
    changed = labels.copy()
    changed[at:] = 1 - np.nan_to_num(changed[at:])
    changed[train] = labels[train]  # the base rate and the strength are fitted there
    after = rates.user_rate(LIKE, changed, events.user, train)[:, 0]
    np.testing.assert_array_equal(after[: at + 1], before[: at + 1])
    assert after[at + 1] != before[at + 1]


def test_the_rates_equal_their_definition_by_a_loop(log):
    """Both are linear in the counts, so the strength can be read off and all events checked."""
    events = log.events()
    labels, train = events.rows["task/like"], events.rows["split"] == 0
    items, given = events.rows["categorical/item"], log.schema.label(events.rows, "like")
    rate = labels[train & (labels >= 0)].mean()
    got = {
        "user": rates.user_rate(LIKE, given, events.user, train)[:, 0],
        "item": rates.item_rate(LIKE, given, items, train)[:, 0],
    }
    mine = {"user": [], "item": []}
    for n in range(len(labels)):
        earlier = (events.user == events.user[n]) & (np.arange(len(labels)) < n)
        for name, rows in (("user", earlier), ("item", (items == items[n]) & train)):
            own = labels[rows & (labels >= 0)]
            mine[name].append((own.sum(), len(own)))
    for name, value in got.items():
        positive, count = np.array(mine[name]).T
        strengths = [2.0**k for k in range(-1, 13)]
        fits = [np.allclose(value, (positive + s * rate) / (count + s)) for s in strengths]
        assert sum(fits) == 1, name


def test_an_unseen_item_has_the_base_rate():
    labels, items = np.array([1, 0, 0, 0, np.nan]), np.array([1, 1, 1, 1, 2])
    train = np.array([True, True, True, True, False])
    assert rates.item_rate(LIKE, labels, items, train)[4, 0] == 0.25


def test_informative_rates_beat_the_constant_and_the_truth_beats_them(log):
    outcome = make_result(log, made_up(log))
    ne = {name: tasks["like"]["ne"] for name, tasks in outcome["baselines"].items()}
    assert ne["oracle"] < ne["user_rate"] < 1
    assert ne["oracle"] < ne["item_rate"] < 1
