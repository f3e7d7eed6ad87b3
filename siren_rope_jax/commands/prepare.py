r"""Prepares a raw event log for training: checks, encodes and splits it.

    siren-rope prepare --config=configs/data/NAME.py --input=PATH --output=DIR \
        [--items=PATH] [--config.key=value ...]
    siren-rope prepare --config=configs/data/NAME.py --download --output=DIR

The second form prints the terms of the log and downloads it, if the publisher offers a direct link;
the file stays in --downloads for the next time. The built-in feed, configs/data/synthetic.py, is
generated and takes none of these. --items names a file of one row for each item; expressions of the
config may use its columns as if every event had them (docs/prepare.md).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError

with cli.needs("prepare"):
    from siren_rope_jax.prepare.engine import ENGINES
    from siren_rope_jax.prepare.make import make_log
    from siren_rope_jax.prepare.writer import check_new

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "What the columns of the log mean.")
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "The log: a file, or a quoted glob of several; of a corpus, a folder.",
    flag_values=_FLAGS,
)
_ITEMS = flags.DEFINE_string(
    "items",
    None,
    "What is known of items: a file of one row for each, or a quoted glob of several.",
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The folder to write, which must be new or empty.",
    required=True,
    flag_values=_FLAGS,
)
_ENGINE = flags.DEFINE_enum(
    "engine",
    "duckdb",
    ENGINES,
    "What computes: this machine, or those of Spark (docs/prepare.md).",
    flag_values=_FLAGS,
)
_DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Download the log; replaces --input.", flag_values=_FLAGS
)
_DOWNLOADS = flags.DEFINE_string(
    "downloads", "runs/downloads", "Where to keep downloads.", flag_values=_FLAGS
)


def main() -> None:
    """Prepares what the flags describe and prints what was found."""
    if _DOWNLOAD.value and _INPUT.value is not None:
        raise UserError("--download", "--input names the log already; give only one of them")
    check_new(_OUTPUT.value)  # before anything is downloaded
    source: str | Path | None = _INPUT.value
    if _DOWNLOAD.value:
        with cli.needs("download"):
            from siren_rope_jax.prepare.download import fetch_log
        source = fetch_log(_CONFIG.value, _DOWNLOADS.value)
    report = make_log(_CONFIG.value, source, _OUTPUT.value, _ENGINE.value, _ITEMS.value)
    print(f"{report['rows_read']} rows, {report['users']} users, {report['items']} items")
    if "item_rows" in report:
        missing = report["without_item_row"]
        print(f"{report['item_rows']} rows of items; {missing} events have an item without one")
    if "time_span" in report:
        span = report["time_span"]
        print(f"times from {span['first']} to {span['last']}; 99 % of the events lie within")
        days = f"{span['central_99_days']:g} days"
        print(f"{days}, from {span['central_99_first']} to {span['central_99_last']}")
    if report["protocol"] == "leave_one_out":
        print("test is each user's last event, validation the one before it")
    elif report["protocol"] == "by_user":
        print("all events of a user are in one split")
    else:
        print(f"train until {report['train_end']}, validation until {report['validation_end']}")
    for split, count in report["events"].items():
        unknown = report["unknown_item_events"][split]
        rates = ", ".join(f"{t} {r[split]['rate']:.1%}" for t, r in report["tasks"].items())
        positive = f"; positive: {rates}" if rates else ""
        numeric = report.get("numeric_labels", {}).items()
        means = ", ".join(f"{name} {of[split]['mean']:.4g}" for name, of in numeric)
        mean = f"; mean: {means}" if means else ""
        print(f"{split}: {count} events, {unknown} with an unknown item{positive}{mean}")
    for line in (*_by_feature(report), *_by_item(report)):
        print(line)
    for task, floors in report.get("floors", {}).items():
        values = ", ".join(f"{name} {ne:.4f}" for name, ne in floors.items())
        print(f"{task}: NE on test: {values}")
    for warning in report["warnings"]:
        print(f"note: {warning}")
    print(f"wrote {_OUTPUT.value} in {report['seconds']} s")


def _by_feature(report: Mapping[str, Any]) -> Iterator[str]:
    """What the values of every feature besides the item are like."""
    events = sum(report["events"].values())
    for name, about in report.get("categorical", {}).items():
        most = f", at most {about['longest']} in a list" if "longest" in about else ""
        without = f"{about['without'] / events:.1%} of the events have none"
        yield f"{name}: {about['values']} values{most}; {without}"


def _by_item(report: Mapping[str, Any]) -> Iterator[str]:
    """Rates of labels where items are rare or new, for a model may take the one for the other."""
    by_item = report.get("by_item", {})
    for name, split in (("rare", "train"), ("rare", "test"), ("new", "test")):
        about = by_item.get(name, {}).get(split)
        if about and about["events"] and about["rates"]:
            rates = ", ".join(f"{t} {_percent(rate)}" for t, rate in about["rates"].items())
            yield f"{split}, {name} items: {about['events']} events; positive: {rates}"


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1%}"


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="prepare")
