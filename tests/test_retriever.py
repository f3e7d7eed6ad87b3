"""The next-item model: causality with the request's time, biases, blocks, learning."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.models.batch import NextItemBatch, signals_of
from siren_rope_jax.models.item_ranks import rank_targets
from siren_rope_jax.models.losses import LossConfig, retrieval_loss
from siren_rope_jax.models.retriever import Retriever
from siren_rope_jax.rotation.biases import (
    BUCKETS,
    KNOTS,
    BiasKind,
    Events,
    LogitBias,
    time_bucket,
)
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.rotation.variants import RETRIEVAL_VARIANTS, retrieval_variant
from tests.batches import DATA, START, random_next_items, small_retriever, trained, variants
from tests.refusals import refused

BLOCKS = ("softmax", "hstu", "softmax, repeat", "hstu, repeat")
AT_EVENT = ("siren_rope_event", "time_in_embedding_event")
SOME = ("none", "learned_positions", "to_rope_split_head", "siren_rope_hstu_bias")
FORMS = [(name, "softmax") for name in RETRIEVAL_VARIANTS] + [
    (name, b) for name in SOME for b in BLOCKS[1:]
]
IN_BOTH_BLOCKS = [*FORMS, *((name, "hstu") for name in RETRIEVAL_VARIANTS if name not in SOME)]


def retriever(name: str, block: str, **changes: Any) -> tuple[Retriever, Any]:
    """A small model with one of `BLOCKS`."""
    kind, _, repeat = block.partition(", ")
    return small_retriever(name, block=kind, repeat=bool(repeat), **changes)


def queries(model: Retriever, params: Any, batch: NextItemBatch) -> jax.Array:
    """All that the model says of every slot, side by side."""
    query, _, repeat = model.apply({"params": params}, batch)
    if repeat is None:
        return query
    return jnp.concatenate([query, repeat.weights(), repeat.explore[..., None]], axis=-1)


@pytest.mark.parametrize(("name", "block"), variants(FORMS))
def test_causality_by_gradients(name: str, block: str) -> None:
    """d query_i / d input_j: features of events reach j <= i, and nothing of j > i."""
    model, params = retriever(name, block)
    batch = random_next_items(rows=1)

    def summed(dense: jax.Array) -> jax.Array:
        said = queries(model, params, batch.replace(dense=dense))[0]
        return said @ jnp.arange(1.0 * said.shape[-1])

    jacobian = jax.jacrev(summed)(jnp.asarray(batch.dense))
    reach = np.abs(jacobian[:, 0]).sum(-1) > 0
    np.testing.assert_array_equal(reach, np.tri(batch.segment.shape[1], dtype=bool))


@pytest.mark.parametrize(("name", "block"), variants(FORMS))
def test_the_item_to_be_predicted_never_leaks(name: str, block: str) -> None:
    """Swapping the target item, in the target and as the next event, leaves the query alone."""
    model, params = retriever(name, block)
    batch, slot = random_next_items(), 6
    categorical, target = batch.categorical.copy(), batch.target.copy()
    categorical[:, slot + 1 :, :] = (categorical[:, slot + 1 :, :] + 1) % 5
    target[:, slot:] = (target[:, slot:] + 1) % 5
    swapped = batch.replace(categorical=categorical, target=target)
    before, after = (queries(model, params, b) for b in (batch, swapped))
    np.testing.assert_array_equal(before[:, : slot + 1], after[:, : slot + 1])
    assert not np.allclose(before[:, slot + 1 :], after[:, slot + 1 :])


def test_repeats_are_shares_of_the_history() -> None:
    """What is named lies in the same history, not later, and is what exploring leaves."""
    model, params = small_retriever("siren_rope", repeat=True)
    batch = random_next_items()
    segment = np.where(np.arange(12) < 5, 1, 2) * np.ones_like(batch.segment)
    segment[1, 9:] = 0
    repeat = model.apply({"params": params}, batch.replace(segment=segment)).repeat
    weights = np.asarray(repeat.weights())
    allowed = np.tri(12, dtype=bool) & (segment[:, :, None] == segment[:, None, :])
    assert (weights[~allowed] == 0).all() and (weights >= 0).all()
    np.testing.assert_allclose((weights.sum(-1) + repeat.explore)[segment > 0], 1, rtol=1e-5)
    slots = np.nonzero(segment)
    mixtures = repeat.mixtures(slots)
    np.testing.assert_allclose(mixtures.weight, weights[slots], atol=1e-6)
    np.testing.assert_array_equal(mixtures.item, batch.categorical[slots[0], :, 0])


@pytest.mark.parametrize("attention", ["dense", "blocked"])
def test_the_loss_of_a_target_had_before_is_that_of_the_mixture(attention: str) -> None:
    """The training loss is the mean NLL that the evaluation measures."""
    model, params = small_retriever("siren_rope", repeat=True, attention=attention)
    batch = random_next_items()
    result = model.apply({"params": params}, batch)
    slots = (result.query, batch.target, result.repeat.of_targets(batch.target))
    query, target, repeat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), slots)
    nothing, items = np.zeros((len(target), 0), np.int32), DATA.items
    mixtures = result.repeat.mixtures(np.nonzero(batch.target >= 0))
    _, nll = rank_targets(query, result.table.values, target, nothing, mixtures, items=items)
    loss = retrieval_loss(
        LossConfig(), query, result.table, target, target > 0, repeat=repeat, items=items
    )
    again = repeat.nll(jnp.full(len(target), jnp.inf))
    assert float(again.min()) < 5  # some have been had before
    np.testing.assert_allclose(loss, np.nanmean(nll), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "block", "query_time"),
    variants(
        [
            *((*form, "request") for form in IN_BOTH_BLOCKS if form[0] not in AT_EVENT),
            *((*form, "event") for form in FORMS),
        ]
    ),
)
def test_the_time_of_the_request_matters_where_it_is_to(
    name: str, block: str, query_time: str
) -> None:
    """A later request changes its own query alone, and only where queries have its time."""
    model, params = retriever(name, block, query_time=query_time)
    batch = random_next_items()
    day, second = batch.request_time.day.copy(), batch.request_time.second.copy()
    day[:, -1] += 3
    second[:, -1] = (second[:, -1] + 40_000) % 86_400
    later = batch.replace(request_time=batch.request_time.replace(day=day, second=second))
    before, after = (queries(model, params, b) for b in (batch, later))
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
    changed = float(jnp.abs(before[:, -1] - after[:, -1]).max()) > 1e-6
    assert changed == (model.config.uses_time and query_time == "request")


@pytest.mark.parametrize("repeat", [False, True], ids=["plain", "repeat"])
@pytest.mark.parametrize("name", ["siren_rope_hstu_bias", "fuxi_bias", "time_in_embedding"])
def test_times_that_come_later_change_nothing_earlier(name: str, repeat: bool) -> None:
    """Neither those of later events nor of later requests."""
    model, params = small_retriever(name, repeat=repeat)
    batch = random_next_items()
    slots = np.arange(batch.segment.shape[1])
    later = batch.replace(
        time=batch.time.replace(day=batch.time.day + 30 * (slots >= 7)),
        request_time=batch.request_time.replace(day=batch.request_time.day + 30 * (slots >= 6)),
    )
    before, after = (queries(model, params, b)[:, :6] for b in (batch, later))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("block", BLOCKS)
def test_packed_histories_do_not_see_each_other(block: str) -> None:
    model, params = retriever("siren_rope_hstu_bias", block)
    batch = random_next_items()
    segment = np.where(np.arange(12) < 5, 1, 2) * np.ones_like(batch.segment)
    other = batch.categorical.copy()
    other[:, :5] = (other[:, :5] + 1) % 5
    packed = batch.replace(segment=segment)
    before, after = (queries(model, params, b) for b in (packed, packed.replace(categorical=other)))
    np.testing.assert_array_equal(before[:, 5:], after[:, 5:])
    assert not np.allclose(before[:, :5], after[:, :5])


def test_times_may_be_absent() -> None:
    """An absent time turns nothing and has no bias; the query stays finite."""
    model, params = small_retriever("siren_rope_hstu_bias")
    batch = random_next_items()
    known = np.zeros_like(batch.segment, bool)
    absent = batch.replace(
        time=batch.time.replace(known=known), request_time=batch.request_time.replace(known=known)
    )
    ordinal = model.config.encoding["order"]
    config = dataclasses.replace(model.config, encoding={"order": ordinal}, biases=())
    without = {k: v for k, v in params.items() if not k.startswith("bias_")}
    without["encoding"] = {"order": params["encoding"]["order"]}
    expected = queries(Retriever(config, model.data), without, absent)
    np.testing.assert_allclose(queries(model, params, absent), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["time_in_embedding", "time_in_embedding_network"])
def test_what_is_known_of_an_event_does_not_drown_its_item_before_training(name: str) -> None:
    model, params = small_retriever(name, width=64)
    batch = random_next_items()
    signals = signals_of(batch, DATA)

    def tokens(ids: np.ndarray) -> jax.Array:
        given, own = batch.replace(categorical=ids), {"params": params}
        return model.apply(own, given, ids[..., 0], signals, signals, method=Retriever.tokens)

    whole = tokens(batch.categorical)
    nobody = batch.categorical * [0, *[1] * (batch.categorical.shape[-1] - 1)]
    without_item = tokens(nobody.astype(np.int32))
    size = [jnp.linalg.norm(x, axis=-1).mean() for x in (whole - without_item, without_item)]
    assert 0.1 < size[1] / size[0] < 2


def test_cosine_scores_over_a_temperature() -> None:
    model, params = small_retriever("ordinal", normalize=True, temperature=0.05)
    query, items, _ = model.apply({"params": params}, random_next_items())
    np.testing.assert_allclose(jnp.linalg.norm(query, axis=-1), 20, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(items.values[1 : DATA.items], axis=-1), 1, rtol=1e-5)
    assert float(jnp.abs(items.values[0]).max()) == 0


def test_bfloat16_models_keep_float32_parameters_and_close_queries() -> None:
    exact, params = small_retriever("siren_rope_hstu_bias")
    short, _ = small_retriever("siren_rope_hstu_bias", dtype="bfloat16")
    batch = random_next_items()
    ours, theirs = (queries(m, params, batch).astype(jnp.float32) for m in (exact, short))
    assert queries(short, params, batch).dtype == jnp.bfloat16
    np.testing.assert_allclose(ours, theirs, atol=0.15)


def test_time_buckets_are_hstus() -> None:
    seconds = np.array([0.0, 1, 2, 60, 3600, 86_400, 1e9, 1e30])
    expected = [0, 0, 2, 13, 27, 37, 68, BUCKETS - 1]
    np.testing.assert_array_equal(time_bucket(jnp.asarray(seconds)), expected)


def test_biases_depend_on_differences_alone() -> None:
    """A shift of all times and positions changes nothing; a gap of years is told from a day's."""
    bias = LogitBias(get_args(BiasKind), heads=2, context_length=8, head_width=4)
    weights = jax.random.normal(jax.random.key(1), (1, 5, 2, KNOTS))
    seconds = START + np.array([[0, 50, 4000, 90_000, 10**9]])
    position = np.arange(5)[None]

    def of(shift: int, params: Any = None) -> Any:
        time = Time.from_seconds(seconds + shift)
        if params is None:
            return bias.init(jax.random.key(0))
        events = Events(np.ones_like(position), np.arange(5), position + (shift > 0), time)
        return bias.apply(params)(events, events, weights)

    params = of(0)
    np.testing.assert_allclose(of(0, params), of(123_457, params), atol=1e-6)
    value = np.asarray(of(0, params))
    assert value.shape == (1, 2, 5, 5)
    power = np.asarray(params["params"]["time_power_scale"])
    assert power.shape == (2, 1, 1)
    assert len(np.unique(value[0, 0, 4, :4])) == 4


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_learns_what_follows_what(block: str) -> None:
    """Items that follow each other in a fixed cycle: the loss goes towards zero."""
    model, params = retriever("siren_rope", block)
    batch = random_next_items(rows=8)
    item = (np.arange(12) + np.arange(8)[:, None]) % 19 + 1
    categorical = np.stack([item, item % 5], axis=-1).astype(np.int32)
    target = (item % 19 + 1).astype(np.int32)
    batch = jax.device_put(batch.replace(categorical=categorical, target=target))

    def loss_of(params: Any) -> jax.Array:
        query, items, repeat = model.apply({"params": params}, batch)
        asked = jnp.ones(target.size, bool)
        repeat = None if repeat is None else repeat.of_targets(target)
        query, repeat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (query, repeat))
        return retrieval_loss(LossConfig(), query, items, target.ravel(), asked, repeat=repeat)

    assert float(loss_of(params)) > 2.5 > 0.1 > float(loss_of(trained(loss_of, params)))


def test_wrong_sizes_and_names_are_refused() -> None:
    with refused("config.width"):
        small_retriever("ordinal", width=18, heads=4)
    with refused("config.temperature"):
        small_retriever("ordinal", temperature=0.0)
    with refused("config.rotation", "years"):
        small_retriever("rote", rotation="space")
    with refused("config.rotation", "4"):
        small_retriever("ordinal", width=12, heads=2, rotation="space")
    with refused("config.input_time_network.counts"):
        small_retriever("ordinal", input_time_network={"counts": ("column",)})
    with refused("variant", "hstu_bias"):
        retrieval_variant("hstu_bais")
    with refused("variant", "siren_rope_interleaved"):
        retrieval_variant("siren_rope_interleaved")


MILLION = """
import json
import jax
from jax.sharding import Mesh
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.rotation.time import TimeScale
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.optim import OptimizerConfig
from siren_rope_jax.training.setup import setup
from tests.batches import random_next_items, small_retriever_config

scale = TimeScale.fit(1_600_000_000, 1_700_000_000)
data = DataSpec({"item": 1_000_001, "topic": 5}, (), 100, scale, dense=3)
config = RetrievalExperiment(
    variant="", data=DataConfig("", length=100, batch_size=20),
    model=small_retriever_config("siren_rope", width=64, repeat=True),
    optimizer=OptimizerConfig(weight_decay=0.01),
)
training = setup(config, data, Mesh(jax.devices()[:1], ("data",)), steps=10)
batch = random_next_items(rows=20, length=100)
batch = jax.device_put(batch.replace(target=batch.target * 45_000 + 1))
state = training.init(0)
for _ in range(2):
    state, metrics = training.step(state, batch, training.key(0), {})
with open("/proc/self/status") as file:
    status = dict(line.split(":", 1) for line in file)
peak = int(status["VmHWM"].split()[0]) / 2**20
print(json.dumps({"loss": float(metrics["loss"]), "gib": peak}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_training_on_a_million_items_stays_small() -> None:
    """Two whole steps of 2,000 slots with AdamW: well below 6 GiB."""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", MILLION], cwd=root, capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert 11 < result["loss"] < 16
    assert result["gib"] < 6
