"""Recommended lists: they agree with the evaluation and follow the time of the request."""

import dataclasses
import datetime

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.inference.arguments import before, known_users
from siren_rope_jax.inference.encoded import _top_items
from siren_rope_jax.inference.fresh_events import encode_events
from siren_rope_jax.inference.recommend import recommend
from siren_rope_jax.training.experiment import TrainingConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import small_config, small_retriever_config
from tests.made_up import make_log
from tests.raw_logs import prepared, raw_log
from tests.refusals import refused


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return make_log(tmp_path_factory.mktemp("data") / "log", min_count=1)


@pytest.fixture(scope="module")
def run(log: PreparedLog, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    config = RetrievalExperiment(
        variant="siren_rope",
        data=DataConfig(str(log.path), length=16, stride=1, batch_size=8),
        model=small_retriever_config("siren_rope_hstu_bias", repeat=True),
        training=TrainingConfig(epochs=1.0),
    )
    workdir = tmp_path_factory.mktemp("runs") / "run"
    fit(config, workdir)
    return TrainedRun.open(workdir)


def test_a_run_can_be_printed_compared_and_used_as_a_key(log, run):
    text = repr(run)
    assert "\n" not in text and len(text) < 200 + len(str(log.path))
    for named in (run.config.variant, "retrieval", str(log.path), run.step, run.setup.parameters):
        assert str(named) in text
    assert {run: 1}[run] == 1
    assert run == run and run != dataclasses.replace(run)  # another opening of it


@pytest.mark.parametrize("filter_seen", [False, True])
def test_a_list_places_an_item_where_the_evaluation_ranks_it(log, run, filter_seen):
    if filter_seen:
        model = small_retriever_config("siren_rope_hstu_bias")
        config = dataclasses.replace(run.config, model=model, filter_seen=True)
        training = setup(config, log, run.setup.mesh)
        run = dataclasses.replace(run, setup=training, params=training.init_params(0))
    ranked = run.score("test")
    everything, raw = log.events(), log.users().to_pylist()
    items = log.vocabulary("item")["value"].to_pylist()
    known = log.schema.categorical[0].known
    # Every history is longer than a row, so that only its latest events are used.
    assert log.index[:, 1:3].sum(axis=1).min() > run.config.data.length
    differences = []
    for event, rank in list(zip(ranked.event, ranked.rank, strict=True))[::10]:
        user, row = raw[everything.user[event]], everything.rows[event]
        given = recommend(run, [user], int(row["time"]), known, int(row["utc_offset"]))
        place = given.set_index("item")["rank"]
        item = items[row["categorical/item"] - 1]
        if item in place.index:
            differences.append(place[item] - rank)
        else:
            assert rank == 0
        assert given["score"].is_monotonic_decreasing
    # Rounding sometimes breaks a tie.
    assert len(differences) > 5 and np.abs(differences).max() <= 1
    assert np.mean(np.equal(differences, 0)) > 0.9


def test_events_without_a_time_count_by_their_place(log):
    history = np.zeros(6, log.schema.event_dtype)
    history["time"] = [NO_TIME, 100, NO_TIME, 200, NO_TIME, 300]
    assert [len(before(history, t)) for t in (50, 100, 101, 201, 300, 301)] == [1, 1, 3, 5, 5, 6]


def test_lists_follow_the_time_of_the_request(log, run):
    users, end = ["user 3", "user 8"], log.schema.end + 1
    now, later = (recommend(run, users, end + hours * 3600, k=5) for hours in (0, 11))
    assert now["user"].tolist() == ["user 3"] * 5 + ["user 8"] * 5
    assert now["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert not np.allclose(now["score"], later["score"])


def test_request_times_are_seconds_or_datetimes_with_a_zone(log, run):
    second = log.schema.end + 1
    zone = datetime.timezone(datetime.timedelta(hours=5))
    expected = recommend(run, ["user 3"], second)
    aware = datetime.datetime.fromtimestamp(second, zone)
    for time in (np.int64(second), second + 0.9, aware, pd.Timestamp(aware)):
        pd.testing.assert_frame_equal(recommend(run, iter(["user 3"]), time), expected)


def test_an_offset_is_refused_if_the_log_has_none(tmp_path, run):
    utc = make_log(tmp_path / "log", min_count=1, has_utc_offset=False)
    with refused("utc_offset", 3600):
        recommend(dataclasses.replace(run, log=utc), ["user 3"], utc.schema.end, utc_offset=3600)


def test_few_numbers_of_users_are_compiled(log, run):
    """Those between two powers of two take the program of the larger one."""
    users, second = [f"user {n}" for n in range(4)], log.schema.end + 1
    for filter_seen in (False, True):
        whole = recommend(run, users, second, filter_seen=filter_seen)
        compiled = _top_items._cache_size()
        three = recommend(run, users[:3], second, filter_seen=filter_seen)
        assert _top_items._cache_size() == compiled
        assert three["item"].tolist() == whole[whole["user"] != users[3]]["item"].tolist()


def test_users_are_read_once(log, run):
    numbers = run.log.user_numbers
    recommend(run, ["user 3"], log.schema.end)
    assert run.log.user_numbers is numbers
    assert [numbers[user] for user in log.users().to_pylist()] == list(range(len(numbers)))


def test_items_and_filter_seen_restrict_a_list_and_keep_its_order(log, run):
    users, second = ["user 3", "user 8"], log.schema.end
    whole = recommend(run, users, second, k=1000)
    stock = [*whole["item"].unique()[::3], "never heard of"]
    some = recommend(run, users, second, k=1000, items=stock)
    wanted = whole[whole["item"].isin(stock)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some.drop(columns="rank"), wanted.drop(columns="rank"))
    assert some.groupby("user")["rank"].agg(list).map(lambda p: p == [*range(1, len(p) + 1)]).all()

    new = recommend(run, users, second, k=1000, filter_seen=True)
    values = log.vocabulary("item")["value"].to_pandas()
    for user, shown in whole.groupby("user"):
        had = values[log.history(run.log.user_numbers[user])["categorical/item"] - 1]
        assert new[new["user"] == user]["item"].tolist() == [
            item for item in shown["item"] if item not in set(had)
        ]


def raw_events(log: PreparedLog, number: int, user: str) -> pd.DataFrame:
    """The events of a user of the log as a raw table, under another name."""
    history = log.history(number)
    values = log.vocabulary("item")["value"].to_pandas()
    events = pd.DataFrame({"time": history["time"], "utc_offset": history["utc_offset"]})
    items = values[history["categorical/item"] - 1].to_numpy()
    return events.assign(user=user, item=items, liked=True)  # liked: not in the log, so ignored


def fresh_event(user: str, time: int, item: str = "i7") -> pd.DataFrame:
    return pd.DataFrame({"user": [user], "item": item, "time": time, "utc_offset": 0})


def test_a_newcomer_with_a_users_events_gets_that_users_list(log, run):
    end = log.schema.end
    events = raw_events(log, run.log.user_numbers["user 3"], "newcomer")
    events = events.sample(frac=1, random_state=0)
    for time in (end - 5 * 86_400, end + 1):  # only fresh events before the request count
        theirs = recommend(run, ["user 3", "user 8"], time)
        given = recommend(run, ["newcomer", "user 8"], time, events=events)
        assert given["user"].tolist() == ["newcomer"] * 10 + ["user 8"] * 10
        pd.testing.assert_frame_equal(given.drop(columns="user"), theirs.drop(columns="user"))


def test_events_after_the_end_of_the_log_count(log, run):
    time = log.schema.end + 60
    later = fresh_event("user 3", time)
    copy = raw_events(log, run.log.user_numbers["user 3"], "copy")
    both = pd.concat([later, copy, fresh_event("copy", time)])
    lists = recommend(run, ["user 3", "copy"], time + 1, events=both)
    mine, theirs = (own.drop(columns="user").reset_index(drop=True) for _, own in
                    lists.groupby("user", sort=False))  # fmt: skip
    pd.testing.assert_frame_equal(mine, theirs)
    assert not np.allclose(mine["score"], recommend(run, ["user 3"], time + 1)["score"])
    zoned = later.assign(time=pd.to_datetime(later["time"], unit="s", utc=True))
    again = recommend(run, ["user 3"], time + 1, events=zoned)
    pd.testing.assert_frame_equal(again.drop(columns="user"), mine)


def test_users_without_past_events_can_be_skipped(log, run):
    start = int(log.history(run.log.user_numbers["user 3"])["time"][0])
    everyone = ["nobody", *run.log.user_numbers]
    lists = recommend(run, everyone, start + 1, missing="skip")
    first = [log.history(number)["time"][0] for number in run.log.user_numbers.values()]
    some = [user for user, time in zip(run.log.user_numbers, first, strict=True) if time <= start]
    assert "user 3" in some and 0 < len(some) < len(first)
    pd.testing.assert_frame_equal(lists, recommend(run, some, start + 1))
    nothing = recommend(run, ["nobody"], start, missing="skip")
    assert not len(nothing) and list(nothing) == list(lists)
    with refused("users", 7, "integer", "string"):
        recommend(run, [7, "user 3"], start + 1, missing="skip")
    for users, time, named in ((everyone, start + 1, "'nobody'"), (["user 3"], start, "'user 3'")):
        with refused("users", named):
            recommend(run, users, time)


def test_integer_ids_may_be_floats_as_pandas_makes_them(tmp_path):
    log = prepared(tmp_path, raw_log())
    assert known_users(log, [3.0, 99.0], {}, skip=True, needed=True) == [3]


def test_a_logs_time_zone_gives_the_offset_of_requests_and_fresh_events(log, run):
    """In November the events have winter time; in June the requests have summer time."""
    schema = dataclasses.replace(log.schema, time_zone="Europe/Berlin")
    zoned = dataclasses.replace(run, log=dataclasses.replace(log, schema=schema))
    june = 1_717_200_000  # 2024-06-01 00:00 UTC
    for given, offset in ((None, 2 * 3600), (-5 * 3600, -5 * 3600)):  # or of a user who travels
        found = recommend(zoned, ["user 3"], june, utc_offset=given)
        pd.testing.assert_frame_equal(found, recommend(run, ["user 3"], june, utc_offset=offset))
    months = pd.DataFrame({"user": "new", "item": "i7", "time": [june - 10_000_000, june]})
    rows = encode_events(zoned.log, months)["new"]
    assert rows["utc_offset"].tolist() == [3600, 2 * 3600]


def test_features_of_fresh_events_may_be_missing_as_in_the_log(tmp_path):
    tab = {"tab": "CASE WHEN tab > 0 THEN tab END"}
    log = prepared(tmp_path, raw_log(), min_count=1, categorical=tab)
    tabs = log.vocabulary("tab")["value"].to_pylist()
    fresh = pd.DataFrame({"user": 3, "item": "i7", "time": [1, 2, 3], "tab": [None, tabs[1], 99]})
    for events in (fresh, fresh.astype({"tab": "Int64"})):
        assert encode_events(log, events)[3]["categorical/tab"].tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    "form", ["seconds", "datetime64[ns, UTC]", "object", "timestamp[us, tz=UTC][pyarrow]"]
)
def test_times_of_fresh_events_are_rounded_down_and_values_may_be_categories(log, form):
    events = fresh_event("new", 0).assign(time=-0.5)
    if form != "seconds":
        events["time"] = pd.to_datetime(events["time"], unit="s", utc=True).astype(form)
    plain = encode_events(log, events)["new"]
    assert plain["time"] == [-1]
    encoded = encode_events(log, events.astype({"item": "category", "user": "category"}))
    np.testing.assert_array_equal(encoded["new"], plain)


def test_all_items_that_the_log_lacks_are_treated_alike(log, run):
    time = log.schema.end + 60
    new, newer, known = (
        recommend(run, ["user 3"], time + 1, events=fresh_event("user 3", time, item=item))["score"]
        for item in ("never seen", "also unknown", "i7")
    )
    pd.testing.assert_series_equal(new, newer)
    assert not np.allclose(new, known)


def test_scores_of_a_repeat_model_are_log_probabilities(log, run):
    """Also if the model does not know most items of the history."""
    time = log.schema.end + 60
    events = pd.concat([fresh_event("new", time, item) for item in ("i7", "?", "??", "???")])
    lists = recommend(run, ["new", "user 3"], time + 1, k=1000, events=events)
    total = np.exp(lists["score"]).groupby(lists["user"]).sum()
    np.testing.assert_allclose(total, 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda fresh: fresh.assign(time=-1), ["'user 3'", -1]),
        (lambda fresh: fresh.assign(time=1e20), ["time", 1e20, "row 0"]),
        (lambda fresh: fresh.assign(time=10**12), ["'user 3'", 10**9]),  # milliseconds
        (lambda fresh: fresh.assign(time="today"), ["time"]),
        (lambda fresh: fresh.assign(item=None), ["item", "row 0"]),
        (lambda fresh: fresh.assign(item=7), ["item", "integer", "string"]),
        (lambda fresh: fresh.assign(user=3), ["user", "integer", "string"]),
        (lambda fresh: fresh.assign(utc_offset=-(10**7)), ["utc_offset", -(10**7), "row 0"]),
        (lambda fresh: fresh.drop(columns="item"), ["'item'", "user", "time", "utc_offset"]),
        (lambda fresh: fresh[["item", *fresh]], ["'item'"]),  # twice
    ],
)
def test_wrong_fresh_events_are_refused(log, run, change, named):
    events = change(fresh_event("user 3", log.schema.end + 60))
    with refused("events", *named):
        recommend(run, ["user 3"], log.schema.end + 90, events=events)


def test_a_table_without_events_changes_nothing(log, run):
    request = ["user 3"], log.schema.end + 90
    plain = recommend(run, *request)
    for nothing in (pd.DataFrame(columns=["user", "item", "time"]), pd.DataFrame()):
        pd.testing.assert_frame_equal(recommend(run, *request, events=nothing), plain)


NAIVE = datetime.datetime(2023, 12, 1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"users": ["user 33"]}, ["'user 33'", "'user 3'"]),
        ({"users": "user 1"}, ["['user 1']"]),
        ({"users": 5}, ["[5]"]),
        ({"users": []}, []),
        ({"users": [7]}, [7, "integer", "string"]),
        ({"users": [["user 1"]]}, ["['user 1']"]),
        ({"users": pd.DataFrame({"id": ["user 1"]})}, ["DataFrame"]),
        ({"items": pd.DataFrame({"id": ["user 1"]})}, ["DataFrame"]),
        ({"items": "i3"}, ["['i3']"]),
        ({"items": ["never heard of"]}, [1]),
        ({"items": []}, [0]),
        ({"items": [7]}, ["integer", "string"]),
        *[({"k": k}, [k]) for k in (0, 3.0, "3", True)],
        ({"filter_seen": "no"}, ["'no'", True, False, None]),
        ({"missing": "drop"}, ["'drop'", "raise", "skip"]),
        *[({"request_time": t}, [repr(t)]) for t in (True, None, NAIVE, 10**20)],
        *[
            ({"request_time": t}, [repr(t)])
            for t in (np.nan, pd.NaT, np.datetime64(NAIVE), "today")
        ],
        *[({"utc_offset": o}, [repr(o), -64800, 64800]) for o in (7_200_000, 0.5, "3600")],
        ({"events": [{"user": "user 1"}]}, ["DataFrame", "list"]),
        ({"run": "runs/next"}, ["'runs/next'", "TrainedRun.open"]),
    ],
)
def test_wrong_arguments_are_refused(log, run, wrong, named):
    right = {"run": run, "users": ["user 1"], "request_time": log.schema.end}
    with refused(next(iter(wrong)), *named):
        recommend(**{**right, **wrong})


def test_all_users_without_past_events_are_refused_together(log, run):
    with refused("users", "'user 1'", 100):
        recommend(run, ["user 1"], 100)
    early = int(log.events().rows["time"][log.offsets[1:-1]].min())  # user 0 may have earlier ones
    late = [user for user in log.users().to_pylist() if user != "user 0"]
    assert len(late) == 29 > run.config.data.batch_size
    with refused("users", *map(repr, late[:5]), "24"):
        recommend(run, late, early)


def test_a_ranking_run_is_refused(log, run):
    data = DataConfig(str(log.path), length=24, stride=12, batch_size=8)
    ranking = RankingExperiment(variant="ordinal", data=data, model=small_config("ordinal"))
    with refused("run", "ranking", "retrieval"):
        ranker = dataclasses.replace(run, setup=setup(ranking, log, run.setup.mesh))
        recommend(ranker, ["user 1"], log.schema.end)
