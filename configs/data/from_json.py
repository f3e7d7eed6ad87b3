"""A log whose columns a JSON file describes: data, not a program.

    siren-rope prepare --config=configs/data/from_json.py:FILE.json \
        --input=clicks.csv --output=runs/data/clicks

FILE.json holds the keys of `PrepareConfig` (siren_rope_jax/prepare/config.py), such as

    {"name": "clicks", "user": "uid", "item": "article", "time": "at",
     "tasks": {"like": "rating >= 4"}}

or is the meta.json of a prepared log, whose config is used. Other config files are Python programs,
which you should read before you run them. Of a JSON file from somebody else, the worst that
`prepare` can make is a wrong log: expressions compute, and reach nothing but the log. What concerns
the machine (`memory_gb`, `threads`) and the network (`download`) is left at its default.
"""

import json

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import expanded
from siren_rope_jax.prepare.config import config_dict


def get_config(file: str = "") -> ConfigDict:
    """Returns the config of `siren-rope prepare` that the JSON file holds."""
    path = expanded(file)
    if not file or not path.is_file():
        raise UserError("--config", f"{file!r} is no JSON file; write from_json.py:FILE.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(path, f"is not JSON: {error}") from error
    if isinstance(values, dict) and "report" in values:
        values = values["report"].get("config")
    if not isinstance(values, dict):
        raise UserError(path, "holds no config: an object with the keys of PrepareConfig")
    ours = ("memory_gb", "threads", "download")
    return config_dict(**{key: value for key, value in values.items() if key not in ours})
