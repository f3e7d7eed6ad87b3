"""Losses of next-item retrieval: which of all items follows?

A score is the dot product of a query and an item's row of the table; a model normalises and
divides by its temperature before. Row 0 is the unknown item: never a candidate, never a target.
Scores, losses and sums over items are float32 whatever the dtype of the inputs.

Letters: N positions, V rows of the table (0 included), D width, M negatives per position,
C candidates that all positions share.
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from siren_rope_jax.errors import check
from siren_rope_jax.ranking.losses import masked_mean
from siren_rope_jax.time_features import AnyArray

_LOWEST = float(np.finfo(np.float32).min)

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
      negatives: M, drawn anew for every position, uniformly from all items, with replacement.
        In-batch sampling takes what the batch holds.
      sampler: of the sampled softmax. "uniform", or "in_batch": the batch's targets are the
        candidates of all its positions, drawn by popularity.
      log_q: subtracts from every negative's score the log of how often it is expected among the
        negatives, so that the sampled softmax estimates the full one (Bengio & Senecal 2008).
      label_smoothing: share of the target's weight spread over all items (full softmax).
      gbce_t: gSASRec's t in 0..1: from plain binary cross-entropy (0) to probabilities calibrated
        as the full softmax's (1).
      block_elements: bound on the largest temporary in elements (logits of a block, or gathered
        rows); what exceeds it is computed block by block, and once more for the gradient. On a
        CPU, blocks near the size of its caches are the fastest, faster than a single one; an
        accelerator may prefer larger ones.
    """

    kind: Literal["full_softmax", "sampled_softmax", "gbce", "bce"] = "full_softmax"
    negatives: int = 128
    sampler: Literal["uniform", "in_batch"] = "uniform"
    log_q: bool = True
    label_smoothing: float = 0.0
    gbce_t: float = 0.75
    block_elements: int = 2**22

    def __post_init__(self) -> None:
        check(self.negatives >= 1, "loss.negatives", "at least 1")
        check(0 <= self.label_smoothing < 1, "loss.label_smoothing", "in [0, 1)")
        check(0 <= self.gbce_t <= 1, "loss.gbce_t", "in 0..1")
        check(self.block_elements >= 1, "loss.block_elements", "at least 1")
        heeded, choice = _HEEDED[self.kind] | {"kind"}, f"kind = {self.kind}"
        if self.sampler == "in_batch" and "sampler" in heeded:
            heeded, choice = heeded - {"negatives"}, "sampler = in_batch"
        for option in fields(self):
            is_default = getattr(self, option.name) == option.default
            right = f"left at {option.default!r}: loss.{choice} does not use it"
            check(option.name in heeded or is_default, f"loss.{option.name}", right)

    @property
    def needs_key(self) -> bool:
        """Whether negatives are drawn."""
        return self.kind != "full_softmax" and self.sampler == "uniform"

    @property
    def needs_item_counts(self) -> bool:
        """Whether the items' frequencies are asked for."""
        return self.kind == "sampled_softmax" and self.sampler == "in_batch" and self.log_q


class TargetRepeat(NamedTuple):
    """A target's probability by name, beside that by the softmax over all items.

    Attributes:
      named: the probability that the target gets as an item of the history; 0 if it is none.
      explore: the share of the softmax.
    """

    named: Float[Array, " N"]
    explore: Float[Array, " N"]

    def mixed(self, nll_N: Float[Array, " N"]) -> Float[Array, " N"]:
        """-log(named + explore p) of a target whose softmax gives it p = exp(-nll)."""
        tiny = float(np.finfo(np.float32).tiny)
        named_N, explore_N = (jnp.log(jnp.maximum(x, tiny)) for x in self)
        return -jnp.logaddexp(named_N, explore_N - nll_N)


def retrieval_loss(
    config: LossConfig,
    q_NxD: Float[Array, "N D"],
    table_VxD: Float[Array, "V D"],
    target_N: Int[AnyArray, " N"],
    mask_N: Bool[AnyArray, " N"],
    item_counts: Float[AnyArray, " V"] | None = None,
    key: Key[Array, ""] | None = None,
    repeat: TargetRepeat | None = None,
) -> Float[Array, ""]:
    """Mean loss in nats over the positions that count; 0 if there are none.

    Args:
      config: which loss.
      q_NxD: queries; those of positions that do not count may hold anything, and get no gradient.
      table_VxD: one row per item, row 0 of the unknown one.
      target_N: the item that followed.
      mask_N: which positions count. One with an unknown target (0, or V and above) never does.
      item_counts: how often each item occurs as a target in training (row 0 is ignored, an item
        counts at least once); for in-batch sampling with log-Q correction only.
      key: for kinds that draw negatives.
      repeat: what else the target's probability is made of, beside the full softmax.

    Raises:
      ValueError: item_counts or key is missing and needed.
    """
    if config.needs_key and key is None:
        raise ValueError(f"a {config.kind} loss with uniform negatives needs a key")
    if config.needs_item_counts and item_counts is None:
        raise ValueError("log-Q correction of in-batch negatives needs item_counts")
    items = table_VxD.shape[0]
    mask_N = jnp.asarray(mask_N) & (target_N > 0) & (target_N < items)
    target_N = jnp.where(mask_N, target_N, 0)
    q_NxD = jnp.where(mask_N[:, None], q_NxD, 0)  # a NaN there must not reach the table's gradient
    positive_N = _rowwise(q_NxD, table_VxD[target_N])
    if config.kind == "full_softmax":
        loss_N = _full_softmax(config, q_NxD, table_VxD, positive_N)
        if repeat is not None:
            loss_N = repeat.mixed(loss_N)
    elif config.sampler == "in_batch":
        counts_V = item_counts if config.needs_item_counts else None
        loss_N = _in_batch_softmax(config, q_NxD, table_VxD, target_N, positive_N, mask_N, counts_V)
    else:
        shape = (target_N.shape[0], config.negatives)
        negative_NxM = jax.random.randint(key, shape, 1, items)  # type: ignore[arg-type]
        score_NxM = gathered_scores(q_NxD, table_VxD, negative_NxM, config.block_elements)
        hit_NxM = negative_NxM == target_N[:, None]
        if config.kind == "sampled_softmax":
            loss_N = _sampled_softmax(config, items, positive_N, score_NxM, hit_NxM)
        else:
            loss_N = _binary(config, items, positive_N, score_NxM, hit_NxM)
    return masked_mean(loss_N, mask_N)


def _full_softmax(
    config: LossConfig, q_NxD: Array, table_VxD: Array, positive_N: Array
) -> Float[Array, " N"]:
    items = table_VxD.shape[0]
    bias_V = jnp.where(jnp.arange(items) == 0, -jnp.inf, 0.0)
    total_N = log_partition(q_NxD, table_VxD, bias_V, block_elements=config.block_elements)
    if config.label_smoothing == 0:
        return total_N - positive_N
    # The mean score over all items is the score of their mean: no logits are needed.
    mean_D = table_VxD[1:].mean(0, dtype=jnp.float32)
    mean_N = q_NxD.astype(jnp.float32) @ mean_D
    return total_N - (1 - config.label_smoothing) * positive_N - config.label_smoothing * mean_N


def _sampled_softmax(
    config: LossConfig, items: int, positive_N: Array, score_NxM: Array, hit_NxM: Array
) -> Float[Array, " N"]:
    if config.log_q:
        score_NxM = score_NxM - np.log(config.negatives / (items - 1))
    negatives_N = jax.nn.logsumexp(jnp.where(hit_NxM, -jnp.inf, score_NxM), axis=1)
    return jax.nn.softplus(negatives_N - positive_N)


def _in_batch_softmax(
    config: LossConfig,
    q_NxD: Array,
    table_VxD: Array,
    target_N: Array,
    positive_N: Array,
    mask_N: Array,
    item_counts: AnyArray | None,
) -> Float[Array, " N"]:
    bias_C = jnp.where(mask_N, 0.0, -jnp.inf)
    if item_counts is not None:
        # A position's negatives are the *other* positions' targets, hence count - 1.
        counts_V = jnp.maximum(jnp.asarray(item_counts, jnp.float32), 1).at[0].set(0)
        others = jnp.maximum(mask_N.sum() - 1, 1)
        expected_C = others * counts_V[target_N] / counts_V.sum()
        bias_C = bias_C - jnp.log(jnp.where(mask_N, expected_C, 1))
    negatives_N = log_partition(
        q_NxD,
        table_VxD[target_N],
        bias_C,
        candidate_C=target_N,
        excluded_N=target_N,
        block_elements=config.block_elements,
    )
    return jax.nn.softplus(negatives_N - positive_N)


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


def _rowwise(a_NxD: Array, b_NxD: Array) -> Float[Array, " N"]:
    return jnp.einsum("nd,nd->n", a_NxD, b_NxD, preferred_element_type=jnp.float32)


def log_partition(
    q_NxD: Float[Array, "N D"],
    table_CxD: Float[Array, "C D"],
    bias_C: Float[Array, " C"],
    candidate_C: Int[Array, " C"] | None = None,
    excluded_N: Int[Array, " N"] | None = None,
    *,
    block_elements: int,
) -> Float[Array, " N"]:
    """log sum_c exp(q_n . e_c + bias_c) over the candidates, in blocks of them; float32.

    Args:
      q_NxD: queries.
      table_CxD: candidates' rows.
      bias_C: added to the scores, -inf leaves a candidate out; constant, it gets no gradient.
      candidate_C: the candidates' ids.
      excluded_N: the id that each position leaves out, with `candidate_C`.
      block_elements: of a block's logits, at most (but one candidate's at least). The gradient
        needs twice that and the gradient of the table, however many candidates there are.

    Returns:
      -inf for a position without candidates, which gets no gradient.
    """
    scope = (jax.lax.stop_gradient(bias_C), candidate_C, excluded_N)
    return _log_partition(block_elements, q_NxD, table_CxD, scope)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_partition(block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any) -> Array:
    peak_N, sum_N = _peak_and_sum(block_elements, q_NxD, table_CxD, scope)
    return peak_N + jnp.log(sum_N)


def _log_partition_forward(
    block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any
) -> tuple[Array, Any]:
    if _block_rows(block_elements, q_NxD, table_CxD) == table_CxD.shape[0]:
        # One block: its exponentials fit the budget, and keeping them spares a second pass.
        logit_NxC = _logits(q_NxD, table_CxD, *scope)
        peak_N = _finite_max(logit_NxC)
        # In the inputs' dtype, like any activation; in [0, 1], so bfloat16 holds them too.
        exp_NxC = jnp.exp(logit_NxC - peak_N[:, None])
        sum_N = exp_NxC.sum(1)
        kept_NxC = exp_NxC.astype(q_NxD.dtype)
        return peak_N + jnp.log(sum_N), (q_NxD, table_CxD, kept_NxC, sum_N, None)
    peak_N, sum_N = _peak_and_sum(block_elements, q_NxD, table_CxD, scope)
    return peak_N + jnp.log(sum_N), (q_NxD, table_CxD, peak_N, sum_N, scope)


def _log_partition_backward(
    block_elements: int, residuals: Any, gradient_N: Array
) -> tuple[Array, Array, None]:
    q_NxD, table_CxD, kept, sum_N, scope = residuals
    # The softmax is exp / sum; dividing here costs N numbers instead of N x C.
    weight_N = jnp.where(sum_N > 0, gradient_N / sum_N, 0)
    scaled_NxD = (q_NxD * weight_N[:, None]).astype(q_NxD.dtype)
    if scope is None:
        dq_NxD, dtable_CxD = _products(kept, table_CxD, scaled_NxD)
    else:

        def step(carry: Any, block: "_Block") -> tuple[Any, None]:
            dq_NxD, dtable_CxD = carry
            logit_NxR = _logits(q_NxD, block.rows_RxD, block.bias_R, block.id_R, scope[2])
            exp_NxR = jnp.exp(logit_NxR - kept[:, None]).astype(q_NxD.dtype)
            more_NxD, drows_RxD = _products(exp_NxR, block.rows_RxD, scaled_NxD)
            start = (block.start, 0)
            # Added, not set: the last block overlaps the one before, with exponentials of 0.
            drows_RxD += jax.lax.dynamic_slice(dtable_CxD, start, drows_RxD.shape)
            dtable_CxD = jax.lax.dynamic_update_slice(dtable_CxD, drows_RxD, start)
            return (dq_NxD + more_NxD, dtable_CxD), None

        zeros = (jnp.zeros(q_NxD.shape, jnp.float32), jnp.zeros(table_CxD.shape, jnp.float32))
        dq_NxD, dtable_CxD = _scan(step, zeros, block_elements, q_NxD, table_CxD, scope)
    dq_NxD = dq_NxD * weight_N[:, None]
    return dq_NxD.astype(q_NxD.dtype), dtable_CxD.astype(table_CxD.dtype), None


_log_partition.defvjp(_log_partition_forward, _log_partition_backward)


def _block_rows(block_elements: int, q_NxD: Array, table_CxD: Array) -> int:
    """R, the candidates per block: as many as fit, in blocks of equal size."""
    candidates = table_CxD.shape[0]
    most = max(block_elements // max(q_NxD.shape[0], 1), 1)
    blocks = -(-candidates // most)
    return -(-candidates // max(blocks, 1))


class _Block(NamedTuple):
    start: Array
    rows_RxD: Array
    bias_R: Array
    id_R: Array | None


def _scan(
    step: Any, carry: Any, block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any
) -> Any:
    """Carries `step` over the blocks of candidates, which are read in place."""
    bias_C, candidate_C, _ = scope
    candidates = table_CxD.shape[0]
    rows = _block_rows(block_elements, q_NxD, table_CxD)

    def at(carry: Any, first: Array) -> Any:
        # The last block starts early enough to be whole; what it repeats is left out of it.
        start = jnp.minimum(first, candidates - rows)
        take = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=rows)
        new_R = start + jnp.arange(rows) >= first
        bias_R = jnp.where(new_R, take(bias_C), -jnp.inf)
        id_R = None if candidate_C is None else take(candidate_C)
        return step(carry, _Block(start, take(table_CxD), bias_R, id_R))

    return jax.lax.scan(at, carry, jnp.arange(0, candidates, rows))[0]


def _peak_and_sum(
    block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any
) -> tuple[Array, Array]:
    """The greatest logit of every position and the sum of exp(logit - greatest), in one pass."""
    size = q_NxD.shape[0]

    def step(carry: Any, block: _Block) -> tuple[Any, None]:
        peak_N, sum_N = carry
        logit_NxR = _logits(q_NxD, block.rows_RxD, block.bias_R, block.id_R, scope[2])
        higher_N = jnp.maximum(peak_N, _finite_max(logit_NxR))
        sum_N = sum_N * jnp.exp(peak_N - higher_N)
        return (higher_N, sum_N + jnp.exp(logit_NxR - higher_N[:, None]).sum(1)), None

    start = (jnp.full(size, _LOWEST), jnp.zeros(size, jnp.float32))
    return _scan(step, start, block_elements, q_NxD, table_CxD, scope)


def _logits(
    q_NxD: Array, rows_RxD: Array, bias_R: Array, id_R: Array | None, excluded_N: Array | None
) -> Float[Array, "N R"]:
    logit_NxR = jnp.einsum("nd,rd->nr", q_NxD, rows_RxD, preferred_element_type=jnp.float32)
    logit_NxR = logit_NxR + bias_R
    if id_R is None or excluded_N is None:
        return logit_NxR
    return jnp.where(id_R == excluded_N[:, None], -jnp.inf, logit_NxR)


def _finite_max(logit_NxR: Array) -> Float[Array, " N"]:
    """The greatest logit; finite where all are -inf, so that differences from it stay defined."""
    return jnp.maximum(logit_NxR.max(1), _LOWEST)


def _products(
    exp_NxR: Array, rows_RxD: Array, scaled_NxD: Array
) -> tuple[Float[Array, "N D"], Float[Array, "R D"]]:
    """The unscaled gradient of the queries, and that of the candidates' rows; float32."""
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    return product("nr,rd->nd", exp_NxR, rows_RxD), product("nr,nd->rd", exp_NxR, scaled_NxD)


def gathered_scores(
    q_NxD: Float[Array, "N D"],
    table_VxD: Float[Array, "V D"],
    id_NxM: Int[Array, "N M"],
    block_elements: int,
) -> Float[Array, "N M"]:
    """Scores of each position's own candidates, float32; never holds all their N x M x D numbers.

    Args:
      q_NxD: queries.
      table_VxD: the items' rows.
      id_NxM: each position's candidates.
      block_elements: of the rows that are gathered at once, at most (but N at least).
    """
    return _gathered_scores(block_elements, q_NxD, table_VxD, id_NxM)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered_scores(block_elements: int, q_NxD: Array, table_VxD: Array, id_NxM: Array) -> Array:
    def scores(id_NxR: Array) -> Array:
        rows = table_VxD[id_NxR]
        return jnp.einsum("nd,nrd->nr", q_NxD, rows, preferred_element_type=jnp.float32)

    blocks = _columns(id_NxM, block_elements, q_NxD)
    if blocks.shape[0] == 1:
        return scores(id_NxM)
    score_BxNxR = jax.lax.map(scores, blocks)
    return _uncolumns(score_BxNxR, id_NxM.shape[1])


def _gathered_scores_forward(
    block_elements: int, q_NxD: Array, table_VxD: Array, id_NxM: Array
) -> tuple[Array, Any]:
    score_NxM = _gathered_scores(block_elements, q_NxD, table_VxD, id_NxM)
    return score_NxM, (q_NxD, table_VxD, id_NxM)


def _gathered_scores_backward(
    block_elements: int, residuals: Any, gradient_NxM: Array
) -> tuple[Array, Array, None]:
    q_NxD, table_VxD, id_NxM = residuals

    def step(carry: Any, block: Any) -> tuple[Any, None]:
        (dq_NxD, dtable_VxD), (id_NxR, gradient_NxR) = carry, block
        gathered = table_VxD[id_NxR].astype(jnp.float32)
        dq_NxD += jnp.einsum("nr,nrd->nd", gradient_NxR, gathered)
        drows_NxRxD = gradient_NxR[:, :, None] * q_NxD.astype(jnp.float32)[:, None, :]
        return (dq_NxD, dtable_VxD.at[id_NxR].add(drows_NxRxD)), None

    zeros = (jnp.zeros(q_NxD.shape, jnp.float32), jnp.zeros(table_VxD.shape, jnp.float32))
    blocks = [_columns(x, block_elements, q_NxD) for x in (id_NxM, gradient_NxM)]
    (dq_NxD, dtable_VxD), _ = jax.lax.scan(step, zeros, tuple(blocks))
    return dq_NxD.astype(q_NxD.dtype), dtable_VxD.astype(table_VxD.dtype), None


_gathered_scores.defvjp(_gathered_scores_forward, _gathered_scores_backward)


def _columns(x_NxM: Array, block_elements: int, q_NxD: Array) -> Array:
    """Cuts M into blocks of R columns: [M / R, N, R], the last one filled up with zeros."""
    size, width = x_NxM.shape
    most = max(block_elements // max(q_NxD.size, 1), 1)
    blocks = -(-width // most)
    rows = -(-width // blocks)
    padded = jnp.pad(x_NxM, ((0, 0), (0, blocks * rows - width)))
    return padded.reshape(size, blocks, rows).swapaxes(0, 1)


def _uncolumns(x_BxNxR: Array, width: int) -> Array:
    return x_BxNxR.swapaxes(0, 1).reshape(x_BxNxR.shape[1], -1)[:, :width]
