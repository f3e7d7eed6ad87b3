"""Lists of items for users at a given time, from a trained retrieval run."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Shaped

from siren_rope_jax.data.assemble import Piece, next_item_batch
from siren_rope_jax.data.schema import NO_TIME
from siren_rope_jax.errors import UserError, suggestion
from siren_rope_jax.experiment import RetrievalExperiment
from siren_rope_jax.retrieval.ranks import top_items
from siren_rope_jax.retrieval.scoring import side_by_side
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
      columns user, place (1 is best), item (raw id), score (the inner product; with `model.repeat`
      the log of the item's probability); list after list.

    Raises:
      UserError: another kind of run, an unknown user, or one without an event before the request.
    """
    if not isinstance(run.config, RetrievalExperiment):
        raise UserError(f"{run.config.variant}: not a retrieval run; it ranks what it is given")
    rows = run.config.data.batch_size
    numbers = _user_numbers(run, users)
    lists: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for start in range(0, len(users), rows):
        pasts = [
            before(history, request_time)
            for history in run.log.histories_of(numbers[start : start + rows])
        ]
        for user, past in zip(users[start:], pasts, strict=False):
            if not len(past):
                raise UserError(f"user {user!r} has no event before {request_time} (Unix seconds)")
        ids, score = _lists(run, pasts, request_time, utc_offset, k)
        lists.append(ids)
        scores.append(score)
    ids, score = np.concatenate(lists), np.concatenate(scores)
    found = np.argwhere(ids > 0)
    raw = run.log.vocabulary(run.log.schema.categorical[0].name)["value"]
    return pd.DataFrame(
        {
            "user": np.asarray(users)[found[:, 0]],
            "place": found[:, 1] + 1,
            "item": raw.take(pa.array(ids[ids > 0].astype(np.int64) - 1)).to_pandas(),
            "score": score[ids > 0],
        }
    )


def before(history: Shaped[np.ndarray, " N"], request_time: int) -> Shaped[np.ndarray, " M"]:
    """The events of a history up to the first whose time is that of the request or later."""
    late = (history["time"] != NO_TIME) & (history["time"] >= request_time)
    return history[: np.argmax(late)] if late.any() else history


def _lists(
    run: TrainedRun,
    pasts: Sequence[np.ndarray],
    request_time: int,
    utc_offset: int | None,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores of the lists of at most a batch of users."""
    assert isinstance(run.config, RetrievalExperiment)
    shape = run.config.data.batch_size, run.config.data.length
    schema = run.log.schema
    item = schema.categorical[0]
    pieces = []
    for row, past in enumerate(pasts):
        # The request is one more event: its time is known, its item (0) is what is asked for.
        request = np.zeros(1, schema.event_dtype)
        request["time"] = request_time
        request["utc_offset"] = past["utc_offset"][-1] if utc_offset is None else utc_offset
        events = np.concatenate([past[-shape[1] :], request])
        pieces.append(Piece(row, 1, 0, events, 0, 0, len(events), len(events)))
    result = run.apply({"params": run.params}, next_item_batch(schema, pieces, shape))
    asked = np.arange(len(pasts)), np.array([piece.stop - 2 for piece in pieces])
    query, repeat = jax.tree.map(lambda x: x[asked], (result.query, result.repeat))
    seen = np.zeros((len(pasts), 0), np.int32)
    if run.config.filter_seen:
        seen = side_by_side([item.known_ids(p[f"categorical/{item.name}"]) for p in pasts])
    return jax.device_get(_top_items(query, result.item, seen, k, repeat))


def _user_numbers(run: TrainedRun, users: Sequence[Any]) -> list[int]:
    """The indices of these raw ids."""
    if not len(users):
        raise UserError("users: there are none")
    known = {value: number for number, value in enumerate(run.log.users().to_pylist())}
    for user in users:
        if user not in known:
            kind = type(next(iter(known)))
            hint = "" if isinstance(user, kind) else f"; its users are of type {kind.__name__}"
            if not hint and len(known) < 10_000:  # the search for a near name is slow
                hint = suggestion(user, known)
            raise UserError(f"user {user!r} is not in the log{hint}")
    return [known[user] for user in users]
