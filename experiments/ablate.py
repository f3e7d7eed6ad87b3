"""Trains every variant on every data set with every seed, and writes one report.

The same as `siren-rope ablate`; --help says how to use it.
"""

from siren_rope_jax.commands.ablate import run

if __name__ == "__main__":
    run()
