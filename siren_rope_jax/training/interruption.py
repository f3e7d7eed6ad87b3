"""When a training saves between its validations, and when it stops: after SIGTERM."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int

from siren_rope_jax.training.experiment import TrainingConfig


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """SIGTERM in this block says so and ends the program with status 0, closing what is open.

    A training in the block takes it itself, and saves first. Where there are several processes, or
    in another thread than the main one, nothing changes.
    """
    # Without looking at the devices, which may not be there: that is told later.
    if jax.distributed.is_initialized() or not _in_main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        print("received SIGTERM; the same command goes on", file=sys.stderr)
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Watch:
    """Watches the clock, and SIGTERM, by which machines that are taken away announce it.

    All processes of a run learn the same: of a signal to any of them by JAX's preemption service,
    which agrees on the step to end at; of the time by the clock of the main process, which also
    says at which step they look at it next.

    Attributes:
      ended: whether the training has ended by itself. A SIGTERM that came too late to end it is
        then sent once more, to what comes after it.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self.ended = self._asked_to_end = False
        self._before: Any = None
        self._saved_at = self._looked_at = time.monotonic()
        self._looked_step = self._next_look = -1  # the last at which several processes did

    def __enter__(self) -> "Watch":
        alone = jax.process_count() == 1  # of several processes, JAX takes the signal
        if alone and _in_main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            if self._asked_to_end and self.ended:
                signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked_to_end = True

    def saved(self) -> None:
        """A checkpoint was saved, so that the next one is due later."""
        self._saved_at = time.monotonic()

    def look(self, step: int) -> tuple[bool, bool]:
        """Whether a checkpoint is due at a step, and whether to end with one."""
        every = self._config.checkpoint_steps
        due = every > 0 and step % every == 0
        if jax.process_count() == 1:
            return due or self._seconds_left() <= 0, self._asked_to_end
        if step >= self._next_look:
            late, wait = map(int, multihost_utils.broadcast_one_to_all(self._plan(step)))
            due |= bool(late)
            self._next_look = step + wait
        return due, multihost_utils.reached_preemption_sync_point(step)

    def _seconds_left(self) -> float:
        """Until a checkpoint is due by the clock."""
        return 60 * self._config.checkpoint_minutes - (time.monotonic() - self._saved_at)

    def _plan(self, step: int) -> Int[np.ndarray, "2"]:
        """Whether a checkpoint is due by this clock, and after how many steps to look again."""
        left, now, first = self._seconds_left(), time.monotonic(), self._looked_step < 0
        each = (now - self._looked_at) / (step - self._looked_step)
        self._looked_at, self._looked_step = now, step
        wait = 1 if first or left <= 0 else int(min(left / each, self._config.log_every))
        return np.array([left <= 0, max(wait, 1)])
