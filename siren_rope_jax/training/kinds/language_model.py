"""Language modelling: which token follows? The next-item model over the tokens of texts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.data.windows import window_start
from siren_rope_jax.metrics.bits import BIT_METRICS, BitColumns, metrics_of_tokens
from siren_rope_jax.models.batch import DataSpec, NextItemBatch
from siren_rope_jax.models.losses import LossConfig
from siren_rope_jax.models.retriever import Retriever, RetrieverConfig
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.kind import Metric, Metrics
from siren_rope_jax.training.kinds.next_item import NextItem
from siren_rope_jax.training.rank_scorer import RankScorer


@dataclass(frozen=True, kw_only=True)
class LanguageExperiment(ExperimentConfig):
    """Predicts every next token of a corpus; the tokens are the items of the next-item model."""

    model: RetrieverConfig
    kind: Literal["language_model"] = "language_model"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(not self.model.repeat, "model.repeat", "False for texts")
        check(not self.model.item_features, "model.item_features", "empty for texts")


class Predicted(NamedTuple):
    """Tokens with what the model said of them, on the host.

    Attributes:
      event: global index of the token.
      rank: of the token among all; 1 is best.
      nll: -log of its probability, in nats.
      length: in bytes.
      context: how many tokens before it the model saw.
    """

    event: Int[np.ndarray, " N"]
    rank: Int[np.ndarray, " N"]
    nll: Float[np.ndarray, " N"]
    length: Int[np.ndarray, " N"]
    context: Int[np.ndarray, " N"]


class LanguageModel(NextItem[LanguageExperiment]):
    """The next token of every token of a text but the last; the criterion is the bits per byte."""

    name = "language_model"
    config_class = LanguageExperiment
    measured = "text"
    metrics: ClassVar = {
        "bpb": Metric("BPB", "bits per byte"),
        "nll": Metric("NLL", "nats"),
        "accuracy": Metric("accuracy", higher_is_better=True),
    }
    shown = BIT_METRICS
    compared = BIT_METRICS
    primary = "bpb"
    chief = ("bpb",)
    slices: ClassVar = {"context": ("bpb",), "column": ("bpb",)}
    glossary = (
        "Users are texts here, items the tokens of the vocabulary, events those of the texts. "
        "BPB: bits per byte, the NLL of all tokens over their bytes and log 2 (lower is better). "
        "NLL: mean negative log-likelihood of a token, in nats. Accuracy: the share of tokens that "
        "the model holds the most probable. The signals of a token, such as its column, are known "
        "when it is asked for, and so turn the query, in all models that use any."
    )

    def check(self, data: DataSpec) -> None:
        if self.config.data.target_task:
            raise UserError("config.data.target_task", "is for next-item retrieval; leave it empty")

    def spec(self, log: PreparedLog) -> DataSpec:
        if log.schema.protocol != "by_user" or not log.schema.counts:
            problem = "is no corpus of texts; prepare one, as with configs/data/stdlib.py"
            raise UserError("config.data.path", f"{log.path} {problem}")
        return super().spec(log)

    @property
    def loss_config(self) -> LossConfig:
        """The cross-entropy of the next tokens, all of which are known."""
        return LossConfig()

    def check_row_wise(self, table: tuple[str, ...], key: str) -> None:
        problem = "the softmax over all tokens needs all rows; leave it empty"
        raise UserError(f"config.optimizer.{key}", problem)

    @property
    def criterion(self) -> tuple[str, bool]:
        return "bpb", False

    def scorer(
        self, model: Retriever, log: PreparedLog, mesh: Mesh
    ) -> Callable[[Any, Iterable[NextItemBatch]], Predicted]:
        """The rank and the NLL of every token that is asked for."""
        rank = RankScorer(model, log, False, mesh)
        values = log.vocabulary(log.schema.categorical[0].name)["value"].to_pylist()
        lengths = np.array([0, *map(len, values)], np.int32)
        items = log.events().rows[f"categorical/{log.schema.categorical[0].name}"]
        data = self.config.data

        def score(params: Any, batches: Iterable[NextItemBatch]) -> Predicted:
            ranked = rank(params, batches)
            user = np.searchsorted(log.offsets, ranked.event, side="right") - 1
            number = ranked.event - log.offsets[user]
            context = number - window_start(number, data.length + 1, data.stride)
            return Predicted(*ranked, lengths[items[ranked.event]], context.astype(np.int32))

        return score

    def validation(self, schema: Schema, scores: Predicted) -> dict[str, float]:
        measured = metrics_of_tokens(scores.nll, scores.rank == 1, scores.length)
        return {name: measured[name] for name in BIT_METRICS}  # type: ignore[misc]

    @classmethod
    def columns(cls, schema: Schema, events: Events, scores: Predicted) -> dict[str, np.ndarray]:
        """The token's rank, NLL and length, and how many tokens before it were seen."""
        return {
            "rank": scores.rank.astype(np.int32),
            "nll": scores.nll.astype(np.float32),
            "length": scores.length,
            "context": scores.context,
        }

    @classmethod
    def measure(cls, schema: Schema, events: Events, scores: Predicted) -> Metrics:
        return metrics_of_tokens(scores.nll, scores.rank == 1, scores.length)

    @classmethod
    def measure_slice(cls, schema: Schema, events: Events, scores: Predicted) -> Metrics:
        values = cls.measure(schema, events, scores)
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in values.items()
        }

    @classmethod
    def resampled(cls, part: str, measured: Metrics) -> BitColumns:
        return BitColumns("nll", "rank", "length")

    @classmethod
    def rule(cls, result: Mapping[str, Any]) -> str:
        """What was predicted, from how much context."""
        metrics, data = result["text"], result["config"]["data"]
        least = data["length"] - data["stride"] + 1
        return (
            f"{metrics['count']:,} {result['split']} tokens of {metrics['bytes']:,} bytes, each "
            f"after at least {least} tokens or all that its text has before it"
        )

    @classmethod
    def targets(cls, config: Mapping[str, Any]) -> str:
        return "The first token of a text is not a target."
