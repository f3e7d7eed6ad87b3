"""Does a rotation by where a token stands help a language model of source code?

    siren-rope ablate --config=configs/language/stdlib.py --workdir=runs/stdlib

The corpus is the standard library of the running Python, which needs no download
(configs/data/stdlib.py); no module is in two splits. All models know the same of the token that is
asked for: its index, and those that are turned by its layout that as well. They are tested at twice
and four times the length of their training, too, except for learned positions, which have none
there. Takes three hours and a half on two cores.
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
