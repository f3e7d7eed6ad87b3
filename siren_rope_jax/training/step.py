"""One training step: a pure function of a state and a batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.tables import TOUCHED
from siren_rope_jax.training.gradients import by_slices, loss_and_gradient
from siren_rope_jax.training.kinds.kind import Kind
from siren_rope_jax.training.mesh import fits, path_name
from siren_rope_jax.training.optim import (
    check_frozen,
    clipping,
    decays,
    freeze,
    learning_rate,
    make_optimizer,
)
from siren_rope_jax.training.row_wise import RowWise, Touched, touch, update

Path = tuple[str, ...]


@flax.struct.dataclass
class TrainState:
    """What a step changes."""

    step: Array
    params: Any
    optimizer_state: Any


@dataclass(frozen=True)
class Step:
    """The step of an experiment.

    Attributes:
      kind: of experiment.
      model: its Flax module.
      partition: where arrays live.
      steps: of the whole training.
      tables: paths of the parameters that are tables.
    """

    kind: Kind
    model: Any
    partition: Partition
    steps: int
    tables: frozenset[Path]

    def first_state(self, params: Any) -> TrainState:
        """The state before the first step."""
        rows, others = self._apart(params)
        keys = [tuple(map(jax.tree_util.DictKey, path)) for path in self.row_wise]
        check_frozen(self._config.optimizer, params, keys)
        state = self.optimizer.init(others)
        if self.row_wise:
            of_rows = {path: rule.first_state(rows[path]) for path, rule in self.row_wise.items()}
            state = {"others": state, "rows": unflatten_dict(of_rows)}
        return TrainState(jnp.zeros((), jnp.int32), params, state)

    def __call__(
        self, state: TrainState, batch: Any, key: Array, statistics: Any
    ) -> tuple[TrainState, dict[str, Array]]:
        """Returns the new state and the step's metrics.

        Args:
          state: before the step.
          batch: as the kind of experiment takes it.
          key: of the run; the step's number is folded in.
          statistics: of the training split, as the loss takes them.
        """
        key = jax.random.fold_in(key, state.step)
        tables, others = self._apart(state.params)
        touched = {}
        if self.row_wise:
            asked = self._asked(batch, key)
            touched = {p: touch(tables[p], asked[p[:-1]], self.partition) for p in tables}
        variables = {"others": others, "rows": {p: t.rows.values for p, t in touched.items()}}
        loss, gradients = self._gradient(variables, batch, key, (statistics, touched))
        norm = optax.tree.norm(gradients)
        metrics = {"loss": loss, "gradient_norm": norm, "events": (batch.segment > 0).sum()}
        if not self.row_wise:
            inner = state.optimizer_state
            updates, inner = self.optimizer.update(gradients["others"], inner, others)
            params = optax.apply_updates(others, updates)
            return TrainState(state.step + 1, params, inner), metrics
        gradients, _ = clipping(self._config.optimizer).update(gradients, optax.EmptyState())
        inner = state.optimizer_state["others"]
        updates, inner = self.optimizer.update(gradients["others"], inner, others)
        others = optax.apply_updates(others, updates)
        tables, of_rows = self._updated(state, tables, touched, gradients["rows"])
        params = unflatten_dict(flatten_dict(others) | tables)
        inner = {"others": inner, "rows": of_rows}
        return TrainState(state.step + 1, params, inner), metrics

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Of all parameters but the row-wise tables."""
        return make_optimizer(self._config.optimizer, self.steps)

    @cached_property
    def row_wise(self) -> Mapping[Path, RowWise]:
        """The tables of which only the touched rows are updated, and how.

        Raises:
          UserError: a glob fits no table, or the loss needs all rows of one.
        """
        found: dict[Path, RowWise] = {}
        names = {path: tuple(map(jax.tree_util.DictKey, path[:-1])) for path in self.tables}
        for glob, rule in self._config.optimizer.row_wise:
            fitting = [path for path, name in names.items() if fits(name, glob)]
            if not fitting:
                all_names = ", ".join(sorted(map(path_name, names.values())))
                about = f"{glob!r} fits none of the tables {all_names}"
                raise UserError(f"config.optimizer.{rule.kind}", about)
            if twice := found.keys() & set(fitting):
                names_twice = ", ".join("/".join(path[:-1]) for path in twice)
                about = f"another rule has {names_twice}, too"
                raise UserError(f"config.optimizer.{rule.kind}", about)
            found |= dict.fromkeys(sorted(fitting), rule)
        for path, rule in found.items():
            self.kind.check_row_wise(path, rule.kind)
        return found

    @property
    def _config(self) -> Any:
        return self.kind.config

    @cached_property
    def _gradient(self) -> Callable[..., tuple[Array, Any]]:
        slices, parts = self._config.training.slices, self.partition.parts("batch")
        if (rows := self._config.data.batch_size) % (slices * parts):
            about = f"is {slices}, but {rows} rows cannot be divided by that on each of {parts}"
            raise UserError("config.training.slices", f"{about} parts of a batch; lower it")
        return loss_and_gradient(self._loss, slices)

    def _loss(self, variables: Any, batch: Any, key: Array, constants: Any) -> tuple[Array, Array]:
        """The mean loss of a batch, and of how many labels it is the mean."""
        statistics, touched = constants
        rows = {
            (*path[:-1], "rows"): replace(of_table.rows, values=variables["rows"][path])
            for path, of_table in touched.items()
        }
        params = freeze(self._config.optimizer, variables["others"])
        given = {"params": params, TOUCHED: unflatten_dict(rows)}
        return self.kind.loss(self.model, given, batch, key, statistics)

    def _asked(self, batch: Any, key: Array) -> dict[Path, list[Array]]:
        """The ids that the loss asks of each table, by the path of its module."""
        asked = partial(self.kind.asked_rows, self.model)
        return by_slices(asked, self._config.training.slices)(batch, key)

    def _updated(
        self,
        state: TrainState,
        tables: Mapping[Path, Array],
        touched: Mapping[Path, Touched],
        gradients: Mapping[Path, Array],
    ) -> tuple[dict[Path, Array], Any]:
        """The row-wise tables after the step, and what their optimisers keep."""
        config, changed = self._config.optimizer, {}
        hyper = state.step, learning_rate(config, self.steps)(state.step)
        decaying = flatten_dict(decays(config, state.params))
        kept = flatten_dict(state.optimizer_state["rows"])
        states = {}
        for path, rule in self.row_wise.items():
            decay = config.weight_decay if decaying[path] else 0.0
            own = {at[-1]: x for at, x in kept.items() if at[:-1] == path}
            changed[path], states[path] = update(
                rule,
                tables[path],
                own,
                touched[path],
                gradients[path],
                hyper,
                decay,
                self.partition,
            )
        return changed, unflatten_dict(states)

    def _apart(self, params: Any) -> tuple[dict[Path, Array], Any]:
        """The row-wise tables, and all other parameters."""
        if not self.row_wise:
            return {}, params
        flat = flatten_dict(params)
        tables = {path: flat.pop(path) for path in self.row_wise}
        return tables, unflatten_dict(flat)
