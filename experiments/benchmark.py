"""Measures how fast a ranker with SIREN-RoPE trains, beside PyTorch, ordinal RoPE and the machine.

The same as `siren-rope benchmark`; --help says how to use it.
"""

from siren_rope_jax.commands.benchmark import run

if __name__ == "__main__":
    run()
