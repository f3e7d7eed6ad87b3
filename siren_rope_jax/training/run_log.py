"""The reports of a run while it trains: metrics.jsonl, TensorBoard events and the progress bar."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from jaxtyping import Array
from tqdm import tqdm

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.extras import needs
from siren_rope_jax.base.files import replacing
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.mesh import is_main


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The objects of a run's metrics.jsonl, in order; empty if there is no such file.

    An incomplete last line, which a killed run or an interrupted copy may leave, is ignored.
    """
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        return []
    *lines, _unfinished = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


class RunLog:
    """Reports steps and validations on the main process.

    The metrics of step n - 1 are read once step n has been dispatched, so that the device never
    waits for the host.

    Attributes:
      seconds: spent in training steps so far, also before a restart, but not in validations.
    """

    def __init__(
        self, workdir: Path, config: ExperimentConfig, progress: Progress, last_step: int
    ) -> None:
        """Continues the log of `workdir` after `progress`; drops later lines of a killed run."""
        first_step = progress.step
        path = workdir / "metrics.jsonl" if is_main() else Path(os.devnull)
        if path.is_file():
            kept = [line for line in read_metrics(workdir) if line["step"] <= first_step]
            with replacing(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.seconds = progress.seconds
        self._name, self._last_step = config.variant, last_step
        self._log_every = config.training.log_every
        self._file = path.open("a")
        self._board = None
        if config.training.tensorboard and is_main():
            with needs("tensorboard"):
                from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)
        self._bar = tqdm(
            total=last_step,
            initial=first_step,
            desc=self._name,
            unit="step",
            disable=None if is_main() else True,
            leave=False,
        )
        self._pending: tuple[int, Mapping[str, Array]] | None = None
        self.resume_clock()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def step(self, step: int, metrics: Mapping[str, Array]) -> None:
        """Takes the metrics of a dispatched step and reports those of the previous one.

        Raises:
          UserError: the loss of the previous step is not finite.
        """
        self._bar.update()
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Reports the step taken last; waits for the device.

        Raises:
          UserError: its loss is not finite.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not math.isfinite(values["loss"]):
            raise UserError(
                "loss",
                f"is {values['loss']} at step {step}; lower config.optimizer.learning_rate, or "
                "check the dense features for extreme values",
            )
        self._events += int(values.pop("events"))
        if step % self._log_every == 0 or step == self._last_step:
            seconds = time.perf_counter() - self._clock
            values["events_per_second"] = self._events / seconds
            self._write(step, "train", values)
            self._bar.set_postfix_str(
                f"loss {values['loss']:.4f}, {values['events_per_second']:,.0f} events/s"
            )
            self.seconds += seconds
            self.resume_clock()

    def pause_clock(self) -> None:
        """Excludes the time until `resume_clock` from the training time."""
        self.flush()
        self.seconds += time.perf_counter() - self._clock

    def resume_clock(self) -> None:
        """Starts counting training time again."""
        self._events, self._clock = 0, time.perf_counter()

    def validation(
        self, step: int, values: Mapping[str, float], criterion: str, best: bool
    ) -> None:
        """Reports a validation."""
        self._write(step, "validation", values)
        note = " (best)" if best else ""
        value = f"{criterion.upper()} {values[criterion]:.4f}"
        message = f"{self._name} step {step}/{self._last_step}: validation {value}{note}"
        if is_main():
            self._bar.write(message, file=sys.stderr)

    def _write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)
