r"""Scores candidates for users with a trained ranking run: the prediction of every task.

    siren-rope score --workdir=RUN --candidates=FILE --output=FILE [--events=FILE] \
        [--time=WHEN]

Files are of any kind that `prepare` reads, with the columns of the raw log that the run was trained
on (with --columns=prepared, CSV or Parquet); candidates need no labels. If they have a column for
the time, that is each one's request, unless --time is given. A request cannot come before the last
event of its user; with --time, the later events are left out. --events are those that happened
after the log ended; --items says of all items what the log's own file of items said. A candidate
with a user is scored for that user. If the file names no users, all candidates are scored for every
user of --events.

Output, CSV or Parquet: the candidates in their order, with one more column for each task: the
probability of a binary one, the mean of an ordinal one's values by their probabilities (which an
evaluation writes to predictions.parquet), the number that is expected of a real-valued one. A line
on stderr says how many candidates have items that the model does not know, and how many users have
no history, if there are any.
"""

import pandas as pd
from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.commands.requests import about_flags, check_output, read_events, request_second
from siren_rope_jax.inference.arguments import check_kind
from siren_rope_jax.inference.encoded import batches_of_users
from siren_rope_jax.inference.files import read_table, write_table
from siren_rope_jax.inference.unknown import say_unknown
from siren_rope_jax.training.trained import TrainedRun

_FLAGS = cli.new_flags()
_WORKDIR, _LOG, _EVENTS, _ITEMS, _COLUMNS, _TIME, _UTC_OFFSET, _OUTPUT = cli.request_flags(_FLAGS)
_CANDIDATES = flags.DEFINE_string(
    "candidates", None, "The candidates.", required=True, flag_values=_FLAGS
)


def main() -> None:
    """Scores what the flags describe."""
    check_output(_OUTPUT.value, _EVENTS, _CANDIDATES, _ITEMS)
    run = TrainedRun.open(_WORKDIR.value, _LOG.value)
    check_kind(run, "ranking", "recommend")
    time = None if _TIME.value is None else request_second(run, _TIME.value)
    events = None
    if _EVENTS.value:
        events = read_events(run, _EVENTS.value, _COLUMNS.value, _ITEMS.value)
    candidates = read_table(
        run.log, _CANDIDATES.value, _COLUMNS.value, "candidates", time, _ITEMS.value
    )
    asked = candidates if (by_user := "user" in candidates) else events
    if asked is None:
        raise UserError("--candidates", "has no column for users; add it, or pass --events of some")
    if "time" not in candidates:
        raise UserError("--time", "is missing, and the candidates have no column for their times")
    users, tables, without_history = asked["user"].unique(), [], 0
    for encoded in batches_of_users(run, users, events, before=time, missing="raise"):
        without_history += sum(not len(history) for history in encoded.cache.histories)
        own = candidates
        if by_user:
            own = candidates[candidates["user"].isin(encoded.users)]
        tables.append(encoded.score(own, utc_offset=_UTC_OFFSET.value))
    scores = pd.concat(tables)
    if by_user:
        scores = scores.sort_index(kind="stable")
    write_table(scores, _OUTPUT.value)
    say_unknown(run.log, candidates, len(users), without_history)
    print(f"wrote {_OUTPUT.value}: {len(scores):,} scores of {len(users):,} users")


def run() -> None:
    """Runs the command."""
    cli.run(about_flags()(main), _FLAGS)
