"""Rotary encodings driven by time, for recommenders in JAX.

    siren-rope COMMAND [flags]

`siren-rope COMMAND --help` says how a command is used. Config files that the package has are found
by their names, such as --config=configs/table.py:siren_rope; one in the current folder comes first.
"""

import importlib
import sys
from pathlib import Path

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.text import first_line
from siren_rope_jax.base.version import __version__

COMMANDS = (
    "prepare",
    "train",
    "evaluate",
    "calibrate",
    "score",
    "recommend",
    "export",
    "sweep",
    "ablate",
    "analyze",
    "benchmark",
    "stream",
    "latency",
    "compile",
    "compare-peer",
)
_LISTS = ("configs", "keys", "variants")


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in (*COMMANDS, *_LISTS):
        sys.argv[:2] = [f"{sys.argv[0]} {name}"]
        importlib.import_module(f"siren_rope_jax.commands.{name.replace('-', '_')}").run()
        return
    with cli.reported():
        if name == "--version":
            print(__version__)
        elif name in ("--help", "-h", "--helpfull", "help"):
            _print_commands()
        else:
            raise UserError(name, f"is no command{suggestion(name, [*COMMANDS, *_LISTS])}")


def _print_commands() -> None:
    print(__doc__)
    for command in (*COMMANDS, *_LISTS):
        path = Path(__file__).with_name(f"{command.replace('-', '_')}.py")
        print(f"    {command:14}{first_line(path)}")
