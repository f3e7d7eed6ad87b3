"""Prepares a raw event log for training: checks, encodes and splits it, once.

    python experiments/prepare.py --config=configs/data/NAME.py --input=PATH --output=DIR \
        [--config.key=value ...]

The built-in feed, configs/data/synthetic.py, is generated and takes no --input.
"""

from absl import flags
from ml_collections import config_flags

from siren_rope_jax import cli
from siren_rope_jax.data.make import make_log

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Which columns are what.")
_INPUT = flags.DEFINE_string("input", None, "The log: a file, or a quoted glob of several.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to write; must not exist or be empty.", required=True
)
flags.mark_flag_as_required("config")


def main() -> None:
    """Prepares what the flags describe and prints what was found."""
    report = make_log(_CONFIG.value, _INPUT.value, _OUTPUT.value)
    events = report["events"]
    print(f"{report['rows_read']} rows, {report['users']} users, {report['items']} items")
    print(f"train until {report['train_end']}, validation until {report['validation_end']}")
    for split, count in events.items():
        unknown = report["unknown_item_events"][split]
        rates = ", ".join(f"{t} {r[split]['rate']:.1%}" for t, r in report["tasks"].items())
        print(f"{split}: {count} events, {unknown} of an unknown item; positive: {rates or '-'}")
    for task, floors in report.get("floors", {}).items():
        values = ", ".join(f"{name} {ne:.4f}" for name, ne in floors.items())
        print(f"{task}: NE on test of {values}")
    for warning in report["warnings"]:
        print(f"note: {warning}")
    print(f"wrote {_OUTPUT.value} in {report['seconds']} s")


if __name__ == "__main__":
    cli.run(main)
