"""Where a training's metrics are shown besides its own files: TensorBoard, Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.extras import needs
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.processes import is_main
from siren_rope_jax.training.workdir import run_digest


class Board(Protocol):
    """Shows scalars by step."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


def boards(config: ExperimentConfig, workdir: Path, first_step: int) -> list[Board]:
    """Those that the config asks for, on the main process.

    Args:
      config: of the experiment.
      workdir: of the run, which holds what they write.
      first_step: after which the training goes on.

    Raises:
      UserError: a package is missing, or Weights & Biases cannot begin.
    """
    found: list[Board] = []
    if config.training.tensorboard and is_main():
        found.append(TensorBoard(workdir, first_step))
    if config.training.wandb and is_main():
        found.append(WeightsAndBiases(config, workdir))
    return found


class TensorBoard:
    """Events in `workdir/tensorboard`; those of lost steps are dropped."""

    def __init__(self, workdir: Path, first_step: int) -> None:
        with needs("tensorboard"):
            from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the project that config.training.wandb names; the same one after an interruption.

    What is sent where, its own environment variables say: WANDB_MODE=offline only writes to
    `workdir/wandb`.
    """

    def __init__(self, config: ExperimentConfig, workdir: Path) -> None:
        with needs("wandb"):
            import wandb

        try:
            self._run: Any = wandb.init(
                project=config.training.wandb,
                name=f"{config.variant}, seed {config.seed}",
                id=run_digest(workdir).removeprefix("sha256:")[:32],
                resume="allow",
                config=to_dict(config),
                dir=str(workdir),
                settings=wandb.Settings(console="off", quiet=True),
            )
        except wandb.Error as error:
            raise UserError(
                "config.training.wandb",
                f"{error}; log in with `wandb login`, or set WANDB_MODE=offline",
            ) from error

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
