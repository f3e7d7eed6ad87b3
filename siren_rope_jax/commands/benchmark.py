r"""Measures how fast a ranker with SIREN-RoPE trains, beside PyTorch, ordinal RoPE and the machine.

    siren-rope benchmark --config=configs/benchmark.py \
        [--rounds=15] [--seconds=0.5] [--output=FILE.json] [--config.key=value ...]

Everything is measured in one run, in turn, on one device and the built-in feed. Prints medians with
quartiles over the rounds. The ratios:

    torch_eager, torch_compiled   our training steps per second over those of the same model in
                                  PyTorch, as it is and under torch.compile; pip install
                                  'siren-rope-jax[bench]' for them
    siren_over_ordinal_train      time of a training step with SIREN-RoPE over one with ordinal RoPE
    siren_over_ordinal_inference  the same of a forward pass
    loop_over_step                time of a step in the whole training loop, with batches and
                                  metrics, over that of the step alone
    of_matrix_peak                FLOPs per second of the matrix products of a training step over
                                  the best rate of one large matrix product

PyTorch computes the whole batch at once, as its users do, whatever config.training.slices. On a
machine that is busy with other things, set OMP_WAIT_POLICY=passive: its threads spin while they
wait for each other, which takes far longer if one of them has no core.
"""

import json

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.files import replacing
from siren_rope_jax.studies.benchmark import benchmark
from siren_rope_jax.training.kinds import read_experiment

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "The experiment: a ranker with the variant siren_rope.")
_ROUNDS = flags.DEFINE_integer(
    "rounds", 15, "How often everything is measured.", 1, flag_values=_FLAGS
)
_SECONDS = flags.DEFINE_float(
    "seconds", 0.5, "What a measurement takes about.", 0, flag_values=_FLAGS
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write it as JSON.", flag_values=_FLAGS)


def main() -> None:
    """Runs what the flags describe."""
    config = read_experiment(_CONFIG.value)
    output = cli.output_file(_OUTPUT.value)
    report = benchmark(config, _ROUNDS.value, _SECONDS.value)
    print(report.as_text())
    if output:
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="train")
