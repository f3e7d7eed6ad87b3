"""Times are integers, Unix seconds UTC: their units, their range and their calendar."""

import datetime
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

HOUR = 3_600  # seconds
DAY = 24 * HOUR
WEEK = 7 * DAY

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands for the time of an event that has none."""
MIN_TIME = int(datetime.datetime(1902, 1, 1, tzinfo=datetime.UTC).timestamp())
"""The earliest time that is supported."""
MAX_TIME = int(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC).timestamp())
"""The first time after those that are supported."""
MAX_UTC_OFFSET = 18 * HOUR
"""The largest difference between local time and UTC, in either direction, in seconds."""


def hour_of_day(local: Any) -> Any:
    """0..23 of local Unix seconds, an integer or an array of them."""
    return local // HOUR % 24


def hour_of_week(day: Any, second: Any) -> Any:
    """0..167, counted from Monday 00:00, of a local day since 1970 and the second of that day."""
    return (day + 3) % 7 * 24 + second // HOUR  # 1970-01-01 was a Thursday


def start_of_week(local: int) -> int:
    """The last Monday 00:00 that is not later than these local Unix seconds."""
    return local - (local + 3 * DAY) % WEEK


def utc_offsets(time_zone: str, times: Iterable[int]) -> list[int]:
    """Local time minus UTC in seconds at each time (Unix seconds), daylight saving time included.

    Args:
      time_zone: its name in the IANA database.
      times: Unix seconds; none of them may be `NO_TIME`.
    """
    zone = ZoneInfo(time_zone)
    utc = (datetime.datetime.fromtimestamp(int(time), datetime.UTC) for time in times)
    offsets = (time.astimezone(zone).utcoffset() for time in utc)
    return [int(offset.total_seconds()) for offset in offsets if offset is not None]
