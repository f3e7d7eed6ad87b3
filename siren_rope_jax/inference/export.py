"""Writes a trained model as a folder that needs JAX, NumPy and flatbuffers, not this package.

model.stablehlo        the function, for CPUs, GPUs and TPUs, for any number of users and requests
weights.npz            its first argument
load.py                opens both, and encodes the values of the log's columns
schema.json            what an event has, as the loader takes it and as the log computes it
vocabulary/NAME.json   the values of ids 1, 2, ... that the model knows
README.md              the model card: what it was trained on, how well it does, how to call it
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import jax
import numpy as np

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.extras import needs
from siren_rope_jax.base.times import HOUR
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.schema import Dense
from siren_rope_jax.inference import load_exported
from siren_rope_jax.inference.arguments import check_run
from siren_rope_jax.inference.exported import MOST_LISTED, argument_specs, exported, weights_of
from siren_rope_jax.inference.exported_columns import columns, config_of, keys
from siren_rope_jax.training.trained import TrainedRun


def export(run: TrainedRun, folder: str | Path, result: Mapping[str, Any] | None = None) -> Path:
    """Exports a run.

    Args:
      run: the trained run.
      folder: to write, which must not exist.
      result: its result.json, for the model card.

    Raises:
      UserError: the folder is there already, or cannot be written; flatbuffers is missing; or the
        run is of a log that requests cannot describe, such as a language model's.
    """
    folder = Path(folder)
    check_run(run)
    check_exportable(folder)
    function = exported(run)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _write(run, unfinished, function, result)
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(folder, f"cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def check_exportable(folder: Path) -> None:
    """Refuses a folder that is there already; and any, without the package that an export needs."""
    with needs("export"):
        import flatbuffers  # noqa: F401
    if folder.exists():
        raise UserError(folder, "is there already; choose another folder, or remove it")


def _write(
    run: TrainedRun, folder: Path, function: bytes, result: Mapping[str, Any] | None
) -> None:
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "model.stablehlo").write_bytes(function)
    np.savez(folder / "weights.npz", **jax.device_get(weights_of(run)))
    shutil.copyfile(load_exported.__file__, folder / "load.py")
    _write_json(folder / "schema.json", _schema(run))
    for feature in run.log.schema.categorical:
        values = run.log.vocabulary(feature.name)["value"].to_pylist()[: feature.known]
        _write_json(folder / "vocabulary" / f"{feature.name}.json", values)
    (folder / "README.md").write_text(_card(run, result), encoding="utf-8")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _schema(run: TrainedRun) -> dict[str, Any]:
    schema, kind, config = run.log.schema, run.setup.kind.name, config_of(run.log)
    lists: dict[str, Any] = {}
    if kind == "retrieval":
        lists = {"filter_seen": run.config.filter_seen, "most_listed": MOST_LISTED}
    return lists | {
        "kind": kind,
        "variant": run.config.variant,
        "length": run.config.data.length,
        "stride": run.config.data.stride,
        "columns": columns(run.log, kind),
        "derived": config.get("derived", {}),
        "where": config.get("where", ""),
        "tasks": list(schema.label_columns),
        "time_zone": schema.time_zone,
        "arguments": [sorted(own) for own in argument_specs(run, 1, 1, 1)],
        "siren-rope-jax": __version__,
        "jax": jax.__version__,
    }


def _card(run: TrainedRun, result: Mapping[str, Any] | None) -> str:
    schema, kind = run.log.schema, run.setup.kind
    count = f"{run.setup.parameters:,} parameters, {len(run.log.index):,} users"
    lines = [
        f"# {run.config.variant} on {schema.name}",
        "",
        f"A {kind.name} model of siren-rope-jax {__version__}: {count}, step {run.step}.",
        f"Trained on events before {np.datetime64(schema.train_end, 's')} (UTC).",
        f"The log: {schema.source or 'no source is noted'}.",
        f"Its terms: {schema.license or 'unknown'}.",
        "",
        "## How well it does",
        "",
    ]
    if result is None:
        lines.append("It was not evaluated.")
    else:
        rows = {run.config.variant: result[kind.measured], **result["baselines"]}
        for part in kind.parts(result):
            lines += [f"{kind.rule(result)}.", ""]
            shown = kind.applying(kind.shown, result, part)
            labels = [kind.metrics[metric].label for metric in shown]
            lines += [f"| {part} | {' | '.join(labels)} |", f"|---|{'---:|' * len(labels)}"]
            for name, measured in rows.items():
                if values := kind.part(measured, part):
                    cells = [values[metric] for metric in shown]
                    texts = ["–" if cell is None else f"{cell:.4f}" for cell in cells]
                    lines.append(f"| {name} | {' | '.join(texts)} |")
            lines.append("")
        lines.append(kind.glossary)
    if kind.name == "retrieval":
        had = "not " * (not run.config.filter_seen) + "left out of the lists"
        lines += ["", f"Items that a user has had before are {had}; `filter_seen` says otherwise."]
    lines += ["", "## What an event has", "", *_columns(run)]
    lines += ["", "## How to call it", "", *_requirements(run), "", *_example(run), ""]
    lines.append(load_exported.__doc__ or "")
    return "\n".join(lines).rstrip() + "\n"


def _columns(run: TrainedRun) -> list[str]:
    """The keys of events and requests, and what their values are made of."""
    kind, config = run.setup.kind.name, config_of(run.log)
    lines = [
        "Values are those of the prepared log: what the expression makes of a row of the raw log, "
        "not what that row has. Expressions are DuckDB's SQL.",
        "",
        "| key | group | a past event's is | a request's is | expression |",
        "|---|---|---|---|---|",
    ]
    for key, column in columns(run.log, kind).items():
        text = _code(column["expression"]) or column.get("unit", "none is noted")
        rules = [column.get(role, "not taken") for role in ("histories", "requests")]
        lines.append(f"| `{key}` | {column['group']} | {' | '.join(rules)} | {text} |")
    for name, text in config.get("derived", {}).items():
        lines += ["", f"In the expressions, `{name}` stands for {_code(text)}."]
    if where := config.get("where"):
        lines += ["", f"Past events are those alone for which {_code(where)} is true."]
    return lines


def _requirements(run: TrainedRun) -> list[str]:
    lines = [
        f"The model was exported with jax {jax.__version__}. Newer versions read it for at least "
        "six months; after that, keep this version, or export the run again."
    ]
    if zone := run.log.schema.time_zone:
        lines += [
            "",
            f"Its local times are those of {zone}. A system without a database of time zones, such "
            "as Windows and small containers, needs `pip install tzdata`.",
        ]
    return lines


def _code(text: str) -> str:
    """An expression in a cell of a table; nothing if there is none."""
    return f"`{' '.join(text.split())}`".replace("|", "\\|") if text else ""


def _example(run: TrainedRun) -> list[str]:
    """A call of the model in Python, with values of its own log."""
    schema, ranking = run.log.schema, run.setup.kind.name == "ranking"

    key = keys(schema)

    def means(prefix: str, columns: Iterable[Dense]) -> dict[str, float]:
        return {key[f"{prefix}/{c.name}"]: float(f"{c.mean:.3g}") for c in columns}

    def event(number: int, time: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for c in schema.categorical:
            few = run.log.vocabulary(c.name)["value"].slice(0, min(c.known, 3)).to_pylist()
            value = few[number % len(few)] if few else None
            found[key[f"categorical/{c.name}"]] = [value] if few and c.most else value
        offset = {"utc_offset": 0} if schema.has_utc_offset and not schema.time_zone else {}
        return found | means("dense", schema.dense) | {"time": time} | offset

    def assigned(name: str, rows: list[dict[str, Any]]) -> str:
        shown = pformat(rows, width=96 - len(f"{name} = "), sort_dicts=False)
        return f"{name} = " + shown.replace("\n", "\n" + " " * len(f"{name} = "))

    end, request = schema.end, {"time": schema.end + HOUR}
    outcome: dict[str, float] = {}
    call = "items, scores = model.recommend([past], [requests], k=3)"
    if ranking:
        outcome = {key[f"task/{task}"]: 1 for task in schema.tasks}
        outcome |= {key[f"ordinal/{label.name}"]: label.values[-1] for label in schema.ordinal}
        outcome |= means("regression", schema.regression) | means("action", schema.actions)
        request = event(2, end + HOUR) | means("context", schema.context)
        tasks = ", ".join(schema.label_columns)
        call = f"scores = model.score([past], [requests])  # of each request: {tasks}"
    return [
        "```python",
        "from importlib import util",
        "",
        'folder = "."  # that of this file; models of several folders may be open at once',
        'spec = util.spec_from_file_location("load", f"{folder}/load.py")',
        "load = util.module_from_spec(spec)",
        "spec.loader.exec_module(load)",
        "model = load.Model()",
        "",
        assigned("past", [event(0, end - HOUR) | outcome, event(1, end)]),
        assigned("requests", [request]),
        call,
        "```",
    ]
