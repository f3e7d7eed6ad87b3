"""The files of a stream, in the folder `stream` of its run: what every state of the model said.

stream.json      how it was streamed, its metrics by state, and in periods
STATE.parquet    the predictions of a state, as predictions.parquet has them: `0` is the model
that has learned all slices before, `3` the one of three slices ago, `frozen`
the one that was trained, `recent` and the like are simple baselines
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.base.times import HOUR
from siren_rope_jax.base.version import __version__
from siren_rope_jax.evaluation.baselines.families import FAMILIES
from siren_rope_jax.evaluation.evaluate import write_predictions
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.studies.stream import FROZEN, StreamConfig, stream
from siren_rope_jax.training.checkpoint import Checkpoints
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.workdir import run_digest

FOLDER = "stream"
RESULT = "stream.json"


def is_streamed(workdir: Path, config: StreamConfig) -> bool:
    """Whether a run, as it is trained by now, was streamed so by this version."""
    path = workdir / FOLDER / RESULT
    if not path.is_file():
        return False
    found = read_json(path)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.progress().best_step
    streamed = {"stream": to_dict(config), "version": __version__, "step": step}
    streamed["run"] = run_digest(workdir)
    return {key: found.get(key) for key in streamed} == streamed


def stream_run(workdir: Path, config: StreamConfig) -> dict[str, Any]:
    """Streams a run and writes the files; returns the content of stream.json.

    Raises:
      UserError: as `stream`, the training has not ended, or no event of the test split was asked
        about.
    """
    began, run = time.monotonic(), TrainedRun.open(workdir, calibrated=False)
    if not run.progress.ended:
        raise UserError(
            workdir, "its training was interrupted; let the command that began it go on"
        )
    kind, schema = run.setup.kind, run.log.schema
    counted_span = config.most * config.every or schema.end + 1 - schema.validation_end
    span = schema.validation_end - schema.train_end + counted_span
    slices = list(
        tqdm(
            stream(run, config),
            desc=run.config.variant,
            unit="slice",
            total=-(-span // config.every),
            disable=None,
            leave=False,
        )
    )
    counted = [s for s in slices if s.scored]
    if not counted:
        raise UserError(workdir, "no event of the test split could be asked about")
    log, folder = run.log.with_all_values(), workdir / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)  # it must never stand beside other predictions
    states = {
        name: Evaluated.of(log, _joined([s.scored[name] for s in counted]))
        for name in counted[0].scored
    }
    some = next(iter(states.values()))
    simple = FAMILIES[kind.baselines].predict(some, to_dict(run.config))
    baselines = {name: Evaluated.of(log, scored) for name, scored in simple.items()}
    periods = _periods(counted, some.events.event, config.every)
    for name, evaluated in (states | baselines).items():
        write_predictions(folder / f"{name}.parquet", evaluated, kind)

    def of_period(rows: np.ndarray) -> dict[str, Any]:
        return {
            name: kind.measure_slice(log.schema, *evaluated.only(rows))
            for name, evaluated in (states | baselines).items()
        }

    def metrics(of: Mapping[str, Evaluated]) -> dict[str, Any]:
        return {n: kind.measure(log.schema, e.events, e.scored) for n, e in of.items()}

    outcome = {
        "variant": run.config.variant,
        "dataset": schema.name,
        "seed": run.config.seed,
        "version": __version__,
        "run": run_digest(workdir),
        "step": run.step,
        "stream": to_dict(config),
        "fingerprint": run.log.fingerprint,
        "events": len(some.events.event),
        "seconds": round(time.monotonic() - began, 1),
        "steps": sum(s.steps for s in slices),
        "states": metrics(states),
        "baselines": metrics(baselines),
        "periods": [{"begin": begin, "states": of_period(r)} for begin, r in periods.items()],
        "config": to_dict(run.config),
    }
    write_json(folder / RESULT, outcome)
    return outcome


def _periods(slices: list[Any], event: np.ndarray, every: int) -> dict[int, np.ndarray]:
    """Every six hours, or longer slices: their begin, and which of the sorted events they have."""
    asked = np.concatenate([s.scored[FROZEN].event for s in slices])
    begin = np.repeat([s.begin for s in slices], [len(s.scored[FROZEN].event) for s in slices])
    length = max(every, 6 * HOUR)
    begin = (begin - slices[0].begin) // length * length + slices[0].begin
    begin = begin[np.argsort(asked)]
    assert len(begin) == len(event)
    return {int(b): np.flatnonzero(begin == b) for b in np.unique(begin)}


def _joined(parts: list[Any]) -> Any:
    """The scores of all slices, as those of one split."""
    return type(parts[0])(*(np.concatenate(column) for column in zip(*parts, strict=True)))
