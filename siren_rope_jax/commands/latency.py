r"""Measures how long a ranker takes to answer: cached histories beside full passes.

    siren-rope latency --config=configs/benchmark.py [--histories=64,256,1024] \
        [--candidates=1,100,1000,10000] [--swept=100] [--rounds=5] [--config.key=value ...]

One user of the built-in feed, on one device; the parameters are untrained, which costs the same.
All measurements take turns in one run. Prints a table of medians in milliseconds: encoding a
history, appending an event, scoring candidates, scoring `swept` candidates at every hour of a week,
and one full pass for each candidate (in batches of 8), with its ratio to the cache.
"""

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.studies.latency import latency
from siren_rope_jax.training.kinds import read_experiment

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "The experiment: a ranker.")
_HISTORIES = flags.DEFINE_list(
    "histories", ["64", "256", "1024"], "Numbers of past events.", flag_values=_FLAGS
)
_CANDIDATES = flags.DEFINE_list(
    "candidates", ["1", "100", "1000", "10000"], "Numbers of candidates.", flag_values=_FLAGS
)
_SWEPT = flags.DEFINE_integer("swept", 100, "Candidates of a sweep.", 1, flag_values=_FLAGS)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "How often everything is measured.", 1, flag_values=_FLAGS
)


def main() -> None:
    """Runs what the flags describe."""
    histories, candidates = (
        [cli.whole_number(text, flag) for text in values]
        for flag, values in (("--histories", _HISTORIES.value), ("--candidates", _CANDIDATES.value))
    )
    config = read_experiment(_CONFIG.value)
    found = latency(config, histories, candidates, _SWEPT.value, _ROUNDS.value)
    print(found.as_text())


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="train")
