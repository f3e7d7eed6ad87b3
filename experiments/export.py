"""Exports a trained run as a folder that needs JAX, NumPy and flatbuffers alone.

The same as `siren-rope export`; --help says how to use it.
"""

from siren_rope_jax.commands.export import run

if __name__ == "__main__":
    run()
