"""Trains one model and evaluates it on the test split.

The same as `siren-rope train`; --help says how to use it.
"""

from siren_rope_jax.commands.train import run

if __name__ == "__main__":
    run()
