"""KuaiRand: short videos of the Kuaishou app (April and May 2022), with many kinds of feedback.

    siren-rope prepare --config=configs/data/kuairand.py \
        --input='KuaiRand-Pure/data/log_standard_*.csv' --output=runs/data/kuairand

The columns are the official ones (https://kuairand.com): user_id, video_id, date, hourmin, time_ms,
is_click, is_like, is_follow, is_comment, is_forward, is_hate, long_view, play_time_ms, duration_ms,
profile_stay_time, comment_stay_time, is_profile_enter, is_rand, tab. The quotes around the
glob matter: both halves of the standard log are read, in the order of their names.

The tasks are four of the log's own signals, and `contribution`: any of like, follow, comment and
forward. The actions add how long the video was played and whether it was disliked. Local time is
China's.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="kuairand",
        user="user_id",
        item="video_id",
        time="time_ms",
        time_unit="ms",
        time_zone="Asia/Shanghai",
        categorical={"tab": "tab"},
        dense={"log_duration": "ln(1 + duration_ms / 1000.0)"},
        actions={
            "log_play_time": "ln(1 + play_time_ms / 1000.0)",
            "is_hate": "is_hate",
        },
        tasks={
            "is_click": "is_click",
            "is_like": "is_like",
            "is_follow": "is_follow",
            "long_view": "long_view",
            "contribution": "is_like = 1 OR is_follow = 1 OR is_comment = 1 OR is_forward = 1",
        },
        min_count=5,
        source="KuaiRand, C. Gao et al., doi:10.1145/3511808.3557624",
        license="CC BY-SA 4.0",
    )
