"""When a training saves between its validations, and when it stops: after SIGTERM."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from siren_rope_jax.training.experiment import TrainingConfig


class Watch:
    """Watches the clock, and SIGTERM, by which machines that are taken away announce it.

    All processes of a run learn the same: of a signal to any of them by JAX's preemption service,
    which agrees on the step to end at; of the time every `log_every` steps.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._told = False
        self._before: Any = None
        self._saved_at = time.monotonic()

    def __enter__(self) -> "Watch":
        alone = jax.process_count() == 1  # of several processes, JAX takes the signal
        if alone and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._told = True

    def saved(self) -> None:
        """A checkpoint was saved, so that the next one is due later."""
        self._saved_at = time.monotonic()

    def look(self, step: int) -> tuple[bool, bool]:
        """Whether a checkpoint is due at a step, and whether to end with one."""
        every = self._config.checkpoint_steps
        due = every > 0 and step % every == 0
        late = time.monotonic() - self._saved_at >= 60 * self._config.checkpoint_minutes
        if jax.process_count() == 1:
            return due or late, self._told
        if step % self._config.log_every == 0:  # the clock of the main process counts
            due |= bool(multihost_utils.broadcast_one_to_all(np.array(late)))
        return due, multihost_utils.reached_preemption_sync_point(step)
