"""What a model knows nothing of among the candidates and users of a file."""

import sys

import pandas as pd

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.fresh_events import ids_in


def say_unknown(
    log: PreparedLog, candidates: pd.DataFrame | None, users: int, without_history: int
) -> None:
    """Says on stderr, in one line, how many there are; says nothing if there are none.

    Args:
      log: of the run.
      candidates: with a column for the item, named as in the prepared log; None: all items.
      users: their number.
      without_history: how many of them have no event before the request.
    """
    said = []
    if candidates is not None and (unknown := unknown_items(log, candidates)):
        said.append(f"candidate rows with an item new to the model: {unknown} of {len(candidates)}")
    if without_history:
        said.append(f"users without a history: {without_history} of {users}")
    if said:
        print("; ".join(said), file=sys.stderr)


def unknown_items(log: PreparedLog, candidates: pd.DataFrame) -> int:
    """The rows whose item the model does not know: new ones, and those that were too rare."""
    item = log.schema.categorical[0]
    whole = f"categorical/{item.name}"
    raw = candidates[whole if whole in candidates else item.name]
    ids = ids_in(raw, log.value_ids(item.name), "candidates")
    return int((item.known_ids(ids) == 0).sum())
