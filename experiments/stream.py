"""Lets trained models go on learning in the time after their training, slice by slice.

The same as `siren-rope stream`; --help says how to use it.
"""

from siren_rope_jax.commands.stream import run

if __name__ == "__main__":
    run()
