"""What is each part of an encoding worth on the check-ins, all with one setting?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/parts.py \
        --workdir=runs/parts

SIREN-RoPE without one of its branches, features, gates or the request's time; with a network or
gates that stay as they were drawn; with each branch's angles as large as those of the other, since
those of the MLP spread several times as far before training; on planes of its own; and beside time
in the embedding. Then the same angles as rotations in space, which do not commute, and rivals that
configs/ablation/encodings.py does not tune. FOLDER holds foursquare_nyc/. Takes about an hour and a
quarter on two cores.
"""

import math
from typing import Any

from ml_collections import ConfigDict

SPREAD = 5.0  # of the MLP's angles before training, over that of the sine branch's
GATE = "model.encoding.time.gate.init"
NETWORK = ("encoding/time/*kernel", "encoding/time/*bias")
# Rows by name: the variant, and what differs.
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {
    "network_frozen": ("siren_rope", {"optimizer.frozen": NETWORK}),
    "gates_frozen": ("siren_rope", {"optimizer.frozen": ("encoding/*gate",)}),
    "siren_only_large": ("siren_only", {GATE: math.pi * SPREAD}),
    "dnn_only_small": ("dnn_only", {GATE: math.pi / SPREAD}),
    "ordinal_hstu_block": ("ordinal", {"model.block": "hstu"}),
    "siren_rope_hstu_block": ("siren_rope", {"model.block": "hstu"}),
}
VARIANTS = (
    "none",
    "learned_positions",
    "ordinal",
    "siren_rope",
    "siren_only",
    "dnn_only",
    "siren_rope_no_order",
    "siren_rope_cyclic",
    "siren_rope_long_range",
    "siren_rope_raw",
    "siren_rope_event",
    "siren_rope_split_dim",
    "siren_rope_day_week",
    "time_in_embedding_cyclic",
    "siren_rope_time_in_embedding_cyclic",
    "to_rope",
    "to_rope_split_head",
    "to_rope_day_week",
    "linear",
    "time2vec",
    "hstu_bias_only",
    "fuxi_bias",
    "fuxi_gamma_bias",
    "fuxi_linear_bias",
    "clock_and_lag",
    "clock_and_lag_split_head",
    "learned_clock",
    "learned_clock_in_space",
)
LINES = (
    "ordinal",
    "time_in_embedding_cyclic",
    "to_rope_day_week",
    "siren_rope",
    "siren_rope_event",
    "learned_clock",
)


def get_config() -> ConfigDict:
    """The variants and seeds."""
    return ConfigDict(
        {
            "name": "Parts of encodings on the check-ins",
            "variants": (
                *({"name": name} for name in VARIANTS),
                *(
                    {"name": name, "argument": variant, "overrides": overrides}
                    for name, (variant, overrides) in CHANGED.items()
                ),
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
            "lines": LINES,
            "jobs": 2,
        }
    )
