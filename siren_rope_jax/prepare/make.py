"""Makes the prepared log that a data config describes: the synthetic feed's or a table's."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.prepare.table import prepare


def load(config: ConfigDict) -> SyntheticConfig | PrepareConfig:
    """Reads a data config.

    Raises:
      UserError: an unknown key, or a wrong or missing value.
    """
    if "model" in config and "data" in config:
        raise UserError("config", "describes an experiment, not a log; it is for train.py")
    if "num_users" in config:
        return from_config_dict(SyntheticConfig, config)
    return PrepareConfig.load(config)


def read_config(config: ConfigDict, input: str | Path | None) -> SyntheticConfig | PrepareConfig:
    """Reads a data config as `load`, and checks that there is an input exactly if it needs one.

    Raises:
      UserError: as `load`, and about a missing or superfluous input.
    """
    ours = load(config)
    if isinstance(ours, SyntheticConfig):
        if input is not None:
            raise UserError("input", f"{input} is given, but the synthetic feed is generated")
    elif input is None:
        link = ours.download.url
        raise UserError(
            "input",
            "is missing; name the raw log, a file or a quoted glob of several, with --input"
            + (f", or let --download fetch {link}" if link else ""),
        )
    return ours


def make_log(config: ConfigDict, input: str | Path | None, output: str | Path) -> dict[str, Any]:
    """Generates the synthetic feed, or prepares a table.

    Args:
      config: of one of the files in configs/data.
      input: the raw log, as in `prepare`; None for the synthetic feed.
      output: a directory that does not exist yet, or is empty.

    Returns:
      the report, which is also in meta.json.

    Raises:
      UserError: the input, the config or the output is not as it should be.
    """
    ours = read_config(config, input)
    if isinstance(ours, SyntheticConfig):
        return generate(ours, output)
    assert input is not None  # `read_config` would have refused
    return prepare(ours, input, output)
