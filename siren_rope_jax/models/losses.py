"""Training losses: of labels, and of next-item retrieval: which of all items follows?

A score is the dot product of a query and an item's row of the table; a model normalises and
divides by its temperature before. Row 0 is the unknown item: never a candidate, never a target.
Scores, losses and sums over items are float32 whatever the dtype of the inputs; how exact the
products are that make a score, an accelerator's default precision says (JAX's
`jax_default_matmul_precision`).

Letters: N positions, V rows of the table (0 included, and those that pad it), D width, M negatives
per position, C candidates that all positions share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import check
from siren_rope_jax.models.blocked_scores import rowwise
from siren_rope_jax.models.division import Rows, rows_of
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.repeat import RepeatedTarget
from siren_rope_jax.models.tables import gathered_scores, log_partition, lookup
from siren_rope_jax.models.tasks import Task, losses_of

# The options that each kind of loss heeds, beside `kind` itself.
_HEEDED = {
    "full_softmax": {"label_smoothing", "block_elements"},
    "sampled_softmax": {"negatives", "sampler", "log_q", "block_elements"},
    "gbce": {"negatives", "gbce_t", "block_elements"},
    "bce": {"negatives", "block_elements"},
}


@dataclass(frozen=True)
class LossConfig:
    """What is minimised over the table's items. An option its kind does not heed is refused.

    Attributes:
      kind: "full_softmax": cross-entropy over all items. "sampled_softmax": over the target and
        negatives. "bce": binary cross-entropy of the target and uniform negatives (SASRec).
        "gbce": the same with the target's probability to the power beta, which undoes the
        overconfidence that few negatives cause (gSASRec; Petrov & Macdonald 2023).
      negatives: M, drawn uniformly from all items, with replacement. In-batch sampling takes what
        the batch holds.
      sampler: of the sampled softmax. "uniform": anew for every position. "shared": once for all
        positions of a batch (of a slice, with training.slices), which makes a matrix product of
        what else is M gathered rows for each of them; take some thousand. "in_batch": the targets
        of the batch's other histories, which are drawn by popularity; those of a history's own tell
        of its user.
      log_q: subtracts from every negative's score the log of how often it is expected among the
        negatives, so that the sampled softmax estimates the full one (Bengio & Senecal 2008). The
        estimate of the sum is unbiased; its log is too low, the more so with few negatives.
      label_smoothing: share of the target's weight spread over all items (full softmax).
      gbce_t: gSASRec's t in 0..1: from plain binary cross-entropy (0) to probabilities calibrated
        as the full softmax's (1).
      block_elements: bound on the largest temporary of a device, in elements (logits of a block,
        or gathered rows); what exceeds it is computed block by block, and once more for the
        gradient. On a CPU, blocks near the size of its caches are the fastest, faster than a single
        one; an accelerator may prefer larger ones.
    """

    kind: Literal["full_softmax", "sampled_softmax", "gbce", "bce"] = "full_softmax"
    negatives: int = 128
    sampler: Literal["uniform", "shared", "in_batch"] = "uniform"
    log_q: bool = True
    label_smoothing: float = 0.0
    gbce_t: float = 0.75
    block_elements: int = 2**22

    def __post_init__(self) -> None:
        check(self.negatives >= 1, "negatives", "at least 1")
        check(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        check(0 <= self.gbce_t <= 1, "gbce_t", "in 0..1")
        check(self.block_elements >= 1, "block_elements", "at least 1")
        heeded, choice = _HEEDED[self.kind] | {"kind"}, f"kind = {self.kind}"
        if self.sampler == "in_batch" and "sampler" in heeded:
            heeded, choice = heeded - {"negatives"}, "sampler = in_batch"
        for option in fields(self):
            is_default = getattr(self, option.name) == option.default
            right = f"left at {option.default!r}: {choice} does not use it"
            check(option.name in heeded or is_default, option.name, right)

    @property
    def needs_key(self) -> bool:
        """Whether negatives are drawn."""
        return self.kind != "full_softmax" and self.sampler != "in_batch"

    @property
    def needs_item_counts(self) -> bool:
        """Whether the items' frequencies are asked for."""
        return self.kind == "sampled_softmax" and self.sampler == "in_batch" and self.log_q

    @property
    def is_nll(self) -> bool:
        """Whether the loss is the NLL among all items, or estimates it."""
        return self.learns_probabilities and self.label_smoothing == 0

    @property
    def learns_probabilities(self) -> bool:
        """Whether the softmax of the scores is what the model holds probable: its NLL has sense."""
        return self.kind == "full_softmax" or (self.kind == "sampled_softmax" and self.log_q)


def ranking_loss(
    tasks: Sequence[Task],
    output: Float[Array, "B L O"],
    labels: Float[AnyArray, "B L T"],
    mask: Bool[AnyArray, "B L T"],
) -> Float[Array, ""]:
    """Mean of the tasks' losses, in nats, over all labels that count."""
    return _masked_mean(losses_of(tasks, output, labels), mask)


def retrieval_loss(
    config: LossConfig,
    q_NxD: Float[Array, "N D"],
    table: Float[AnyArray, "V D"] | Rows,
    target_N: Int[AnyArray, " N"],
    mask_N: Bool[AnyArray, " N"],
    *,
    item_counts: Float[AnyArray, " V"] | None = None,
    key: Key[Array, ""] | None = None,
    repeat: RepeatedTarget | None = None,
    history_N: Int[AnyArray, " N"] | None = None,
    items: int | None = None,
    partition: Partition = WHOLE,
) -> Float[Array, ""]:
    """Mean loss in nats over the positions that count; 0 if there are none.

    Args:
      config: which loss.
      q_NxD: queries; those of positions that do not count may hold anything, and get no gradient.
      table: one row per item, row 0 of the unknown one; or some of these rows, if they are all that
        the loss asks for.
      target_N: the item that followed.
      mask_N: which positions count. One with an unknown target (0, or V and above) never does.
      item_counts: how often each item occurs as a target in training (row 0 is ignored, an item
        counts at least once); for in-batch sampling with log-Q correction only.
      key: for kinds that draw negatives.
      repeat: of the targets, mixed with the softmax, which must be an NLL (`is_nll`); None: none.
      history_N: of in-batch sampling: which history each position is of, by any numbers; None: each
        is of another one.
      items: how many rows there are of items and the unknown one; those after them only pad the
        table. None: all.
      partition: where positions and rows live.

    Raises:
      ValueError: item_counts, key or items is missing and needed, or there is a repeat but no NLL.
    """
    if repeat is not None and not config.is_nll:
        raise ValueError(f"a {config.kind} loss that is no NLL cannot be mixed with a repeat")
    if config.needs_key and key is None:
        raise ValueError(f"a {config.kind} loss with uniform negatives needs a key")
    if config.needs_item_counts and item_counts is None:
        raise ValueError("log-Q correction of in-batch negatives needs item_counts")
    rows = rows_of(table)
    if items is None and rows.ids is not None:
        raise ValueError("of some rows of a table, say how many items there are")
    items = math.prod(rows.whole_shape) if items is None else items
    mask_N = jnp.asarray(mask_N) & (target_N > 0) & (target_N < items)
    target_N = jnp.where(mask_N, target_N, 0)
    q_NxD = jnp.where(mask_N[:, None], q_NxD, 0)  # a NaN there must not reach the table's gradient
    positive_NxD = lookup(rows, target_N, partition, rows.values.dtype)
    positive_N = rowwise(q_NxD, positive_NxD)
    if config.kind == "full_softmax":
        loss_N = _full_softmax(config, q_NxD, rows.values, positive_N, items, partition)
    elif config.sampler == "in_batch":
        counts_V = item_counts if config.needs_item_counts else None
        number_N = jnp.arange(target_N.shape[0])
        if history_N is not None:
            number_N = jnp.unique(history_N, return_inverse=True, size=len(number_N))[1]
        positions = (target_N, mask_N, number_N)
        loss_N = _in_batch_softmax(
            config, q_NxD, positive_NxD, positive_N, positions, counts_V, partition
        )
    else:
        negatives = draw_negatives(config, key, len(target_N), items)
        if config.sampler == "shared":
            found = _shared_logits(config, q_NxD, rows, target_N, negatives, items, partition)
            loss_N = jax.nn.softplus(found - positive_N)
        else:
            score_NxM = gathered_scores(q_NxD, rows, negatives, config.block_elements, partition)
            hit_NxM = negatives == target_N[:, None]
            loss_of = _sampled_softmax if config.kind == "sampled_softmax" else _binary
            loss_N = loss_of(config, items, positive_N, score_NxM, hit_NxM)
    if repeat is not None:
        loss_N = repeat.nll(loss_N)
    return _masked_mean(loss_N, mask_N)


def _full_softmax(
    config: LossConfig,
    q_NxD: Array,
    table_QxSxD: Array,
    positive_N: Array,
    items: int,
    partition: Partition,
) -> Float[Array, " N"]:
    shape = table_QxSxD.shape[:2]
    id_QxS = jnp.arange(math.prod(shape)).reshape(shape)
    counts_QxS = (id_QxS > 0) & (id_QxS < items)
    total_N = log_partition(
        q_NxD,
        table_QxSxD,
        jnp.where(counts_QxS, 0.0, -jnp.inf),
        block_elements=config.block_elements,
        partition=partition,
    )
    if config.label_smoothing == 0:
        return total_N - positive_N
    # The mean score over all items is the score of their mean: no logits are needed.
    rows_QxSxD = jnp.where(counts_QxS[..., None], table_QxSxD, 0)
    mean_D = rows_QxSxD.sum((0, 1), dtype=jnp.float32) / (items - 1)
    mean_N = q_NxD.astype(jnp.float32) @ mean_D
    return total_N - (1 - config.label_smoothing) * positive_N - config.label_smoothing * mean_N


def _sampled_softmax(
    config: LossConfig, items: int, positive_N: Array, score_NxM: Array, hit_NxM: Array
) -> Float[Array, " N"]:
    if config.log_q:
        score_NxM = score_NxM - np.log(config.negatives / (items - 1))
    negatives_N = jax.nn.logsumexp(jnp.where(hit_NxM, -jnp.inf, score_NxM), axis=1)
    return jax.nn.softplus(negatives_N - positive_N)


def draw_negatives(
    config: LossConfig, key: Any, positions: int, items: int
) -> Int[Array, "N M"] | Int[Array, " M"]:
    """The ids of negatives, uniformly from the known items: each position's own, or shared ones."""
    shape = (config.negatives,) if config.sampler == "shared" else (positions, config.negatives)
    return jax.random.randint(key, shape, 1, items)


def _shared_logits(
    config: LossConfig,
    q_NxD: Array,
    rows: Rows,
    target_N: Array,
    negative_M: Array,
    items: int,
    partition: Partition,
) -> Float[Array, " N"]:
    """The log of the sum over negatives that are not the target, corrected if so configured."""
    own_MxD = lookup(rows, negative_M, partition, rows.values.dtype)
    correction = np.log(config.negatives / (items - 1)) if config.log_q else 0.0
    return log_partition(
        q_NxD,
        own_MxD,
        jnp.full(negative_M.shape, -correction, jnp.float32),
        tags=negative_M[:, None],
        excluded_NxK=target_N[:, None],
        block_elements=config.block_elements,
        partition=partition,
        candidates=None,
    )


def _in_batch_softmax(
    config: LossConfig,
    q_NxD: Array,
    positive_NxD: Array,
    positive_N: Array,
    positions: tuple[Array, Array, Array],
    item_counts: AnyArray | None,
    partition: Partition,
) -> Float[Array, " N"]:
    target_N, mask_N, history_N = positions
    bias_C = jnp.where(mask_N, 0.0, -jnp.inf)
    others_N: Array | float = 1.0
    if item_counts is not None:
        counts_V = jnp.maximum(jnp.asarray(item_counts, jnp.float32), 1).at[0].set(0)
        share_C = counts_V[target_N] / counts_V.sum()
        bias_C = bias_C - jnp.log(jnp.where(mask_N, share_C, 1))
        own_H = jax.ops.segment_sum(mask_N.astype(jnp.float32), history_N, len(history_N))
        others_N = jnp.maximum(mask_N.sum() - own_H[history_N], 1)
    tags_NxK = jnp.stack([target_N, history_N], axis=1)
    negatives_N = log_partition(
        q_NxD,
        positive_NxD,
        bias_C,
        tags=tags_NxK,
        excluded_NxK=tags_NxK,
        block_elements=config.block_elements,
        partition=partition,
        candidates="batch",
    )
    # An item is expected share x others times among the negatives.
    return jax.nn.softplus(negatives_N - jnp.log(others_N) - positive_N)


def _binary(
    config: LossConfig, items: int, positive_N: Array, score_NxM: Array, hit_NxM: Array
) -> Float[Array, " N"]:
    """Mean over the target and its negatives; a negative that is the target is left out."""
    beta = gbce_beta(config.negatives, items - 1, config.gbce_t) if config.kind == "gbce" else 1.0
    # -log(sigmoid(s)^beta) = beta softplus(-s), -log(1 - sigmoid(s)) = softplus(s): both stable.
    negatives_N = jnp.where(hit_NxM, 0.0, jax.nn.softplus(score_NxM)).sum(1)
    kept_N = (~hit_NxM).sum(1)
    return (beta * jax.nn.softplus(-positive_N) + negatives_N) / (1 + kept_N)


def gbce_beta(negatives: int, catalogue: int, t: float) -> float:
    """beta = alpha (t (1 - 1 / alpha) + 1 / alpha), alpha the share of the other items drawn.

    gSASRec's equation; 1 at t = 0, alpha at t = 1. `catalogue` counts the rankable items; more
    negatives than others is alpha = 1.
    """
    alpha = min(negatives / max(catalogue - 1, 1), 1.0)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def _masked_mean(values: Float[Array, "*S"], mask: Bool[AnyArray, "*S"]) -> Float[Array, ""]:
    """Mean over the entries where the mask is set; 0 if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)
