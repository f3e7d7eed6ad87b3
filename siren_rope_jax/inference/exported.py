"""A trained model as one function of plain arrays, which JAX exports and runs without this package.

Letters: B users, C past events, S items that a user had, M requests of each, F categories, E, A and
R numbers of columns.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from jaxtyping import Array, Float, Int

from siren_rope_jax.models.batch import DataSpec, NextItemBatch, RankingBatch
from siren_rope_jax.models.cache import CACHE, Cached
from siren_rope_jax.models.item_ranks import top_items
from siren_rope_jax.models.tasks import predictions_of
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.training.trained import TrainedRun

PLATFORMS = ("cpu", "cuda", "tpu")
Arrays = Mapping[str, Array]

MOST_LISTED = 1_000
"""Items of the lists that an exported retrieval model returns, at most."""


def exported(run: TrainedRun) -> bytes:
    """The function of a run, serialised by `jax.export`; numbers of users and requests are free."""
    scope = export.SymbolicScope()
    sizes = (export.symbolic_shape(letter, scope=scope)[0] for letter in "bms")
    history, requests = argument_specs(run, *sizes)
    weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights_of(run).items()}
    function = jax.jit(function_of(run))
    return bytes(
        export.export(function, platforms=PLATFORMS)(weights, history, requests).serialize()
    )


def weights_of(run: TrainedRun) -> dict[str, Any]:
    """The parameters by path, "encoding/time/gate"."""
    return flatten_dict(run.params, sep="/")


def function_of(run: TrainedRun) -> Callable[[Arrays, Arrays, Arrays], Any]:
    """(weights, history, requests) -> predictions [B, M, T]; or ids and scores [B, M, k].

    The arrays are those of `argument_specs`.
    """
    config = run.config
    attention = "dense" if config.data.length <= 128 else "blocked"  # without kernels of a platform
    model_config = dataclasses.replace(config.model, attention=attention, remat="none")
    kind = type(run.setup.kind)(dataclasses.replace(config, model=model_config))
    model, data = kind.model(run.setup.data), run.setup.data
    of_kind = _predictions if kind.name == "ranking" else _lists

    def function(weights: Arrays, history: Arrays, requests: Arrays) -> Any:
        return of_kind(model, data, unflatten_dict(dict(weights), sep="/"), history, requests)

    return function


def argument_specs(
    run: TrainedRun, b: Any, m: Any, s: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shapes and dtypes of the histories of b users, and of m requests of each.

    Times are days since 1970 and seconds of the day (UTC). Real-valued features are standardised.
    `events` says how many places of a history count, from the first. Of retrieval, `seen` are s
    items that the lists leave out, padded with 0.
    """
    data, length, ranking = run.setup.data, run.config.data.length, run.setup.kind.name == "ranking"

    def spec(dtype: Any, *shape: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    def time(*shape: Any) -> dict[str, Any]:
        return {name: spec(jnp.int32, *shape) for name in ("day", "second", "utc_offset")}

    def features(*shape: Any) -> dict[str, Any]:
        categories = spec(jnp.int32, *shape, data.columns)
        return {"categorical": categories, "dense": spec(jnp.float32, *shape, data.dense)}

    known = {"time_is_known": spec(jnp.bool_, b, length)}
    history = features(b, length) | time(b, length) | known | {"events": spec(jnp.int32, b)}
    requests = time(b, m)
    if ranking:
        history["actions"] = spec(jnp.float32, b, length, data.actions)
        requests |= features(b, m) | {"context": spec(jnp.float32, b, m, data.context)}
    else:
        history["seen"] = spec(jnp.int32, b, s)
    return history, requests


def _predictions(
    model: Any, data: DataSpec, params: Any, history: Arrays, requests: Arrays
) -> Float[Array, "B M T"]:
    past: Any = RankingBatch(
        **_events(history, _segment(history)),
        context=jnp.zeros((*history["day"].shape, data.context), jnp.float32),
        actions=history["actions"],
        **_no_labels(history, data),
    )
    _, variables = model.apply({"params": params}, past, mutable=[CACHE])
    shape = requests["day"].shape
    asked: Any = RankingBatch(
        **_events(requests, jnp.ones(shape, jnp.int32)),
        context=requests["context"],
        actions=jnp.zeros((*shape, data.actions), jnp.float32),
        **_no_labels(requests, data),
    )
    position = jnp.broadcast_to(history["events"][:, None], shape)
    asked = asked.replace(position=position)
    output = model.apply({"params": params, **variables}, asked, cached=Cached.for_requests())
    return predictions_of(data.tasks, output)


def _lists(
    model: Any, data: DataSpec, params: Any, history: Arrays, requests: Arrays
) -> tuple[Int[Array, "B M k"], Float[Array, "B M k"]]:
    seen = history["seen"]
    history = {name: x for name, x in history.items() if name != "seen"}
    count, length = history["events"], history["day"].shape[1]
    earlier = {**history, "events": count - 1}  # the last one is seen at the time of the request
    past = _next_items(earlier, _time({k: _shifted(history[k]) for k in _TIME}, _known(history)))
    _, variables = model.apply({"params": params}, past, mutable=[CACHE])
    at = jnp.clip(count - 1, 0, length - 1)[:, None]
    shape = requests["day"].shape
    last = {k: jnp.take_along_axis(x, at.reshape(-1, *[1] * (x.ndim - 1)), 1) for k, x in
            history.items() if k != "events"}  # fmt: skip
    last = {k: jnp.broadcast_to(x, (*shape, *x.shape[2:])) for k, x in last.items()}
    asked = _next_items({**last, "events": jnp.full_like(count, 1)}, _time(requests, None))
    asked = asked.replace(position=jnp.broadcast_to(at, shape), segment=jnp.ones(shape, jnp.int32))
    found = model.apply({"params": params, **variables}, asked, cached=Cached.for_requests())
    query = found.query.reshape(-1, found.query.shape[-1])
    repeat = None if found.repeat is None else found.repeat.of_requests()
    ids, scores = top_items(
        query,
        found.table.values,
        jnp.broadcast_to(seen[:, None], (*shape, seen.shape[1])).reshape(-1, seen.shape[1]),
        min(MOST_LISTED, data.items - 1),
        repeat,
        block_elements=None,
        items=data.items,
    )
    return ids.reshape(*shape, -1), scores.reshape(*shape, -1)


_TIME = ("day", "second", "utc_offset")


def _next_items(history: Arrays, request_time: Time) -> Any:
    segment = _segment(history)
    zeros = jnp.zeros_like(segment)
    events = _events(history, segment)
    return NextItemBatch(
        **events,
        request_time=request_time,
        target=zeros,
        history=zeros,
        request_counts=events["counts"],
    )


def _events(arrays: Arrays, segment: Array) -> dict[str, Any]:
    """What every batch has."""
    shape = segment.shape
    return {
        "categorical": arrays["categorical"],
        "dense": arrays["dense"],
        "time": _time(arrays, arrays.get("time_is_known")),
        "position": jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape),
        "segment": segment,
        "event": jnp.full(shape, -1, jnp.int32),
        "counts": jnp.zeros((*shape, 0), jnp.int32),
    }


def _time(arrays: Arrays, known: Array | None) -> Time:
    day = arrays["day"]
    known = jnp.ones(day.shape, bool) if known is None else known
    return Time(day, arrays["second"], arrays["utc_offset"], known)


def _known(history: Arrays) -> Array:
    """Whether the event after each has a time."""
    return _shifted(history["time_is_known"])


def _shifted(x: Array) -> Array:
    """The values of the next place."""
    return jnp.concatenate([x[:, 1:], x[:, -1:]], axis=1)


def _segment(history: Arrays) -> Int[Array, "B C"]:
    place = jnp.arange(history["day"].shape[1])
    return (place < history["events"][:, None]).astype(jnp.int32)


def _no_labels(arrays: Arrays, data: DataSpec) -> dict[str, Any]:
    shape = (*arrays["day"].shape, len(data.tasks))
    return {"labels": jnp.zeros(shape, jnp.float32), "label_mask": jnp.zeros(shape, bool)}
