"""Of retrievers: metrics of ranks on bootstrap resamples, from the runs' own predictions.

Letters: N events, S training seeds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from siren_rope_jax.metrics.ranks import per_event
from siren_rope_jax.studies.bootstrap import (
    RESAMPLES,
    Resampled,
    check_same_events,
    read_predictions,
    resample_means,
)

COMPARED = ("nll", "hr@10", "ndcg@10", "mrr")
"""The metrics whose differences are stated."""


class TargetRanks(NamedTuple):
    """The evaluated events in order, and several runs' ranks and losses of their targets."""

    users: Int[np.ndarray, " N"]
    rank: Int[np.ndarray, "S N"]
    nll: Float[np.ndarray, "S N"]


def read_ranks(paths: Sequence[Path], reference: Path | None = None) -> TargetRanks:
    """Reads several runs' predictions.parquet.

    Args:
      paths: the predictions of one model, one file per seed.
      reference: another model's predictions that these are to be compared with.

    Raises:
      UserError: a file holds no ranks, or the files are not over the same events, or not the same
        of them have a rank.
    """
    files = [*paths, *([reference] if reference else [])]
    frames = read_predictions(files, ["rank", "nll"], "ranks")
    frames = [frame.assign(ranked=frame["rank"].notna()) for frame in frames]
    check_same_events(frames, files, "ranked", "which items can be ranked")
    users = pd.factorize(frames[0]["user"], sort=True)[0]
    own = frames[: len(paths)]
    rank = np.stack([frame["rank"].fillna(0).to_numpy(np.int64) for frame in own])
    return TargetRanks(users, rank, np.stack([frame["nll"].to_numpy(np.float64) for frame in own]))


def resample(
    ranks: TargetRanks, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Resampled]:
    """The metrics `COMPARED` of one model, a mean over its training seeds.

    Args:
      ranks: as read.
      resamples: their number.
      seed: of the draws; two models resampled with one seed are paired.
    """
    values = [per_event(rank, nll) for rank, nll in zip(ranks.rank, ranks.nll, strict=True)]
    columns = {metric: np.stack([v[metric] for v in values]) for metric in COMPARED}
    return resample_means(columns, ranks.users, resamples=resamples, seed=seed)
