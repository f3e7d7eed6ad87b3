r"""Lets trained models go on learning in the time after their training, slice by slice.

    siren-rope stream --workdir=DIR [--every=1] [--ages=1,6,24] [--passes=1] [--learning_rate=0] \
        [--most=0]

DIR is a run, or holds several, as an ablation's directory does. From the end of training on, every
model is asked about the events of a slice and then trained on them once; slices of the validation
split are learned without being counted. Earlier states of the model are asked about the same
events: how much does a model lose by standing still? Every run gets a folder `stream` with its
predictions and metrics; DIR/staleness.md and its pictures compare all of them with each other and
with simple baselines. Runs that were streamed so before are not streamed again.
"""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError

with cli.needs("plots"):
    from siren_rope_jax.studies.staleness import Streams, write_staleness
    from siren_rope_jax.studies.stream import StreamConfig
    from siren_rope_jax.studies.streamed import is_streamed, stream_run

_FLAGS = cli.new_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "A run, or a directory of runs.", required=True, flag_values=_FLAGS
)
_EVERY = flags.DEFINE_float("every", 1.0, "Hours of a slice.", 1 / 3600, flag_values=_FLAGS)
_AGES = flags.DEFINE_list(
    "ages",
    [],
    "Earlier states to ask, in slices: 3 is that of three slices ago.",
    flag_values=_FLAGS,
)
_PASSES = flags.DEFINE_integer("passes", 1, "Over the events of a slice.", 1, flag_values=_FLAGS)
_RATE = flags.DEFINE_float(
    "learning_rate", 0.0, "Constant; 0: the peak of the run's training.", 0.0, flag_values=_FLAGS
)
_MOST = flags.DEFINE_integer(
    "most", 0, "Slices that count; 0: all of the test split.", 0, flag_values=_FLAGS
)


def main() -> None:
    """Runs what the flags describe."""
    workdir = Path(_WORKDIR.value)
    found = sorted(path.parent for path in workdir.glob("**/config.json"))
    runs = [run for run in found if any(run.glob("checkpoints/[0-9]*"))]
    for run in (run for run in found if run not in runs):
        print(f"{run}: has no checkpoint and is left out", file=sys.stderr)
    if not runs:
        raise UserError(workdir, "is no run and holds none; train first")
    with _named_as_flags():
        ages = tuple(cli.whole_number(text, "--ages") for text in _AGES.value)
        every = round(_EVERY.value * 3600)
        config = StreamConfig(every, ages, _PASSES.value, _RATE.value, _MOST.value)
        for number, run in enumerate(runs, start=1):
            done = is_streamed(run, config)
            if not done:
                stream_run(run, config)
            told = "was streamed before" if done else "is streamed"
            print(f"[{number}/{len(runs)}] {run}: {told}", file=sys.stderr)
    for path in (written := write_staleness(Streams.below(runs), workdir)):
        print(f"wrote {path}", file=sys.stderr)
    print(written[0].read_text(encoding="utf-8"))


@contextmanager
def _named_as_flags() -> Iterator[None]:
    """Errors about a key of the config are about the flag of that name."""
    try:
        yield
    except UserError as error:
        named = {field.name for field in dataclasses.fields(StreamConfig)}
        if error.about in named:
            raise UserError(f"--{error.about}", error.problem) from error
        raise


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS)
