"""Pictures of retrievers: those of `charts` with the metrics of the target's rank.

`draw_run` and `draw_models` are those of `plots.Kind`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from siren_rope_jax.evaluation.slices import HISTORIES, POPULARITIES
from siren_rope_jax.studies import charts
from siren_rope_jax.studies.charts import Album, Curve, Metrics, Models, Panel, Result, Slicing

_NLL = Panel("NLL", "nats (lower is better)", ("ranking", "nll"))
_OTHERS = tuple(
    Panel(metric.upper(), "higher is better", ("ranking", metric))
    for metric in ("hr@10", "ndcg@10", "mrr")
)
_WITHIN = (
    Panel("NLL", "NLL (nats)", ("ranking", "nll")),
    Panel("NDCG@10", "NDCG@10", ("ranking", "ndcg@10")),
)
_CURVES = (
    Curve("validation, NLL", "NLL (nats)", "nll"),
    Curve("validation, NDCG@10", "NDCG@10", "ndcg@10"),
)
# A user's first event is not predicted, and an item without events in training ("0") not found.
_GAP = charts.BY_GAP._replace(groups=charts.BY_GAP.groups[:-1])
_HISTORY = Slicing("history", tuple(HISTORIES)[1:], "earlier events of the user")
_POPULARITY = Slicing("popularity", tuple(POPULARITIES)[1:], "training events of the item")


def draw_run(directory: Path, result: Result, predictions: pd.DataFrame) -> list[Path]:
    """There is no picture of one run alone."""
    return []


def draw_models(
    album: Album,
    models: Models,
    lined: Models,
    logs: Mapping[str, Sequence[Metrics]],
    baseline: str,
) -> list[Path | None]:
    """Pictures that compare models, or show one."""
    file, title = album.path, album.title
    slicings = {
        "by hour of day of the request": charts.by_hour(models),
        "by time since the last event": _GAP,
        "by length of the history": _HISTORY,
        "by popularity of the item": _POPULARITY,
    }
    return [
        charts.side_by_side(
            file("models"), models, (_NLL, *_OTHERS), title("models and baselines")
        ),
        *(
            charts.by_group(file(slicing.name), lined, _WITHIN, slicing, title(what), baseline)
            for what, slicing in slicings.items()
            if charts.tells_apart(models, slicing)
        ),
        charts.learning_curves(file("learning"), logs, _CURVES, title("learning curves", True)),
    ]
