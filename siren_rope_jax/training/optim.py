"""Optimiser: AdamW with warm-up, cosine decay, global-norm clipping and gradient accumulation.

Large tables may have one of their own (`row_wise.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import optax

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.training.mesh import fits, path_name
from siren_rope_jax.training.row_wise import RowWise

NO_DECAY = (
    "encoding/*",
    "input_signals/*",
    "bias_*",
    "bias",
    "scale",
    "learned_empty_output",
    "gaps_*",
)
"""Angle networks and gates, the same network into the embedding, logit biases, biases of layers,
norms, a learned vector, thresholds."""

_MOST = 1e30  # of a rate; float32 holds it, and its inverse


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule.

    Attributes:
      learning_rate: the largest one, after the warm-up.
      warmup_fraction: share of all updates over which it rises linearly to its peak; the first
        update already learns.
      final_fraction: what is left of the peak at the end of the cosine.
      weight_decay: decoupled; 0: plain Adam.
      no_decay: parameters that it leaves alone, as globs of their paths ("block_0/*").
      frozen: parameters that stay as they began, as globs of their paths ("encoding/time/*"): what
        is left of an encoding's gain is not of its learning.
      clip_norm: of the global norm of all gradients, those of the angle networks included.
      accumulate: batches per update.
      lazy_adam: tables of which only the rows that a batch touches are updated, as globs of their
        names ("items", "embed_*"), by AdamW whose moments and weight decay rest in between.
      row_wise_adagrad: the same by Adagrad with one number per row, and without weight decay.
      adagrad_rate: its learning rate over that of the other parameters.
    """

    learning_rate: float = 1e-3
    warmup_fraction: float = 0.05
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = NO_DECAY
    frozen: tuple[str, ...] = ()
    clip_norm: float = 1.0
    accumulate: int = 1
    lazy_adam: tuple[str, ...] = ()
    row_wise_adagrad: tuple[str, ...] = ()
    adagrad_rate: float = 1.0

    def __post_init__(self) -> None:
        for key in ("learning_rate", "weight_decay"):
            check(0 <= getattr(self, key) <= _MOST, key, f"from 0 to {_MOST:g}")
        check(0 <= self.warmup_fraction < 1, "warmup_fraction", "in [0, 1)")
        check(0 <= self.final_fraction <= 1, "final_fraction", "in 0..1")
        check(self.clip_norm >= 1 / _MOST, "clip_norm", f"at least {1 / _MOST:g}")
        check(self.accumulate >= 1, "accumulate", "at least 1")
        right = "1 where tables are updated by rows: of several batches all may be touched"
        check(self.accumulate == 1 or not self.row_wise, "accumulate", right)
        check(0 < self.adagrad_rate <= 1e6, "adagrad_rate", "above 0, at most 1e6")
        used = bool(self.row_wise_adagrad) or self.adagrad_rate == 1.0
        check(used, "adagrad_rate", "left at 1.0 where row_wise_adagrad has no table")

    @property
    def row_wise(self) -> list[tuple[str, RowWise]]:
        """How tables are updated of which only some rows are: globs of their names, and rules."""
        adagrad = RowWise("row_wise_adagrad", self.adagrad_rate)
        of_adagrad = [(glob, adagrad) for glob in self.row_wise_adagrad]
        return [(glob, RowWise("lazy_adam")) for glob in self.lazy_adam] + of_adagrad


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


def decays(config: OptimizerConfig, params: Any) -> Any:
    """Which parameters weight decay shrinks: a tree of booleans.

    Raises:
      UserError: about a glob of one's own that fits no parameter.
    """
    own = [glob for glob in config.no_decay if glob not in NO_DECAY]
    _check_fit("config.optimizer.no_decay", own, params)
    spared = (*config.no_decay, *config.frozen)

    def decay(path: Any, _: Any) -> bool:
        return not any(fits(path, glob) for glob in spared)

    return jax.tree_util.tree_map_with_path(decay, params)


def check_frozen(config: OptimizerConfig, params: Any, row_wise: Iterable[Any]) -> None:
    """Refuses a glob of frozen parameters that fits none, or a table that is updated by rows.

    Args:
      config: of the optimiser.
      params: all of them.
      row_wise: paths of the tables that are updated by rows.

    Raises:
      UserError: about the glob.
    """
    _check_fit("config.optimizer.frozen", config.frozen, params)
    for path in row_wise:
        for glob in config.frozen:
            if fits(path, glob):
                about = f"{glob!r} fits {path_name(path)}, which is also updated by rows"
                raise UserError("config.optimizer.frozen", f"{about}; leave it out of one of them")


def freeze(config: OptimizerConfig, params: Any) -> Any:
    """The parameters, of which the frozen ones have no gradient."""

    def held(path: Any, x: Any) -> Any:
        is_frozen = any(fits(path, glob) for glob in config.frozen)
        return jax.lax.stop_gradient(x) if is_frozen else x

    return jax.tree_util.tree_map_with_path(held, params)


def _check_fit(key: str, globs: Iterable[str], params: Any) -> None:
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for glob in globs:
        if not any(fits(path, glob) for path in paths):
            names = ", ".join(map(path_name, paths))
            raise UserError(key, f"{glob!r} fits none of {names}")


def clipping(config: OptimizerConfig) -> optax.GradientTransformation:
    """Scales all gradients down to the limit of their global norm."""
    return optax.clip_by_global_norm(config.clip_norm)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser for `steps` batches, of all parameters but row-wise tables.

    With such tables it does not clip, because their gradients belong to the norm.
    """
    optimizer = optax.chain(
        optax.identity() if config.row_wise else clipping(config),
        optax.adamw(
            learning_rate(config, steps),
            weight_decay=config.weight_decay,
            mask=lambda params: decays(config, params),
        ),
    )
    if config.accumulate > 1:
        return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
    return optimizer
