"""What `score` and `recommend` share: their files, the time of the request, and messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from absl import flags

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.inference.files import FORMATS, Columns, moment, read_table, require
from siren_rope_jax.prepare.config import to_iso
from siren_rope_jax.training.trained import TrainedRun

_FLAG_OF = {
    "users": "--events",
    "request_time": "--time",
    "before": "--time",
    "items": "--candidates",
    "run": "--workdir",
    **{name: f"--{name}" for name in ("events", "candidates", "utc_offset", "k", "filter_seen")},
}
"""Arguments of functions, and the flags from which they come."""


@contextmanager
def about_flags() -> Iterator[None]:
    """Errors about an argument become errors about the flag that it comes from."""
    try:
        yield
    except UserError as error:
        if error.about not in _FLAG_OF:
            raise
        raise UserError(_FLAG_OF[error.about], error.problem) from error


def check_output(output: str, *inputs: flags.FlagHolder[str | None]) -> None:
    """Refuses a file that cannot be written, or is read, before anything is computed.

    Args:
      output: the file.
      inputs: flags of files that are read.
    """
    path = Path(output)
    right = f"a file whose name ends in {', '.join(FORMATS)}, not {path.name!r}"
    check(path.suffix.lower() in FORMATS, "--output", right)
    check(path.parent.is_dir(), "--output", f"in a folder that exists, not {str(path.parent)!r}")
    for flag in inputs:
        if flag.value is not None and Path(flag.value).resolve() == path.resolve():
            raise UserError("--output", f"is the file of --{flag.name}, which would be lost")


def read_events(run: TrainedRun, path: str, columns: Columns, items: str | None) -> pd.DataFrame:
    """The events of --events."""
    events = read_table(run.log, path, columns, "events", items=items)
    require(events, "user", "--events")
    return events


def request_second(run: TrainedRun, text: str) -> int:
    """The time of --time, Unix seconds; refused if it is before the log's first event."""
    second, schema = moment(text, run.log.schema.time_zone), run.log.schema
    if second < schema.train_start:
        begin = to_iso(schema.train_start)
        problem = f"{text} is {to_iso(second)}, and the log begins at {begin} (UTC)"
        raise UserError("--time", f"{problem}; pass a later time, in seconds if it is a number")
    return second
