"""A file of items is joined to the events as pandas would, or refused in one line."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.files import read_table
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import START, assert_same, config, decoded, raw_log, write
from tests.refusals import refused
from tests.scripts import complaint, printed

ABOUT = {
    "categorical": {"maker": "maker"},
    "dense": {"age": "coalesce((time - made) / 86400, -1)"},
    "context": {"costs": "coalesce(price, 0)"},
    "actions": {"price": "price"},
}


def items_of(log: pd.DataFrame, share: float = 0.8, seed: int = 0) -> pd.DataFrame:
    """A row for some items of a log, and for one that it does not have, in any order."""
    rng = np.random.default_rng(seed)
    known = [item for item in log["iid"].unique() if rng.random() < share]
    iid = rng.permutation([*known, "other"])
    return pd.DataFrame(
        {
            "iid": iid,
            "maker": rng.choice(["a", "b", None], len(iid)),
            "made": START - rng.integers(0, 10**7, len(iid)),
            "price": rng.uniform(0, 10, len(iid)).round(3),
        }
    )


def with_items(
    tmp_path: Path, events: Any, items: Any, name: str = "items.csv", **values: Any
) -> PreparedLog:
    """Writes both files, prepares them, opens the result."""
    output = tmp_path / f"prepared-{len(list(tmp_path.iterdir()))}"
    files = write(tmp_path / "log.csv", events), write(tmp_path / name, items)
    prepare(config(**(ABOUT | values)), files[0], output, items=files[1])
    return PreparedLog.open(output)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1.0), st.sampled_from(["csv", "parquet", "tsv.gz"]))
def test_the_join_is_that_of_pandas(tmp_path_factory, seed, share, ending):
    raw, tmp_path = raw_log(seed=seed), tmp_path_factory.mktemp("join")
    items = items_of(raw, share, seed)
    log = with_items(tmp_path, raw, items, f"items.{ending}", min_count=1)
    found = decoded(log)
    expected = raw.sort_values(["uid", "at", "serial"]).merge(items, how="left", on="iid")
    maker = expected["maker"].notna().to_numpy()
    rows = log.events().rows
    np.testing.assert_array_equal(rows["categorical/maker"] > 0, maker)
    assert (found["categorical/maker"][maker] == expected["maker"][maker]).all()
    age = ((expected["at"] - expected["made"]) / 86400).fillna(-1).astype(np.float32)
    np.testing.assert_array_equal(found["dense/age"], age)
    costs = expected["price"].fillna(0).astype(np.float32)
    np.testing.assert_array_equal(found["context/costs"], costs)
    np.testing.assert_array_equal(found["action/price"], expected["price"].astype(np.float32))
    assert log.report["without_item_row"] == expected["price"].isna().sum()
    assert log.report["item_rows"] == len(items)


def test_a_joined_log_is_that_of_a_file_with_all_columns(tmp_path):
    raw = raw_log()
    items = items_of(raw)
    log = with_items(tmp_path, raw, items)
    whole = raw.merge(items, how="left", on="iid")
    prepare(config(**ABOUT), write(tmp_path / "whole.csv", whole), tmp_path / "whole")
    assert log.fingerprint == PreparedLog.open(tmp_path / "whole").fingerprint
    changed = items.assign(maker=items["maker"].where(items["maker"] != "a"))
    assert with_items(tmp_path, raw, changed).fingerprint != log.fingerprint
    prepare(config(), tmp_path / "log.csv", tmp_path / "plain")
    plain = PreparedLog.open(tmp_path / "plain")
    assert not any("item" in key and "file" in key for key in plain.report)
    prepare(config(), tmp_path / "log.csv", tmp_path / "unused", items=tmp_path / "items.csv")
    assert PreparedLog.open(tmp_path / "unused").fingerprint == plain.fingerprint


def test_the_key_may_have_another_name_or_type(tmp_path):
    raw, numbers = raw_log(), {"items_key": "code", "item": "number"}
    raw["number"] = raw["iid"].str[1:].astype(int)
    items = items_of(raw, share=0.9)
    items["code"] = items["iid"].str.replace("i", "").replace("other", "x")
    assert any(items["code"] == "x")  # so these are texts
    log = with_items(tmp_path, raw, items.drop(columns="iid"), **numbers)
    log_of_texts = with_items(tmp_path, raw, items)
    for name in ("categorical/maker", "dense/age", "context/costs"):
        np.testing.assert_array_equal(decoded(log)[name], decoded(log_of_texts)[name])
    assert any("integers" in note and "text" in note for note in log.report["warnings"])
    with_sql = {"items_key": "'i' || code"}
    assert_same(with_items(tmp_path, raw, items.drop(columns="iid"), **with_sql), log_of_texts)


def test_what_is_wrong_with_a_file_of_items_is_said(tmp_path):
    raw = raw_log()
    items = items_of(raw)
    file = tmp_path / "items.csv"
    with refused("config.items_key", "'code'", "--items"):
        prepare(config(items_key="code"), write(tmp_path / "log.csv", raw), tmp_path / "without")
    with refused("config.items_key", "iid"):
        with_items(tmp_path, raw, items.rename(columns={"iid": "itemid"}))
    with refused("config.items_key", "row 3 of items.csv"):
        with_items(tmp_path, raw, items.assign(iid=items["iid"].where(items.index != 2)))
    double = items.assign(iid=[*items["iid"][:-1], items["iid"][0]])
    with refused("config.items_key", f"row {len(items)} of items.csv", items["iid"][0]):
        with_items(tmp_path, raw, double)
    for taken in ("x", "X", "rating", "time", "row"):
        with refused(file, repr(taken), "rename"):
            with_items(tmp_path, raw, items.rename(columns={"price": taken}))
    with refused(file, "i"):
        with_items(tmp_path, raw, items.assign(iid=items["iid"] + "-"))
    with refused(file):
        with_items(tmp_path, raw, items[:0])
    with refused("config.dense.age"):
        with_items(tmp_path, raw, items, dense={"age": "made"})  # which some lack
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_column_that_both_files_have_can_be_renamed_as_the_refusal_says(tmp_path):
    raw = raw_log()
    items = items_of(raw)
    expected = with_items(tmp_path, raw, items)
    formats = {"any": {}, "items": {"pattern": "items.csv", "rename": {"x": "price"}}}
    same = with_items(tmp_path, raw, items.rename(columns={"price": "x"}), formats=formats)
    assert_same(same, expected)


FLAGS = [
    "--config=configs/data/table.py", "--config.user=uid", "--config.item=iid", "--config.time=at",
    "--config.categorical=maker=maker",
]  # fmt: skip


@pytest.mark.parametrize(
    ("of_events", "of_items", "name"),
    [(";", ",", "items.csv"), (",", ";", "items.csv.gz"), (",", "\t", "items.txt")],
)
def test_files_of_two_formats_are_read_by_the_flags_of_the_refusals(
    tmp_path, of_events, of_items, name
):
    raw = raw_log()
    items = items_of(raw).rename(columns={"price": "x"})  # which the events have, too
    files = tmp_path / "log.csv", tmp_path / name
    raw.to_csv(files[0], index=False, sep=of_events)
    items.to_csv(files[1], index=False, sep=of_items)
    flags = [*FLAGS, f"--input={files[0]}", f"--items={files[1]}", f"--output={tmp_path}/log"]
    advised = ""
    for about in (*files[: of_events != ","], *files[1:], files[1]):
        said = complaint("prepare", *flags, *shlex.split(advised))
        assert said.startswith(str(about)), said
        advised = said[said.index("--config.formats") :].partition(" (in place")[0]
    printed("prepare", *flags, *shlex.split(advised))
    prepare(config(), write(tmp_path / "plain.csv", raw), tmp_path / "plain")
    log, plain = PreparedLog.open(tmp_path / "log"), PreparedLog.open(tmp_path / "plain")
    np.testing.assert_array_equal(decoded(log)["time"], decoded(plain)["time"])
    assert set(log.vocabulary("maker")["value"].to_pylist()) == {"a", "b"}


def test_newer_files_are_joined_as_the_log_was(tmp_path):
    raw = raw_log()
    items = items_of(raw)
    log = with_items(tmp_path, raw, items)
    new = write(tmp_path / "new.csv", raw[["uid", "iid", "at"]][:50])
    newer = pd.concat([items, items[:1].assign(iid="new")])
    table = read_table(log, new, "log", items=str(write(tmp_path / "newer.csv", newer)))
    expected = raw[:50].sort_values("at", kind="stable").merge(items, how="left", on="iid")
    assert table["item"].tolist() == expected["iid"].tolist()
    assert table["maker"].fillna("").tolist() == expected["maker"].fillna("").tolist()
    np.testing.assert_allclose(table["costs"], expected["price"].fillna(0))
    with refused(new, "config.categorical.maker"):
        read_table(log, new, "log")
    complete = write(tmp_path / "complete.csv", expected[["uid", "iid", "at", *items.columns[1:]]])
    pd.testing.assert_frame_equal(read_table(log, complete, "log")[table.columns], table)
    with refused("--items"):
        read_table(log, new, "prepared", items=str(new))


def test_the_command_joins_and_says_how_many_events_lack_a_row(tmp_path):
    raw = raw_log()
    items = items_of(raw)
    files = write(tmp_path / "log.csv", raw), write(tmp_path / "items.csv", items)
    flags = [*FLAGS, f"--input={files[0]}", f"--items={files[1]}"]
    said = printed("prepare", *flags, f"--output={tmp_path}/log")
    assert f"{(~raw['iid'].isin(items['iid'])).sum()} events have an item" in said
    assert PreparedLog.open(tmp_path / "log").schema.categorical[1].name == "maker"
    assert complaint("prepare", *flags, "--items=gone.csv", f"--output={tmp_path}/no").startswith(
        "gone.csv"
    )
    feed = ["--config=configs/data/synthetic.py", f"--items={files[1]}"]
    assert complaint("prepare", *feed, f"--output={tmp_path}/no").startswith("items")
