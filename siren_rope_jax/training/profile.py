"""A trace of some training steps, for XProf or TensorBoard: what the host and the devices did when.

pip install xprof
xprof --logdir=WORKDIR/profile
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax

from siren_rope_jax.training.processes import is_main


class Profile:
    """Traces steps on the main process, with its devices; what was begun is written at any end."""

    def __init__(self, steps: Sequence[int], directory: Path, finish: Callable[[], None]) -> None:
        """Traces from the first of the two steps to the last one, which count from 1.

        Args:
          steps: the two, or nothing.
          directory: where each trace gets a folder of its own.
          finish: waits until the devices have done what was dispatched.
        """
        self._steps = range(steps[0], steps[1] + 1) if steps and is_main() else range(0)
        self._directory, self._finish = directory, finish
        self._begun = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self._end()

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Wraps a step; traces it if it is one of those."""
        if number not in self._steps:
            yield
            return
        if not self._begun:
            self._finish()
            jax.profiler.start_trace(self._directory)
            self._begun = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
        if number == self._steps[-1]:
            self._finish()
            self._end()

    def _end(self) -> None:
        self._begun = False
        jax.profiler.stop_trace()
