"""How a log may be split into train, validation and test: what tables and reports call it."""

from typing import NamedTuple


class Wording(NamedTuple):
    """What a protocol is called in tables, and what it means."""

    name: str
    meaning: str


PROTOCOLS = {
    "time": Wording(
        "one global time split",
        "A model is trained on the events before the first date, stopped early on those between "
        "the two, and tested on the rest; every earlier event of the user is history.",
    ),
    "leave_one_out": Wording(
        "leave-one-out",
        "Of every user the last event is tested, the one before stops the training early, and the "
        "rest is trained on; every earlier event of the user is history. Users with fewer than "
        "three events are trained on alone. Training events of other users may be later than a "
        "tested one.",
    ),
}
"""By `Schema.protocol`."""
