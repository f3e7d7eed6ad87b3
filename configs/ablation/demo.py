"""The demo: ordinal RoPE, SIREN-RoPE and the ideal observers on the built-in feed.

    make demo
    siren-rope ablate --config=configs/ablation/demo.py --workdir=runs/demo

Takes about 3 minutes on two cores. SIREN-RoPE should close well over half of the gap between
ordinal RoPE and the ideal observer.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The variants, the data set and the seed."""
    return ConfigDict(
        {
            "name": "Ordinal RoPE and SIREN-RoPE on the built-in feed",
            "variants": ({"name": "ordinal"}, {"name": "siren_rope"}),
            "datasets": (
                {
                    "name": "synthetic",
                    "base": "configs/synthetic.py",
                    "config": "configs/data/synthetic.py",
                },
            ),
            "seeds": (0,),
            "baseline": "ordinal",
            "jobs": 2,
        }
    )
