"""Foursquare check-ins in New York City (April 2012 to February 2013): which venue is next?

    siren-rope prepare --config=configs/data/foursquare_nyc.py \
        --input=$SIREN_ROPE_DATA/foursquare_nyc/NYC.npy --output=runs/data/foursquare_nyc

147,938 check-ins of 1,083 users at 5,135 venues take two seconds. The file is in the repository
yingtaoluo/Spatial-Temporal-Attention-Network-for-POI-Recommendation on GitHub and was made from
dataset_TSMC2014_NYC by removing venues with few check-ins: int32 [user, venue, minute], not sorted.
The publisher of the original offers no direct link to it.

Minutes count from 2012-04-03 18:00 UTC, which the source does not state, but which agrees with the
original. Local time is New York's: UTC-4 until 4 November, when daylight saving time ended, then
UTC-5. Validation and test are later than that, so with UTC-4 throughout (--config.time_zone='' and
--config.utc_offset='-4 * 3600') their hours of the day would be one too late. Two rows of the same
user, venue and minute (there are 458) may be two check-ins, so both are kept.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="foursquare_nyc",
        user="user",
        item="venue",
        time="minute",
        time_unit="min",
        time_origin="2012-04-03T18:00:00",
        drop_duplicates=False,
        time_zone="America/New_York",
        formats={"npy": {"pattern": "*.npy", "columns": ("user", "venue", "minute")}},
        min_count=1,
        source="Foursquare NYC, D. Yang et al., doi:10.1109/TSMC.2014.2327053",
        license="not stated by the publisher, who asks for citation",
    )
