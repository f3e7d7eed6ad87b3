"""How long a trained ranker takes to answer, with cached histories and with full passes."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.history_cache import HistoryCache
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.studies.benchmark import machine, measured, ratios
from siren_rope_jax.studies.contestants import Contestant
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun

WEEK = 168
"""Hours at which a sweep asks."""
_TOGETHER = 8
"""Rows of a batch of full passes: their time for each candidate is then less than alone."""


@dataclass(frozen=True)
class Latency:
    """What was measured: seconds by round.

    Attributes:
      machine: what it was measured on.
      encode: history -> its encoding.
      append: history -> one more event.
      score: (history, candidates) -> scores of these.
      full: history -> a full pass for each candidate, of those in a batch of some.
      sweep: history -> scores of `swept` candidates at every hour of a week.
      swept: candidates of a sweep.
    """

    machine: dict[str, Any]
    encode: dict[int, list[float]]
    append: dict[int, list[float]]
    score: dict[tuple[int, int], list[float]]
    full: dict[int, list[float]]
    sweep: dict[int, list[float]]
    swept: int

    def speedup(self, history: int, candidates: int) -> list[float]:
        """Full passes for these candidates over scores from the cache, by round."""
        full = [candidates * seconds for seconds in self.full[history]]
        return ratios(full, self.score[history, candidates])

    def as_text(self) -> str:
        """A table of medians in milliseconds, one row for each history."""
        counts = sorted({candidates for _, candidates in self.score})
        header = ["history", "encode", "append 1", *(f"score {n:,}" for n in counts)]
        header += [f"sweep {self.swept:,} x {WEEK} h", "full pass each", "speed-up at 1,000"]
        lines = [", ".join(f"{name} {value}" for name, value in self.machine.items()), ""]
        lines += [f"| {' | '.join(header)} |", f"|{'---:|' * len(header)}"]
        for history in self.encode:
            seconds = [self.encode[history], self.append[history]]
            seconds += [self.score[history, n] for n in counts]
            seconds += [self.sweep[history], self.full[history]]
            cells = [f"{1e3 * statistics.median(s):,.2f}" for s in seconds]
            times = "–"
            if 1_000 in counts:
                low, middle, high = np.quantile(self.speedup(history, 1_000), [0.25, 0.5, 0.75])
                times = f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"
            lines.append(f"| {history:,} | {' | '.join(cells)} | {times} |")
        return "\n".join([*lines, "", "Milliseconds; medians over the rounds, and quartiles."])


def latency(
    config: ExperimentConfig,
    histories: Sequence[int],
    candidates: Sequence[int],
    swept: int,
    rounds: int,
) -> Latency:
    """Measures one user's requests to a ranker with untrained parameters, on one device.

    Args:
      config: of the experiment; its data are the built-in feed, whatever its data.path.
      histories: numbers of events.
      candidates: numbers of candidates.
      swept: candidates of a sweep over a week.
      rounds: how often everything is measured, in turn.

    Raises:
      UserError: the config is not of a ranker.
    """
    if config.kind != "ranking":
        raise UserError("config.kind", f"is {config.kind}; only ranking can be measured")
    mesh = make_mesh(config.mesh, make_mesh().devices.flat[:1].tolist())
    contestants: dict[str, Contestant] = {}
    with tempfile.TemporaryDirectory() as directory:
        for history in histories:
            path = Path(directory) / f"feed_{history}"
            most = max(history + 2, 40)
            generate(SyntheticConfig(num_users=40, events_per_user=most, num_items=1_000), path)
            log = PreparedLog.open(path)
            data = replace(config.data, length=history + 2, stride=1, path=str(path))
            training = setup(replace(config, data=data), log, mesh)
            run = TrainedRun(training, log, training.init_params(0), 0, Progress())
            of_history = _contestants(run, log.history(0), history, candidates, swept)
            contestants |= {f"{name} {history}": c for name, c in of_history.items()}
        samples = measured(contestants, rounds, 0.2)

    def by_history(name: str) -> dict[int, list[float]]:
        return {history: samples[f"{name} {history}"] for history in histories}

    return Latency(
        machine(mesh, {}),
        by_history("encode"),
        by_history("append"),
        {(h, n): samples[f"score {n} {h}"] for h in histories for n in candidates},
        {h: [s / _TOGETHER for s in seconds] for h, seconds in by_history("full").items()},
        by_history("sweep"),
        swept,
    )


def _contestants(
    run: TrainedRun, events: np.ndarray, history: int, candidates: Sequence[int], swept: int
) -> dict[str, Contestant]:
    """What is measured with a history of one user."""
    past, later, asked = events[:history], events[history : history + 1], events[-1:]
    cache = HistoryCache.of(run, [past])
    piece = [(row, events[: history + 1], 0) for row in range(_TOGETHER)]
    batch = cache.batch(piece, (_TOGETHER, run.config.data.length))
    hours = np.repeat(asked, swept * WEEK)
    hours["time"] += np.tile(np.arange(WEEK), swept) * 3_600
    found: dict[str, Callable[[], Any]] = {
        "encode": lambda: HistoryCache.of(run, [past]).variables,
        "append": lambda: cache.extended([later]).variables,
        "full": lambda: run.compiled(_full)(run.params, batch),
        "sweep": lambda: cache.predictions([hours]),
    }
    for count in candidates:
        found[f"score {count}"] = partial(cache.predictions, [np.repeat(asked, count)])
    return {name: Contestant(_calls(function)) for name, function in found.items()}


def _calls(function: Any) -> Any:
    def run(calls: int) -> None:
        for _ in range(calls):
            jax.block_until_ready(function())

    return run


def _full(model: Any, params: Any, batch: Any) -> Any:
    return jax.nn.sigmoid(model.apply({"params": params}, batch))
