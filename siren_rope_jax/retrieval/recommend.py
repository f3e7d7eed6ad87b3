"""Lists of items for users at a given time, from a trained retrieval run."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
import pyarrow as pa

from siren_rope_jax.data.assemble import Piece, next_item_batch
from siren_rope_jax.data.schema import NO_TIME
from siren_rope_jax.errors import UserError, suggestion
from siren_rope_jax.experiment import RetrievalExperiment
from siren_rope_jax.retrieval.ranks import top_items
from siren_rope_jax.retrieval.scoring import named
from siren_rope_jax.trained import TrainedRun

_top_items = jax.jit(top_items, static_argnames="k")


def recommend(
    run: TrainedRun,
    users: Sequence[Any],
    request_time: int,
    k: int = 10,
    utc_offset: int | None = None,
) -> pd.DataFrame:
    """The k best items for each user, from all the user's events before the request.

    Args:
      run: of a retrieval experiment.
      users: raw ids, as in the log.
      request_time: when the lists are requested, in Unix seconds (UTC).
      k: length of a list; shorter where no more items are left.
      utc_offset: local time minus UTC at the request, in seconds; None: as at the last event.

    Returns:
      columns user, place (1 is best), item (raw id), score; list after list.

    Raises:
      UserError: another kind of run, an unknown user, or one without an event before the request.
    """
    if not isinstance(run.config, RetrievalExperiment):
        raise UserError(f"{run.config.variant}: not a retrieval run; it ranks what it is given")
    length, schema = run.config.data.length, run.log.schema
    item = schema.categorical[0]
    numbers = _user_numbers(run, users)
    pieces, seen = [], []
    for row, (user, history) in enumerate(zip(users, run.log.histories_of(numbers), strict=True)):
        past = history[(history["time"] < request_time) | (history["time"] == NO_TIME)]
        if not len(past):
            raise UserError(f"user {user!r} has no event before {request_time} (Unix seconds)")
        # The request is one more event: its time is known, its item (0) is what is asked for.
        request = np.zeros(1, schema.event_dtype)
        request["time"] = request_time
        request["utc_offset"] = past["utc_offset"][-1] if utc_offset is None else utc_offset
        events = np.concatenate([past[-length:], request])
        pieces.append(Piece(row, 1, 0, events, 0, 0, len(events), len(events)))
        seen.append(item.known_ids(past[f"categorical/{item.name}"]))
    batch = next_item_batch(schema, pieces, (len(users), length))
    result = run.apply({"params": run.params}, batch)
    asked = np.arange(len(users)), np.array([piece.stop - 2 for piece in pieces])
    most = max(map(len, seen)) if run.config.filter_seen else 0
    excluded = np.stack([np.pad(s, (0, most))[:most] for s in seen])
    mixed = None
    if result.repeat is not None:
        mixed = jax.tree.map(lambda x: x[asked], named(result.repeat, batch))
    ids, scores = jax.device_get(_top_items(result.query[asked], result.item, excluded, k, mixed))
    found = np.argwhere(ids > 0)
    raw = run.log.vocabulary(item.name)["value"]
    return pd.DataFrame(
        {
            "user": np.asarray(users)[found[:, 0]],
            "place": found[:, 1] + 1,
            "item": raw.take(pa.array(ids[ids > 0].astype(np.int64) - 1)).to_pandas(),
            "score": scores[ids > 0],
        }
    )


def _user_numbers(run: TrainedRun, users: Sequence[Any]) -> list[int]:
    """The indices of these raw ids."""
    if not len(users):
        raise UserError("users: there are none")
    known = {value: number for number, value in enumerate(run.log.users().to_pylist())}
    for user in users:
        if user not in known:
            near = suggestion(user, known) if isinstance(user, str) else ""
            raise UserError(f"user {user!r} is not in the log{near if len(known) < 10_000 else ''}")
    return [known[user] for user in users]
