"""Measures how long a ranker takes to answer: cached histories beside full passes.

The same as `siren-rope latency`; --help says how to use it.
"""

from siren_rope_jax.commands.latency import run

if __name__ == "__main__":
    run()
