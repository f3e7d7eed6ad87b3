"""What items always have, read from the events of a log."""

from collections.abc import Sequence

import numpy as np

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.models.batch import ItemFeatures

_KEY = "config.model.item_features"


def item_features(log: PreparedLog, names: Sequence[str], trained: int) -> ItemFeatures:
    """The features of all items of a log.

    An item has what its events say, as far as they say anything; those of all splits are read,
    because an item has its features before anybody has it.

    Args:
      log: as a model sees it that knows every item.
      names: categorical features besides the item.
      trained: items that a model of the train split knows; they have the first ids.

    Raises:
      UserError: there is no such feature, one is named twice, or an item has two values of it.
    """
    item, *others = log.schema.categorical
    known = {c.name: c for c in others}
    for name in names:
        if name not in known:
            about = f"{name!r} is no categorical feature besides the item"
            raise UserError(_KEY, f"{about}{suggestion(name, known)}")
    if len(set(names)) < len(names):
        raise UserError(_KEY, f"names a feature twice: {', '.join(names)}")
    rows = log.events().rows
    ids = rows[f"categorical/{item.name}"]
    features = []
    for name in names:
        values = rows[f"categorical/{name}"].reshape(len(rows), -1)
        given = values[:, 0] > 0
        of_item = np.zeros((item.values + 1, values.shape[1]), np.int32)
        of_item[ids[given]] = values[given]
        if len(other := np.flatnonzero(given & (of_item[ids] != values).any(axis=1))):
            raw = log.vocabulary(item.name)["value"][int(ids[other[0]]) - 1].as_py()
            about = f"the {name} of {item.name} {raw!r} differs between events"
            raise UserError(_KEY, f"{about}; name only what an item always has")
        of_item[0] = 0
        features.append(known[name].known_ids(of_item))
    return ItemFeatures(np.concatenate(features, axis=1), trained + 1)
