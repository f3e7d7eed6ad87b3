"""Searches the best values of config keys for each variant, on the validation split.

The same as `siren-rope sweep`; --help says how to use it.
"""

from siren_rope_jax.commands.sweep import run

if __name__ == "__main__":
    run()
