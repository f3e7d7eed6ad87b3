"""Metrics of predicted tokens of text.

Bits per byte: the bits that a model needs to write down the tokens, over the bytes that these have.
They are nearly the same unit for all vocabularies; the first token of a text is not predicted.
Everything runs on the host in float64. N is the number of tokens, S of training seeds.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from siren_rope_jax.metrics.bootstrap import RESAMPLES, Resampled, Values, resample_means

BIT_METRICS = ("bpb", "nll", "accuracy")
"""In the order of every table."""


def metrics_of_tokens(
    nll: Float[np.ndarray, " N"], correct: np.ndarray, length: Int[np.ndarray, " N"]
) -> dict[str, float | int | None]:
    """`BIT_METRICS` of tokens with these NLLs in nats and these lengths in bytes; and "count"."""
    if not len(nll):
        return {**dict.fromkeys(BIT_METRICS), "count": 0, "bytes": 0}
    mean = float(np.mean(nll, dtype=np.float64))
    per_token = float(np.mean(length, dtype=np.float64))
    bpb = mean / per_token / math.log(2)
    accuracy = float(np.mean(correct))
    return {
        "bpb": bpb,
        "nll": mean,
        "accuracy": accuracy,
        "count": len(nll),
        "bytes": int(length.sum()),
    }


class BitColumns(NamedTuple):
    """Columns of NLL, rank and length of every token, which give `BIT_METRICS`."""

    nll: str
    rank: str
    length: str

    def truth(self, values: Values) -> np.ndarray:
        """The lengths."""
        return values[self.length]

    def resample(
        self, units: Int[np.ndarray, " N"], values: Values, resamples: int = RESAMPLES
    ) -> Mapping[str, Resampled]:
        """As `resample_means`; bits per byte are a ratio of two such means."""
        columns = {
            "nll": values[self.nll],
            "accuracy": (values[self.rank] == 1).astype(np.float64),
            "bytes": values[self.length],
        }
        means = resample_means(columns, units, resamples)
        nll, length = means["nll"], means.pop("bytes")
        bits = Resampled(
            nll.by_seed / length.by_seed / math.log(2), nll.samples / length.samples / math.log(2)
        )
        return {"bpb": bits, **means}
