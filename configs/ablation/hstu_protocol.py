"""The public tables of HSTU (arXiv 2402.17152): SASRec, HSTU, and HSTU's block that is rotated.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/hstu_protocol.py:ml_1m \
        --workdir=runs/hstu_protocol

The part after the colon is one of `LOGS`, whose file FOLDER holds: ml-1m/ratings.dat,
ml-20m/ratings.csv or ratings_Books.csv. The files are not part of this repository, and the runs
need an accelerator; on ML-1M a run takes an hour or more on two cores. What HSTU's authors report,
leave-one-out, all items ranked, those that the user had left out (HR@10 / NDCG@10):

    ml_1m         SASRec .2853 / .1603   HSTU .3097 / .1720   HSTU-large .3294 / .1893
    ml_20m        SASRec .2889 / .1621   HSTU .3273 / .1895   HSTU-large .3556 / .2098
    amazon_books  SASRec .0306 / .0164   HSTU .0416 / .0227   HSTU-large .0478 / .0262

Sizes, dropout, batch, learning rate and loss are those of the authors' configs. An epoch of theirs
has the last events of every user, one of ours all events; the best validation decides how long a
run is. Theirs has no validation split: it trains on the last event but one, too. Our SASRec has a
wider feed-forward part (`block` in docs/config.md).
"""

from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

LOGS: dict[str, dict[str, Any]] = {
    "ml_1m": {
        "config": "configs/data/movielens_next.py",
        "input": "ml-1m/ratings.dat",
        "prepare": {"split.kind": "leave_one_out"},
    },
    "ml_20m": {
        "config": "configs/data/movielens_next.py",
        "input": "ml-20m/ratings.csv",
        "prepare": {"split.kind": "leave_one_out"},
    },
    "amazon_books": {"config": "configs/data/amazon_books.py", "input": "ratings_Books.csv"},
}
# The authors' sizes: width, blocks, heads, context, dropout, negatives.
SIZES = {
    "ml_1m": (50, 2, 1, 200, 0.2, 128),
    "ml_20m": (256, 4, 4, 200, 0.2, 128),
    "amazon_books": (64, 4, 4, 50, 0.5, 512),
}
SASREC = {"model.block": "softmax"}
VARIANTS: tuple[dict[str, Any], ...] = (
    {"name": "sasrec", "argument": "learned_positions", "overrides": SASREC},
    {"name": "hstu", "argument": "hstu_bias_only"},
    {"name": "hstu_siren_rope", "argument": "siren_rope_hstu_bias"},
    {"name": "hstu_learned_clock", "argument": "learned_clock_hstu_bias"},
)


def get_config(log: str = "ml_1m") -> ConfigDict:
    """The variants and seeds on one of `LOGS`."""
    if log not in LOGS:
        raise UserError("--config", f"{log!r} is not a log{suggestion(log, LOGS)}")
    width, layers, heads, length, dropout, negatives = SIZES[log]
    overrides = {
        "data.length": length,
        "data.stride": max(length // 10, 1),
        "data.batch_size": 128,
        "model.width": width,
        "model.layers": layers,
        "model.heads": heads,
        "model.dropout": dropout,
        "loss.negatives": negatives,
        "training.epochs": 100.0,
        "training.patience": 10,
    }
    return ConfigDict(
        {
            "name": f"SASRec, HSTU and rotations in HSTU's protocol on {log}",
            "variants": VARIANTS,
            "datasets": (
                {"name": log, "base": "configs/hstu.py", "overrides": overrides, **LOGS[log]},
            ),
            "seeds": (0, 1, 2),
            "baseline": "sasrec",
            "champion": "hstu",
        }
    )
