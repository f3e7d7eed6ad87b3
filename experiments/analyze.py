"""Shows what the rotation of a trained run learned about time.

The same as `siren-rope analyze`; --help says how to use it.
"""

from siren_rope_jax.commands.analyze import run

if __name__ == "__main__":
    run()
