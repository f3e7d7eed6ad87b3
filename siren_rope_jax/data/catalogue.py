"""What items always have, read from the events of a log."""

from collections.abc import Sequence

import numpy as np

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.models.batch import Catalogue

_KEY = "config.model.item_features"


def catalogue(log: PreparedLog, names: Sequence[str]) -> Catalogue:
    """The features of all items of a log, of which a model knows every item.

    An item has what its events say; those of all splits are read, because an item has its features
    before anybody has it.

    Args:
      log: its item ids come in the order of train counts.
      names: categorical features besides the item.

    Raises:
      UserError: there is no such feature, or an item has two values of it.
    """
    item, *others = log.schema.categorical
    known = {c.name: c for c in others}
    for name in names:
        if name not in known:
            about = f"{name!r} is no categorical feature besides the item"
            raise UserError(_KEY, f"{about}{suggestion(name, known)}")
    rows = log.events().rows
    ids = rows[f"categorical/{item.name}"]
    features = np.zeros((item.values + 1, len(names)), np.int32)
    for column, name in zip(features.T, names, strict=True):
        values = rows[f"categorical/{name}"]
        column[ids] = values
        if len(other := np.flatnonzero(column[ids] != values)):
            raw = log.vocabulary(item.name)["value"][int(ids[other[0]]) - 1].as_py()
            about = f"the {name} of {item.name} {raw!r} differs between events"
            raise UserError(_KEY, f"{about}; name only what an item always has")
        column[:] = known[name].known_ids(column)
    features[0] = 0
    trained = int((log.vocabulary(item.name)["train_count"].to_numpy() > 0).sum())
    return Catalogue(features, trained + 1)
