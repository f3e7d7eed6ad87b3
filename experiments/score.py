"""Scores candidates for users with a trained ranking run: the probability of every task.

The same as `siren-rope score`; --help says how to use it.
"""

from siren_rope_jax.commands.score import run

if __name__ == "__main__":
    run()
