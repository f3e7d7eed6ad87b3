"""Makes the prepared log that a data config describes: of the synthetic feed, texts or a table."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict, made_for
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.prepare import corpus, synthetic
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.corpus import CorpusConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig
from siren_rope_jax.prepare.table import prepare

Described = SyntheticConfig | CorpusConfig | PrepareConfig
"""What a data config may be."""


def load(config: ConfigDict) -> Described:
    """Reads a data config; a `UserError` says which key or value is wrong or missing."""
    if (command := made_for(config)) not in ("", "prepare"):
        raise UserError("config", f"describes no log; it is for `siren-rope {command}`")
    if "num_users" in config:
        return from_config_dict(SyntheticConfig, config)
    if "corpus" in config:
        return from_config_dict(CorpusConfig, config)
    return PrepareConfig.load(config)


def read_config(
    config: ConfigDict, input: str | Path | None, items: str | Path | None = None
) -> Described:
    """Reads a data config as `load`, and refuses a missing or a superfluous input."""
    ours = load(config)
    if isinstance(ours, CorpusConfig):
        check(items is None, "items", "left out; texts have none")
        return ours
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

    The `input` is None for the synthetic feed, and a folder or None for texts; no engine makes
    either. `items` are optional.

    Raises:
      UserError: the input, the config or the output is not as it should be.
    """
    ours = read_config(config, input, items)
    if not isinstance(ours, PrepareConfig):
        check(engine == "duckdb", "--engine", "left out; it reads tables")
        if isinstance(ours, CorpusConfig):
            return corpus.generate(ours, input, output)
        return synthetic.generate(ours, output)
    assert input is not None  # `read_config` would have refused
    return prepare(ours, input, output, engine, items)
