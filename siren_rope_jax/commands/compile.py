r"""Compiles a training step for a TPU pod on any machine: does it fit, and how fast can it be?

    siren-rope compile --config=configs/NAME.py[:VARIANT] --topology=v5e:16x16 \
        [--items=N] [--output=FILE.json] [--config.key=value ...]

Nothing is run and no TPU is needed, but its compiler: pip install 'jax[tpu]'. Without --topology
the step is compiled for the devices of this machine. What the model must know of the data is taken
from the prepared log at config.data.path or, if there is none, from --items; --items counts even
beside a log. Prints memory against that of a chip, arithmetic, traffic, collectives, and the time
that each of them takes at its peak.
"""

import dataclasses

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import write_json
from siren_rope_jax.base.stores import local
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.tasks import Binary
from siren_rope_jax.rotation.time import TimeScale
from siren_rope_jax.training.compile import as_text, compile_step
from siren_rope_jax.training.kinds import kind_of, read_experiment

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "The experiment.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "Of TPUs, such as v5e:16x16 or v5p:4x4x4.", flag_values=_FLAGS
)
_ITEMS = flags.DEFINE_integer("items", 0, "Rows of the item table.", 0, flag_values=_FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write it as JSON.", flag_values=_FLAGS)
_YEAR = 365 * 86_400


def main() -> None:
    """Runs what the flags describe."""
    config, output = read_experiment(_CONFIG.value), cli.output_file(_OUTPUT.value)
    path = local(config.data.path)
    if path.exists():
        data = kind_of(config).spec(PreparedLog.open(path))
    elif _ITEMS.value:
        scale = TimeScale.fit(1_700_000_000, 1_700_000_000 + _YEAR)
        tasks = (Binary("label"),)  # of which a log has two columns of actions
        data = DataSpec({"item": 2}, tasks, config.data.length, scale, actions=2 * len(tasks))
    else:
        raise UserError("--items", f"say how many items there are: there is no log at {path}")
    if _ITEMS.value:
        first = next(iter(data.categories))
        data = dataclasses.replace(data, categories=data.categories | {first: _ITEMS.value})
    report = compile_step(config, data, _TOPOLOGY.value or "")
    print(as_text(report))
    if output:
        write_json(output, report)


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="train")
