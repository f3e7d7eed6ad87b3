"""The parameters that a training begins with: drawn, or those of an earlier run.

A warm start keeps what a run has learned when its log has grown. Rows of tables follow the raw ids
of their values, whatever numbers the logs give them. A value that the earlier run does not know
begins as its unknown row, that is, as the earlier run has seen it. Everything else must be the same
model of the same columns. The optimiser begins anew, and so does its schedule; T~ spans the
training times of the present log, and dense features and real-valued labels have its mean and
deviation.

What the earlier run has learned, or was chosen on, must not be what the present log tests, whose
metrics would then be too good. If the present log is split by time, the training and the validation
of the earlier one end before the test split begins. If it is split otherwise, the earlier run knows
of no user of the test split more events from the first tested one on than this training does.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Int

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import TEST
from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.tables import lookup
from siren_rope_jax.rotation.sources import CATEGORY_GATE
from siren_rope_jax.training.setup import Setup
from siren_rope_jax.training.step import TrainState
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.workdir import first_difference

_KEY = "config.training.warm_start"
_COLUMNS = ("categorical", "dense", "context", "actions", "regression")
_FREE = ("dropout", "unknown_rate", "attention", "remat", "dtype")
"""Keys of a model that may differ: they change how it is trained or computed, not what it is."""
Path = tuple[str, ...]


def first_state(training: Setup) -> TrainState:
    """The state before the first step, as the config says.

    Raises:
      UserError: as `warm_params`, or there is no such run.
    """
    config = training.config
    if not config.training.warm_start:
        return training.init(config.seed)
    try:
        earlier = config.training.warm_start
        run = TrainedRun.open(earlier, mesh=training.mesh, calibrated=False)
    except UserError as error:
        raise UserError(_KEY, f"the earlier run cannot be used: {error}") from error
    return training.init_from(warm_params(training, run))


def warm_params(training: Setup, run: TrainedRun) -> Any:
    """A run's parameters, made to fit a training on another log.

    Args:
      training: what they must fit; it has a log.
      run: of the same model, on the mesh of `training`.

    Raises:
      UserError: they are not the same model of the same columns, have no item in common, or the
        run knows what the log tests.
    """
    if difference := _difference(run.setup, training):
        raise UserError(_KEY, f"{difference}; both need the same model of the same columns")
    assert training.log is not None
    if leak := _leak(run.log, training.log):
        raise UserError(_KEY, f"{leak}, so the metrics of the test would be too good")
    theirs, ours = flatten_dict(run.params), flatten_dict(training.param_specs)
    by_value = _category_of_rows(training)
    rows = {name: known_rows(run.setup, training, name) for name in set(by_value.values())}
    item = next(iter(training.data.categories))
    if not rows[item].any():
        raise UserError(_KEY, f"no value of {item} is in both logs; are they of the same kind?")
    params = {}
    for path, spec in ours.items():
        if path in by_value and theirs[path].shape[-1] == spec.shape[-1]:
            params[path] = _by_rows(theirs[path], spec, rows[by_value[path]], training.mesh)
            continue
        if theirs[path].shape != spec.shape:
            about = f"{'/'.join(path)} has shape {theirs[path].shape}, not {spec.shape}"
            raise UserError(_KEY, f"{about}; both need a model of the same size")
        params[path] = jax.device_put(theirs[path], spec.sharding)
    return unflatten_dict(params)


def _difference(earlier: Setup, present: Setup) -> str | None:
    """The first difference between the models of two runs, or between their columns, in words."""

    def of_log(run: Setup) -> dict[str, Any]:
        assert run.log is not None
        schema = run.log.schema
        columns = {group: [c.name for c in getattr(schema, group)] for group in _COLUMNS}
        ordinal = {label.name: list(label.values) for label in schema.ordinal}
        columns |= {"counts": [f"{count.name} to {count.most}" for count in schema.counts]}
        return columns | {"tasks": list(schema.tasks), "ordinal": ordinal}

    def of_config(run: Setup) -> dict[str, Any]:
        model = {k: v for k, v in to_dict(run.config.model).items() if k not in _FREE}
        return {"kind": run.config.kind, "model": model}

    return first_difference(of_config(earlier), of_config(present), "config") or first_difference(
        of_log(earlier), of_log(present), "log"
    )


def _leak(earlier: PreparedLog, present: PreparedLog) -> str | None:
    """What a run on an earlier log knows of the present one's test split, in words."""
    ours = present.schema
    if earlier.fingerprint == present.fingerprint:
        return None
    if ours.protocol != "time":
        return _leak_by_user(earlier, present)
    if (until := earlier.schema.validation_end) <= ours.validation_end:
        return None
    learned, tested = (np.datetime64(t, "s") for t in (until, ours.validation_end))
    return (
        f"the earlier run was trained and chosen on events before {learned} (UTC), but the test "
        f"split of {present.path} begins at {tested}; name a run whose log ends its validation "
        "then or before, or prepare this log with a later config.split.validation_end"
    )


def _leak_by_user(earlier: PreparedLog, present: PreparedLog) -> str | None:
    """The same of a log that is not split by time, where each user has a history of his or her own.

    Events are counted, as one log may have several of a user at the same second.
    """

    def by_user(log: PreparedLog, events: Events) -> pd.Series:
        raw = log.users().to_pandas().astype(str).to_numpy()  # numbers may be text by now
        return pd.Series(events.rows["time"], raw[events.user])

    tested = by_user(present, present.events("test")).groupby(level=0).min()

    def known(log: PreparedLog) -> pd.Series:
        events = log.events()
        time = by_user(log, events)[events.rows["split"] != TEST]
        from_tested_on = time.index.isin(tested.index)
        time = time[from_tested_on]
        return (time >= tested[time.index].to_numpy()).groupby(level=0).sum()

    more = known(earlier).sub(known(present), fill_value=0) > 0
    users = more.index[more].tolist()
    if not users:
        return None
    return (
        f"the earlier run was trained or chosen on events of {len(users)} users, such as "
        f"{users[0]!r}, that are as late as those that {present.path} tests; name a run whose log "
        "is split alike and holds no later events"
    )


def known_rows(earlier: Setup, present: Setup, name: str) -> Int[np.ndarray, " V"]:
    """Of every row of a categorical feature's table, the row of the same value in an earlier run.

    0, the unknown row, stands for itself and for values that the earlier run has not trained.
    """
    of_earlier = _values(earlier.log, name)[: _trained(earlier, name)]
    of_present = _values(present.log, name)[: present.data.categories[name] - 1]
    if of_earlier.dtype != of_present.dtype:  # of a column of numbers that is text by now, say
        of_earlier, of_present = of_earlier.astype(str), of_present.astype(str)
    return np.concatenate([[0], of_earlier.get_indexer(of_present) + 1]).astype(np.int32)


def _values(log: PreparedLog | None, name: str) -> pd.Index:
    """The raw values of a categorical feature, in the order of its rows from 1."""
    assert log is not None
    return pd.Index(log.vocabulary(name)["value"].to_pandas())


def _trained(run: Setup, name: str) -> int:
    """How many values of a categorical feature have rows that a run has trained."""
    rows = run.data.categories[name]
    return (run.data.trained_items if name == next(iter(run.data.categories)) else rows) - 1


def _category_of_rows(training: Setup) -> Mapping[Path, str]:
    """The parameters with a row for each value of a categorical feature, and that feature."""
    modules, found = training.model.row_modules, {}
    for path in flatten_dict(training.param_specs):
        if path[0] in modules:
            found[path] = modules[path[0]]
        elif path[0] == "encoding" and path[-1] in ("table", "embedding", CATEGORY_GATE):
            source = training.config.model.encoding[path[1]]
            name = source.categories[-1 if path[-1] == CATEGORY_GATE else 0]
            if name in training.data.categories:  # rows of a count stand for the same in all logs
                found[path] = name
    return found


def _by_rows(
    earlier: Array, spec: jax.ShapeDtypeStruct, row_V: Int[np.ndarray, " V"], mesh: Any
) -> Array:
    """A table whose row v is row `row_V[v]` of an earlier one; rows that pad it are zero."""
    if len(spec.shape) == 2:
        return jax.device_put(jnp.asarray(earlier)[row_V], spec.sharding)
    each, stripes, _ = spec.shape
    id_QxS = np.full(each * stripes, -1, np.int32)
    id_QxS[: len(row_V)] = row_V

    def taken(earlier: Array, id_QxS: Array) -> Array:
        rows = lookup(earlier, jnp.maximum(id_QxS, 0), Partition(mesh), earlier.dtype)
        return jnp.where(id_QxS[:, None] >= 0, rows, 0).reshape(spec.shape)

    return jax.jit(taken, out_shardings=spec.sharding)(earlier, id_QxS)
