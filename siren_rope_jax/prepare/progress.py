"""Shows on a terminal which phase of preparing a log is running, and how far it is."""

import threading
from collections.abc import Callable

from tqdm import tqdm

PHASES = (
    "finding types",
    "reading events",
    "checking and splitting",
    "computing columns",
    "numbering values",
    "writing histories",
)
_SECONDS = 0.5  # between two looks at the engine


class PhaseBar:
    """A bar on stderr while it is entered, if that is a terminal; else nothing is shown."""

    def __init__(self, percent: Callable[[], float]) -> None:
        """Takes a function that says how far the engine's query is; negative if that is unknown."""
        self._percent = percent
        self._bar = tqdm(
            total=100.0,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}",
            disable=None,
            leave=False,
        )
        self._events = self._counted = 0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "PhaseBar":
        if not self._bar.disable:
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._watch.is_alive():
            self._watch.join()
        self._bar.close()

    def begin(self, phase: str, events: int = 0) -> None:
        """Begins one of `PHASES`; with `events`, how many of them `count` will say are done."""
        self._events, self._counted = events, 0
        self._bar.set_description_str(f"{1 + PHASES.index(phase)}/{len(PHASES)} {phase}", False)
        self._show(0.0)

    def count(self, events: int) -> None:
        """Says that so many more events are done."""
        self._counted += events

    def _look(self) -> None:
        while not self._ended.wait(_SECONDS):
            # The engine first sorts the events, all of which are then still to be counted.
            percent = 100.0 * self._counted / self._events if self._counted else self._percent()
            self._show(max(percent, 0.0))

    def _show(self, percent: float) -> None:
        self._bar.n = min(percent, 100.0)
        self._bar.refresh()
