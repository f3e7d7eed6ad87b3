"""Compiles a training step for a TPU pod on any machine: does it fit, and how fast can it be?

The same as `siren-rope compile`; --help says how to use it.
"""

from siren_rope_jax.commands.compile import run

if __name__ == "__main__":
    run()
