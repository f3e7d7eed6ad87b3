"""Recommends items to users at a given time with a trained retrieval run.

The same as `siren-rope recommend`; --help says how to use it.
"""

from siren_rope_jax.commands.recommend import run

if __name__ == "__main__":
    run()
