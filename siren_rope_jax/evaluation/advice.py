"""Plain sentences about a result that should not pass in silence: a model behind simple rules."""

from collections.abc import Iterator, Mapping
from typing import Any

from siren_rope_jax.base.text import number
from siren_rope_jax.evaluation.baselines.families import FAMILIES
from siren_rope_jax.training.kinds import kind_of_result
from siren_rope_jax.training.kinds.kind import titled

_REMEDY = (
    "Such a model has learned little that lasts, or too much that does not: try more dropout, a "
    "smaller width, a lower learning rate, or smaller batches; look at the validations in plots/; "
    "and see how many items of the test are new to it (prepare prints that)."
)


def advice(outcome: Mapping[str, Any]) -> Iterator[str]:
    """What a user should know of a result before trusting its model; nothing if all is well.

    The model is compared by the chief metrics of its kind with the baselines that every log has.
    """
    kind, behind = kind_of_result(outcome), False
    for part in kind.parts(outcome):
        own = kind.part(outcome[kind.measured], part)
        of_baselines = {
            name: kind.part(measured, part)
            for name, measured in outcome["baselines"].items()
            if name in FAMILIES[kind.baselines].meanings
        }
        for metric in kind.chief:
            sign = 1 if kind.metrics[metric].higher_is_better else -1
            values = {n: v[metric] for n, v in of_baselines.items() if v.get(metric) is not None}
            if own.get(metric) is None or not values:
                continue
            label, value = kind.metrics[metric].label, own[metric]
            best = max(values, key=lambda name: sign * values[name])
            if round(sign * values[best] - sign * value, 4) > 0:
                ahead = f"{label} {number(values[best], 4)}, the model {number(value, 4)}"
                yield titled(part, f"the simple rule {best!r} is ahead of the model ({ahead}).")
                behind = True
                break
            if metric == "ne" and value >= 1:
                rule = "is no better than one constant prediction for all events"
                yield titled(part, f"{label} {number(value, 4)} {rule}.")
                behind = True
    if behind:
        yield _REMEDY
