"""Makes a prepared log from a data config: the built-in feed's, or that of a table of events."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.prepare.table import prepare


def read_config(config: ConfigDict, input: str | Path | None) -> SyntheticConfig | PrepareConfig:
    """Reads the data config of a prepared log, without making it.

    Raises:
      UserError: as `make_log`, of the config and of a missing or superfluous input.
    """
    if "model" in config and "data" in config:
        raise UserError("config: describes an experiment, not a log; it is for train.py")
    if "num_users" in config:
        if input is not None:
            raise UserError(f"input: {input} is given, but the synthetic feed is generated")
        return from_config_dict(SyntheticConfig, config)
    ours = PrepareConfig.load(config)
    if input is None:
        link = ours.download.url
        also = f"; or let --download fetch {link}" if link else ""
        raise UserError(
            "input is missing: name the raw log, a file or a quoted glob of several, by --input"
            f"{also}"
        )
    return ours


def make_log(config: ConfigDict, input: str | Path | None, output: str | Path) -> dict[str, Any]:
    """Generates the synthetic feed, or prepares a table.

    Args:
      config: of one of the files in configs/data.
      input: the raw log, as in `prepare`; None for the synthetic feed.
      output: must not exist, or be empty.

    Returns:
      the report, as also written to meta.json.

    Raises:
      UserError: the input, the config or the output is not as it should be.
    """
    ours = read_config(config, input)
    if isinstance(ours, SyntheticConfig):
        return generate(ours, output)
    assert input is not None  # or `read_config` had refused
    return prepare(ours, input, output)
