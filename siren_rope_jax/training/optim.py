"""Optimiser: AdamW with warm-up, cosine decay, global-norm clipping and gradient accumulation."""

from dataclasses import dataclass

import jax
import optax

from siren_rope_jax.base.errors import check


@dataclass(frozen=True)
class OptimizerConfig:
    """Attributes.

    learning_rate: its peak.
    warmup_fraction: share of all updates over which it rises linearly to its peak; the first one
      counts too.
    final_fraction: what is left of it at the end of the cosine.
    weight_decay: decoupled, on matrices and tables (not on vectors and gates); 0: plain Adam.
    clip_norm: of the global norm of all gradients, the angle networks' included.
    accumulate: batches per update.
    """

    learning_rate: float = 1e-3
    warmup_fraction: float = 0.05
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        check(self.learning_rate >= 0, "optimizer.learning_rate", "0 or more")
        check(0 <= self.warmup_fraction < 1, "optimizer.warmup_fraction", "in [0, 1)")
        check(0 <= self.final_fraction <= 1, "optimizer.final_fraction", "in 0..1")
        check(self.weight_decay >= 0, "optimizer.weight_decay", "0 or more")
        check(self.clip_norm > 0, "optimizer.clip_norm", "above 0")
        check(self.accumulate >= 1, "optimizer.accumulate", "at least 1")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate of each update, from 0, of a training of `steps` batches."""
    updates = max(steps // config.accumulate, 1)
    warmup = round(config.warmup_fraction * updates)
    return optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / (warmup + 1),
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(updates, warmup + 1),
        end_value=config.final_fraction * config.learning_rate,
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser for `steps` batches."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim == 2, params),
        ),
    )
    if config.accumulate > 1:
        return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
    return optimizer
