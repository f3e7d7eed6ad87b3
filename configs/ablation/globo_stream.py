r"""News in a stream: how much do models lose by standing still, and which encoding the least?

    zcat clicks_hour_000-384.csv.gz | awk -F, 'NR == 1 || $1 % 4 == 0' > quarter.csv
    siren-rope prepare --config=configs/data/globo_next.py --input=quarter.csv \
        --output=runs/data/globo_stream --config.split.train_fraction=0.8 \
        --config.split.train_end=2017-10-10T03:00Z --config.split.validation_end=2017-10-12T03:00Z
    siren-rope ablate --config=configs/ablation/globo_stream.py --workdir=runs/globo_stream
    siren-rope stream --workdir=runs/globo_stream --every=2 --ages=3,12,24 --most=60

A quarter of the users of Globo (configs/data/globo_next.py). Training ends on 10 October
at midnight of Sao Paulo, validation two days later; five days, with their evenings, are streamed.
Training and stream take about 20 minutes on two cores.
"""

from ml_collections import ConfigDict

VARIANTS = ("ordinal", "to_rope_split_dim", "siren_rope")


def get_config(log: str = "runs/data/globo_stream") -> ConfigDict:
    """The variants and seeds on the prepared log in the directory `log`."""
    return ConfigDict(
        {
            "name": "Next clicks on news, right after training and later",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {
                    "name": "globo_stream",
                    "base": "configs/globo_next.py",
                    "prepared": log,
                    "overrides": {"training.epochs": 2.0},
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "jobs": 2,
        }
    )
