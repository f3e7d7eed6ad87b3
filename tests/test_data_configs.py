"""The data configs turn official files, made up or real, into the right logs."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base import config as base_config
from siren_rope_jax.base.times import DAY, HOUR, hour_of_day
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.make import load
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import (
    assert_same,
    data_config,
    decoded,
    load_config_file,
    opened,
    raw_log,
    real_file,
    write,
)
from tests.refusals import refused
from tests.scripts import ROOT

RETRIEVAL = (
    "amazon_beauty", "amazon_reviews_2023", "foursquare_nyc", "globo_next", "gowalla",
    "movielens_next", "steam", "yelp",
)  # fmt: skip


def seconds(date: str) -> int:
    return int(pd.Timestamp(date).timestamp())


def write_gzipped(path, lines):
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def check(log: PreparedLog, users, items, times) -> pd.DataFrame:
    """Checks the events of a log and returns them."""
    found = decoded(log)
    for column, values in {"user": users, "categorical/item": items, "time": times}.items():
        np.testing.assert_array_equal(found[column], values, err_msg=column)
    return found


@pytest.mark.parametrize("name", RETRIEVAL)
def test_every_item_of_train_can_be_found(name):
    config = data_config(name)
    assert config.min_count == 1 and config.source and config.tasks.keys() <= {"timed"}
    assert not config.categorical and not config.dense and not config.context


@pytest.mark.parametrize("path", sorted((ROOT / "configs/data").glob("*.py")), ids=lambda p: p.stem)
def test_every_config_names_the_terms_and_its_command_which_writes_where_experiments_read(path):
    text, experiment = path.read_text(), ROOT / "configs" / path.name
    assert f"--config=configs/data/{path.name}" in text
    assert text.count("--output=") == text.count("--output=runs/data/") == 1
    if experiment.exists() and path.stem != "table":
        read = base_config.load_config_file(experiment, {}).data.path
        assert read == f"runs/data/{path.stem}" and f"--output={read}" in text
    if path.stem in ("table", "from_json"):  # which lack what only the log's owner knows
        return
    ours = load(load_config_file(path.stem))
    if isinstance(ours, PrepareConfig):
        assert ours.license


def test_links_are_to_the_publishers():
    for name, host in {
        "movielens": "https://files.grouplens.org/",
        "movielens_next": "https://files.grouplens.org/",
        "amazon_reviews_2023": "https://mcauleylab.ucsd.edu/",
        "gowalla": "https://snap.stanford.edu/",
        "steam": "https://cseweb.ucsd.edu/",
    }.items():
        assert data_config(name).download.url.startswith(host)
    for release in ("100k", "1m", "20m", "32m", "latest_small"):
        config = data_config("movielens", release)
        stem = f"ml-{release.replace('_', '-')}"
        assert config.download.url.endswith(f"/{stem}.zip")
        assert config.download.member.startswith(f"{stem}/")
        assert config.name == f"movielens_{release}"
    with refused("--config", "'1mm'", "'1m'"):
        data_config("movielens", "1mm")


def test_amazon_reviews_2023(tmp_path):
    rng = np.random.default_rng(0)
    users = np.char.add("AGKAS", rng.integers(0, 20, 300).astype(str))
    items = np.char.add("B00", rng.integers(0, 40, 300).astype(str))
    times = 1_452_647_382_000 + rng.permutation(300) * 86_400_123
    rows = [
        {"rating": float(rng.integers(1, 6)), "title": "ok", "text": "fine\n", "images": [],
         "asin": "X", "parent_asin": str(item), "user_id": str(user), "timestamp": int(time),
         "helpful_vote": 0, "verified_purchase": True}
        for user, item, time in zip(users, items, times, strict=True)
    ]  # fmt: skip
    csv = tmp_path / "Video_Games.csv.gz"
    columns = ["user_id", "parent_asin", "rating", "timestamp"]
    pd.DataFrame(rows)[columns].to_csv(csv, index=False)
    lines = write_gzipped(tmp_path / "Video_Games.jsonl.gz", map(json.dumps, rows))
    config = data_config("amazon_reviews_2023", "Video_Games")
    one, other = opened(config, csv, tmp_path / "a"), opened(config, lines, tmp_path / "b")
    assert_same(one, other)
    assert one.schema == other.schema and one.schema.name == "amazon_reviews_2023_Video_Games"
    order = np.lexsort([times, users])
    check(one, users[order], items[order], times[order] // 1000)
    url = data_config("amazon_reviews_2023", "All_Beauty").download.url
    assert url.endswith("/5core/rating_only/All_Beauty.csv.gz")


def test_gowalla(tmp_path):
    rng = np.random.default_rng(0)
    times = rng.permutation(400) * HOUR + seconds("2009-12-01")
    places = rng.integers(0, 50, 400)
    longitudes = rng.uniform(-180, 180, 400).round(10)
    longitudes[7] = 999.0
    users = rng.integers(0, 10, 400)
    raw = pd.DataFrame({"user": users, "time": times, "lat": 53.36, "lon": longitudes, "p": places})
    raw = raw.sort_values(["user", "time"], ascending=[True, False])  # as in the file
    lines = [
        f"{r.user}\t{pd.Timestamp(r.time, unit='s').isoformat()}Z\t{r.lat}\t{r.lon}\t{r.p}"
        for r in raw.itertuples()
    ]
    path = write_gzipped(tmp_path / "loc-gowalla_totalCheckins.txt.gz", lines)
    log = opened(data_config("gowalla"), path, tmp_path / "out")
    raw = raw.sort_values(["user", "time"])
    found = check(log, raw.user, raw.p, raw.time)
    hours = np.round(np.clip(raw.lon, -180, 180) / 15)
    before = hours.groupby(raw.user).shift(1).fillna(hours)
    np.testing.assert_array_equal(found["utc_offset"], HOUR * before)
    assert log.schema.has_utc_offset


def test_gowalla_does_not_tell_where_the_next_place_lies(tmp_path):
    rows = [(user, 100 * i, 15.0 * (i % 5), 10 * user + i) for user in range(9) for i in range(9)]
    logs = []
    for moved in ("0", "90"):
        lines = [
            f"{user}\t{pd.Timestamp('2010-01-01') + pd.Timedelta(time, 'min')}\t0.5\t"
            f"{longitude + float(moved) * (time == 800)}\t{i}"
            for user, time, longitude, i in rows
        ]
        path = write_gzipped(tmp_path / f"{moved}.txt.gz", lines)
        logs.append(opened(data_config("gowalla"), path, tmp_path / moved))
    assert_same(*logs)


def test_steam(tmp_path):
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2014-03-05")
    rows = [
        {"username": f"Chaos 'S\u00fdren' {u}", "hours": 0.1, "products": 41, "product_id": str(p),
         "page_order": 0, "date": (start + pd.Timedelta(int(d), "D")).date().isoformat(),
         "text": 'It\'s "fun"\\n', "early_access": False, "page": 1}
        for u, p, d in zip(rng.integers(0, 9, 300), rng.permutation(300), rng.integers(0, 99, 300),
                           strict=True)
    ]  # fmt: skip
    lines = [repr(row).replace("{'", "{u'") for row in rows]
    path = write_gzipped(tmp_path / "steam_reviews.json.gz", lines)
    log = opened(data_config("steam"), path, tmp_path / "out")
    raw = pd.DataFrame(rows).sort_values(["username", "date"], kind="stable")
    check(log, raw.username, raw.product_id.astype(int), raw.date.map(seconds))


MOVIELENS = {  # the release, the head of the file, and a line
    "u.data": ("100k", "", "{}\t{}\t{}\t{}\n"),
    "ratings.dat": ("1m", "", "{}::{}::{}::{}\n"),
    "ratings.csv": ("20m", "userId,movieId,rating,timestamp\n", "{},{},{}.0,{}\n"),
    "ml-100k.inter": (
        "", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n", "{}\t{}\t{}\t{}\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("ratings", "films", "columns", "form"),
    [
        ("latest_small/ratings.csv", "latest_small/movies.csv", (0, 2), {"sep": ","}),
        ("100k/ml-100k.inter", "100k/ml-100k.item", (0, 3), {"sep": "\t"}),
    ],
)
@pytest.mark.parametrize("name", ["movielens", "movielens_next"])
def test_films_have_their_genres(tmp_path, name, ratings, films, columns, form):
    ratings, films = (real_file(f"movielens_{path}") for path in (ratings, films))
    prepare(data_config(name, "genres,genre"), ratings, tmp_path / "log", items=films)
    log = PreparedLog.open(tmp_path / "log")
    raw = pd.read_csv(films, quoting=0, dtype=str, keep_default_na=False, **form)
    texts = dict(zip(raw.iloc[:, columns[0]].astype(int), raw.iloc[:, columns[1]], strict=True))
    rows, sign = log.events().rows, " " if form["sep"] == "\t" else "|"
    values = (log.vocabulary(c)["value"].to_pylist() for c in ("item", "genres", "genre"))
    items, genres, firsts = values
    known = 0
    for row in rows[::97]:
        text = texts.get(items[row["categorical/item"] - 1], "")
        expected = [] if "(no" in text else [*filter(None, text.split(sign))]
        assert {genres[i - 1] for i in row["categorical/genres"] if i} == set(expected)
        assert [firsts[i - 1] for i in [row["categorical/genre"]] if i] == expected[:1]
        known += bool(expected)
    assert known > 0.95 * len(rows[::97]) and log.schema.name == f"{name}_genres_genre"


def test_movielens_in_all_its_forms(tmp_path):
    raw, logs = raw_log().drop_duplicates(["uid", "iid", "rating", "at"]), []
    raw["iid"] = raw.iid.str[1:].astype(int)
    ordered = raw.sort_values(["uid", "at"], kind="stable")
    for name, (release, head, line) in MOVIELENS.items():
        path = tmp_path / name
        lines = [line.format(r.uid, r.iid, r.rating, r.at) for r in raw.itertuples()]
        path.write_text(head + "".join(lines))
        logs.append(opened(data_config("movielens"), path, tmp_path / f"out-{name}"))
        found = opened(data_config("movielens_next", release), path, tmp_path / f"next-{name}")
        check(found, ordered.uid, ordered.iid, ordered["at"])
        assert found.schema.tasks == ()
        assert found.schema.name == f"movielens_next_{release}".removesuffix("_")
    for log in logs:
        assert_same(log, logs[0])
        assert log.schema == logs[0].schema and log.schema.tasks == ("like", "love")
    rows = logs[0].events().rows
    np.testing.assert_array_equal(rows["task/like"], rows["action/rating"] >= 4)
    np.testing.assert_array_equal(rows["task/love"], rows["action/rating"] == 5)


def test_kuairand(tmp_path):
    rng = np.random.default_rng(0)
    flags = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"]
    rows = 400
    times = 1_650_000_000_000 + rng.integers(0, 10**9, rows)
    raw = pd.DataFrame({"user_id": rng.integers(0, 9, rows), "video_id": rng.integers(0, 50, rows)})
    local = pd.to_datetime(times, unit="ms") + pd.Timedelta(hours=8)
    raw["date"], raw["hourmin"] = local.strftime("%Y%m%d"), local.hour * 100
    raw["time_ms"] = times
    raw[flags] = rng.integers(0, 2, (rows, len(flags)))
    raw["play_time_ms"], raw["duration_ms"] = rng.integers(0, 60_000, (2, rows))
    raw[["profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand"]] = 0
    raw["tab"] = rng.integers(0, 15, rows)
    write(tmp_path / "log_standard_4_08_to_4_21_pure.csv", raw[:200])
    write(tmp_path / "log_standard_4_22_to_5_08_pure.csv", raw[200:])
    log = opened(data_config("kuairand"), tmp_path / "log_standard_*.csv", tmp_path / "out")
    events, raw = log.events().rows, raw.sort_values(["user_id", "time_ms"])
    np.testing.assert_array_equal(events["time"], raw.time_ms // 1000)
    np.testing.assert_array_equal(events["task/long_view"], raw.long_view)
    contribution = raw[["is_like", "is_follow", "is_comment", "is_forward"]].max(axis=1)
    np.testing.assert_array_equal(events["task/contribution"], contribution)
    played = np.log1p(raw.play_time_ms / 1000)
    np.testing.assert_allclose(events["action/log_play_time"], played, rtol=1e-5)
    assert set(events["utc_offset"]) == {8 * 3600} and log.schema.has_utc_offset


def globo_like(rows: int = 3000) -> pd.DataFrame:
    """Sessions of 2 to 6 clicks with Globo's columns, the last click 30 s after the one before."""
    rng = np.random.default_rng(0)
    parts = []
    for session in range(rows // 4):
        size = int(rng.integers(2, 7))
        gaps = rng.integers(1_000, 600_000, size)
        gaps[-1] = 30_000
        start = 1_506_826_800_000 + int(rng.integers(0, 15 * 86_400_000))
        part = pd.DataFrame({"click_timestamp": start + np.cumsum(gaps)})
        part["user_id"], part["session_id"], part["session_size"] = session % 200, session, size
        parts.append(part)
    raw = pd.concat(parts, ignore_index=True)
    raw["click_article_id"] = rng.integers(0, 80, len(raw))
    for name in ("environment", "deviceGroup", "os", "country", "region", "referrer_type"):
        raw[f"click_{name}"] = rng.integers(1, 4, len(raw))
    return raw


def check_globo(log: PreparedLog, raw: pd.DataFrame) -> None:
    """The made-up last click gives no label, dwell is exact, item features use only the past."""
    raw = raw.reset_index(names="row").sort_values(
        ["user_id", "session_id", "click_timestamp", "row"]
    )
    session = raw.groupby(["user_id", "session_id"])["click_timestamp"]
    dwell = (session.shift(-1) - raw.click_timestamp) / 1000
    raw["dwell"] = dwell.where(session.cumcount(ascending=False) >= 2)
    by_item = raw.groupby("click_article_id")["click_timestamp"]
    raw["age"] = (raw.click_timestamp - by_item.transform("min")) / 1000
    raw["before"] = by_item.rank(method="min") - 1
    raw["second"] = raw.click_timestamp // 1000
    raw = raw.sort_values(["user_id", "click_timestamp", "row"])
    rows = log.events().rows
    np.testing.assert_array_equal(rows["time"], raw.second)
    np.testing.assert_allclose(rows["action/log_dwell"], np.log1p(raw.dwell), rtol=1e-5)
    np.testing.assert_allclose(rows["dense/log_age"], np.log1p(raw.age), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows["dense/log_clicks"], np.log1p(raw.before), rtol=1e-5)
    for task, least in (("dwell60", 60), ("long_dwell", 180)):
        expected = (raw.dwell >= least).astype(int).where(raw.dwell.notna(), -1)
        np.testing.assert_array_equal(rows[f"task/{task}"], expected)
    names = " ".join(rows.dtype.names)
    assert "session" not in names and "size" not in names


def check_globo_next(log: PreparedLog, raw: pd.DataFrame) -> None:
    """All clicks are `timed`, except the last of each session, whose time is made up."""
    raw = raw.reset_index(names="row")
    order = ["user_id", "session_id", "click_timestamp", "row"]
    session = raw.sort_values(order).groupby(["user_id", "session_id"])
    raw["timed"] = session.cumcount(ascending=False) > 0
    raw["second"] = raw.click_timestamp // 1000
    raw = raw.sort_values(["user_id", "click_timestamp", "row"])
    rows = log.events().rows
    np.testing.assert_array_equal(rows["time"], raw.second)
    np.testing.assert_array_equal(rows["task/timed"], raw.timed)
    item = log.schema.categorical[0]
    train = set(raw.click_article_id[rows["split"] == 0])
    assert item.known == len(train)
    summer = rows["time"] >= 1_508_036_400  # 2017-10-15, midnight in Sao Paulo
    np.testing.assert_array_equal(rows["utc_offset"], np.where(summer, -2 * HOUR, -3 * HOUR))
    assert len(set(rows["utc_offset"])) == 2


def globo_logs(path, tmp_path) -> list[PreparedLog]:
    return [opened(data_config(name), path, tmp_path / name) for name in ("globo", "globo_next")]


def test_globo_small(tmp_path):
    raw = globo_like()
    log, following = globo_logs(write(tmp_path / "clicks.csv.gz", raw), tmp_path)
    check_globo(log, raw)
    check_globo_next(following, raw)


@pytest.mark.slow
def test_globo(tmp_path):
    path = real_file("globo_news/clicks_hour_000-384.csv.gz")
    log, following = globo_logs(path, tmp_path)
    assert log.report["rows_read"] == following.report["rows_read"] == 2_988_181
    totals = {
        task: [sum(split[key] for split in splits.values()) for key in ("labels", "positives")]
        for task, splits in log.report["tasks"].items()
    }
    assert {labels for labels, _ in totals.values()} == {890_993}
    assert 0.76 < totals["dwell60"][1] / totals["dwell60"][0] < 0.80
    assert 0.45 < totals["long_dwell"][1] / totals["long_dwell"][0] < 0.55
    rows = following.events().rows
    assert (rows["task/timed"] == 0).sum() == 1_048_594  # the sessions
    assert rows["time"].min() >= seconds("2017-10-01")
    raw = pd.read_csv(path)
    check_globo(log, raw)
    check_globo_next(following, raw)


def test_foursquare_nyc(tmp_path):
    path = real_file("foursquare_nyc/NYC.npy")
    log = opened(data_config("foursquare_nyc"), path, tmp_path / "out")
    assert sum(log.report["events"].values()) == 147_938
    assert (log.report["users"], log.report["items"]) == (1083, 5135)
    raw = pd.DataFrame(np.load(path), columns=["user", "venue", "minute"])
    raw = raw.sort_values(["user", "minute"], kind="stable")
    found = check(log, raw.user, raw.venue, seconds("2012-04-03 18:00") + 60 * raw.minute)
    assert 0 < found["time"].min() - seconds("2012-04-03 18:00") < HOUR
    # Daylight saving time ended on 4 November; no check-in is within hours of it.
    summer = found["time"] < seconds("2012-11-04")
    np.testing.assert_array_equal(found["utc_offset"], np.where(summer, -4, -5) * HOUR)
    # The hour with the fewest check-ins is at night, in local time.
    local = hour_of_day(found["time"] + found["utc_offset"])
    assert local.value_counts().idxmin() in (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("name", "path", "users", "events", "items"),
    [
        ("amazon_beauty", "amazon_beauty_5core/Beauty_item_org_rank.txt", 22_363, 198_502, 12_101),
        ("yelp", "yelp_5core/Yelp-A_item_org_rank.txt", 30_431, 316_354, 20_033),
    ],
)
def test_sequences(tmp_path, name, path, users, events, items):
    path = real_file(path)
    log = opened(data_config(name), path, tmp_path / "out")
    assert (log.report["users"], log.report["items"]) == (users, items)
    assert sum(log.report["events"].values()) == log.report["rows_read"] == events
    assert log.report["out_of_order"] == 0
    expected = []
    for file in (path, path.with_name(path.name.replace("_item_", "_time_"))):
        lines = sorted(list(map(int, line.split())) for line in file.read_text().splitlines())
        expected.append([value for line in lines for value in line[1:]])
    found = check(log, [line[0] for line in lines for _ in line[1:]], *expected)
    whole_days = (found["time"] % DAY == 0).mean()
    assert whole_days == 1 if name == "amazon_beauty" else whole_days < 0.001
    years = pd.to_datetime(found["time"], unit="s").dt.year
    assert (years.min(), years.max()) == ((2002, 2014) if name == "amazon_beauty" else (2019, 2019))
