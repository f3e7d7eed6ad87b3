"""Results of a retriever: its predictions, metrics, slices and the table for the terminal."""

import json

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.evaluation import evaluate, slices
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics.ranks import RANK_METRICS, metrics_of_ranks
from siren_rope_jax.studies import plots
from siren_rope_jax.training.kinds.retrieval import Retrieval
from siren_rope_jax.training.rank_scorer import Ranked
from tests.batches import small_retriever_config
from tests.made_up import make_log, make_retrieval_run

CONFIG = {"kind": "retrieval", "variant": "siren_rope", "seed": 3, "filter_seen": False,
          "model": {"query_time": "request"}}  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Items of every popularity, some of them unknown."""
    return make_log(tmp_path_factory.mktemp("log") / "prepared", items=400, min_count=1)


def make_ranked(log, split="test"):
    """Made-up ranks of a split's events (None: of all) but the users' first, in shuffled order."""
    rng = np.random.default_rng(0)
    everything, item = log.events(), log.schema.categorical[0]
    event = log.events(split).event
    event = rng.permutation(event[~np.isin(event, log.offsets)])
    known = item.known_ids(everything.rows["categorical/item"][event]) > 0
    rank = np.where(known, rng.integers(1, item.known, len(event)) // 10 + 1, 0).astype(np.int32)
    nll = np.where(known, rng.exponential(size=len(event)), np.nan).astype(np.float32)
    return Ranked(event, rank, nll)


def make_result(log, ranked, **changes):
    return evaluate.result(
        Evaluated.of(log, ranked), CONFIG | changes, split="test", step=10, parameters=123,
        train_seconds=4.5,
        training_ended=True,
    )  # fmt: skip


def test_predictions_hold_ranks_and_losses_by_event_and_null_where_there_is_none(log, tmp_path):
    ranked = make_ranked(log)
    evaluated = Evaluated.of(log, ranked)
    frame = pd.read_parquet(evaluate.write_predictions(tmp_path, evaluated, Retrieval))
    assert list(frame) == ["event", "user", "item", "time", "utc_offset", "rank", "nll"]
    assert frame["event"].tolist() == sorted(ranked.event)
    ranks = dict(zip(ranked.event, ranked.rank, strict=True))
    assert frame["rank"].fillna(0).tolist() == [ranks[e] for e in frame["event"]]
    assert frame["nll"].isna().equals(frame["rank"].isna()) and frame["rank"].isna().any()
    values = dict(log.vocabulary("item").select(["id", "value"]).to_pandas().to_numpy().tolist())
    items = log.events().rows["categorical/item"][frame["event"]]
    assert frame["item"].tolist() == [values[i] for i in items]


def test_metrics_can_be_computed_again_from_the_predictions(log, tmp_path):
    evaluated = Evaluated.of(log, make_ranked(log))
    frame = pd.read_parquet(evaluate.write_predictions(tmp_path, evaluated, Retrieval))
    rank, nll = frame["rank"].fillna(0).to_numpy(int), frame["nll"].to_numpy(float)
    assert make_result(log, make_ranked(log))["ranking"] == metrics_of_ranks(rank, nll)


def test_a_result_names_its_protocol_and_survives_json(log):
    outcome = make_result(log, make_ranked(log))
    assert json.loads(json.dumps(outcome, allow_nan=False)) == outcome
    assert list(outcome) == [
        "variant", "dataset", "split", "protocol", "seed", "step", "parameters", "events",
        "train_seconds", "training_ended", "version", "has_utc_offset", "filter_seen", "query_time",
        "catalogue", "ranking", "baselines", "slices", "config",
    ]  # fmt: skip
    assert (outcome["protocol"], outcome["query_time"]) == ("time", "request")
    assert set(outcome["ranking"]) == {*RANK_METRICS, "count", "unranked"}
    assert list(outcome["baselines"]) == ["popular", "recent", "revisit", "revisit_hour"]
    for values in outcome["baselines"].values():  # over the very same events
        assert [values[k] == outcome["ranking"][k] for k in ("count", "unranked")] == [True, True]


@pytest.mark.parametrize(
    ("variant", "query_time"),
    [("ordinal", None), ("none", None), ("siren_rope", "request"), ("siren_rope_event", "event"),
     ("hstu_bias", "request"), ("time_in_embedding", "request")],
)  # fmt: skip
def test_a_model_that_sees_no_time_has_no_time_of_the_query(log, variant, query_time):
    model = json.loads(json.dumps(to_dict(small_retriever_config(variant))))
    assert make_result(log, make_ranked(log), model=model)["query_time"] == query_time


def test_the_order_of_the_events_does_not_matter(log):
    ranked = make_ranked(log)
    order = np.argsort(ranked.event)
    assert make_result(log, ranked) == make_result(log, Ranked(*(x[order] for x in ranked)))


def test_the_filter_reaches_the_baselines(log):
    free, filtered = (make_result(log, make_ranked(log), filter_seen=f) for f in (False, True))
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
    outcome = make_result(log, make_ranked(log), filter_seen=filter_seen)
    rule = Retrieval.rule(outcome)
    assert f"over the catalogue of {item.known} items" in rule
    misses = "an item outside the catalogue (seen too rarely in training, or never)"
    assert f"have {misses}{' or one had before' * filter_seen} and count as misses" in rule


def test_slices_hold_the_metrics_of_the_events_they_name(log):
    ranked = make_ranked(log, None)
    outcome = make_result(log, ranked)
    everything = log.events()
    items = everything.rows["categorical/item"]
    counts = np.r_[0, log.vocabulary("item")["train_count"].to_numpy()]
    assert set(outcome["slices"]) == {"hour", "gap", "history", "popularity", "revisit"}
    groups = {name: {} for name in ("history", "popularity", "revisit", "hour")}
    for n, event in enumerate(ranked.event):
        before = items[log.offsets[everything.user[event]] : event]
        local = everything.rows[["time", "utc_offset"]][event]
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
            assert list(got) == ["count", "nll", "mrr", "hr@10", "ndcg@10"]
            for metric, value in got.items():
                assert value == pytest.approx(want[metric], abs=1e-6), (slicing, name, metric)
    assert len(groups["popularity"]) >= 3 and len(groups["history"]) >= 3


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


def test_a_run_has_its_pictures_and_its_table(log, tmp_path):
    outcome = make_retrieval_run(tmp_path / "run", log, {}, variant="siren_rope")
    pictures = plots.draw_run(tmp_path / "run")
    told_apart = {name for name, groups in outcome["slices"].items() if len(groups) > 1}
    assert told_apart == {"hour", "gap", "popularity", "revisit"}  # and all histories are alike
    assert {p.stem for p in pictures} == {
        "models", "hour", "gap", "popularity", "learning", "gates",
    }  # fmt: skip
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    lines = evaluate.as_text(outcome).splitlines()
    about = f"made_up, test split, {outcome['events']} events (one global time split)"
    assert lines[0] == about
    unranked = outcome["ranking"]["unranked"]
    assert f"{unranked} of {outcome['events']} test events" in lines[1] and unranked > 0
    assert f"full ranking over the catalogue of {outcome['catalogue']} items" in lines[1]
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    metrics = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
    assert rows["siren_rope"] == [f"{outcome['ranking'][m]:.4f}" for m in metrics]
    assert list(rows) == ["siren_rope", "popular", "recent", "revisit", "revisit_hour"]
    assert rows["revisit"][0] == rows["revisit_hour"][0] == "–"
    ndcg = outcome["ranking"]["ndcg@10"]
    assert evaluate.headline(outcome).endswith(f"NDCG@10 {ndcg:.4f}")


def test_no_events_make_a_result_without_metrics(log):
    none = np.zeros(0, np.int32)
    outcome = make_result(log, Ranked(none.astype(np.int64), none, none.astype(np.float32)))
    assert outcome["ranking"]["mrr"] is None and outcome["slices"]["hour"] == {}
    assert "–" in evaluate.as_text(outcome) and "–" in evaluate.headline(outcome)
