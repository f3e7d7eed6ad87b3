"""Rotary encodings driven by time, for recommenders in JAX.

    siren-rope COMMAND [flags]

`siren-rope COMMAND --help` says how a command is used. Config files that the package has are found
by their names, such as --config=configs/table.py:siren_rope; one in the current folder comes first.
"""

import ast
import importlib
import sys
from pathlib import Path

from siren_rope_jax.base import cli
from siren_rope_jax.base.config import PACKAGED
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.version import __version__

COMMANDS = (
    "prepare",
    "train",
    "evaluate",
    "score",
    "recommend",
    "ablate",
    "analyze",
    "benchmark",
    "latency",
    "compile",
    "compare-peer",
)


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        sys.argv[:2] = [f"{sys.argv[0]} {name}"]
        importlib.import_module(f"siren_rope_jax.commands.{name.replace('-', '_')}").run()
        return
    with cli.reported():
        if name == "--version":
            print(__version__)
        elif name == "configs":
            _print_configs()
        elif name in ("--help", "-h", "--helpfull", "help"):
            _print_commands()
        else:
            raise UserError(name, f"is no command{suggestion(name, [*COMMANDS, 'configs'])}")


def _print_commands() -> None:
    print(__doc__)
    for command in COMMANDS:
        path = Path(__file__).with_name(f"{command.replace('-', '_')}.py")
        print(f"    {command:14}{_first_line(path)}")
    print(f"    {'configs':14}Lists the config files that the package has.")


def _print_configs() -> None:
    for path in sorted(PACKAGED.rglob("*.py")):
        print(f"configs/{path.relative_to(PACKAGED).as_posix():30} {_first_line(path)}")


def _first_line(path: Path) -> str:
    """Of a module's docstring, without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
