"""How much of what a retriever finds is owed to the time of the request?

Every request of the validation split is made again, as if it had come later: by so many hours, or
by a random number of them. History, target and candidates are the same. What the model loses, it
had from the true time; a loss at 12 hours that is gone at 24 is one of the hour of the day.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.times import DAY, HOUR, WEEK
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics.bootstrap import Resampled
from siren_rope_jax.metrics.intervals import Interval, interval
from siren_rope_jax.models.batch import NextItemBatch
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.training.trained import TrainedRun

HOURS = (1, 6, 12, 24, 84, 168)
TRUE, ANY = "at its time", "at any hour of the week after"


def knows_request_time(run: TrainedRun) -> bool:
    """Whether the model's answer may depend on when it is asked."""
    model = run.config.model
    is_retriever = run.setup.kind.name == "retrieval"
    return is_retriever and model.uses_time and model.query_time == "request"


def asked_later(run: TrainedRun) -> dict[str, Interval]:
    """The primary metric of requests at their time, and its change if they come later.

    Args:
      run: of which `knows_request_time` holds.

    Returns:
      when the requests are made -> the metric (`TRUE`) or its difference to that, with intervals
      over users.
    """
    rng = np.random.default_rng(0)
    delays: Mapping[str, Any] = {
        **{f"{hours} h later": lambda shape, h=hours: np.full(shape, h * HOUR) for hours in HOURS},
        ANY: lambda shape: rng.integers(0, WEEK // HOUR, shape) * HOUR,
    }
    true = _resampled(run, lambda shape: np.zeros(shape, np.int64))
    others = {name: interval(_resampled(run, delay), true) for name, delay in delays.items()}
    return {TRUE: interval(true)} | others


def _resampled(run: TrainedRun, delay: Any) -> Resampled:
    def delayed() -> Iterator[NextItemBatch]:
        for batch in run.setup.batches.evaluation("validation"):
            yield later(batch, delay(batch.request_time.second.shape))

    scored = run.setup.scorer(run.params, delayed())
    kind, evaluated = run.setup.kind, Evaluated.of(run.log, scored)
    found = kind.columns(run.log.schema, evaluated.events, evaluated.scored)
    values = {
        name: np.ma.filled(np.ma.asarray(of, np.float64), np.nan)[None]
        for name, of in found.items()
    }
    return kind.resampled("", {}).resample(evaluated.events.user, values)[kind.primary]


def later(batch: Any, seconds: Int[np.ndarray, "B L"]) -> NextItemBatch:
    """The same requests so many seconds later, by clocks that are as far from UTC."""
    time = batch.request_time
    second = np.asarray(time.second, np.int64) + seconds
    day = np.asarray(time.day + second // DAY, np.int32)
    moved = Time(day, np.asarray(second % DAY, np.int32), time.offset, time.known)
    return batch.replace(request_time=moved)
