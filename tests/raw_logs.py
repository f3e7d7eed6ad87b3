"""Raw logs for the tests of prepare: written as text or Parquet, prepared with the real code."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base import config as base_config
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.config import PrepareConfig, config_dict
from siren_rope_jax.prepare.table import prepare
from tests.scripts import ROOT

START = 1_700_000_000
SMALL = {"user": "uid", "item": "iid", "time": "at", "threads": 1}


def raw_log(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """Distinct rows, unsorted, with ties in time; labels of both classes everywhere."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "uid": rng.integers(0, 12, rows),
            "iid": np.char.add("i", rng.integers(0, 30, rows).astype(str)),
            "at": START + rng.integers(0, 20_000, rows) // 40,
            "rating": rng.integers(1, 6, rows),
            "x": rng.normal(size=rows).round(4),
            "tab": rng.integers(0, 4, rows),
            "serial": np.arange(rows),
        }
    )


def write(path, frame: pd.DataFrame):
    """Writes the frame in the format of the path's name and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
        return path
    tabs = name.endswith((".tsv", ".inter"))
    text = frame.to_csv(index=False, sep="\t" if tabs else ",").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def config(**values) -> PrepareConfig:
    """The config for `raw_log`, with changes."""
    defaults = SMALL | {"name": "raw", "tasks": {"like": "rating >= 4"}}
    return PrepareConfig.load(config_dict(**(defaults | values)))


def opened(config: PrepareConfig, path: Path, output: Path) -> PreparedLog:
    """Prepares the file and opens the result."""
    prepare(config, path, output)
    return PreparedLog.open(output)


def prepared(tmp_path, frame: pd.DataFrame, name: str = "log.csv", **values) -> PreparedLog:
    """Writes the frame, prepares it, opens the result."""
    output = tmp_path / f"prepared-{len(list(tmp_path.iterdir()))}"
    return opened(config(**values), write(tmp_path / name, frame), output)


def table_flags(path: Path, output: Path, *more: str) -> list[str]:
    """What `experiments/prepare.py` needs to prepare `raw_log` with configs/data/table.py."""
    columns = [f"--config.{key}={SMALL[key]}" for key in ("user", "item", "time")]
    files = [f"--input={path}", f"--output={output}"]
    return ["--config=configs/data/table.py", *files, *columns, *more]


def histories(events: list[tuple], first: int) -> dict[int, list[tuple]]:
    """What `prepare` makes of events (user, item, time, ...), in plain Python.

    Returns:
      {user: [(time that counts, event)]}, both in order. An absent time counts as the last known
      one of the user's events before it, or else as the first one, or else as `first`.
    """
    found = {}
    for user in sorted({event[0] for event in events}):
        mine = [event for event in dict.fromkeys(events) if event[0] == user]
        last = next((event[2] for event in mine if event[2] is not None), first)
        placed = []
        for event in mine:
            last = last if event[2] is None else event[2]
            placed.append((last, event))
        found[user] = sorted(placed, key=lambda pair: pair[0])  # ties keep the file's order
    return found


def stored_time(time: int | None) -> int:
    """What a log stores for a time of such an event."""
    return NO_TIME if time is None else START + time


def load_config_file(name: str, *variant: str):
    """The ConfigDict of configs/data/NAME.py, or of a variant of it."""
    return base_config.load_config_file(ROOT / f"configs/data/{name}.py", {}, *variant)


def data_config(name: str, *variant: str, **values) -> PrepareConfig:
    """The config in configs/data/NAME.py, or a variant of it, with changes."""
    loaded = load_config_file(name, *variant)
    loaded.update(values)
    return PrepareConfig.load(loaded)


def decoded(log: PreparedLog) -> pd.DataFrame:
    """All events with raw values in place of ids."""
    events = log.events()
    frame = pd.DataFrame({name: events.rows[name] for name in events.rows.dtype.names})
    frame.insert(0, "user", log.users().to_pandas().to_numpy()[events.user])
    for categorical in log.schema.categorical:
        values = log.vocabulary(categorical.name)["value"].to_pandas().to_numpy()
        column = f"categorical/{categorical.name}"
        frame[column] = values[frame[column] - 1]
    return frame


def assert_same(found: PreparedLog, expected: PreparedLog, what: str = "") -> None:
    found, expected = found.events().rows, expected.events().rows
    assert found.dtype == expected.dtype
    for name in found.dtype.names:  # by field, since only so NaN equals NaN
        np.testing.assert_array_equal(found[name], expected[name], err_msg=f"{what} {name}")


def real_file(name: str) -> Path:
    """A file below SIREN_ROPE_DATA; skips the test where there is none."""
    path = Path(os.environ.get("SIREN_ROPE_DATA") or "/nonexistent") / name
    if not path.is_file():
        pytest.skip(f"SIREN_ROPE_DATA names no folder with {name}")
    return path
