"""Raw logs for the tests of prepare: written as text or Parquet, prepared with the real code."""

import gzip

import numpy as np
import pandas as pd

from siren_rope_jax.data.dataset import PreparedLog
from siren_rope_jax.data.prepare import prepare
from siren_rope_jax.data.prepare_config import PrepareConfig, config_dict

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
    """Writes the frame as the path's name says and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
        return path
    text = frame.to_csv(
        index=False, sep="\t" if name.endswith((".tsv", ".inter")) else ","
    ).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def config(**values) -> PrepareConfig:
    """The config of `raw_log`, with changes."""
    defaults = SMALL | {"name": "raw", "tasks": {"like": "rating >= 4"}}
    return PrepareConfig.load(config_dict(**(defaults | values)))


def prepared(tmp_path, frame: pd.DataFrame, name: str = "log.csv", **values) -> PreparedLog:
    """Writes the frame, prepares it, opens the result."""
    output = tmp_path / f"prepared-{len(list(tmp_path.iterdir()))}"
    prepare(config(**values), write(tmp_path / name, frame), output)
    return PreparedLog.open(output)
