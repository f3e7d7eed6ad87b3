"""Prepares a raw event log for training: checks, encodes and splits it.

The same as `siren-rope prepare`; --help says how to use it.
"""

from siren_rope_jax.commands.prepare import run

if __name__ == "__main__":
    run()
