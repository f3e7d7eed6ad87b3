"""Evaluates a trained run: its best checkpoint on one split.

The same as `siren-rope evaluate`; --help says how to use it.
"""

from siren_rope_jax.commands.evaluate import run

if __name__ == "__main__":
    run()
