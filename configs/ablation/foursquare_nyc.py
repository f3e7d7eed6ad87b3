"""Every encoding on Foursquare's check-ins in New York: which venue is next at a given time?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate \
        --config=configs/ablation/foursquare_nyc.py --workdir=runs/foursquare_nyc_ablation

FOLDER holds foursquare_nyc/. Takes about two hours on two cores. With `:plain` after the config's
name, models have no mechanism for repeating a venue of the history (`model.repeat`) and train for
20 epochs instead of 6; this compares only the main variants and takes two to six hours.
`:plain_summer` also uses New York's summer time, UTC-4, all year round, so that validation and
test, which are in winter, are an hour off (configs/data/foursquare_nyc.py).
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

VARIANTS = (
    "none",
    "learned_positions",
    "ordinal",
    "time_in_embedding",
    "time_in_embedding_cyclic",
    "time_in_embedding_event",
    "time_ladder",
    "to_rope",
    "to_rope_hours",
    "to_rope_split_dim",
    "to_rope_split_head",
    "to_rope_day_week",
    "to_rope_demo",
    "linear",
    "time2vec",
    "semantic",
    "hstu_bias",
    "hstu_bias_only",
    "fuxi_bias",
    "siren_only",
    "dnn_only",
    "siren_rope",
    "siren_rope_split_dim",
    "siren_rope_day_week",
    "siren_rope_no_order",
    "siren_rope_cyclic",
    "siren_rope_long_range",
    "dnn_long_range",
    "siren_rope_raw",
    "siren_rope_category",
    "siren_rope_event",
    "siren_rope_hstu_bias",
    "siren_rope_split_dim_hstu_bias",
    "siren_rope_time_in_embedding",
    "siren_rope_time_in_embedding_cyclic",
)
HSTU = ("ordinal", "hstu_bias_only", "siren_rope")  # also with HSTU's block
PLAIN = (
    "learned_positions",
    "ordinal",
    "time_in_embedding",
    "time_in_embedding_cyclic",
    "to_rope",
    "to_rope_hours",
    "to_rope_split_dim",
    "to_rope_split_head",
    "to_rope_day_week",
    "hstu_bias",
    "fuxi_bias",
    "siren_only",
    "dnn_only",
    "siren_rope",
    "siren_rope_event",
    "siren_rope_hstu_bias",
)
LINES = (
    "ordinal",
    "time_in_embedding_cyclic",
    "to_rope_day_week",
    "hstu_bias",
    "siren_rope",
    "siren_rope_day_week",
    "siren_rope_event",
    "siren_rope_hstu_bias",
)
FORMS = ("repeat", "plain", "plain_summer")


def get_config(form: str = "repeat") -> ConfigDict:
    """The variants, data sets and seeds; `form` is one of `FORMS`."""
    if form not in FORMS:
        raise UserError("--config", f"{form!r} is not a form{suggestion(form, FORMS)}")
    plain, summer = form != "repeat", form == "plain_summer"
    names, able = (PLAIN, "cannot") if plain else (VARIANTS, "can")
    return ConfigDict(
        {
            "name": f"Encodings on Foursquare NYC, models that {able} repeat",
            "variants": (
                *({"name": name} for name in names),
                *(
                    {
                        "name": f"{name}_hstu_block",
                        "argument": name,
                        "overrides": {"model.block": "hstu"},
                    }
                    for name in (() if plain else HSTU)
                ),
            ),
            "datasets": (
                {
                    "name": "foursquare_nyc",
                    "base": "configs/foursquare_nyc.py",
                    "config": "configs/data/foursquare_nyc.py",
                    "input": "foursquare_nyc/NYC.npy",
                    "prepare": {"time_zone": "", "utc_offset": "-4 * 3600"} if summer else {},
                    "overrides": {"model.repeat": False, "training.epochs": 20.0} if plain else {},
                },
            ),
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "ordinal",
            "champion": "siren_rope",
            "lines": tuple(name for name in LINES if name in names),
            "jobs": 4,
        }
    )
