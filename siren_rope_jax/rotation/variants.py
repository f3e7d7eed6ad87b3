"""The named variants: every row of the project's tables.

`encoding("siren_rope")` is an encoding alone, for any model. `ranking_variant`, `retrieval_variant`
and `language_variant` are what an experiment's config merges into its `model` group: an encoding,
and for some variants other overrides of the model. All ladders of the index share one base, but for
`ordinal_long_base`, or the base would be a confound; TO-RoPE's unit of time is one too, so it comes
in days and in hours.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.times import DAY, HOUR, WEEK

Encoding = dict[str, dict[str, Any]]
"""Angle sources by name, as a config writes them."""

_OMEGA = {"init": math.pi, "per_plane": True}  # omega of (E2)
_LAMBDA = {"init": 1.0}  # lambda of (E2)
_CYCLIC_FEATURES = ("day", "week")
_ALL_FEATURES = (*_CYCLIC_FEATURES, "long_range")
_RAW_FEATURES = ("day_fraction", "week_fraction", "long_range")


def _network(
    branches: tuple[str, ...] = ("siren", "dnn"),
    features: tuple[str, ...] = _ALL_FEATURES,
    category: str | None = None,
) -> dict[str, Any]:
    network: dict[str, Any] = {"branches": branches, "features": features}
    if category is not None:
        network["category"] = category
    return {"network": network, "gate": dict(_OMEGA)}


_ORDER: dict[str, Any] = {"ladder": {"signal": "index"}}
_ORDER_IN_HALF = {**_ORDER, "planes": (0.5, 1.0)}
_GATED_ORDER = {**_ORDER, "gate": dict(_LAMBDA)}
_TIME = {"ladder": {"signal": "time", "unit": DAY}}


_DAY_AND_WEEK = {
    "day": {"clock": {"period": DAY}, "planes": (0.0, 0.25)},
    "week": {"clock": {"period": WEEK}, "planes": (0.25, 0.5)},
}

_CLOCK_OF_DAY: dict[str, Any] = {"clock": {"period": DAY, "harmonics": 2}}
_CLOCK_OF_WEEK: dict[str, Any] = {"clock": {"period": WEEK, "harmonics": 2}}
# Periods from ten minutes to ninety days.
_LAGS: dict[str, Any] = {
    "ladder": {"signal": "time", "unit": 600 / (2 * math.pi), "base": 90 * DAY / 600}
}


def _weighted_ladder(unit: float, base: float, weight: float) -> dict[str, Any]:
    return {"ladder": {"signal": "time", "unit": unit, "base": base}, "weight": weight}


def _with_order(time: dict[str, Any]) -> Encoding:
    return {"time": time, "order": _GATED_ORDER}


_ENCODINGS: dict[str, Encoding] = {
    "none": {},
    "ordinal": {"order": _ORDER},
    # TO-RoPE (arXiv 2510.20455) and its relatives: a ladder of time in days
    "time_ladder": {"time": _TIME},
    "to_rope": {"time": _TIME, "order": _ORDER},
    "to_rope_hours": {"time": {"ladder": {"signal": "time", "unit": HOUR}}, "order": _ORDER},
    "to_rope_split_dim": {"time": {**_TIME, "planes": (0.0, 0.5)}, "order": _ORDER_IN_HALF},
    "to_rope_split_head": {
        "time": {**_TIME, "heads": (0.0, 0.5)},
        "order": {**_ORDER, "heads": (0.5, 1.0)},
    },
    "to_rope_demo": {"time": {"ladder": {"signal": "time", "unit": 100 * DAY}}, "order": _ORDER},
    # RoTE (arXiv 2604.13389) with its usual bases and weights; and, which it lacks, the order
    "rote": {
        "years": _weighted_ladder(365.25 * DAY, 1e6, 1.5),
        "months": _weighted_ladder(365.25 / 12 * DAY, 1e4, 1.0),
        "days": _weighted_ladder(float(DAY), 1e2, 0.5),
        "order": _ORDER,
    },
    # a network's phases without the network: half of the planes turn once a day or a week
    "to_rope_day_week": {**_DAY_AND_WEEK, "order": _ORDER_IN_HALF},
    "linear": _with_order({"linear": {"unit": DAY}}),
    # (E2) and its parts
    "siren_rope": _with_order(_network()),
    "siren_only": _with_order(_network(("siren",))),
    "dnn_only": _with_order(_network(("dnn",))),
    "siren_rope_split_dim": {
        "time": {**_network(), "planes": (0.0, 0.5)},
        "order": _ORDER_IN_HALF,
    },
    # to_rope_day_week with the network on top of its ladders, starting near 0
    "siren_rope_day_week": {
        **_DAY_AND_WEEK,
        "time": {**_network(), "gate": {**_OMEGA, "init": 0.1}, "planes": (0.0, 0.5)},
        "order": _ORDER_IN_HALF,
    },
    # every time scale on planes of its own: the clock, by ladders or by a network; lags; the order
    "clock_and_lag": {
        "day": {**_CLOCK_OF_DAY, "planes": (0.0, 0.25)},
        "week": {**_CLOCK_OF_WEEK, "planes": (0.25, 0.375)},
        "lag": {**_LAGS, "planes": (0.375, 0.75)},
        "order": {**_ORDER, "planes": (0.75, 1.0)},
    },
    # the same with the clock on heads of its own
    "clock_and_lag_split_head": {
        "day": {**_CLOCK_OF_DAY, "heads": (0.0, 0.5), "planes": (0.0, 0.667)},
        "week": {**_CLOCK_OF_WEEK, "heads": (0.0, 0.5), "planes": (0.667, 1.0)},
        "lag": {**_LAGS, "heads": (0.5, 1.0), "planes": (0.0, 0.6)},
        "order": {**_ORDER, "heads": (0.5, 1.0), "planes": (0.6, 1.0)},
    },
    "learned_clock": {
        "clock": {**_network(features=_CYCLIC_FEATURES), "planes": (0.0, 0.5)},
        "lag": {**_LAGS, "planes": (0.5, 0.75)},
        "order": {**_ORDER, "planes": (0.75, 1.0)},
    },
    "time2vec": _with_order({"time2vec": {"unit": DAY}, "gate": dict(_OMEGA)}),
    "siren_rope_no_order": {"time": _network()},
    "siren_rope_cyclic": _with_order(_network(features=_CYCLIC_FEATURES)),
    "siren_rope_long_range": _with_order(_network(features=("long_range",))),
    "dnn_long_range": _with_order(_network(("dnn",), ("long_range",))),
    "siren_rope_raw": _with_order(_network(features=_RAW_FEATURES)),
}


def _of_category(category: str) -> dict[str, Encoding]:
    """Encodings with a category: without time, into f_phi, as a gate of f_phi, and beside it."""
    of_category = {"embedding": {"category": category}}
    return {
        "semantic": {"category": of_category, "order": _GATED_ORDER},
        "siren_rope_category": _with_order(_network(category=category)),
        "siren_rope_category_gate": {
            "time": {**_network(), "gate": {**_OMEGA, "category": category}},
            "order": _GATED_ORDER,
        },
        "siren_rope_semantic": {"time": _network(), "category": of_category, "order": _GATED_ORDER},
    }


_BUCKETS = {"biases": ("time_buckets",)}  # HSTU's, for elapsed time
# f_phi of (E4) into the embedding: of all features, and of the long-range time alone
_EMBEDDED = {"input_time_network": _network()["network"]}
_TREND = {"input_time_network": _network(features=("long_range",))["network"]}

# Variants that change more than the encoding: its name, and the other overrides.
_Others = Mapping[str, tuple[str, dict[str, Any]]]
_COMMON: _Others = {
    "time_in_embedding": ("ordinal", {"input_time_features": _ALL_FEATURES}),
    "time_in_embedding_cyclic": ("ordinal", {"input_time_features": _CYCLIC_FEATURES}),
    "time_in_embedding_network": ("ordinal", _EMBEDDED),
    # Logit biases: HSTU's, beside RoPE and (with those for order) in its place; FuXi's, TiSASRec's
    "hstu_bias": ("ordinal", _BUCKETS),
    "to_rope_split_dim_hstu_bias": ("to_rope_split_dim", _BUCKETS),
    "time_in_embedding_network_hstu_bias": ("ordinal", {**_BUCKETS, **_EMBEDDED}),
    "hstu_bias_only": ("none", {"biases": ("position", "time_buckets")}),
    "fuxi_bias": ("ordinal", {"biases": ("time_power",)}),
    "fuxi_gamma_bias": ("ordinal", {"biases": ("time_exponential",)}),
    "fuxi_linear_bias": ("ordinal", {"biases": ("time_retention",)}),
    "relation_bias": ("ordinal", {"biases": ("time_relation",)}),
    "clock_and_lag_hstu_bias": ("clock_and_lag", _BUCKETS),
    "learned_clock_hstu_bias": ("learned_clock", _BUCKETS),
    # R_z(clock) R_x(lag, order) of three components each, against the same angles in planes
    "learned_clock_in_space": ("learned_clock", {"rotation": "space"}),
    "siren_rope_hstu_bias": ("siren_rope", _BUCKETS),
    "siren_rope_split_dim_hstu_bias": ("siren_rope_split_dim", _BUCKETS),
    # What all events share at a time is told, and what relates them turns.
    "trend_hstu_bias": ("ordinal", {**_BUCKETS, **_TREND}),
    "clock_lag_trend": ("clock_and_lag", {**_BUCKETS, **_TREND}),
    # both ways to know the request's time: being told, and turning to past events
    "siren_rope_time_in_embedding": ("siren_rope", {"input_time_features": _ALL_FEATURES}),
    "siren_rope_time_in_embedding_cyclic": (
        "siren_rope",
        {"input_time_features": _CYCLIC_FEATURES},
    ),
}
_INTERLEAVED = {"interleaved": True, "mixed_value": False, "late_fusion": False}
_RANKING: _Others = {
    **_COMMON,
    "ordinal_interleaved": ("ordinal", _INTERLEAVED),
    "siren_rope_interleaved": ("siren_rope", _INTERLEAVED),
}
_AT_EVENT = {"query_time": "event"}  # queries have the time of their last event
_RETRIEVAL: _Others = {
    **_COMMON,
    "learned_positions": ("none", {"learned_positions": True}),
    "siren_rope_event": ("siren_rope", _AT_EVENT),
    "time_in_embedding_event": ("ordinal", {"input_time_features": _ALL_FEATURES, **_AT_EVENT}),
}

LAYOUT = ("line", "column", "indent", "depth", "since_newline")
"""Where a token of source code stands: integer signals of a corpus (`prepare/text_layout.py`)."""


def _ladder_of(count: str) -> dict[str, Any]:
    return {"ladder": {"signal": count, "base": 1e3}}


def _of_layout(counts: tuple[str, ...]) -> _Others:
    """Variants for texts, whose tokens have these counts."""
    network = {"network": {"features": (), "counts": counts}, "gate": dict(_OMEGA)}
    each = 0.5 / len(counts)
    ladders = {
        count: {**_ladder_of(count), "planes": (i * each, (i + 1) * each)}
        for i, count in enumerate(counts)
    }
    angles = {count: {"embedding": {"category": count}} for count in counts}
    encodings: dict[str, Encoding] = {
        "ordinal_long_base": {"order": {"ladder": {"signal": "index", "base": 5e5}}},
        "layout_ladders": {**ladders, "order": _ORDER_IN_HALF},
        "layout_network": {"layout": network, "order": _GATED_ORDER},
        "layout_network_split": {
            "layout": {**network, "planes": (0.0, 0.5)},
            "order": _ORDER_IN_HALF,
        },
        "layout_categories": {**angles, "order": _GATED_ORDER},
    }
    for count in LAYOUT:
        if count in counts:
            half = {**_ladder_of(count), "planes": (0.0, 0.5)}
            encodings[f"{count}_ladder"] = {count: half, "order": _ORDER_IN_HALF}
    others: dict[str, dict[str, Any]] = {name: {"encoding": of} for name, of in encodings.items()}
    in_embedding = ("ordinal", {"input_counts": counts})
    return {name: ("none", own) for name, own in others.items()} | {
        "layout_in_embedding": in_embedding
    }


ENCODINGS = (*_ENCODINGS, *_of_category(""))
RANKING_VARIANTS = (*ENCODINGS, *_RANKING)
RETRIEVAL_VARIANTS = (*ENCODINGS, *_RETRIEVAL)
LANGUAGE_VARIANTS = (*RETRIEVAL_VARIANTS, *_of_layout(LAYOUT))


def encoding(name: str, category: str | None = None) -> Encoding:
    """An encoding's angle sources by name, a copy to change at will.

    Args:
      name: one of `ENCODINGS`.
      category: the categorical feature of those that need one: `semantic`, `siren_rope_category`,
        `siren_rope_category_gate`, `siren_rope_semantic`.

    Raises:
      UserError: an unknown name (the nearest known one is named), or no category where it is
        needed, or one where it is not.
    """
    if (category is None) == (name in _of_category("")):
        raise UserError("category", f"{name!r} needs {'none' if category else 'one'}")
    return _overrides(name, category or "", {})["encoding"]


def ranking_variant(name: str, category: str = "item") -> dict[str, Any]:
    """The overrides of a ranker's config that make it the variant `name`.

    Args:
      name: one of `RANKING_VARIANTS`.
      category: as in `encoding`.

    Raises:
      UserError: an unknown name (the nearest known one is named).
    """
    return _overrides(name, category, _RANKING)


def retrieval_variant(name: str, category: str = "item") -> dict[str, Any]:
    """The overrides of a retriever's config that make it the variant `name`.

    Args:
      name: one of `RETRIEVAL_VARIANTS`; queries have the time of the request unless the name says
        otherwise.
      category: as in `encoding`.

    Raises:
      UserError: an unknown name (the nearest known one is named).
    """
    return {"query_time": "request"} | _overrides(name, category, _RETRIEVAL)


def language_variant(name: str, counts: tuple[str, ...] = LAYOUT) -> dict[str, Any]:
    """The overrides of a language model's config that make it the variant `name`.

    Args:
      name: one of `LANGUAGE_VARIANTS`; queries have the signals of the token that is asked for.
      counts: those of `LAYOUT` that the corpus has.

    Raises:
      UserError: an unknown name (the nearest known one is named).
    """
    overrides = _overrides(name, "item", {**_RETRIEVAL, **_of_layout(counts)})
    return {"query_time": "request"} | overrides


def check_not_variant(name: str) -> None:
    """Refuses a run's name that would give the model of one variant the name of another.

    Raises:
      UserError: it is the name of a variant.
    """
    if name in {*RANKING_VARIANTS, *LANGUAGE_VARIANTS}:
        raise UserError(
            "config.variant",
            f"{name} would change only the name of the run; its model is chosen after the config "
            f"file: --config=FILE.py:{name}",
        )


def _overrides(name: str, category: str, others: _Others) -> dict[str, Any]:
    encodings = _ENCODINGS | _of_category(category)
    known = (*encodings, *others)
    if name not in known:
        raise UserError("variant", f"{name!r} is unknown{suggestion(name, known)}")
    of_encoding, more = others.get(name, (name, {}))
    return copy.deepcopy({"encoding": encodings[of_encoding], **more})
