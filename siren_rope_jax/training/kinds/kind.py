"""What a kind of experiment is: one class that says what is predicted, and all that follows.

The training loop, the evaluation, the reports and the pictures know no kind by name; they ask this
class. A new kind is one file beside this one, and its entry in `KINDS`.
"""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from siren_rope_jax.data.assemble import Layout, data_spec
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.pipeline import Batches
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.metrics.bootstrap import Columns
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.training.experiment import ExperimentConfig

Config = TypeVar("Config", bound=ExperimentConfig)
Metrics = dict[str, Any]
"""Metric -> number; None where it is undefined."""


class Metric(NamedTuple):
    """How a metric is shown.

    Attributes:
      label: in tables.
      unit: on axes; empty for a number without a unit.
      higher_is_better: False: lower is better.
      uninformed: what a constant prediction of the base rate has; None: it depends on the events.
    """

    label: str
    unit: str = ""
    higher_is_better: bool = False
    uninformed: float | None = None

    @property
    def axis(self) -> str:
        """The label of its axis."""
        direction = f"{'higher' if self.higher_is_better else 'lower'} is better"
        return f"{self.unit} ({direction})" if self.unit else direction


class Kind(abc.ABC, Generic[Config]):
    """A kind of experiment, made for one config.

    What is measured, and how it is shown, is said by class attributes and class methods, which need
    no config of ours: another library's model is measured and shown by the same code.

    Attributes:
      name: in configs, as `kind`.
      config_class: of its experiments.
      measured: the key of what `measure` returns in result.json.
      by_task: whether `measure` and `measure_slice` return task -> metrics instead of metrics.
        Tables and pictures then have a part for each task.
      metrics: all that tables show, in order; of a part, those that `measure` returns for it.
      shown: the metrics of the main table, and of the terminal.
      compared: the metrics whose differences between models have intervals, where a part has
        them. `resampled` yields all of them.
      primary: the one of these that decides in studies and pictures, which all parts have.
      chief: the few metrics of progress lines, learning curves and pictures of groups.
      slices: how events are grouped: a name of `evaluation.slices.SLICES` -> the metrics in the
        report's table of these groups; no table if there are none.
      baselines: the simple predictors beside the model, a name of
        `evaluation.baselines.families.FAMILIES`.
      glossary: explains the metrics below the report's title.
      decisive: the config keys that decide what is measured; compared models must agree on them.
      column: a fact that tables show of every model: its key in `facts`, and its heading.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[ExperimentConfig]]
    measured: ClassVar[str]
    by_task: ClassVar[bool] = False
    metrics: ClassVar[Mapping[str, Metric]]
    shown: ClassVar[tuple[str, ...]]
    compared: ClassVar[tuple[str, ...]]
    primary: ClassVar[str]
    chief: ClassVar[tuple[str, ...]]
    slices: ClassVar[Mapping[str, tuple[str, ...]]]
    baselines: ClassVar[str] = ""
    glossary: ClassVar[str]
    decisive: ClassVar[tuple[str, ...]] = ()
    column: ClassVar[tuple[str, str] | None] = None

    def __init__(self, config: Config) -> None:
        self.config = config

    @abc.abstractmethod
    def check(self, data: DataSpec) -> None:
        """Refuses data that the experiment does not fit."""

    def view(self, log: PreparedLog) -> PreparedLog:
        """The log as the experiment sees it."""
        return log

    def spec(self, log: PreparedLog) -> DataSpec:
        """What the model must know of a log."""
        return data_spec(log, self.config.data.length)

    @property
    @abc.abstractmethod
    def layout(self) -> Layout:
        """How histories become batches."""

    def batches(self, log: PreparedLog, held: tuple[int, ...], parts: int) -> Batches:
        """The batches of a log, or these of several equal parts of each."""
        return Batches(log, self.config.data, self.layout, held, parts)

    @abc.abstractmethod
    def model(self, data: DataSpec, partition: Partition = WHOLE) -> Any:
        """The Flax module, whose arrays live there."""

    @abc.abstractmethod
    def padding(self, data: DataSpec, rows: int) -> Any:
        """A batch without events, which has the shapes and dtypes of all."""

    def statistics(self, log: PreparedLog, events: Events | None = None) -> Any:
        """What the loss must know of all events that are trained on: a tree of arrays.

        Args:
          log: the data.
          events: which are trained on; None: the train split.
        """
        return {}

    def statistics_specs(self, data: DataSpec) -> Any:
        """A tree of the same shapes and dtypes, made without a log."""
        return {}

    @abc.abstractmethod
    def loss(
        self, model: Any, variables: Any, batch: Any, key: Array, statistics: Any
    ) -> tuple[Array, Array]:
        """The mean training loss of a batch in nats, and of how many labels it is the mean.

        Args:
          model: the Flax module.
          variables: its parameters, as {"params": ...}, and perhaps rows of tables.
          batch: some rows of events.
          key: draws dropout and negatives.
          statistics: of the whole training split.
        """

    def asked_rows(self, model: Any, batch: Any, key: Array) -> dict[tuple[str, ...], list[Array]]:
        """The ids that `loss` asks of the tables with these arguments, by the paths of modules."""
        asked: dict[tuple[str, ...], list[Array]] = {}
        unknown = [jnp.zeros(1, jnp.int32)] * bool(model.config.unknown_rate)
        ids = model.data.by_feature(batch.categorical)
        for table, own in zip(model.table_names, ids.values(), strict=True):
            asked[table,] = [own, *unknown]
        return asked

    def check_row_wise(self, table: tuple[str, ...], key: str) -> None:
        """Refuses a loss that needs all rows of a table, for this key of the optimiser."""

    @property
    @abc.abstractmethod
    def criterion(self) -> tuple[str, bool]:
        """The metric of `validation` that chooses the best checkpoint; whether higher is better."""

    @abc.abstractmethod
    def scorer(
        self, model: Any, log: PreparedLog, mesh: Mesh
    ) -> Callable[[Any, Iterable[Any]], Any]:
        """(params, batches) -> what the model says of their target events; compiled once.

        The scores are a named tuple of arrays by event, on the host; `event` holds global indices.
        """

    @abc.abstractmethod
    def validation(self, schema: Schema, scores: Any) -> dict[str, float]:
        """The chief metrics of the validation split, by `validation_key`, and the criterion."""

    @classmethod
    @abc.abstractmethod
    def columns(cls, schema: Schema, events: Events, scores: Any) -> dict[str, np.ndarray]:
        """What predictions.parquet holds beside the events; masked values become null."""

    @classmethod
    @abc.abstractmethod
    def measure(cls, schema: Schema, events: Events, scores: Any) -> Metrics:
        """What result.json holds as `measured`, and for every baseline."""

    @classmethod
    @abc.abstractmethod
    def measure_slice(cls, schema: Schema, events: Events, scores: Any) -> Metrics:
        """The few metrics of a group of events, by part, to six digits.

        Each part has `count`, which pictures and tables ask for. A kind of probabilities with the
        slice "day" has `rate` and `mean_score` too, for the picture of calibration by day.
        """

    @classmethod
    def facts(cls, schema: Schema, config: Mapping[str, Any]) -> dict[str, Any]:
        """What else result.json says of the evaluation, from the run's config as JSON values."""
        return {}

    @classmethod
    @abc.abstractmethod
    def resampled(cls, part: str, measured: Metrics) -> Columns:
        """The columns of predictions.parquet from which the metrics of a part are resampled.

        `measured` are its metrics, which tell tasks of different types apart.
        """

    @classmethod
    @abc.abstractmethod
    def rule(cls, result: Mapping[str, Any]) -> str:
        """What was measured on what, without which the metrics mean little."""

    @classmethod
    def targets(cls, config: Mapping[str, Any]) -> str:
        """Sentences that say which events are not targets; empty if all events are."""
        return ""

    @classmethod
    def parts(cls, result: Mapping[str, Any]) -> list[str]:
        """The tasks of a result or, if it is not by task, a single part without a name."""
        return list(result[cls.measured]) if cls.by_task else [""]

    @classmethod
    def part(cls, measured: Mapping[str, Any], name: str) -> Metrics:
        """The metrics of one part of what `measure` or `measure_slice` returned."""
        return measured.get(name, {}) if cls.by_task else dict(measured)

    @classmethod
    def applying(
        cls, metrics: Sequence[str], result: Mapping[str, Any], part: str
    ) -> tuple[str, ...]:
        """Those of some metrics that a part of a result has."""
        measured = cls.part(result[cls.measured], part)
        return tuple(metric for metric in metrics if metric in measured)


def titled(part: str, text: str) -> str:
    """A text about a part, which begins with the part's name if it has one."""
    return f"{part}: {text}" if part else text


def validation_key(part: str, metric: str) -> str:
    """The key of a metric of the validations, in metrics.jsonl."""
    return f"{metric}/{part}" if part else metric
