"""The reports of a run while it trains: metrics.jsonl, the progress bar, and boards."""

import json
import math
import os
import sys
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array
from tqdm.auto import tqdm

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import replacing
from siren_rope_jax.training.boards import boards
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.processes import is_main
from siren_rope_jax.training.workdir import run_digest

GATE = "gate/"
"""Before the name of a source, in the lines of validations: the mean of its gate."""

_SECONDS_OF_A_LINE = 30.0  # between two lines about a training, where there is no terminal
_CRC = "crc"  # the key of a line's own checksum


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The objects of a run's metrics.jsonl, in order; empty if there is no such file.

    An incomplete last line, which a killed run or an interrupted copy may leave, is ignored.

    Raises:
      UserError: a line was changed since it was written, or belongs to another run.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    run, values = run_digest(workdir), []
    try:
        *lines, _unfinished = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            written = value.pop(_CRC, None)
            right = {"step", "kind"} <= value.keys() and written in (None, _crc(run, value))
        except (ValueError, AttributeError, TypeError, RecursionError):
            right = False
        if not right:
            raise UserError(
                path,
                f"line {number} was changed since it was written, or is of another run; restore "
                "the file, or remove it with its curves",
            )
        values.append(value)
    return values


def _crc(run: str, value: Mapping[str, Any]) -> str:
    """Of a line without it, and of the run that it belongs to."""
    return f"{zlib.crc32(f'{run}{json.dumps(value)}'.encode()):08x}"


class RunLog:
    """Reports steps and validations on the main process.

    The metrics of step n - 1 are read once step n has been dispatched, so that the device never
    waits for the host.

    Attributes:
      seconds: spent in training steps so far, also before a restart, but not in validations.
      loss_sum, loss_steps: of the steps since the last line of training metrics.
    """

    def __init__(
        self, workdir: Path, config: ExperimentConfig, progress: Progress, last_step: int
    ) -> None:
        """Continues the log of `workdir` after `progress`; drops later lines of a killed run.

        Raises:
          UserError: metrics.jsonl is damaged, or cannot be written.
        """
        first_step = progress.step
        self._path = workdir / "metrics.jsonl" if is_main() else Path(os.devnull)
        self._run = run_digest(workdir)
        if is_main():
            self._drop_after(workdir, first_step, progress.validated)
        self.seconds = progress.seconds
        self.loss_sum, self.loss_steps = progress.loss_sum, progress.loss_steps
        self._started, self._first_step = time.monotonic(), first_step
        self._said_at = self._started
        self._name, self._last_step = config.variant, last_step
        self._log_every = config.training.log_every
        self._boards = boards(config, workdir, first_step)  # may refuse, before a file is open
        with self._told():
            self._file = self._path.open("a", encoding="utf-8")
        self._bar = tqdm(
            total=last_step,
            initial=first_step,
            desc=self._name,
            unit="step",
            disable=None if is_main() else True,
            leave=False,
        )
        self._bar.set_postfix_str("compiling")
        self._pending: tuple[int, Mapping[str, Array]] | None = None
        self.resume_clock()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:  # it ended, if perhaps early: a notebook paints unfinished bars as failed
            self._bar.total = self._bar.n
        self._bar.close()
        with suppress(OSError):  # a line that a full disk did not take was reported before
            self._file.close()
        for board in self._boards:
            board.close(failed=error is not None)

    def _drop_after(self, workdir: Path, step: int, validation: int) -> None:
        """Drops what the log says of later steps, which will be trained again.

        Every checkpoint comes after the line of the last validation before it, so a log without
        that lost its end.
        """
        kept = [line for line in read_metrics(workdir) if line["step"] <= step] if step else []
        of_validations = [line["step"] for line in kept if line["kind"] == "validation"]
        validated = not validation or validation in of_validations
        if step and not self._path.exists():
            lost = f"{self._path} is missing: its lines up to step {step} are lost"
            warnings.warn(lost, stacklevel=2)
        elif step and not validated:
            raise UserError(
                self._path,
                f"lacks the validation of step {validation}, after which the training goes on; "
                "restore the file, or remove it with its curves",
            )
        with self._told(), replacing(self._path) as temporary:
            temporary.write_text("".join(map(self._line, kept)), encoding="utf-8")

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
        self.loss_sum, self.loss_steps = self.loss_sum + values["loss"], self.loss_steps + 1
        if step % self._log_every == 0 or step == self._last_step:
            seconds = time.perf_counter() - self._clock
            values["events_per_second"] = self._events / seconds
            values["loss"] = self.loss_sum / self.loss_steps  # a single batch's says little
            self.loss_sum, self.loss_steps = 0.0, 0
            self._write(step, "train", values)
            self._say(step, values)
            self.seconds += seconds
            self.resume_clock()

    def _say(self, step: int, values: Mapping[str, float]) -> None:
        """Shows how far the training is: in the bar or, without a terminal, in a line at times."""
        said = f"mean loss {values['loss']:.4f}, {values['events_per_second']:,.0f} events/s"
        self._bar.set_postfix_str(said)
        now = time.monotonic()
        if self._bar.disable and is_main() and now - self._said_at >= _SECONDS_OF_A_LINE:
            self._said_at = now
            left = (now - self._started) / (step - self._first_step) * (self._last_step - step)
            at_most = f"at most {tqdm.format_interval(left)} left"
            print(f"{self._name} step {step}/{self._last_step}: {said}, {at_most}", file=sys.stderr)

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
            in_notebook = hasattr(self._bar, "container")  # which shows stderr as if it were errors
            self._bar.write(message, file=sys.stdout if in_notebook else sys.stderr)

    def _write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        with self._told():
            self._file.write(self._line({"step": step, "kind": kind, **values}))
            self._file.flush()
        for board in self._boards:
            board.add(step, {f"{kind}/{name}": value for name, value in values.items()})

    def _line(self, value: Mapping[str, Any]) -> str:
        return json.dumps({**value, _CRC: _crc(self._run, value)}) + "\n"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of writing do not name the file."""
        try:
            yield
        except OSError as error:
            raise UserError(self._path, f"cannot be written: {error.strerror or error}") from error
