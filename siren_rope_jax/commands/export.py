"""Exports a trained run as a folder that needs JAX, NumPy and flatbuffers alone.

    siren-rope export --workdir=RUN --output=FOLDER [--log=DIR]

The folder has the function as StableHLO (for CPUs, GPUs and TPUs, any number of users and
requests), weights, vocabularies, a loader, and a model card written from result.json.
"""

from pathlib import Path

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.files import read_json
from siren_rope_jax.inference.export import export
from siren_rope_jax.training.trained import TrainedRun

_FLAGS = cli.new_flags()
_WORKDIR, _LOG = cli.run_flags(_FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to write.", required=True, flag_values=_FLAGS
)


def main() -> None:
    """Exports what the flags describe."""
    run = TrainedRun.open(_WORKDIR.value, _LOG.value)
    path = Path(_WORKDIR.value) / "result.json"
    result = read_json(path) if path.is_file() else None
    lines = {name: line._asdict() for name, line in run.calibration.items()}
    if result and (result["step"], result.get("calibration", {})) != (run.step, lines):
        print(f"{path} is of other parameters, so the card has no metrics; evaluate the run first")
        result = None
    folder = export(run, _OUTPUT.value, result)
    print(f"wrote {folder}; its README.md says how to call the model")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS)
