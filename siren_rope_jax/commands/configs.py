"""Lists the config files that the package has.

siren-rope configs
"""

from siren_rope_jax.base import cli
from siren_rope_jax.base.config import PACKAGED
from siren_rope_jax.base.text import first_line

_FLAGS = cli.new_flags()


def main() -> None:
    """Prints them."""
    for path in sorted(PACKAGED.rglob("*.py")):
        print(f"configs/{path.relative_to(PACKAGED).as_posix():30} {first_line(path)}")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS)
