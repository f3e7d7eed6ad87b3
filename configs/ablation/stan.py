"""The protocol of STAN (WWW 2021) on Foursquare NYC: which venue comes next, of all?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/stan.py --workdir=runs/stan

FOLDER holds foursquare_nyc/, whose file is that of STAN's own repository. Its README has the first
100 users, the third-last check-in of each as the target, and a recall (which is the hit rate here)
of .15, .46, .59 and .67 among the best 1, 5, 10 and 20 of all venues. That is the first data set;
the second one has all users and their last check-in. The request's time is known, in STAN's model
as in ours. Takes about a quarter of an hour on two cores.
"""

from ml_collections import ConfigDict

VARIANTS = (
    "ordinal",
    "hstu_bias",
    "to_rope_day_week",
    "siren_rope",
    "siren_rope_hstu_bias",
    "learned_clock_hstu_bias",
)


def get_config() -> ConfigDict:
    """The variants, data sets and seeds."""
    common = {
        "base": "configs/foursquare_nyc.py",
        "config": "configs/data/foursquare_nyc.py",
        "input": "foursquare_nyc/NYC.npy",
    }
    last, first_users = {"split.kind": "leave_one_out"}, {"where": "user <= 100", "split.last": 3}
    return ConfigDict(
        {
            "name": "Encodings in STAN's protocol on Foursquare NYC",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {
                    "name": "first_100_users",
                    "prepare": last | first_users,
                    "overrides": {"training.epochs": 30.0},
                    **common,
                },
                {"name": "all_users", "prepare": last, **common},
            ),
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "ordinal",
            "champion": "learned_clock_hstu_bias",
            "jobs": 2,
        }
    )
