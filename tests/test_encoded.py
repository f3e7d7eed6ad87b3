"""Encoded histories: later events and requests give what an evaluation of all events would."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siren_rope_jax as sr
from siren_rope_jax.base.times import DAY, HOUR, NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.inference.encoded import Encoded
from siren_rope_jax.inference.history_cache import HistoryCache
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.rotation.variants import RANKING_VARIANTS, RETRIEVAL_VARIANTS, retrieval_variant
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import small_config, small_retriever_config, variants
from tests.made_up import make_log
from tests.refusals import refused

LENGTH, STRIDE = 16, 4


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    path = tmp_path_factory.mktemp("data") / "feed"
    generate(SyntheticConfig(num_users=30, events_per_user=40, num_items=25), path)
    return PreparedLog.open(path)


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return make_log(
        tmp_path_factory.mktemp("data") / "log", users=9, events=30, no_time=0.1, min_count=2
    )


def untrained(log: PreparedLog, kind: str, name: str, **changes: Any) -> TrainedRun:
    """A run with the parameters of a training's start."""
    data = DataConfig(str(log.path), length=LENGTH, stride=STRIDE, batch_size=4)
    config: Any
    if kind == "ranking":
        config = RankingExperiment(variant=name, data=data, model=small_config(name, **changes))
    else:
        of_item = retrieval_variant(name, "item")  # the log has no other category
        model = small_retriever_config(name, **of_item, **changes)
        config = RetrievalExperiment(variant=name, data=data, model=model)
    training = setup(config, log, make_mesh())
    return TrainedRun(training, log, training.init_params(1), 0, Progress())


def pasts(log: PreparedLog, event: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The events before each of these, and these themselves."""
    everything = log.events()
    first = log.offsets[everything.user[event]]
    return [everything.rows[a:b] for a, b in zip(first, event, strict=True)], everything.rows[event]


@pytest.mark.parametrize("name", variants(RANKING_VARIANTS))
def test_candidates_score_as_the_evaluation_scores_every_test_event(
    feed: PreparedLog, name: str
) -> None:
    run = untrained(feed, "ranking", name)
    scored = run.score("test")
    histories, events = pasts(feed, scored.event)
    assert max(map(len, histories)) > LENGTH
    found = HistoryCache.of(run, histories).predictions(list(events[:, None]))
    np.testing.assert_allclose(np.concatenate(found), scored.score, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "repeat"),
    [
        *variants([(name, True) for name in RETRIEVAL_VARIANTS]),
        *((name, False) for name in ("learned_positions", "siren_rope", "clock_lag_trend")),
    ],
)
def test_requests_rank_as_the_evaluation_ranks_every_test_event(
    visits: PreparedLog, name: str, repeat: bool
) -> None:
    run = untrained(visits, "retrieval", name, repeat=repeat)
    ranked = run.score("test")
    timed = visits.events().rows["time"][ranked.event] != NO_TIME
    histories, events = pasts(visits, ranked.event[timed])
    encoded = Encoded(HistoryCache.of(run, histories), tuple(range(len(histories))))
    k = visits.schema.categorical[0].known
    lists = encoded._lists(events["time"][:, None], k, None, None, False)
    items = visits.vocabulary("item")["value"].to_pylist()
    place = lists.set_index(["user", "item"])["rank"]
    for n, (rank, row) in enumerate(zip(ranked.rank[timed], events, strict=True)):
        item = items[row["categorical/item"] - 1]
        assert rank == 0 or abs(place[n, item] - rank) <= 1  # rounding sometimes breaks a tie


FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def in_chunks_and_at_once(
    run: TrainedRun, whole: list[np.ndarray], begin: int, sizes: list[int]
) -> tuple[HistoryCache, HistoryCache]:
    """The same beginnings of histories, each of another length, encoded in these two ways."""
    grown = HistoryCache.of(run, [h[: begin + n] for n, h in enumerate(whole)])
    at = begin
    for size in sizes:
        later = [h[at + n : at + n + size] for n, h in enumerate(whole)]
        grown, at = grown.extended(later), at + size
    return grown, HistoryCache.of(run, [h[: at + n] for n, h in enumerate(whole)])


@cache
def _ranker(path: str) -> TrainedRun:
    return untrained(PreparedLog.open(path), "ranking", "siren_rope_hstu_bias")


@cache
def _retriever(path: str) -> TrainedRun:
    return untrained(PreparedLog.open(path), "retrieval", "siren_rope_hstu_bias", repeat=True)


@FEW
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 10))
def test_events_in_any_chunks_equal_one_pass(
    feed: PreparedLog, sizes: list[int], begin: int
) -> None:
    """Also where a history becomes longer than the model's rows."""
    run = _ranker(str(feed.path))
    whole = feed.histories_of(range(len(feed.index)))[:5]
    grown, once = in_chunks_and_at_once(run, whole, begin, sizes)
    requests = [h[-3:] for h in whole]
    for one, other in zip(grown.predictions(requests), once.predictions(requests), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@FEW
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(1, 10))
def test_visits_in_any_chunks_equal_one_pass(
    visits: PreparedLog, sizes: list[int], begin: int
) -> None:
    """With events that have no time."""
    run = _retriever(str(visits.path))
    whole = visits.histories_of(range(len(visits.index)))[:5]
    grown, once = in_chunks_and_at_once(run, whole, begin, sizes)
    requests = [h[-2:] for h in whole]
    one, other = (c.queries(requests) for c in (grown, once))
    np.testing.assert_allclose(one.query[:10], other.query[:10], atol=1e-5)
    np.testing.assert_allclose(one.repeat.explore[:10], other.repeat.explore[:10], atol=1e-5)


def candidates(log: PreparedLog, count: int) -> pd.DataFrame:
    """Of the made-up feed: items with their features, at requests with theirs."""
    rows = log.events("test").rows[:count]
    table = {
        c.name: log.vocabulary(c.name)["value"].to_pandas()[rows[f"categorical/{c.name}"] - 1]
        for c in log.schema.categorical
    }
    table |= {d.name: rows[f"dense/{d.name}"] for d in log.schema.dense}
    table |= {d.name: rows[f"context/{d.name}"] for d in log.schema.context}
    return pd.DataFrame({name: np.asarray(values) for name, values in table.items()})


def test_scores_of_raw_candidates(feed: PreparedLog) -> None:
    run = _ranker(str(feed.path))
    users, end = feed.users().to_pylist()[:3], feed.schema.end
    encoded = sr.encode(run, users)
    some = candidates(feed, 4)
    scores = encoded.score(some, end + HOUR)
    assert scores["user"].tolist() == [u for u in users for _ in range(4)]
    assert scores[list(feed.schema.tasks)].gt(0).all(axis=None)
    # A row for one user at one time, in any order, in any unit of time.
    rows = scores.sample(frac=1, random_state=0).reset_index(drop=True)
    given = rows.drop(columns=list(feed.schema.tasks)).assign(time=(end + HOUR) * 1000)
    again = encoded.score(given.set_index(given.index + 7)).reset_index(drop=True)
    pd.testing.assert_frame_equal(again.drop(columns="time"), rows.drop(columns="time"), atol=1e-6)
    # The same for each user alone: neither users nor candidates see each other.
    alone = [sr.encode(run, [u]).score(some[n:][:1], end + HOUR) for u in users for n in range(4)]
    pd.testing.assert_frame_equal(pd.concat(alone, ignore_index=True), scores, atol=1e-5)
    own = encoded.score(some, {users[0]: end + HOUR, users[1]: end + DAY, users[2]: end + HOUR})
    same = own["user"] != users[1]
    pd.testing.assert_frame_equal(own[same], scores[same], atol=1e-6)
    task = feed.schema.tasks[0]
    assert not np.allclose(own[~same][task], scores[~same][task])


def test_scores_where_the_log_has_offsets(visits: PreparedLog) -> None:
    """They are the last event's, those that are passed, or those of a column."""
    run = untrained(visits, "ranking", "siren_rope")
    users, end = visits.users().to_pylist()[:3], visits.schema.end + HOUR
    encoded, some = sr.encode(run, users), pd.DataFrame({"item": ["i1", "i2"]})
    last = [int(visits.history(n)["utc_offset"][-1]) for n in range(3)]
    by_default = encoded.score(some, end)
    table = by_default[["user", "item"]].assign(utc_offset=np.repeat(last, 2))
    pd.testing.assert_series_equal(encoded.score(table, end)["like"], by_default["like"])
    passed = encoded.score(some, end, utc_offset=last[0])
    own = passed["user"] == users[0]
    pd.testing.assert_series_equal(passed["like"][own], by_default["like"][own])
    other = passed["user"] == users[1]
    assert last[0] != last[1] and not np.allclose(passed["like"][other], by_default["like"][other])


def test_a_sweep_scores_every_hour_of_a_week(feed: PreparedLog) -> None:
    run = _ranker(str(feed.path))
    users, end = feed.users().to_pylist()[:2], feed.schema.end
    encoded, some = sr.encode(run, users), candidates(feed, 3)
    hours = [end + 1 + HOUR * n for n in range(168)]
    swept = encoded.sweep(hours, some)
    assert len(swept) == 2 * 3 * 168
    at = swept[swept["time"] == hours[100]].reset_index(drop=True)
    pd.testing.assert_frame_equal(at, encoded.score(some, hours[100])[list(at)], atol=1e-5)


def test_new_users_need_no_events_to_be_scored(feed: PreparedLog) -> None:
    run = _ranker(str(feed.path))
    new = int(max(feed.users().to_pylist())) + 1
    encoded = sr.encode(run, [new])
    some, end = candidates(feed, 2), feed.schema.end
    cold = encoded.score(some, end + HOUR)
    assert np.isfinite(cold[list(feed.schema.tasks)]).all(axis=None)
    event = some[:1].assign(user=new, time=end, **{feed.schema.tasks[0]: [True]})
    warm = encoded.append(event).score(some, end + HOUR)
    assert not np.allclose(*(t[feed.schema.tasks[0]] for t in (cold, warm)))
    # What the user did is known, or it is not: an absent label is not a dislike.
    others = [event.drop(columns=feed.schema.tasks[0]), event.assign(**{feed.schema.tasks[0]: 0})]
    seen = [encoded.append(e).score(some, end + HOUR)[feed.schema.tasks[0]] for e in others]
    assert not np.allclose(*seen) and not np.allclose(seen[0], warm[feed.schema.tasks[0]])


def test_events_of_one_second_may_come_one_by_one_but_not_twice(feed: PreparedLog) -> None:
    run = _ranker(str(feed.path))
    user, time = feed.users().to_pylist()[0], feed.schema.end + 5
    both = candidates(feed, 9).drop_duplicates("item")[:2].assign(user=user, time=time)
    one_by_one = sr.encode(run, [user]).append(both[:1]).append(both[1:])
    some = candidates(feed, 2)
    pd.testing.assert_frame_equal(
        one_by_one.score(some, time + 1),
        sr.encode(run, [user], events=both).score(some, time + 1),
        atol=1e-5,
    )
    with refused("events", "only those that follow"):
        one_by_one.append(both[1:])


def test_lists_of_encoded_users_are_those_of_recommend(visits: PreparedLog) -> None:
    run = _retriever(str(visits.path))
    users, end = visits.users().to_pylist()[:3], visits.schema.end
    encoded = sr.encode(run, users)
    pd.testing.assert_frame_equal(
        encoded.recommend(end + HOUR), sr.recommend(run, users, end + HOUR), atol=1e-5
    )
    swept = encoded.sweep([end + HOUR, end + DAY], k=3)
    for time in (end + HOUR, end + DAY):
        at = swept[swept["time"] == time].drop(columns="time").reset_index(drop=True)
        pd.testing.assert_frame_equal(at, encoded.recommend(time, k=3), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "about", "named"),
    [
        (lambda c: c.assign(user="nobody"), "candidates", ["'nobody'"]),
        (lambda c: c.drop(columns="item"), "candidates", ["'item'"]),
        (lambda c: c.assign(time=10), "request_time", ["time"]),
        (lambda c: c["item"], "candidates", ["DataFrame"]),
        (lambda c: c.assign(like=1), "candidates", ["'like'", "rename"]),
    ],
)
def test_wrong_candidates_are_refused(
    feed: PreparedLog, change: Any, about: str, named: Any
) -> None:
    encoded = sr.encode(_ranker(str(feed.path)), feed.users().to_pylist()[:1])
    with refused(about, *named):
        encoded.score(change(candidates(feed, 2)), feed.schema.end + 1)


def test_wrong_times_kinds_and_events_are_refused(feed: PreparedLog, visits: PreparedLog) -> None:
    ranker, retriever = _ranker(str(feed.path)), _retriever(str(visits.path))
    users, end = feed.users().to_pylist()[:1], feed.schema.end
    encoded, some = sr.encode(ranker, users), candidates(feed, 1)
    with refused("request_time", "encode histories before that time"):
        encoded.score(some, feed.schema.train_start)
    with refused("run", "ranking", "score"):
        encoded.recommend(end + 1)
    with refused("run", "retrieval", "recommend"):
        sr.encode(retriever, visits.users().to_pylist()[:1]).score(some, end + 1)
    with refused("events", "only those that follow"):
        encoded.append(some.assign(user=users[0], time=feed.schema.train_start))
    with refused("k", "ranking"):
        encoded.sweep([end + 1], some, k=3)
    assert "1 users" in repr(encoded) and len(repr(encoded)) < 500
    with refused("events", "not encoded"):
        encoded.append(some.assign(user=10**6, time=end))
    with refused("events", "a label is 0, 1 or missing"):
        encoded.append(some.assign(user=users[0], time=end + 1, **{feed.schema.tasks[0]: 2}))
    with refused("users"):
        sr.encode(ranker)
