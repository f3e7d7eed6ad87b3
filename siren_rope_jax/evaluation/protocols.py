"""How tables and reports describe the ways of splitting a log into train, validation and test."""

from typing import NamedTuple


class Wording(NamedTuple):
    """The name of a protocol in tables, and its description."""

    name: str
    meaning: str


PROTOCOLS = {
    "time": Wording(
        "one global time split",
        "Events before the first date are for training, those between the two dates for "
        "validation, and the rest for testing; the history holds all earlier events of the user.",
    ),
    "leave_one_out": Wording(
        "leave-one-out",
        "The last event of every user is for testing, the one before for validation, and the rest "
        "for training; the history holds all earlier events of the user. Users with fewer than "
        "three events are only for training. Training events of other users may be later than a "
        "test event.",
    ),
    "by_user": Wording(
        "split by user",
        "All events of a user are for training, for validation or for testing.",
    ),
}
"""By `Schema.protocol`."""
