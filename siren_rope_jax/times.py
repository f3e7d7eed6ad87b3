"""Times are integers, Unix seconds UTC: their units and their range."""

import datetime

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
