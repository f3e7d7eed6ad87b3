"""What everybody had lately: how many items are ahead of the one that came, at that moment."""

import numpy as np
from jaxtyping import Bool, Int

from siren_rope_jax.times import DAY, NO_TIME


def ahead_of_recent(
    users: Int[np.ndarray, " E"],
    items: Int[np.ndarray, " E"],
    times: Int[np.ndarray, " E"],
    rankable: Bool[np.ndarray, " E"],
    train_counts: Int[np.ndarray, " V"],
    evaluated: Int[np.ndarray, " N"],
    filter_seen: bool,
) -> Int[np.ndarray, " N"]:
    """How many other items rank no lower than each target by the events of the day before.

    Items are ranked by how many events of all users they have in the 24 hours before the target's
    time, that second excluded, then by how many in training. A target without a time has no such
    hours: popularity alone counts.

    Letters: E events of a log, N evaluated ones, V items that can be ranked.

    Args:
      users: of all events of a log, in global order.
      items: of all events.
      times: of all events, Unix seconds or `NO_TIME`.
      rankable: whether their items can be ranked; what is said of a target that cannot is void.
      train_counts: of the items that can be ranked, by id - 1.
      evaluated: global indices of the evaluated events.
      filter_seen: whether items that the user had before are left out.
    """
    # One number says an item's place: events of the day, then popularity, in which many are equal.
    _, popularity = np.unique(train_counts, return_inverse=True)
    place = popularity.astype(np.int64)
    one_event = len(train_counts) + 1
    counted = np.flatnonzero(rankable & (times != NO_TIME))
    counted = counted[np.argsort(times[counted], kind="stable")]
    moments, item = times[counted], items[counted] - 1
    starts = np.searchsorted(users, users[evaluated])
    ahead = np.zeros(len(evaluated), np.int64)
    come = gone = 0  # counted[gone:come] are the events of the day
    for n in np.argsort(times[evaluated], kind="stable"):
        event = evaluated[n]
        if not rankable[event]:
            continue
        if times[event] != NO_TIME:
            until = int(np.searchsorted(moments, times[event]))
            since = int(np.searchsorted(moments, times[event] - DAY))
            np.add.at(place, item[come:until], one_event)
            np.subtract.at(place, item[gone:since], one_event)
            come, gone = until, since
        of_day = place if times[event] != NO_TIME else popularity
        own = of_day[items[event] - 1]
        ahead[n] = np.count_nonzero(of_day >= own) - 1
        if filter_seen:
            before = slice(starts[n], event)
            seen = np.unique(items[before][rankable[before]]) - 1
            ahead[n] -= np.count_nonzero(of_day[seen] >= own)
    return ahead
