"""Makes the prepared log that a data config describes: the synthetic feed's or a table's."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.prepare.table import prepare


def load(config: ConfigDict) -> SyntheticConfig | PrepareConfig:
    """Reads a data config; a `UserError` says which key or value is wrong or missing."""
    if "model" in config and "data" in config:
        raise UserError("config", "describes an experiment, not a log; it is for train.py")
    if "num_users" in config:
        return from_config_dict(SyntheticConfig, config)
    return PrepareConfig.load(config)


def read_config(
    config: ConfigDict, input: str | Path | None, items: str | Path | None = None
) -> SyntheticConfig | PrepareConfig:
    """Reads a data config as `load`, and refuses a missing or a superfluous input."""
    ours = load(config)
    if isinstance(ours, SyntheticConfig):
        for key, given in (("input", input), ("items", items)):
            if given is not None:
                raise UserError(key, f"{given} is given, but the synthetic feed is generated")
    elif input is None:
        link = ours.download.url
        raise UserError(
            "input",
            "is missing; name the raw log, a file or a quoted glob of several, with --input"
            + (f", or let --download fetch {link}" if link else ""),
        )
    return ours


def make_log(
    config: ConfigDict,
    input: str | Path | None,
    output: str | Path,
    engine: str = "duckdb",
    items: str | Path | None = None,
) -> dict[str, Any]:
    """Makes the log of a data config, as `generate` or `prepare`; returns the report.

    The `input` is None for the synthetic feed, which no engine makes; `items` are optional.

    Raises:
      UserError: the input, the config or the output is not as it should be.
    """
    ours = read_config(config, input, items)
    if isinstance(ours, SyntheticConfig):
        check(engine == "duckdb", "--engine", "left out; the synthetic feed is generated")
        return generate(ours, output)
    assert input is not None  # `read_config` would have refused
    return prepare(ours, input, output, engine, items)
