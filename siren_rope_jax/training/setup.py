"""A training as a value: its step and the specs of what the step takes, before any data is read.

`setup(config, log, mesh).trace().lower().compile()` needs no event of the log, and
`setup(config, spec, mesh)` no log at all: a step can be compiled for a machine that is not there.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from jaxtyping import Array

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.pipeline import Batches
from siren_rope_jax.data.windows import Split, Targets
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.partition import Partition, TableRows
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds import kind_of
from siren_rope_jax.training.kinds.kind import Kind
from siren_rope_jax.training.mesh import (
    batch_parts,
    by_row,
    held_parts,
    parameter_shardings,
    replicated,
    state_shardings,
)
from siren_rope_jax.training.step import Step, TrainState

_LARGE_TABLE = 100_000  # rows


@dataclass(frozen=True)
class Setup:
    """A training, ready to be run or compiled. Made by `setup`.

    Attributes:
      config: of the experiment.
      data: what the model knows of the data.
      mesh: where it runs.
      log: the data; None: the step can be compiled, but not run.
      given_steps: batches to train on; None: as many as config and log say.
    """

    config: ExperimentConfig
    data: DataSpec
    mesh: Mesh
    log: PreparedLog | None = None
    given_steps: int | None = None

    @cached_property
    def kind(self) -> Kind:
        """The kind of experiment, made for the config."""
        return kind_of(self.config)

    @cached_property
    def model(self) -> Any:
        """The Flax module."""
        return self.kind.model(self.data, Partition(self.mesh))

    @cached_property
    def steps(self) -> int:
        """Batches to train on at most.

        Raises:
          UserError: as `training_steps`, or the train split is empty.
        """
        if self.given_steps is not None:
            return self.given_steps
        return training_steps(self.config, self.batches.epoch)

    @cached_property
    def _step(self) -> Step:
        flat = flatten_dict(self._boxed)
        tables = frozenset(path for path, x in flat.items() if isinstance(x, TableRows))
        return Step(self.kind, self.model, Partition(self.mesh), self.steps, tables)

    # Specs: shapes, dtypes and shardings of what the step takes

    @cached_property
    def param_specs(self) -> Any:
        """Of the parameters."""
        return _placed(nn.unbox(self._boxed), parameter_shardings(self._boxed, self.mesh))

    @cached_property
    def unpadded_specs(self) -> Any:
        """The same with tables [V, D] that nothing pads, on every device."""

        def unpadded(x: Any) -> jax.ShapeDtypeStruct:
            shape = x.unpadded() if isinstance(x, TableRows) else nn.unbox(x).shape
            return jax.ShapeDtypeStruct(shape, nn.unbox(x).dtype, sharding=replicated(self.mesh))

        return jax.tree.map(unpadded, self._boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))

    @property
    def undivided(self) -> list[str]:
        """Names of large tables that are whole on each of several devices."""
        if self.mesh.size == 1:
            return []
        specs = flatten_dict(self.param_specs)
        return sorted(
            "/".join(path[:-1])
            for path in self._step.tables
            if specs[path].sharding.is_fully_replicated
            and math.prod(specs[path].shape[:2]) >= _LARGE_TABLE
        )

    @property
    def parameters(self) -> int:
        """The number of trained scalars."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(self.unpadded_specs))

    @cached_property
    def _boxed(self) -> Any:
        return jax.eval_shape(self._draw, jax.random.key(0))

    @cached_property
    def state_specs(self) -> TrainState:
        """Of the whole state."""
        shapes = jax.eval_shape(self._step.first_state, self.param_specs)
        return _placed(shapes, state_shardings(shapes, self.param_specs, self.mesh))

    @cached_property
    def batch_specs(self) -> Any:
        """Of the global batch."""
        padding = self.kind.padding(self.data, self.config.data.batch_size)
        return _placed(padding, jax.tree.map(lambda _: by_row(self.mesh), padding))

    # What is compiled

    @cached_property
    def step(self) -> Any:
        """The `Step`, compiled when first called; the new state takes the old one's memory."""
        shardings = _shardings(self.state_specs), None
        return jax.jit(self._step.__call__, donate_argnums=0, out_shardings=shardings)

    def trace(self) -> jax.stages.Traced:
        """The step for these specs; `.lower().compile()` makes it a program for the mesh."""
        key = jax.eval_shape(jax.random.key, 0)
        others = (key, self.kind.statistics_specs(self.data))
        others = _placed(others, jax.tree.map(lambda _: replicated(self.mesh), others))
        return self.step.trace(self.state_specs, self.batch_specs, *others)

    # What is run

    def init_params(self, seed: int) -> Any:
        """Parameters drawn from `seed`, placed on the mesh."""
        draw = jax.jit(
            lambda key: nn.unbox(self._draw(key)), out_shardings=_shardings(self.param_specs)
        )
        return draw(jax.random.key(np.uint32(seed)))

    def init(self, seed: int) -> TrainState:
        """The state before the first step, placed on the mesh."""
        return self.init_from(self.init_params(seed))

    def init_from(self, params: Any) -> TrainState:
        """The same, with parameters from elsewhere."""
        first = jax.jit(self._step.first_state, out_shardings=_shardings(self.state_specs))
        return first(params)

    def key(self, seed: int) -> Array:
        """The key of a run, on every device."""
        return jax.jit(jax.random.key, out_shardings=replicated(self.mesh))(np.uint32(seed))

    @cached_property
    def statistics(self) -> Any:
        """Of the log's training split, on every device."""
        return self.statistics_of(None)

    def statistics_of(self, events: Events | None) -> Any:
        """The same of other events that are trained on."""
        return jax.device_put(self.kind.statistics(self._log, events), replicated(self.mesh))

    @cached_property
    def batches(self) -> Batches:
        """Of the log, for this process."""
        return self.kind.batches(self._log, held_parts(self.mesh), batch_parts(self.mesh))

    def score(self, params: Any, targets: Split | Targets) -> Any:
        """What the model says of every target event, of a split for example.

        Returns:
          as `TrainedRun.score`.

        Raises:
          UserError: there is no target.
        """
        return self.scorer(params, self.batches.evaluation(targets))

    def at_length(self, length: int) -> "Setup":
        """The same model, whose constants stay as they are, for rows of another length.

        Raises:
          UserError: it has parameters for every place of a row, such as learned positions.
        """
        data = dataclasses.replace(self.data, context_length=2 * self.data.context_length)
        if jax.tree.map(jnp.shape, self.unpadded_specs) != jax.tree.map(
            jnp.shape, dataclasses.replace(self, data=data).unpadded_specs
        ):
            about = f"{length}: {self.config.variant} has parameters for every place of a row"
            raise UserError("config.data.tested_lengths", f"{about}; leave this empty for it")
        other = dataclasses.replace(self.config, data=self.config.data.at_length(length))
        return dataclasses.replace(self, config=other)

    def validate(self, params: Any) -> dict[str, float]:
        """The chief metrics of the validation split."""
        return self.kind.validation(self._log.schema, self.score(params, "validation"))

    @cached_property
    def scorer(self) -> Any:
        """(params, batches) -> what the model says of their targets; compiled once."""
        return self.kind.scorer(self.model, self._log, self.mesh)

    @property
    def _log(self) -> PreparedLog:
        if self.log is None:
            raise ValueError("this setup has no log; it can be compiled, not run")
        return self.log

    def _draw(self, key: Array) -> Any:
        rows = batch_parts(self.mesh)
        return self.model.init(key, self.kind.padding(self.data, rows))["params"]


def setup(
    config: ExperimentConfig, data: PreparedLog | DataSpec, mesh: Mesh, steps: int | None = None
) -> Setup:
    """Sets up a training.

    Args:
      config: of the experiment.
      data: its prepared log; or what a model must know of one, which is enough to compile the step.
      mesh: the devices; they need not be there if the step is only compiled.
      steps: batches to train on; None: as many as config and log say, or 10,000 without a log.

    Raises:
      UserError: the config does not fit the log.
    """
    kind = kind_of(config)
    if isinstance(data, DataSpec):
        kind.check(data)
        return Setup(config, data, mesh, given_steps=10_000 if steps is None else steps)
    spec = kind.spec(data)
    kind.check(spec)
    return Setup(config, spec, mesh, kind.view(data), steps)


def training_steps(config: ExperimentConfig, epoch: int) -> int:
    """How many batches a run trains on at most: whole updates, and at least one.

    Args:
      config: of the run.
      epoch: batches in an epoch.

    Raises:
      UserError: there are fewer batches than one update takes, or more than a step can number.
    """
    steps, each = config.training.epochs * epoch, config.optimizer.accumulate
    if steps >= 2**31:
        raise UserError(
            "config.training.epochs",
            f"{config.training.epochs} of {epoch} batches each are more than 2^31; lower it",
        )
    steps = max(round(steps), 1)
    if steps < each:
        raise UserError(
            "config.optimizer.accumulate",
            f"is {each}, but the training has only {steps} batches ({epoch} in an epoch); lower "
            "it, or raise config.training.epochs",
        )
    return steps - steps % each


def _placed(arrays: Any, shardings: Any) -> Any:
    """The specs of arrays, or of specs, that live there."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arrays, shardings
    )


def _shardings(specs: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, specs)
