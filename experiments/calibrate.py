"""Calibrates a ranker: probabilities that come true as often as they say, by its validation split.

The same as `siren-rope calibrate`; --help says how to use it.
"""

from siren_rope_jax.commands.calibrate import run

if __name__ == "__main__":
    run()
