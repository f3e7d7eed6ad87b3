"""The baseline "recent": ranks items by the events of all users in the last 24 hours."""

import numpy as np
from jaxtyping import Bool, Int

from siren_rope_jax.base.times import DAY, MIN_TIME, NO_TIME

_STRETCH = 256  # consecutive targets that share one look-up of the recent items


def ahead_of_recent(
    users: Int[np.ndarray, " E"],
    items: Int[np.ndarray, " E"],
    times: Int[np.ndarray, " E"],
    rankable: Bool[np.ndarray, " E"],
    train_counts: Int[np.ndarray, " V"],
    evaluated: Int[np.ndarray, " N"],
    filter_seen: bool,
) -> Int[np.ndarray, " N"]:
    """How many other items rank no lower than each target.

    Items are ranked by their number of events of all users in the 24 hours before the target's
    time (exclusive), then by their number of training events; for a target without a time, by the
    latter alone.

    Letters: E events of a log, N evaluated ones, V items that can be ranked.

    Args:
      users: of all events of a log, in global order.
      items: of all events.
      times: of all events, Unix seconds or `NO_TIME`.
      rankable: whether their items can be ranked; the result of a target that cannot is undefined.
      train_counts: number of training events of the items that can be ranked, by id - 1.
      evaluated: global indices of the evaluated events.
      filter_seen: whether items that the user had before are left out.
    """
    # A single number orders the items by events of the day, then by popularity; many are equal.
    _, popularity = np.unique(train_counts, return_inverse=True)
    place = popularity.astype(np.int64)
    by_popularity = np.sort(place)
    one_event = len(train_counts) + 1
    counted = np.flatnonzero(rankable & (times != NO_TIME))
    counted = counted[np.argsort(times[counted], kind="stable")]
    moments, item = times[counted], items[counted] - 1
    starts = np.searchsorted(users, users[evaluated])
    order = np.flatnonzero(rankable[evaluated])
    order = order[np.argsort(times[evaluated[order]], kind="stable")]
    asked = np.maximum(times[evaluated], MIN_TIME)  # no event is before MIN_TIME
    first, stop = np.searchsorted(moments, asked - DAY), np.searchsorted(moments, asked)
    ahead = np.zeros(len(evaluated), np.int64)
    come = gone = 0  # counted[gone:come] are the events of the day
    for start in range(0, len(order), _STRETCH):
        stretch = order[start : start + _STRETCH]
        # All other items, most of a large catalogue, are ordered by popularity alone.
        moved = np.unique(item[first[stretch[0]] : stop[stretch[-1]]])
        for n in stretch:
            np.add.at(place, item[come : stop[n]], one_event)
            np.subtract.at(place, item[gone : first[n]], one_event)
            come, gone = stop[n], first[n]
            event = evaluated[n]
            own = place[items[event] - 1]
            no_lower = len(place) - np.searchsorted(by_popularity, own)
            no_lower += np.count_nonzero(place[moved] >= own)
            no_lower -= np.count_nonzero(popularity[moved] >= own)
            ahead[n] = no_lower - 1
            if filter_seen:
                before = slice(starts[n], event)
                seen = np.unique(items[before][rankable[before]]) - 1
                ahead[n] -= np.count_nonzero(place[seen] >= own)
    return ahead
