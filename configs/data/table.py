"""Any log: a table of events whose every column is named on the command line.

    python experiments/prepare.py --config=configs/data/table.py \
        --input=clicks.csv.gz --output=runs/data/clicks \
        --config.name=clicks --config.user=uid --config.item=article --config.time=at \
        --config.time_unit=iso --config.tasks='like=liked;read=seconds >= 30' \
        --config.actions='seconds=ln(1 + seconds)' --config.categorical='device=device'

for a file such as

    uid,article,at,liked,seconds,device
    ann,a17,2024-05-01T08:00:00Z,1,42,phone

User, item and time are columns; all else is SQL over the log's columns, `user`, `item`, `time`
(Unix seconds) and `row`, as `name=expression`, more of them with `;` between:

    tasks        what to predict: true/false or 1/0, NULL where there is no label
    actions      what the user did besides, known only after the event, NULL where unknown
    categorical  features of the event, besides the item
    dense        real-valued features of the event: nothing that happens after it
    context      real-valued features of the request
    derived      steps for use in the others; window functions are fine, break their ties by `row`
    utc_offset   one expression: local time minus UTC, in seconds, known before the item is

Where one time zone fits all users, --config.time_zone=America/New_York takes the place of the last.

A UTC offset is part of the request, as its time is. Taken from the item's own place it would tell a
model where the next item lies; take that of the user's event before:

    --config.derived='before=lag(zone) OVER (PARTITION BY user ORDER BY time, row)' \
    --config.utc_offset='3600 * coalesce(before, zone)'

for a log with a column `zone`, hours east of UTC (configs/data/gowalla.py finds them from
longitudes). A zone that belongs to the user alone needs no such care.

time_unit is s, ms, us, ns, min, h, day, or iso (dates as text, or Parquet timestamps). The file is
text (comma; tab for *.tsv), Parquet, JSON lines (*.jsonl) or an array of integers (*.npy), lines
gzipped or not; other text is read with

    --config.formats.any.delimiter='|'  --config.formats.any.columns="('uid', 'article', 'at')"

where `columns` names the columns of a file without a header and of an array, and the keys to take
of JSON. Without tasks the log is one of items alone, for retrieval: which is next? For that also

    --config.min_count=1                     every item that train has seen can be found
    --config.split.kind=leave_one_out        each user's last event is test, not the last weeks
    --config.core=5                          users and items with five events or more

Every other key is described in `siren_rope_jax/prepare/config.py`.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import EXPRESSION_GROUPS, config_dict


def get_config() -> ConfigDict:
    """Returns the config of `experiments/prepare.py`."""
    return config_dict(
        name="table", user="", item="", time="", **dict.fromkeys(EXPRESSION_GROUPS, "")
    )
