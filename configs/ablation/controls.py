"""What makes SIREN-RoPE's gain on the check-ins: learning, gates, or how far its angles start?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/controls.py \
        --workdir=runs/controls

A network that stays as it was drawn, gates that do, and each branch alone. Before training the
angles of the MLP spread several times as far as those of the sine branch, so each is also compared
with a gate that gives it the scale of the other. FOLDER holds foursquare_nyc/. Takes a quarter of
an hour on two cores.
"""

import math

from ml_collections import ConfigDict

SPREAD = 5.0  # of the MLP's angles before training, over that of the sine branch's
GATE = "model.encoding.time.gate.init"
VARIANTS = {
    "ordinal": ("ordinal", {}),
    "siren_rope": ("siren_rope", {}),
    "network_frozen": (
        "siren_rope",
        {"optimizer.frozen": ("encoding/time/*kernel", "encoding/time/*bias")},
    ),
    "gates_frozen": ("siren_rope", {"optimizer.frozen": ("encoding/*gate",)}),
    "siren_only": ("siren_only", {}),
    "siren_only_large": ("siren_only", {GATE: math.pi * SPREAD}),
    "dnn_only": ("dnn_only", {}),
    "dnn_only_small": ("dnn_only", {GATE: math.pi / SPREAD}),
}


def get_config() -> ConfigDict:
    """The variants and seeds."""
    return ConfigDict(
        {
            "name": "Controls of SIREN-RoPE on the check-ins",
            "variants": tuple(
                {"name": name, "argument": argument, "overrides": overrides}
                for name, (argument, overrides) in VARIANTS.items()
            ),
            "datasets": (
                {
                    "name": "foursquare_nyc",
                    "base": "configs/foursquare_nyc.py",
                    "config": "configs/data/foursquare_nyc.py",
                    "input": "foursquare_nyc/NYC.npy",
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "siren_rope",
            "jobs": 2,
        }
    )
