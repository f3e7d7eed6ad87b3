"""Does a rotation by where a token stands help a language model of source code?

    siren-rope ablate --config=configs/language/stdlib.py --workdir=runs/stdlib

The corpus is the standard library of the running Python, which needs no download
(configs/data/stdlib.py); no module is in two splits. The last four models have the same five
signals of a token's layout, and so of the token that is asked for: in the embedding, or in the
rotation in three ways. All models but learned positions are tested at twice and four times the
length of their training, too. Takes three hours and a half on two cores.
"""

from ml_collections import ConfigDict

LENGTHS = {"data.tested_lengths": (512, 1024)}
VARIANTS = {
    "learned_positions": {},
    "ordinal": LENGTHS,
    "ordinal_long_base": LENGTHS,
    "layout_in_embedding": LENGTHS,
    "layout_ladders": LENGTHS,
    "layout_network_split": LENGTHS,
    "layout_categories": LENGTHS,
}


def get_config() -> ConfigDict:
    """The variants, the corpus and the seeds."""
    return ConfigDict(
        {
            "name": "Rotation by layout in a language model of source code",
            "variants": tuple(
                {"name": name, "overrides": changes} for name, changes in VARIANTS.items()
            ),
            "datasets": (
                {
                    "name": "stdlib",
                    "base": "configs/language/model.py",
                    "config": "configs/data/stdlib.py",
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "layout_in_embedding",
            "jobs": 2,
        }
    )
