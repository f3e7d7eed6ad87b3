"""Trains RecTools' SASRec on a prepared log and evaluates it like a run of this library.

The same as `siren-rope compare-peer`; --help says how to use it.
"""

from siren_rope_jax.commands.compare_peer import run

if __name__ == "__main__":
    run()
