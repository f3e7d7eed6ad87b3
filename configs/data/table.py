"""Any log: a table of events whose every column is named on the command line.

    siren-rope prepare --config=configs/data/table.py \
        --input=clicks.csv.gz --output=runs/data/clicks \
        --config.name=clicks --config.user=uid --config.item=article --config.time=at \
        --config.time_unit=iso --config.tasks='like=liked;read=seconds >= 30' \
        --config.actions='seconds=ln(1 + seconds)' --config.categorical='device=device'

for a file such as

    uid,article,at,liked,seconds,device
    ann,a17,2024-05-01T08:00:00Z,1,42,phone

User, item and time are columns, or SQL over columns. Everything else is SQL over the columns of the
log, `user`, `item`, `time` (Unix seconds), `time_ns` (the full time) and `row`, written as
`name=expression` with `;` in between:

    tasks        what to predict: true/false or 1/0, NULL if there is no label
    actions      what else the user did, known only after the event; NULL if unknown
    categorical  features of the event, besides the item
    dense        real-valued features of the event: nothing that happens after it
    context      real-valued features of the request
    derived      steps for use in the others, such as window functions; order by `time_ns, row`
    utc_offset   one expression: local time minus UTC, in seconds, known before the item is

A second file, --items=articles.csv, may have one row for each item; its columns can be used as if
they were the log's. A categorical feature may be a list, as in `genres=string_split(genres, '|')`.

If all users live in one time zone, use --config.time_zone=America/New_York instead of the last.

A UTC offset is part of the request, as its time is. If it were that of the item's own place, it
would tell a model where the next item is; use that of the user's previous event:

    --config.derived='before=lag(zone) OVER (PARTITION BY user ORDER BY time_ns, row)' \
    --config.utc_offset='3600 * coalesce(before, zone)'

for a log with a column `zone`, hours east of UTC (configs/data/gowalla.py derives them from
longitudes). A zone that depends on the user alone needs no such care.

time_unit is s, ms, us, ns, min, h, day, or iso (dates as text, or Parquet timestamps); for a day
and a clock in two columns,

    --config.time_unit=iso --config.time="strptime(day || ' ' || clock, '%d/%m/%Y %H:%M')"

Events of one time keep their order in the file unless --config.tie_breaker names a column. The file
is text (with commas, or tabs if it is *.tsv), Parquet, JSON lines (*.jsonl, *.ndjson, *.json) or an
array of integers (*.npy); text and JSON may be gzipped. docs/prepare.md says what becomes of every
kind of value. Other text is read with

    --config.formats.any.delimiter='|'  --config.formats.any.columns="('uid', 'article', 'at')"
    --config.formats.any.quote=''       quotation marks are part of the text

where `columns` names the columns of an array or of a file without a header, and the keys to read
from JSON. Without tasks, the log is for retrieval: which item is next? For that also consider

    --config.min_count=1                     the catalogue is every item in train
    --config.split.kind=leave_one_out        test is each user's last event, not the last weeks
    --config.core=5                          only users and items with five events or more

All other keys are described in siren_rope_jax/prepare/config.py.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(name="table")
