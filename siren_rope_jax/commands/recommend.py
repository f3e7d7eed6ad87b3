r"""Recommends items to users at a given time with a trained retrieval run.

    siren-rope recommend --workdir=RUN --time=WHEN --output=FILE [--events=FILE] \
        [--candidates=FILE] [--k=10] [--filter_seen]

Files are of any kind that `prepare` reads, with the columns of the raw log that the run was trained
on (with --columns=prepared, CSV or Parquet). --events are those that happened after the log ended
(--items says of their items what the log's own file of items said); the lists are for their users,
or with --everybody for all users of the log as well. --candidates name the items that may be
recommended; all if not given.
Output, CSV or Parquet: user, rank, item, score. A line on stderr says how many candidates the model
does not know, and how many users are left out as they have no history, if there are any.
"""

import pandas as pd
from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.commands.requests import about_flags, check_output, read_events, request_second
from siren_rope_jax.inference.arguments import check_kind
from siren_rope_jax.inference.encoded import batches_of_users
from siren_rope_jax.inference.files import read_table, require, write_table
from siren_rope_jax.inference.unknown import say_unknown
from siren_rope_jax.training.trained import TrainedRun

_FLAGS = cli.new_flags()
_WORKDIR, _LOG, _EVENTS, _ITEMS, _COLUMNS, _TIME, _UTC_OFFSET, _OUTPUT = cli.request_flags(_FLAGS)
_CANDIDATES = flags.DEFINE_string(
    "candidates", None, "Items that may be recommended, in the log's column.", flag_values=_FLAGS
)
_EVERYBODY = flags.DEFINE_bool(
    "everybody", False, "For all users of the log, not only those of --events.", flag_values=_FLAGS
)
_K = flags.DEFINE_integer("k", 10, "Items for each user.", flag_values=_FLAGS)
_FILTER_SEEN = flags.DEFINE_bool(
    "filter_seen",
    None,
    "Whether to leave out items that the user has had; by default as in the run's config.",
    flag_values=_FLAGS,
)


def main() -> None:
    """Recommends what the flags describe."""
    if _TIME.value is None:
        raise UserError("--time", "is missing: when are the lists requested?")
    check_output(_OUTPUT.value, _EVENTS, _CANDIDATES, _ITEMS)
    run = TrainedRun.open(_WORKDIR.value, _LOG.value)
    check_kind(run, "retrieval", "score")
    time = request_second(run, _TIME.value)
    events = candidates = items = None
    users = run.log.users().to_pylist() if _EVERYBODY.value else []
    if _EVENTS.value:
        events = read_events(run, _EVENTS.value, _COLUMNS.value, _ITEMS.value)
        users = list(dict.fromkeys([*users, *events["user"]]))
    elif _ITEMS.value is not None:
        raise UserError("--items", "says something of the items of --events, which is missing")
    if not users:
        raise UserError("--events", "is missing; for all users of the log, pass --everybody")
    if _CANDIDATES.value:
        candidates = read_table(run.log, _CANDIDATES.value, _COLUMNS.value, "items")
        require(candidates, "item", "--candidates")
        right = "without a column for users: what it names may be recommended to all of them"
        check("user" not in candidates, "--candidates", right)
        items = candidates["item"]
    tables, with_history = [], 0
    for encoded in batches_of_users(run, users, events, before=time, missing="skip"):
        with_history += len(encoded.users)
        options = {"utc_offset": _UTC_OFFSET.value, "filter_seen": _FILTER_SEEN.value}
        tables.append(encoded.recommend(time, _K.value, items=items, **options))
    lists = pd.concat(tables, ignore_index=True)
    if not len(lists):
        about = "none of the users has an event before it, or none of the items is left for them"
        raise UserError("--time", f"{_TIME.value}: {about}")
    write_table(lists, _OUTPUT.value)
    say_unknown(run.log, candidates, len(users), len(users) - with_history)
    print(f"wrote {_OUTPUT.value}: lists for {lists['user'].nunique():,} of {len(users):,} users")


def run() -> None:
    """Runs the command."""
    cli.run(about_flags()(main), _FLAGS)
