"""Times are integers, Unix seconds UTC: their units and their range."""

import datetime
from collections.abc import Iterable
from zoneinfo import ZoneInfo

import numpy as np

HOUR = 3_600  # seconds
DAY = 24 * HOUR
WEEK = 7 * DAY

NO_TIME = int(np.iinfo(np.int64).min)
"""The time of an event that has none."""
MIN_TIME = int(datetime.datetime(1902, 1, 1, tzinfo=datetime.UTC).timestamp())
"""The first one that is understood."""
MAX_TIME = int(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC).timestamp())
"""The first one that is not."""
MAX_UTC_OFFSET = 18 * HOUR
"""The most that local time may be from UTC, either way, in seconds."""


def utc_offsets(time_zone: str, times: Iterable[int]) -> list[int]:
    """Local time minus UTC in seconds at each time (Unix seconds), summer time included.

    Args:
      time_zone: as the IANA database names it.
      times: none of them absent.
    """
    zone = ZoneInfo(time_zone)
    utc = (datetime.datetime.fromtimestamp(int(time), datetime.UTC) for time in times)
    offsets = (time.astimezone(zone).utcoffset() for time in utc)
    return [int(offset.total_seconds()) for offset in offsets if offset is not None]
