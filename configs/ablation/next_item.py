"""Which encoding finds the next item best on your own log? The main ones, three seeds each.

    siren-rope ablate --config=configs/ablation/next_item.py:runs/data/mine \
        --workdir=runs/mine_ablation

The part after the colon is the directory of a prepared log (configs/data/table.py). The models are
those of configs/next_item.py; docs/ablate.md says how to change them, or the variants.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import load_config_file


def get_config(log: str = "runs/data/mine") -> ConfigDict:
    """The comparison of configs/ablation/table.py, of models that retrieve."""
    config = load_config_file("configs/ablation/table.py", {}, log)
    config.name = "Encodings for the next item of your own log"
    config.datasets = tuple({**one, "base": "configs/next_item.py"} for one in config.datasets)
    return config
