"""A trained model in the time after its training: it is asked, and learns, slice by slice.

From the end of training on, time is cut into slices. The model is asked about the events of a slice
and trained on them once, then it goes on to the next slice. So every event is asked about before it
is learned. Beside the present state of the model, earlier ones are asked about the same events: how
much does a model lose by standing still? Slices of the validation split are learned without being
counted, because the run's checkpoint was chosen there; those of the test split count.

The model knows all values of the log. The rows of those that its training had not seen begin as the
unknown row (`training/warm_start.py`). A loss with negatives among all items has those of items
that nobody has had yet among them, too.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.data.timeline import Timeline
from siren_rope_jax.training.loop import take_step
from siren_rope_jax.training.setup import Setup, setup
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.warm_start import warm_params

FROZEN = "frozen"
"""The name of the model as it was trained, which learns nothing more."""
_MOST_STEPS = 2**31 - 1


@dataclass(frozen=True)
class StreamConfig:
    """How a model goes on learning.

    Attributes:
      every: seconds of a slice.
      ages: earlier states that are asked beside the present one, in slices: 3 is the model as it
        was three slices ago.
      passes: how often the events of a slice are trained on before the next one.
      learning_rate: constant; 0: the run's peak.
      most: slices that count, after which the stream ends; 0: all of the test split.
    """

    every: int = 3600
    ages: tuple[int, ...] = ()
    passes: int = 1
    learning_rate: float = 0.0
    most: int = 0

    def __post_init__(self) -> None:
        check(self.every >= 1, "every", "at least 1 second")
        in_order = all(a < b for a, b in zip((0, *self.ages), self.ages, strict=False))
        check(in_order, "ages", "ascending numbers of slices, from 1")
        check(self.passes >= 1, "passes", "at least 1")
        check(self.most >= 0, "most", "at least 1, or 0 for all")
        check(0 <= self.learning_rate <= 1e30, "learning_rate", "above 0, or 0 for the run's own")


@dataclass(frozen=True)
class Slice:
    """What happened in a slice.

    Attributes:
      begin: of the slice, Unix seconds.
      scored: what every state of the model says of its targets, by age in slices ("0" is the
        present one) or `FROZEN`; empty if the slice does not count, or has no targets.
      steps: trained on it.
    """

    begin: int
    scored: dict[str, Any]
    steps: int


def stream(run: TrainedRun, config: StreamConfig) -> Iterator[Slice]:
    """Yields the slices after a run's training, in order, as they have been asked and learned.

    Raises:
      UserError: the log is not split by time, or the test split begins before there are models of
        all ages.
    """
    schema = run.log.schema
    if schema.protocol != "time":
        raise UserError(run.log.path, "is not split by time; a stream needs one global order")
    counted = -(-(schema.validation_end - schema.train_end) // config.every)
    if config.ages and config.ages[-1] > counted:
        oldest = f"{config.ages[-1]} slices of {config.every} s"
        few = f"validation has only {counted}, so no model of {oldest} could be asked from the "
        raise UserError("ages", f"{few}first test event; lower them, or prepare the log otherwise")
    training = _training(run, config)
    timeline, key = Timeline.of(run.log), training.key(run.config.seed)
    state = training.init_from(warm_params(training, run))
    frozen = _kept(state.params)
    states = deque([frozen], maxlen=max((0, *config.ages)) + 1)
    first = schema.validation_end - counted * config.every
    last = first + (counted + config.most) * config.every if config.most else schema.end + 1
    for number, begin in enumerate(range(first, min(last, schema.end + 1), config.every)):
        stop = begin + config.every
        targets = timeline.between(max(begin, schema.train_end), stop)
        scored, steps = {}, 0
        if training.batches.asks(targets):
            if number >= counted:
                asked = {str(age): states[-1 - age] for age in (0, *config.ages)}
                asked[FROZEN] = frozen
                batches = list(training.batches.evaluation(targets))
                scored = {name: training.scorer(own, batches) for name, own in asked.items()}
                if not len(scored[FROZEN].event):
                    scored = {}
            learned = timeline.events_between(max(begin, schema.train_end), stop)
            statistics = training.statistics_of(learned)
            for turn in range(config.passes):
                seed = (run.config.seed * 7919 + number * config.passes + turn) % 2**32
                for batch in training.batches.one_pass(targets, seed):
                    state, metrics = take_step(training, state, batch, key, statistics)
                    steps += 1
            if not np.isfinite(loss := float(metrics["loss"])):
                raise UserError("learning_rate", f"makes the loss {loss}; lower it")
        states.append(_kept(state.params))
        yield Slice(begin, scored, steps)


def _training(run: TrainedRun, config: StreamConfig) -> Setup:
    """The run's training for a model that knows all values, at a constant learning rate."""
    own = run.config.optimizer
    optimizer = replace(
        own,
        learning_rate=config.learning_rate or own.learning_rate,
        warmup_fraction=0.0,
        final_fraction=1.0,
        accumulate=1,
    )
    of_run = replace(run.config, optimizer=optimizer)
    return setup(of_run, run.log.with_all_values(), run.setup.mesh, _MOST_STEPS)


def _kept(params: Any) -> Any:
    """A copy, since a step takes the memory of the state that it is given."""
    return jax.tree.map(jnp.copy, params)
