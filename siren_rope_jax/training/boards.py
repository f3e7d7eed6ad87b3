"""Where a training's metrics are shown besides its own files: TensorBoard, Weights & Biases."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.extras import needs
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.processes import is_main

_LOGIN = "; `wandb login` connects to it, WANDB_MODE=offline does without"


class Board(Protocol):
    """Shows scalars by step."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self, failed: bool) -> None: ...


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

    def close(self, failed: bool) -> None:
        del failed
        self._writer.close()


class WeightsAndBiases:
    """A run of the project that config.training.wandb names; the same one after an interruption.

    What is sent where, its own environment variables say: WANDB_MODE=offline only writes to
    `workdir/wandb`.
    """

    def __init__(self, config: ExperimentConfig, workdir: Path) -> None:
        with needs("wandb"):
            import wandb

        folder = workdir / "wandb"
        folder.mkdir(exist_ok=True)
        if not (own := folder / "siren_rope_run.txt").exists():  # else a training goes on
            own.write_text(uuid.uuid4().hex, encoding="utf-8")
        try:
            self._run: Any = wandb.init(
                project=config.training.wandb,
                name="/".join(workdir.absolute().parts[-3:]),
                id=own.read_text(encoding="utf-8"),
                resume="allow",
                config=to_dict(config),
                dir=str(workdir),
                settings=wandb.Settings(console="off", quiet=True),
            )
        except wandb.Error as error:
            hint = "" if os.environ.get("WANDB_MODE") == "offline" else _LOGIN
            raise UserError("config.training.wandb", f"{error}{hint}") from error

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
