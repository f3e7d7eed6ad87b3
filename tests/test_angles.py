"""Angle sources and their gated sum: what (E2) and (E6) promise, for every kind of source."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import NO_TIME, WEEK
from siren_rope_jax.rotation.encoding import AngleEncoding, Signals
from siren_rope_jax.rotation.rotate import ladder
from siren_rope_jax.rotation.sources import AngleSource
from siren_rope_jax.rotation.time import Time, TimeScale, phases
from siren_rope_jax.rotation.variants import VARIANTS, variant
from tests.batches import SPAN, START, source

HEADS, PLANES, LENGTH = 2, 4, 6
OTHERS = {
    "time_in_embedding",
    "time_in_embedding_cyclic",
    "ordinal_interleaved",
    "siren_rope_interleaved",
}
ENCODINGS = [v for v in VARIANTS if v not in OTHERS]
SCALE = TimeScale.fit(START, START + SPAN)


def encoding(sources: dict[str, AngleSource], layers: int = 2, **changes: Any) -> AngleEncoding:
    return AngleEncoding(
        sources, HEADS, PLANES, layers, SCALE, {"topic": 5}, context_length=LENGTH, **changes
    )


def sources_of(name: str) -> dict[str, AngleSource]:
    return {k: source(**v) for k, v in variant(name, "topic")["encoding"].items()}


def signals(shift: int = 0, position: int = 0, seconds: np.ndarray | None = None) -> Signals:
    if seconds is None:
        seconds = START + np.asarray([0, 7, 4_000, 90_000, 700_000, 2_000_000])
    seconds = np.where(seconds == NO_TIME, NO_TIME, seconds + shift)
    return Signals(
        np.arange(position, position + LENGTH, dtype=np.int32),
        Time.from_seconds(seconds),
        {"topic": np.asarray([0, 1, 2, 3, 4, 1], np.int32)},
    )


def angles_of(
    module: AngleEncoding, given: Signals, params: Any = None, seed: int = 0
) -> tuple[list[jax.Array], Any]:
    if params is None:
        params = module.init(jax.random.key(seed), given).get("params", {})
    return module.apply({"params": params}, given), params


def differences(theta: jax.Array) -> jax.Array:
    """Theta_j - Theta_i on the circle, as cos and sin: all that the logits see."""
    difference = theta[:, None] - theta[None, :]
    return jnp.stack([jnp.cos(difference), jnp.sin(difference)])


def test_omega_zero_and_lambda_one_is_rope_exactly() -> None:
    module = encoding(sources_of("siren_rope"))
    _, params = angles_of(module, signals())
    params = {**params, "time_gate": jnp.zeros_like(params["time_gate"])}
    theta, _ = angles_of(module, signals(), params)
    rope, _ = angles_of(encoding(sources_of("ordinal")), signals())
    expected = np.arange(LENGTH)[:, None, None] * ladder(PLANES, 1e4)
    np.testing.assert_allclose(theta[0], expected, atol=1e-6)
    np.testing.assert_allclose(differences(theta[0]), differences(rope[0]), atol=1e-6)


def test_lambda_zero_removes_the_ordinal_part() -> None:
    module = encoding(sources_of("siren_rope"))
    theta, params = angles_of(module, signals())
    params = {**params, "order_gate": jnp.zeros_like(params["order_gate"])}
    a, _ = angles_of(module, signals(), params)
    b, _ = angles_of(module, signals(position=3), params)
    np.testing.assert_array_equal(a[0], b[0])
    assert not np.allclose(theta[0], a[0])


def test_gates_start_at_pi_and_one() -> None:
    _, params = angles_of(encoding(sources_of("siren_rope")), signals())
    np.testing.assert_allclose(params["time_gate"], np.full((1, 1, PLANES), np.pi), rtol=1e-7)
    np.testing.assert_array_equal(params["order_gate"], np.ones((1, 1, 1)))


def test_theta_is_the_gated_sum_of_e2() -> None:
    """Theta = omega f + lambda p theta, assembled by hand from the parts."""
    full, params = angles_of(encoding(sources_of("siren_rope")), signals())
    only_time = {**params, "order_gate": jnp.zeros((1, 1, 1))}
    unit = {**only_time, "time_gate": jnp.ones((1, 1, PLANES))}
    f = angles_of(encoding(sources_of("siren_rope")), signals(), unit)[0][0]
    omega, lam = params["time_gate"][0], params["order_gate"][0]
    by_hand = omega * f + lam * np.arange(LENGTH)[:, None, None] * ladder(PLANES, 1e4)
    np.testing.assert_allclose(full[0], by_hand, atol=1e-5)


@pytest.mark.parametrize("name", ENCODINGS)
def test_shift_of_all_positions_changes_no_difference(name: str) -> None:
    module = encoding(sources_of(name))
    a, params = angles_of(module, signals())
    b, _ = angles_of(module, signals(position=1000), params)
    np.testing.assert_allclose(differences(a[0]), differences(b[0]), atol=2e-3)


INVARIANT_TO_TIME_SHIFT = {
    "none", "ordinal", "semantic", "linear", "time_ladder", "to_rope", "to_rope_hours",
    "to_rope_split_dim", "to_rope_split_head", "to_rope_demo", "to_rope_day_week",
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_shift_of_all_times(name: str) -> None:
    """Linear-in-time angles do not see a shift of all times; f_phi does (no function of lags)."""
    module = encoding(sources_of(name))
    a, params = angles_of(module, signals())
    b, _ = angles_of(module, signals(shift=20 * 86_400 + 5 * 3600), params)
    error = float(jnp.abs(differences(a[0]) - differences(b[0])).max())
    assert (error < 1e-3) == (name in INVARIANT_TO_TIME_SHIFT), error


def test_whole_weeks_leave_cyclic_features_alone() -> None:
    cyclic = source(network={"features": ("day", "week")}, gate={"init": 3.0, "per_plane": True})
    module = encoding({"time": cyclic})
    a, params = angles_of(module, signals())
    b, _ = angles_of(module, signals(shift=5 * WEEK), params)
    np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("name", [v for v in ENCODINGS if v != "none"])
def test_an_absent_time_turns_nothing_and_the_order_stays(name: str) -> None:
    seconds = START + np.asarray([0, 7, 4_000, 90_000, 700_000, 2_000_000])
    seconds[2] = NO_TIME
    sources = sources_of(name)
    without_time = {k: s for k, s in sources.items() if not s.uses_time}
    module = encoding(sources)
    theta, params = angles_of(module, signals(seconds=seconds))
    expected, _ = angles_of(encoding(without_time), signals(), params)
    np.testing.assert_allclose(theta[0][2], jnp.broadcast_to(expected[0], theta[0].shape)[2])


def test_splits_act_on_their_own_planes_and_heads() -> None:
    by_dim, _ = angles_of(encoding(sources_of("to_rope_split_dim")), signals())
    by_head, _ = angles_of(encoding(sources_of("to_rope_split_head")), signals())
    still = signals(seconds=np.full(LENGTH, START))
    dim_still, _ = angles_of(encoding(sources_of("to_rope_split_dim")), still)
    head_still, _ = angles_of(encoding(sources_of("to_rope_split_head")), still)
    changed_planes = np.any(by_dim[0] != dim_still[0], axis=(0, 1))
    changed_heads = np.any(by_head[0] != head_still[0], axis=(0, 2))
    np.testing.assert_array_equal(changed_planes, [True, True, False, False])
    np.testing.assert_array_equal(changed_heads, [True, False])


def test_to_rope_ladder_tells_seconds_apart_decades_from_the_origin() -> None:
    """With a unit of one second, gaps of one second survive at 4e9 s from the origin's epoch."""
    seconds = 4_000_000_000 + np.arange(LENGTH)
    ladder_s = source(ladder={"signal": "time", "unit": 1.0})
    theta, _ = angles_of(encoding({"time": ladder_s}), signals(seconds=seconds))
    expected = np.arange(LENGTH)[:, None, None] * ladder(PLANES, 1e4)
    got = differences(theta[0])
    np.testing.assert_allclose(got, differences(jnp.asarray(expected)), atol=2e-3)


def test_gates_per_layer_and_per_head_have_those_shapes() -> None:
    gate = {"per_plane": True, "per_layer": True, "per_head": True}
    time = source(network={}, gate=gate)
    theta, params = angles_of(encoding({"time": time}, final=True), signals())
    assert params["time_gate"].shape == (3, HEADS, PLANES)
    assert [t.shape for t in theta] == [(LENGTH, HEADS, PLANES)] * 3


def test_equal_angles_are_computed_once() -> None:
    shared, _ = angles_of(encoding(sources_of("siren_rope"), layers=4), signals())
    assert len({id(theta) for theta in shared}) == 1
    module = encoding(sources_of("siren_rope"), layers=4, final=True)
    own, params = angles_of(module, signals())
    assert len({id(theta) for theta in own}) == 2  # the trunk's, and late fusion's own f_phi
    assert {"time", "time_final", "time_gate", "order_gate"} == set(params)
    one = encoding(sources_of("siren_rope"), layers=4, final=True, final_network=False)
    assert len({id(theta) for theta in angles_of(one, signals())[0]}) == 1


def test_tiling_repeats_angles_in_consecutive_planes() -> None:
    theta, _ = angles_of(encoding({"time": source(network={"angles": 2})}), signals())
    np.testing.assert_array_equal(theta[0][..., 0::2], theta[0][..., 1::2])
    with pytest.raises(UserError, match="no multiple of 3"):
        angles_of(encoding({"time": source(network={"angles": 3})}), signals())


def test_utc_offset_moves_the_local_hour_only() -> None:
    """An event at 12:00 UTC+2 has the angles of one at 14:00 UTC, in cyclic features."""
    cyclic = source(network={"features": ("day", "week")})
    module = encoding({"time": cyclic})
    seconds = START + np.arange(LENGTH) * 5_000
    local = Signals(
        np.arange(LENGTH, dtype=np.int32), Time.from_seconds(seconds, offset=7200), {"topic": None}
    )
    a, params = angles_of(module, local)
    b, _ = angles_of(module, signals(shift=7200, seconds=seconds), params)
    np.testing.assert_array_equal(a[0], b[0])


def test_ladders_of_day_and_week_turn_with_the_local_clock() -> None:
    """Across a change to winter time too, as the phases that networks are given do."""
    time = Time.from_seconds(
        START + np.asarray([0, 7, 4_000, 90_000, 700_000, 2_000_000]),
        offset=3600 * np.asarray([-4, -4, -4, -5, -5, 9]),
    )
    given = Signals(np.arange(LENGTH, dtype=np.int32), time, {"topic": None})
    theta, _ = angles_of(encoding(sources_of("to_rope_day_week")), given)
    turns = np.asarray(theta[0][:, 0] / (2 * np.pi))
    day, week = phases(time)
    quarter = PLANES // 4
    for phase, planes in ((day, slice(0, quarter)), (week, slice(quarter, 2 * quarter))):
        off = turns[:, planes] - phase[:, None]
        np.testing.assert_allclose(off - off[0], np.round(off - off[0]), atol=1e-5)


def test_order_signal_is_the_normalised_reverse_order() -> None:
    with_order = source(network={"features": (), "order": True})
    module = encoding({"order": with_order})
    theta, params = angles_of(module, signals())
    again, _ = angles_of(module, signals(shift=99_999), params)
    np.testing.assert_array_equal(theta[0], again[0])
    assert len(np.unique(theta[0][:, 0, 0])) == LENGTH


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "exactly one"),
        ({"ladder": {}, "linear": {}}, "exactly one"),
        ({"embedding": {"category": "genre"}}, "genre"),
        ({"network": {"features": ()}}, "at least one input"),
        ({"ladder": {}, "planes": (0.5, 0.51)}, "selects none"),
        ({"ladder": {}, "planes": (0.5, 0.5)}, "planes: must be two ends"),
        ({"ladder": {}, "heads": (0.5,)}, "heads: must be two ends"),
        ({"ladder": {"unit": 0.0}}, "ladder.unit: must be above 0"),
        ({"ladder": {"base": -1.0}}, "ladder.base: must be above 0"),
        ({"linear": {"unit": 0.0}}, "linear.unit: must be above 0"),
        ({"time2vec": {"unit": 0.0}}, "time2vec.unit: must be above 0"),
        ({"network": {"omega_0": 0.0}}, "network.omega_0: must be above 0"),
        ({"network": {"width": 0}}, "network.width: must be above 0"),
        ({"network": {"angles": 0}}, "network.angles: must be above 0"),
        ({"network": {"siren_layers": 0}}, "network.siren_layers: must be at least 1"),
        ({"network": {"features": ("days",)}}, "day"),
    ],
)
def test_impossible_sources_are_refused(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        angles_of(encoding({"x": source(**entries)}), signals())
