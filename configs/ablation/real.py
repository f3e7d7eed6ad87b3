"""Ordinal RoPE, TO-RoPE and SIREN-RoPE on real logs: Globo and MovieLens.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/real.py \
        --workdir=runs/real

FOLDER holds globo_news/ and movielens_100k/. Takes about 25 minutes on two cores. Expected result:
rotating by time helps on neither log (results/README.md).
"""

from ml_collections import ConfigDict

VARIANTS = ("ordinal", "to_rope", "siren_rope")


def get_config() -> ConfigDict:
    """The variants, data sets and seeds."""
    return ConfigDict(
        {
            "name": "Ordinal RoPE, TO-RoPE and SIREN-RoPE on real logs",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {
                    "name": "globo",
                    "base": "configs/globo.py",
                    "config": "configs/data/globo.py",
                    "input": "globo_news/clicks_hour_000-384.csv.gz",
                },
                {
                    "name": "movielens",
                    "base": "configs/movielens.py",
                    "config": "configs/data/movielens.py",
                    "input": "movielens_100k/ml-100k.inter",
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "jobs": 4,
        }
    )
