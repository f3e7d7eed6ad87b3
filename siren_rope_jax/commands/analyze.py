"""Shows what the rotation of a trained run learned about time.

    siren-rope analyze --workdir=DIR [--attention=trunk|last] [--log=DIR]

Writes analysis.json and plots/rotation.png into DIR: the angles over a week, which hours they tell
apart, the periods they follow, and how far they are from depending on time differences alone.

A retriever with model.repeat has a last attention that names items of the history again and has its
own rotation. That rotation is shown unless --attention says otherwise, and there are two more
pictures of the past events that the attention chooses and of those to which the users returned:
plots/attended_hours.png by the hours of the request and of the event, plots/attended_lags.png by
the hours between them. If --attention is not the default, the files are analysis_ATTENTION.json and
plots/rotation_ATTENTION.png.

Of a model that is turned by other integers than times, such as the columns of tokens, it shows how
alike any two of them are to the rotation instead.

Of a retriever that knows the time of the request, it also prints what that is worth: how much the
metric changes if every request of the validation split came some hours later.

A --log is noted in config.json, so you need to give it only once.
"""

from pathlib import Path
from typing import cast, get_args

import numpy as np
from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.files import write_json
from siren_rope_jax.rotation.names import words
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.workdir import note_log

with cli.needs("plots"):
    from siren_rope_jax.studies.analysis import BLANK, Attention, analyze, default_attention, draw
    from siren_rope_jax.studies.asked_later import TRUE, asked_later, knows_request_time
    from siren_rope_jax.studies.attended_hours import attended_hours, draw_attended_hours
    from siren_rope_jax.studies.attended_lags import attended_lags, draw_attended_lags
    from siren_rope_jax.studies.count_kernels import count_kernels, draw_kernels, uses_counts
    from siren_rope_jax.studies.tables import interval

_FLAGS = cli.new_flags()
_WORKDIR, _LOG = cli.run_flags(_FLAGS)
_ATTENTION = flags.DEFINE_enum(
    "attention",
    None,
    get_args(Attention),
    "Whose rotation; see above for the default.",
    flag_values=_FLAGS,
)


def main() -> None:
    """Runs what the flags describe."""
    workdir = Path(_WORKDIR.value)
    if _LOG.value:
        note_log(workdir, _LOG.value)
    run = TrainedRun.open(workdir)
    if uses_counts(run):
        _counts(run, workdir)
        return
    analysis = analyze(run, cast(Attention | None, _ATTENTION.value))
    numbers = analysis.numbers()
    plots = workdir / "plots"
    of_last = ", last attention" if analysis.attention == "last" else ""
    title = f"{run.log.schema.name}: rotation of {words(run.config.variant)}{of_last}, seed"
    other = "" if analysis.attention == default_attention(run) else f"_{analysis.attention}"
    print(draw(plots / f"rotation{other}.png", analysis, f"{title} {run.config.seed}"))
    if not analysis.sees_time:
        print(BLANK.replace("\n", " "))
    for entry in numbers["spectrum"]:
        print(f"period {entry['hours']:7.1f} h: {entry['share']:.1%} of the angles' variance")
    for entry in numbers["departure"]:
        shift, change = entry["shift_hours"], entry["change"]
        print(f"all times shifted by {shift:3d} h: cos changes by {change:.3f}")
    if analysis.attention == "last" and run.setup.kind.name == "retrieval":
        numbers["attended_hours"] = _attended_hours(run, plots / "attended_hours.png")
        _attended_lags(run, plots / "attended_lags.png")
    if knows_request_time(run):
        numbers["asked_later"] = _asked_later(run)
    write_json(workdir / f"analysis{other}.json", numbers)


def _counts(run: TrainedRun, workdir: Path) -> None:
    """Draws and prints how alike the values of each count are; writes analysis.json."""
    kernels = count_kernels(run)
    of = f"{run.log.schema.name}: rotation of {words(run.config.variant)}"
    print(
        draw_kernels(workdir / "plots" / "rotation.png", kernels, f"{of}, seed {run.config.seed}")
    )
    for name, kernel in kernels.items():
        near = ", ".join(f"{d}: {np.diagonal(kernel, d).mean():.2f}" for d in (1, 2, 4, 8)
                         if d < len(kernel))  # fmt: skip
        print(f"{name}: mean cos at distance {near}")
    write_json(workdir / "analysis.json", {name: k.tolist() for name, k in kernels.items()})


def _asked_later(run: TrainedRun) -> dict[str, object]:
    """Prints what the true time of the requests is worth; returns the numbers."""
    found = asked_later(run)
    label = run.setup.kind.metrics[run.setup.kind.primary].label
    for when, of in found.items():
        change = "" if when == TRUE else " more"
        print(f"validation requests {when}: {label}{change} {interval(of._asdict())}")
    return {when: of._asdict() for when, of in found.items()}


def _attended_hours(run: TrainedRun, path: Path) -> dict[str, object]:
    """Draws and prints where the last attention goes; returns the numbers."""
    hours = attended_hours(run)
    rows = {"the users' returns": hours.users, words(run.config.variant): hours.model}
    print(draw_attended_hours(path, rows, _chosen(run), run.log.schema.has_utc_offset))
    for name, sums in rows.items():
        for pairs, (share, even) in sums.shares().items():
            print(f"{name}: {share:.1%} on {pairs} (of all past events: {even:.1%})")
    return hours.numbers()


def _attended_lags(run: TrainedRun, path: Path) -> None:
    """Draws how long before a request the chosen events are."""
    lags = attended_lags(run)
    rows = {"the users' returns": lags.users, run.config.variant: lags.model}
    print(draw_attended_lags(path, rows, _chosen(run)))


def _chosen(run: TrainedRun) -> str:
    """The title of both pictures."""
    what = "which past events are chosen, validation split"
    return f"{run.log.schema.name}: {what}, seed {run.config.seed}"


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS)
