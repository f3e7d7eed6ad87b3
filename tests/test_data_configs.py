"""The data configs for retrieval turn official files, made up or real, into the right logs."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.times import DAY, HOUR, hour_of_day
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import assert_same, data_config, decoded, load_config_file, real_file
from tests.refusals import refused
from tests.scripts import ROOT
from tests.test_prepare import globo_like

RETRIEVAL = (
    "amazon_beauty", "amazon_reviews_2023", "foursquare_nyc", "globo_next", "gowalla",
    "movielens_next", "steam", "yelp",
)  # fmt: skip


def opened(config, path, output) -> PreparedLog:
    prepare(config, path, output)
    return PreparedLog.open(output)


def seconds(date: str) -> int:
    return int(pd.Timestamp(date).timestamp())


@pytest.mark.parametrize("name", RETRIEVAL)
def test_every_item_of_train_can_be_found(name):
    config = data_config(name)
    assert config.min_count == 1
    assert config.source
    assert not config.categorical and not config.dense and not config.context
    assert config.tasks.keys() <= {"timed"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs/data").glob("*.py")), ids=lambda p: p.stem)
def test_every_config_names_its_command_and_the_terms(path):
    assert f"--config=configs/data/{path.name}" in path.read_text()
    if path.stem not in ("synthetic", "table"):
        assert data_config(path.stem).license


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
        load_config_file("movielens", "1mm")


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
    lines = tmp_path / "Video_Games.jsonl.gz"
    lines.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    config = data_config("amazon_reviews_2023", "Video_Games")
    one, other = opened(config, csv, tmp_path / "a"), opened(config, lines, tmp_path / "b")
    assert_same(one, other)
    assert one.schema == other.schema and one.schema.name == "amazon_reviews_2023_Video_Games"
    found = decoded(one).sort_values("time")
    np.testing.assert_array_equal(found["time"], np.sort(times) // 1000)
    np.testing.assert_array_equal(found["categorical/item"], items[np.argsort(times)])
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
        f"{r.user}\t{pd.Timestamp(r.time, unit='s').isoformat()}Z\t{r.lat}\t{r.lon}\t{r.p}\n"
        for r in raw.itertuples()
    ]
    path = tmp_path / "loc-gowalla_totalCheckins.txt.gz"
    path.write_bytes(gzip.compress("".join(lines).encode()))
    log = opened(data_config("gowalla"), path, tmp_path / "out")
    raw = raw.sort_values(["user", "time"])
    found = decoded(log)
    np.testing.assert_array_equal(found["user"], raw.user)
    np.testing.assert_array_equal(found["time"], raw.time)
    np.testing.assert_array_equal(found["categorical/item"], raw.p)
    hours = np.round(np.clip(raw.lon, -180, 180) / 15)
    before = hours.groupby(raw.user).shift(1).fillna(hours)
    np.testing.assert_array_equal(found["utc_offset"], HOUR * before)
    assert log.schema.has_utc_offset


def test_gowalla_does_not_tell_where_the_next_place_lies(tmp_path):
    rows = [(user, 100 * i, 15.0 * (i % 5), 10 * user + i) for user in range(9) for i in range(9)]
    for number, moved in enumerate((0.0, 90.0)):
        lines = [
            f"{user}\t{pd.Timestamp('2010-01-01') + pd.Timedelta(time, 'min')}\t0.5\t"
            f"{longitude + moved * (time == 800)}\t{i}\n"
            for user, time, longitude, i in rows
        ]
        path = tmp_path / f"{number}.txt"
        path.write_text("".join(lines))
        prepare(data_config("gowalla"), path, tmp_path / f"out{number}")
    assert_same(*(PreparedLog.open(tmp_path / f"out{number}") for number in range(2)))


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
    path = tmp_path / "steam_reviews.json.gz"
    text = "".join(repr(row).replace("{'", "{u'") + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()))
    log = opened(data_config("steam"), path, tmp_path / "out")
    raw = pd.DataFrame(rows).sort_values(["username", "date"], kind="stable")
    found = decoded(log)
    np.testing.assert_array_equal(found["user"], raw.username)
    np.testing.assert_array_equal(found["categorical/item"], raw.product_id.astype(int))
    expected = [seconds(date) for date in raw.date]
    np.testing.assert_array_equal(found["time"], expected)


@pytest.mark.parametrize(
    ("release", "name", "header", "line"),
    [
        ("1m", "ratings.dat", "", "{u}::{i}::{r}::{t}\n"),
        ("20m", "ratings.csv", "userId,movieId,rating,timestamp\n", "{u},{i},{r}.5,{t}\n"),
        ("32m", "ratings.csv", "userId,movieId,rating,timestamp\n", "{u},{i},{r}.0,{t}\n"),
    ],
)
def test_movielens_next(tmp_path, release, name, header, line):
    rng = np.random.default_rng(0)
    raw = pd.DataFrame({"u": rng.integers(1, 9, 300), "i": rng.permutation(300) + 1})
    raw["r"], raw["t"] = rng.integers(1, 5, 300), 978_300_760 + rng.integers(0, 200, 300)
    text = header + "".join(line.format(u=r.u, i=r.i, r=r.r, t=r.t) for r in raw.itertuples())
    (tmp_path / name).write_text(text)
    log = opened(data_config("movielens_next", release), tmp_path / name, tmp_path / "out")
    raw = raw.sort_values(["u", "t"], kind="stable")
    found = decoded(log)
    for column, values in {"user": raw.u, "time": raw.t, "categorical/item": raw.i}.items():
        np.testing.assert_array_equal(found[column], values)
    assert log.schema.tasks == () and log.schema.name == f"movielens_next_{release}"


def check_globo_next(log: PreparedLog, raw: pd.DataFrame) -> None:
    """All clicks are `timed`, except the last of each session, whose time is made up."""
    raw = raw.reset_index(names="row")
    order = ["user_id", "session_id", "click_timestamp", "row"]
    session = raw.sort_values(order).groupby(["user_id", "session_id"])
    raw["timed"] = session.cumcount(ascending=False) > 0
    raw["second"] = raw.click_timestamp // 1000
    raw = raw.sort_values(["user_id", "second", "row"])
    rows = log.events().rows
    np.testing.assert_array_equal(rows["time"], raw.second)
    np.testing.assert_array_equal(rows["task/timed"], raw.timed)
    item = log.schema.categorical[0]
    train = set(raw.click_article_id[rows["split"] == 0])
    assert item.known == len(train)
    summer = rows["time"] >= 1_508_036_400  # 2017-10-15, midnight in Sao Paulo
    np.testing.assert_array_equal(rows["utc_offset"], np.where(summer, -2 * HOUR, -3 * HOUR))
    assert len(set(rows["utc_offset"])) == 2


def test_globo_next_small(tmp_path):
    raw = globo_like()
    raw.to_csv(tmp_path / "clicks.csv.gz", index=False)
    log = opened(data_config("globo_next"), tmp_path / "clicks.csv.gz", tmp_path / "out")
    check_globo_next(log, raw)


@pytest.mark.slow
def test_globo_next(tmp_path):
    path = real_file("globo_news/clicks_hour_000-384.csv.gz")
    log = opened(data_config("globo_next"), path, tmp_path / "out")
    assert log.report["rows_read"] == 2_988_181
    check_globo_next(log, pd.read_csv(path))
    times, timed = log.events().rows["time"], log.events().rows["task/timed"]
    assert (timed == 0).sum() == 1_048_594  # the sessions
    assert times.min() >= seconds("2017-10-01")


def test_foursquare_nyc(tmp_path):
    path = real_file("foursquare_nyc/NYC.npy")
    log = opened(data_config("foursquare_nyc"), path, tmp_path / "out")
    assert sum(log.report["events"].values()) == 147_938
    assert (log.report["users"], log.report["items"]) == (1083, 5135)
    raw = pd.DataFrame(np.load(path), columns=["user", "venue", "minute"])
    raw = raw.sort_values(["user", "minute"], kind="stable")
    found = decoded(log)
    np.testing.assert_array_equal(found["categorical/item"], raw.venue)
    np.testing.assert_array_equal(found["time"], seconds("2012-04-03 18:00") + 60 * raw.minute)
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
    found = decoded(log)
    times = path.with_name(path.name.replace("_item_", "_time_"))
    for column, file in (("categorical/item", path), ("time", times)):
        lines = [list(map(int, line.split())) for line in file.read_text().splitlines()]
        expected = [value for line in sorted(lines) for value in line[1:]]
        np.testing.assert_array_equal(found[column], expected)
    whole_days = (found["time"] % DAY == 0).mean()
    assert whole_days == 1 if name == "amazon_beauty" else whole_days < 0.001
    years = pd.to_datetime(found["time"], unit="s").dt.year
    assert (years.min(), years.max()) == ((2002, 2014) if name == "amazon_beauty" else (2019, 2019))
