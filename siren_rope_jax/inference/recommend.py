"""Lists of items for users at a given time, from a trained retrieval run."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pandas as pd

from siren_rope_jax.inference import arguments
from siren_rope_jax.inference.arguments import RequestTime
from siren_rope_jax.inference.encoded import batches_of_users
from siren_rope_jax.training.trained import TrainedRun


def recommend(
    run: TrainedRun,
    users: Iterable[Any],
    request_time: RequestTime,
    k: int = 10,
    utc_offset: int | None = None,
    events: pd.DataFrame | None = None,
    items: Iterable[Any] | None = None,
    filter_seen: bool | None = None,
    missing: Literal["raise", "skip"] = "raise",
) -> pd.DataFrame:
    """The k best items for each user, given all the user's events before the request.

    Histories are encoded a batch at a time, and forgotten; `encode` keeps them for later requests.

    Args:
      run: a trained retrieval run.
      users: raw ids, as in the log or in `events`.
      request_time: when the lists are requested. Only events in earlier seconds count. An
        evaluation also counts events of the same second that precede their target in the log (the
        same day, in logs that only record days, such as Beauty's).
      k: length of each list, at least 1; shorter only if there are fewer candidates.
      utc_offset: local time minus UTC at the request, in seconds; None: that of the log's zone, or
        of the user's last event.
      events: those after the end of the log, as in `encode`.
      items: what may be recommended.
      filter_seen: whether to leave out items that the user has had before.
      missing: what to do about users without events, as in `encode`.

    Returns:
      as `Encoded.recommend`.

    Raises:
      UserError: about the argument that is wrong.
    """
    arguments.check_kind(run, "retrieval", "score")
    second = arguments.unix_second(request_time)
    listed = list(items) if isinstance(items, Iterator) else items
    lists = [
        encoded.recommend(second, k, utc_offset=utc_offset, items=listed, filter_seen=filter_seen)
        for encoded in batches_of_users(run, users, events, second, missing)
    ]
    return pd.concat(lists, ignore_index=True)
