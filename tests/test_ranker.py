"""The ranking model: causality, time-awareness, padding and packing, learning."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from siren_rope_jax.models.batch import RankingBatch, signals_of
from siren_rope_jax.models.losses import ranking_loss
from siren_rope_jax.models.ranker import Ranker
from siren_rope_jax.rotation.variants import RANKING_VARIANTS
from tests.batches import DATA, random_batch, small_config, small_model, trained, variants
from tests.refusals import refused

# Every variant in the default form; some of them interleaved, and with HSTU's block.
FORMS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in RANKING_VARIANTS]
INTERLEAVED = {"interleaved": True, "mixed_value": False, "late_fusion": False}
FORMS += [("to_rope_split_head", INTERLEAVED)]
FORMS += [(name, {"block": "hstu"}) for name in ("siren_rope_hstu_bias", "siren_rope_interleaved")]
SOME = ("ordinal", "to_rope_split_head", "siren_rope_hstu_bias", "siren_rope_interleaved")
SOME_FORMS = [(name, changes) for name, changes in FORMS if name in SOME]


def forward(model: Ranker, params: Any, batch: RankingBatch) -> jax.Array:
    return model.apply({"params": params}, batch)


@pytest.mark.parametrize(("name", "changes"), variants(FORMS))
def test_causality_by_gradients(name: str, changes: dict[str, Any]) -> None:
    """d logits_i / d input_j: dense features reach j <= i, actions j < i, context j = i only."""
    model, params = small_model(name, **changes)
    batch = random_batch(rows=1)
    length = batch.segment.shape[1]
    inputs = {"dense": batch.dense, "actions": batch.actions, "context": batch.context}

    def logits(given: dict[str, Any]) -> jax.Array:
        return forward(model, params, batch.replace(**given))[0].sum(-1)

    jacobian = jax.jacrev(logits)(inputs)
    reach = {k: np.abs(v[:, 0]).sum(-1) > 0 for k, v in jacobian.items()}
    tri = np.tri(length, dtype=bool)
    np.testing.assert_array_equal(reach["dense"], tri)
    np.testing.assert_array_equal(reach["actions"], np.tri(length, k=-1, dtype=bool))
    np.testing.assert_array_equal(reach["context"], np.eye(length, dtype=bool))


@pytest.mark.parametrize("name", variants(RANKING_VARIANTS))
def test_later_times_change_nothing_earlier(name: str) -> None:
    model, params = small_model(name)
    batch = random_batch()
    late = batch.time.replace(day=batch.time.day + (np.arange(12) >= 7) * 30)
    before, after = (forward(model, params, b) for b in (batch, batch.replace(time=late)))
    np.testing.assert_array_equal(before[:, :7], after[:, :7])


@pytest.mark.parametrize("name", variants(RANKING_VARIANTS))
def test_permuting_times_of_a_history_matters_to_time_aware_variants_only(name: str) -> None:
    model, params = small_model(name)
    batch = random_batch()
    order = np.r_[np.random.default_rng(0).permutation(11), 11]  # the request keeps its time
    permuted = batch.replace(time=jax.tree.map(lambda x: x[:, order], batch.time))
    before, after = (forward(model, params, b)[:, -1] for b in (batch, permuted))
    changed = float(jnp.abs(before - after).max()) > 1e-6
    assert changed == model.config.uses_time


def test_the_head_knows_the_request_time_in_every_variant() -> None:
    model, params = small_model("ordinal")
    batch = random_batch()
    later = batch.replace(time=batch.time.replace(second=(batch.time.second + 7200) % 86_400))
    assert not np.allclose(forward(model, params, batch), forward(model, params, later))


def _pad(batch: RankingBatch, amount: int) -> RankingBatch:
    """Appends padding full of arbitrary values, marked by segment 0."""

    def grow(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, x[:, :amount]], axis=1)

    grown = jax.tree.map(grow, batch)
    segment = grown.segment.copy()
    segment[:, -amount:] = 0
    return grown.replace(segment=segment)


@pytest.mark.parametrize(("name", "changes"), SOME_FORMS)
def test_padding_changes_nothing(name: str, changes: dict[str, Any]) -> None:
    model, params = small_model(name, **changes)
    batch = random_batch()
    padded = forward(model, params, _pad(batch, 5))[:, :12]
    np.testing.assert_allclose(padded, forward(model, params, batch), atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), SOME_FORMS)
def test_packing_changes_nothing(name: str, changes: dict[str, Any]) -> None:
    """Two users in one row get what they get in rows of their own."""
    model, params = small_model(name, **changes)
    batch = random_batch(rows=2)
    packed = jax.tree.map(lambda x: x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:]), batch)
    packed = packed.replace(segment=np.repeat([[1, 2]], 12, axis=1).astype(np.int32))
    together = forward(model, params, packed).reshape(2, 12, -1)
    np.testing.assert_allclose(together, forward(model, params, batch), atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), variants(FORMS))
def test_overfits_a_tiny_batch(name: str, changes: dict[str, Any]) -> None:
    model, params = small_model(name, **changes)
    batch = random_batch()

    def loss_of(params: Any) -> jax.Array:
        output = forward(model, params, batch)
        return ranking_loss(DATA.tasks, output, batch.labels, batch.label_mask)

    assert float(loss_of(params)) > 0.5
    assert float(loss_of(trained(loss_of, params))) < 0.05


def test_bfloat16_model_keeps_float32_angles_parameters_and_logits() -> None:
    model, params = small_model("siren_rope", dtype="bfloat16")
    batch = random_batch()
    logits = forward(model, params, batch)
    assert logits.dtype == jnp.float32
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
    exact = forward(Ranker(small_config("siren_rope"), DATA), params, batch)
    np.testing.assert_allclose(logits, exact, atol=0.1)
    signals = signals_of(batch, DATA)
    tokens, _ = model.apply({"params": params}, batch, signals, method=Ranker.tokens)
    assert tokens.dtype == jnp.bfloat16
    angles = (
        m.apply({"params": params}, signals, method=lambda m, s: m.trunk.encoding(s))
        for m in (model, Ranker(small_config("siren_rope"), DATA))
    )
    jax.tree.map(np.testing.assert_array_equal, *angles)


@pytest.mark.parametrize("changes", [{"mixed_value": False}, {"late_fusion": False}])
def test_each_way_of_the_actions_can_be_switched_off(changes: dict[str, Any]) -> None:
    model, params = small_model("siren_rope", **changes)
    batch = random_batch()
    other = batch.replace(actions=batch.actions + 1)
    before, after = (forward(model, params, b) for b in (batch, other))
    assert not np.allclose(before[:, -1], after[:, -1])
    both = {"mixed_value": False, "late_fusion": False}
    model, params = small_model("siren_rope", **both)
    before, after = (forward(model, params, b) for b in (batch, other))
    np.testing.assert_array_equal(before, after)


def test_dropout_is_off_unless_asked_for() -> None:
    model, params = small_model("siren_rope", dropout=0.5)
    batch = random_batch()
    a, b = forward(model, params, batch), forward(model, params, batch)
    np.testing.assert_array_equal(a, b)
    rngs = {"dropout": jax.random.key(0)}
    dropped = model.apply({"params": params}, batch, deterministic=False, rngs=rngs)
    assert not np.allclose(a, dropped)


@pytest.mark.parametrize("remat", ["none", "dots", "all"])
@pytest.mark.parametrize("scan", [False, True], ids=["apart", "in a loop"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_layers_in_a_loop_or_computed_again_are_the_same(
    remat: str, scan: bool, deterministic: bool
) -> None:
    """Values and gradients. In a loop parameters are stacked, and dropout is drawn otherwise."""
    name, batch = "siren_rope_hstu_bias", random_batch()
    params = small_model(name)[1]
    other = Ranker(small_config(name, remat=remat, scan_layers=scan, dropout=0.5), DATA)
    plain = Ranker(small_config(name, dropout=0.5), DATA)
    given = params
    if scan:
        layers = [
            {"block": params[f"block_{i}"], "bias_each": params[f"bias_{i}"]} for i in range(2)
        ]
        apart = {f"{part}_{i}" for part in ("block", "bias") for i in range(2)}
        given = {key: value for key, value in params.items() if key not in apart}
        given["layers"] = jax.tree.map(lambda *x: jnp.stack(x), *layers)

    def total(model: Ranker, params: Any) -> Any:
        rngs, seed = {"dropout": jax.random.key(0)}, {"deterministic": deterministic}
        logits = model.apply({"params": params}, batch, **seed, rngs=rngs)
        return jnp.sin(logits).mean()  # type: ignore[arg-type]

    value, gradient = jax.jit(jax.value_and_grad(partial(total, plain)))(params)
    found, slopes = jax.jit(jax.value_and_grad(partial(total, other)))(given)
    if scan and not deterministic:
        assert found != value
        return
    np.testing.assert_allclose(found, value, rtol=1e-5)
    squares = [sum(jnp.square(x).sum() for x in jax.tree.leaves(g)) for g in (slopes, gradient)]
    np.testing.assert_allclose(*squares, rtol=1e-4)


def test_the_ranker_works_from_nnx() -> None:
    batch = jax.tree.map(jax.device_put, random_batch())
    linen = Ranker(small_config("siren_rope"), DATA)
    model = nnx.bridge.ToNNX(linen, rngs=nnx.Rngs(0)).lazy_init(batch)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    np.testing.assert_allclose(model(batch), forward(linen, params, batch), atol=1e-6)


@pytest.mark.parametrize(("width", "heads"), [(18, 2), (16, 3), (6, 2)])
def test_odd_or_broken_head_widths_are_refused(width: int, heads: int) -> None:
    with refused("config.width"):
        small_config("siren_rope", width=width, heads=heads)


def test_interleaved_excludes_the_other_ways_of_the_actions() -> None:
    with refused("config.interleaved"):
        small_config("siren_rope", interleaved=True)
