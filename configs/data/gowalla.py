"""Gowalla check-ins all over the world (2009 and 2010): which place is next?

    siren-rope prepare --config=configs/data/gowalla.py \
        --download --output=runs/data/gowalla

downloads https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz (100 MB, 6.4 million
check-ins of 107,000 users at 1.3 million places); --input names one that is there already. Lines
are `user time latitude longitude place`, with tabs and no header, each user's newest first. They
are sorted by time, but a user's check-ins of one second keep the order of the file.

Times are UTC. Local time is that of the 15 degrees of longitude around the user's previous
check-in, so that the local time of a request does not reveal where the next place is. The user's
first check-in, which is never a target, has its own.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="gowalla",
        user="user_id",
        item="place",
        time="checked_in",
        time_unit="iso",
        derived={
            # Clipped, so that no wrong longitude results in an offset of more than a day.
            "hours_east": "round(greatest(-180, least(180, longitude)) / 15)",
            "hours_before": "lag(hours_east) OVER (PARTITION BY user_id ORDER BY time_ns, row)",
        },
        utc_offset="3600 * coalesce(hours_before, hours_east)",
        formats={
            "snap": {
                "pattern": "*.txt",
                "delimiter": "\t",
                "columns": ("user_id", "checked_in", "latitude", "longitude", "place"),
            }
        },
        min_count=1,
        download={
            "url": "https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz",
            # Not stated by the publisher, but by the catalogue of the DataRec library.
            "checksum": "md5:8ebd5ed2dd376d8982987c49429cb9f9",
        },
        source="Gowalla, E. Cho et al., doi:10.1145/2020408.2020579; SNAP",
        license="not stated by the publisher, who asks for citation",
    )
