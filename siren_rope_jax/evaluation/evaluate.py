"""From a trained model to files: predictions.parquet and result.json of a run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.files import (
    file_digest,
    name_for_split,
    read_json,
    replacing,
    write_json,
)
from siren_rope_jax.base.text import number
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.windows import Split
from siren_rope_jax.evaluation.advice import advice
from siren_rope_jax.evaluation.baselines.families import FAMILIES
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.evaluation.protocols import PROTOCOLS
from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.training.kinds import KINDS, kind_of_result
from siren_rope_jax.training.kinds.kind import Kind, titled
from siren_rope_jax.training.mirror import workdir_of
from siren_rope_jax.training.processes import is_main
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.workdir import epochs_before


def evaluate_run(
    workdir: str | Path,
    split: str = "test",
    calibrated: bool = True,
    lengths: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Scores a split with a run's best checkpoint; writes predictions.parquet and result.json.

    The run's directory may be in a store, named by its URL (`training/mirror.py`).

    For another split than "test" ("train" or "validation") they are predictions_<split>.parquet
    and result_<split>.json. Rows of each of `lengths`, by default those of `data.tested_lengths`,
    have predictions of their own. Returns what result.json holds; of several processes only the
    main one writes and returns it, the others return nothing ({}). Without `calibrated`, a
    calibration of the run (`calibrate`) is not used.

    Raises:
      UserError: there is no run or no checkpoint yet, a file of it is damaged, the files cannot be
        written, the split is unknown, or the model has parameters for every place of a row and so
        no other lengths.
    """
    if split not in get_args(Split):
        raise UserError("split", f"there is no {split!r}{suggestion(split, get_args(Split))}")
    with workdir_of(workdir) as folder:
        return _evaluate(folder, split, calibrated, lengths)


def _evaluate(
    workdir: Path, split: str, calibrated: bool, lengths: Sequence[int] | None
) -> dict[str, Any]:
    for name in ("result.json", "predictions.parquet"):
        if (path := workdir / name_for_split(name, split)).is_dir():
            raise UserError(path, "is a folder where a file belongs; remove it")
    run = TrainedRun.open(workdir, calibrated=calibrated)
    data = run.config.data
    if lengths is not None:
        data = dataclasses.replace(data, tested_lengths=tuple(lengths))
    others = {length: run.setup.at_length(length) for length in data.tested_lengths}
    scored = run.score(cast(Split, split))
    in_others = {  # on all processes, as long as others compute as well
        length: other.score(run.params, cast(Split, split)) for length, other in others.items()
    }
    if not is_main():
        return {}
    evaluated = Evaluated.of(run.log, scored)
    outcome = result(
        evaluated,
        to_dict(run.config),
        split=split,
        step=run.step,
        parameters=run.setup.parameters,
        train_seconds=run.progress.seconds,
        training_ended=run.progress.ended,
    )
    if before := epochs_before(workdir):
        outcome["epochs_before"] = before
    if run.calibration:
        outcome["calibration"] = {name: line._asdict() for name, line in run.calibration.items()}
    path = workdir / name_for_split("result.json", split)
    try:
        path.unlink(missing_ok=True)  # it must never stand beside another model's predictions
        written = workdir / name_for_split("predictions.parquet", split)
        write_predictions(written, evaluated, run.setup.kind)
        outcome["predictions"] = file_digest(written)
        if in_others:
            outcome["lengths"] = _write_lengths(run, workdir, split, in_others)
        write_json(path, outcome)
    except OSError as error:
        raise UserError(workdir, f"its results cannot be written: {error}") from error
    return outcome


def _write_lengths(
    run: TrainedRun, workdir: Path, split: str, scored: Mapping[int, Any]
) -> dict[str, Any]:
    """Writes predictions_LENGTH.parquet of rows of other lengths.

    Returns:
      length -> the kind's key of what was measured, and "predictions": the digest of the file.
    """
    kind, found = run.setup.kind, {}
    for length, scores in scored.items():
        evaluated = Evaluated.of(run.log, scores)
        written = workdir / name_for_split("predictions.parquet", split, length)
        write_predictions(written, evaluated, kind)
        measured = kind.measure(run.log.schema, evaluated.events, evaluated.scored)
        found[str(length)] = {kind.measured: measured, "predictions": file_digest(written)}
    return found


def predictions_path(workdir: Path, split: str = "test", length: int | None = None) -> Path:
    """The predictions of a run on a split, which are those that its result.json was written with.

    With a `length`, those of rows of that length. Results of earlier versions do not say which
    those are.

    Raises:
      UserError: they are missing, or were changed since.
    """
    path = workdir / name_for_split("predictions.parquet", split, length)
    result = workdir / name_for_split("result.json", split)
    if not path.is_file():
        raise UserError(path, "is missing; evaluate the run again")
    about = read_json(result) if result.is_file() else {}
    if length is not None:
        about = about.get("lengths", {}).get(str(length), {})
    expected = about.get("predictions")
    if expected not in (None, file_digest(path)):
        raise UserError(
            path, f"is not the file that {result.name} is about; evaluate the run again"
        )
    return path


def result(
    evaluated: Evaluated,
    config: Mapping[str, Any],
    *,
    split: str,
    step: int,
    parameters: int,
    train_seconds: float,
    training_ended: bool,
) -> dict[str, Any]:
    """Everything that is known of a run, as the JSON object of result.json.

    Hours and days in it are local if the log has UTC offsets ("has_utc_offset"). What is measured
    depends on the kind of experiment: see `training/kinds/`. Beside the model's metrics stand those
    of simple baselines on the same events ("baselines") and of groups of the events ("slices").

    `config` is that of the run, as JSON values. `train_seconds` is wall time, with compilation and
    without evaluation.

    Raises:
      ValueError: a score that is not a probability.
    """
    kind, schema = KINDS[config["kind"]], evaluated.log.schema
    simple = FAMILIES[kind.baselines].predict(evaluated, config)

    def measured(scored: Any) -> dict[str, Any]:
        return kind.measure(schema, evaluated.events, scored)

    return {
        "variant": config["variant"],
        "dataset": schema.name,
        "split": split,
        "protocol": schema.protocol,
        "seed": config["seed"],
        "step": step,
        "parameters": parameters,
        "events": len(evaluated.events.event),
        "train_seconds": train_seconds,
        "training_ended": training_ended,
        "version": __version__,
        "has_utc_offset": schema.has_utc_offset,
        **kind.facts(schema, config),
        kind.measured: measured(evaluated.scored),
        "baselines": {name: measured(scored) for name, scored in simple.items()},
        "slices": {
            name: {
                group: kind.measure_slice(schema, *evaluated.only(rows))
                for group, rows in SLICES[name].of(evaluated).items()
            }
            for name in kind.slices
        },
        "config": dict(config),
    }


def write_predictions(path: Path, evaluated: Evaluated, kind: Kind | type[Kind]) -> None:
    """Writes predictions.parquet, one row per event in order of the global event index.

    Columns: event, user and item (raw ids), time (Unix seconds UTC, null if unknown), utc_offset
    (seconds), then those of the kind of experiment.
    """
    log, events = evaluated.log, evaluated.events
    ids, raw = evaluated.items(events).astype(np.int64), log.vocabulary(evaluated.item.name)
    columns = {
        "event": pa.array(events.event),
        "user": log.users().take(pa.array(events.user)),
        "item": raw["value"].take(pa.array(ids - 1, mask=ids == 0)),
        "time": pa.array(events.rows["time"], mask=events.rows["time"] == NO_TIME),
        "utc_offset": pa.array(events.rows["utc_offset"]),
    }
    for name, values in kind.columns(log.schema, events, evaluated.scored).items():
        columns[name] = pa.array(np.ma.getdata(values), mask=np.ma.getmaskarray(values))
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def as_text(outcome: Mapping[str, Any]) -> str:
    """A result for the terminal: its metrics, beside baselines on the same events, and advice."""
    kind = kind_of_result(outcome)
    about = f"{outcome['dataset']}, {outcome['split']} split, {outcome['events']:,} events"
    lines = [f"{about} ({PROTOCOLS[outcome['protocol']].name})", kind.rule(outcome)]
    if not outcome["training_ended"]:
        step = outcome["step"]
        lines.append(f"The training has not ended yet: this is its best checkpoint so far, {step}.")
    if outcome.get("calibration"):
        lines.append("Probabilities are calibrated on the validation split (calibration.json).")
    rows = {outcome["variant"]: outcome[kind.measured], **outcome["baselines"]}
    parts = kind.parts(outcome)
    width = max(map(len, [*rows, *parts]))
    for part in parts:
        shown = kind.applying(kind.shown, outcome, part)
        labels = (f"{kind.metrics[metric].label:>9}" for metric in shown)
        lines.append(f"  {part:{width}}{''.join(labels)}")
        for name, measured in rows.items():
            if values := kind.part(measured, part):
                cells = (f"{number(values[metric], 4):>9}" for metric in shown)
                lines.append(f"  {name:{width}}{''.join(cells)}")
    for length, own in outcome.get("lengths", {}).items():
        for part in parts:
            values = kind.part(own[kind.measured], part)
            shown = kind.applying(kind.shown, outcome, part)
            cells = (f"{kind.metrics[m].label} {number(values[m], 4)}" for m in shown)
            lines.append(titled(part, f"in rows of {length}: {', '.join(cells)}"))
    explained = FAMILIES[kind.baselines].explained(outcome["baselines"])
    lines += [f"{name}: {meaning}" for name, meaning in explained.items()]
    return "\n".join([*lines, *advice(outcome)])


def headline(outcome: Mapping[str, Any]) -> str:
    """A result's chief metrics on one line."""
    kind = kind_of_result(outcome)
    return ", ".join(
        titled(part, f"{kind.metrics[metric].label} {number(values[metric], 4)}")
        for part in kind.parts(outcome)
        for values in [kind.part(outcome[kind.measured], part)]
        for metric in kind.chief
    )
