"""Angle sources and their gated sum: what (E2) and (E6) promise, for every kind of source."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.base.times import NO_TIME, WEEK
from siren_rope_jax.rotation.encoding import LAST, TRUNK, AngleEncoding
from siren_rope_jax.rotation.maps import MAPS, AngleMap
from siren_rope_jax.rotation.rotary import TimeRotary
from siren_rope_jax.rotation.rotate import Rotation, ladder
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.sources import AngleSource
from siren_rope_jax.rotation.time import Time, TimeScale, phases, since
from siren_rope_jax.rotation.variants import ENCODINGS
from siren_rope_jax.rotation.variants import encoding as named
from tests.batches import SPAN, START, source
from tests.refusals import refused

HEADS, PLANES, LENGTH = 2, 4, 6
SCALE = TimeScale.fit(START, START + SPAN)


def encoding(sources: dict[str, AngleSource], **changes: Any) -> AngleEncoding:
    return AngleEncoding(sources, HEADS, PLANES, SCALE, {"topic": 5}, **changes)


def sources_of(name: str) -> dict[str, AngleSource]:
    topic = "topic" if "semantic" in name or "category" in name else None
    return {k: source(**v) for k, v in named(name, topic).items()}


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
) -> tuple[jax.Array, Any]:
    """The trunk's angles, and the parameters."""
    if params is None:
        params = module.init(jax.random.key(seed), given).get("params", {})
    return module.apply({"params": params}, given)[TRUNK], params


def with_gate(params: Any, source: str, value: Any) -> Any:
    """The parameters with another gate of one source, of the same shape."""
    gate = jnp.broadcast_to(value, params[source]["gate"].shape)
    return {**params, source: {**params[source], "gate": gate}}


def differences(theta: jax.Array) -> jax.Array:
    """Theta_j - Theta_i on the circle, as cos and sin: all that the logits see."""
    difference = theta[:, None] - theta[None, :]
    return jnp.stack([jnp.cos(difference), jnp.sin(difference)])


def relative(module: AngleEncoding, given: Signals, params: Any = None) -> tuple[jax.Array, Any]:
    """All that the logits see of any encoding: products of two events' (cos + i sin); parameters.

    They are the `differences` of angles, where an encoding has some.
    """
    if params is None:
        params = module.init(jax.random.key(0), given, method="rotations").get("params", {})
    turn = module.apply({"params": params}, given, method="rotations")[TRUNK].key
    event = turn.cos + 1j * turn.sin
    product = event[:, None].conj() * event[None, :]
    return jnp.stack([product.real, product.imag]), params


def test_omega_zero_and_lambda_one_is_rope_exactly() -> None:
    module = encoding(sources_of("siren_rope"))
    _, params = angles_of(module, signals())
    params = with_gate(params, "time", 0.0)
    theta, _ = angles_of(module, signals(), params)
    rope, _ = angles_of(encoding(sources_of("ordinal")), signals())
    expected = np.arange(LENGTH)[:, None, None] * ladder(PLANES, 1e4)
    np.testing.assert_allclose(theta, expected, atol=1e-6)
    np.testing.assert_allclose(differences(theta), differences(rope), atol=1e-6)


def test_lambda_zero_removes_the_ordinal_part() -> None:
    module = encoding(sources_of("siren_rope"))
    theta, params = angles_of(module, signals())
    params = with_gate(params, "order", 0.0)
    a, _ = angles_of(module, signals(), params)
    b, _ = angles_of(module, signals(position=3), params)
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(theta, a)


def test_gates_start_at_pi_and_one() -> None:
    _, params = angles_of(encoding(sources_of("siren_rope")), signals())
    np.testing.assert_allclose(params["time"]["gate"], np.full(PLANES, np.pi), rtol=1e-7)
    assert params["order"]["gate"] == 1


def test_theta_is_the_gated_sum_of_e2() -> None:
    """Theta = omega f + lambda p theta, assembled by hand from the parts."""
    full, params = angles_of(encoding(sources_of("siren_rope")), signals())
    unit = with_gate(with_gate(params, "order", 0.0), "time", 1.0)
    f, _ = angles_of(encoding(sources_of("siren_rope")), signals(), unit)
    omega, lam = params["time"]["gate"], params["order"]["gate"]
    by_hand = omega * f + lam * np.arange(LENGTH)[:, None, None] * ladder(PLANES, 1e4)
    np.testing.assert_allclose(full, by_hand, atol=1e-5)


@pytest.mark.parametrize("name", ENCODINGS)
def test_shift_of_all_positions_changes_no_difference(name: str) -> None:
    module = encoding(sources_of(name))
    a, params = relative(module, signals())
    b, _ = relative(module, signals(position=1000), params)
    np.testing.assert_allclose(a, b, atol=2e-3 * float(a.max()))


INVARIANT_TO_TIME_SHIFT = {
    "none", "ordinal", "semantic", "linear", "time_ladder", "to_rope", "to_rope_hours",
    "to_rope_split_dim", "to_rope_split_head", "to_rope_demo", "to_rope_day_week", "clock_and_lag",
    "clock_and_lag_split_head",
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_shift_of_all_times(name: str) -> None:
    """Linear-in-time angles do not see a shift of all times; f_phi does (no function of lags).

    Neither are sums of turned vectors, because products of two different copies remain (RoTE).
    """
    module = encoding(sources_of(name))
    a, params = relative(module, signals())
    b, _ = relative(module, signals(shift=20 * 86_400 + 5 * 3600), params)
    error = float(jnp.abs(a - b).max())
    assert (error < 1e-3) == (name in INVARIANT_TO_TIME_SHIFT), error


def test_weights_add_turned_vectors() -> None:
    """RoTE: q and k are sums of copies, each turned by one ladder and by the order."""
    module = encoding(sources_of("rote"))
    x = jax.random.normal(jax.random.key(1), (LENGTH, HEADS, 2 * PLANES))
    turned = module.apply({}, signals(), method="rotations")[TRUNK].key(x)
    expected = jnp.zeros_like(x)
    sources = {k: dataclasses.replace(s, weight=None) for k, s in sources_of("rote").items()}
    for name, weight in {"years": 1.5, "months": 1.0, "days": 0.5}.items():
        theta, _ = angles_of(encoding({k: sources[k] for k in (name, "order")}), signals())
        expected += weight * Rotation.from_angles(theta)(x)
    np.testing.assert_allclose(turned, expected, atol=1e-4)
    assert not np.allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=0.1)
    with refused("encoding", "years"):
        module.apply({}, signals())

    timeless = signals(seconds=np.full(LENGTH, NO_TIME))
    by_order, _ = angles_of(encoding({"order": sources["order"]}), signals())
    turned = module.apply({}, timeless, method="rotations")[TRUNK].key(x)
    np.testing.assert_allclose(turned, 3 * Rotation.from_angles(by_order)(x), atol=1e-4)


def test_a_count_turns_as_the_index_would_and_a_network_sees_its_range() -> None:
    column = np.asarray([0, 3, 9, 0, 70, 79], np.int32)
    as_index = rotary("ordinal")
    by_column = rotary(COLUMN, category_sizes={"column": 80})
    expected = as_index.apply({}, column).key
    turned = by_column.apply({}, np.arange(LENGTH), counts={"column": column}).key
    np.testing.assert_array_equal(turned.cos, expected.cos)
    np.testing.assert_array_equal(turned.sin, expected.sin)

    network = {"network": {"features": (), "counts": ("column",)}}
    learned = rotary({"layout": network}, category_sizes={"column": 80})
    beyond = {"column": np.where(column == 79, 10_000, column)}
    params = learned.init(jax.random.key(0), np.arange(LENGTH), counts=beyond)
    inside, outside = (
        learned.apply(params, np.arange(LENGTH), counts=c).key for c in ({"column": column}, beyond)
    )
    np.testing.assert_array_equal(inside.cos, outside.cos)  # no number beyond training is new
    assert len(np.unique(np.asarray(inside.cos)[:, 0, 0])) == len(np.unique(column))


def test_whole_weeks_leave_cyclic_features_alone() -> None:
    cyclic = source(network={"features": ("day", "week")}, gate={"init": 3.0, "per_plane": True})
    module = encoding({"time": cyclic})
    a, params = angles_of(module, signals())
    b, _ = angles_of(module, signals(shift=5 * WEEK), params)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [v for v in ENCODINGS if v not in ("none", "rote")])
def test_an_absent_time_turns_nothing_and_the_order_stays(name: str) -> None:
    seconds = START + np.asarray([0, 7, 4_000, 90_000, 700_000, 2_000_000])
    seconds[2] = NO_TIME
    sources = sources_of(name)
    without_time = {k: s for k, s in sources.items() if not s.uses_time}
    module = encoding(sources)
    theta, params = angles_of(module, signals(seconds=seconds))
    expected, _ = angles_of(encoding(without_time), signals(), params)
    np.testing.assert_allclose(theta[2], jnp.broadcast_to(expected, theta.shape)[2])
    loss = lambda p: jnp.cos(module.apply({"params": p}, signals(seconds=seconds))[TRUNK]).sum()  # noqa: E731
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(jax.grad(loss)(params)))


def test_splits_act_on_their_own_planes_and_heads() -> None:
    by_dim, _ = angles_of(encoding(sources_of("to_rope_split_dim")), signals())
    by_head, _ = angles_of(encoding(sources_of("to_rope_split_head")), signals())
    still = signals(seconds=np.full(LENGTH, START))
    dim_still, _ = angles_of(encoding(sources_of("to_rope_split_dim")), still)
    head_still, _ = angles_of(encoding(sources_of("to_rope_split_head")), still)
    changed_planes = np.any(by_dim != dim_still, axis=(0, 1))
    changed_heads = np.any(by_head != head_still, axis=(0, 2))
    np.testing.assert_array_equal(changed_planes, [True, True, False, False])
    np.testing.assert_array_equal(changed_heads, [True, False])


def test_to_rope_ladder_tells_seconds_apart_decades_from_the_origin() -> None:
    """With a unit of one second, gaps of one second survive at 4e9 s from the origin's epoch."""
    seconds = 4_000_000_000 + np.arange(LENGTH)
    ladder_s = source(ladder={"signal": "time", "unit": 1.0})
    theta, _ = angles_of(encoding({"time": ladder_s}), signals(seconds=seconds))
    expected = np.arange(LENGTH)[:, None, None] * ladder(PLANES, 1e4)
    got = differences(theta)
    np.testing.assert_allclose(got, differences(jnp.asarray(expected)), atol=2e-3)


def test_the_last_attention_has_maps_of_its_own_and_shares_gates() -> None:
    module = encoding(sources_of("siren_rope"), attentions=(TRUNK, LAST))
    params = module.init(jax.random.key(0), signals())["params"]
    theta = module.apply({"params": params}, signals())
    assert not np.allclose(theta[TRUNK], theta[LAST])
    still = with_gate(params, "time", 0.0)  # what is left is the ladder of the order
    theta = module.apply({"params": still}, signals())
    np.testing.assert_array_equal(theta[TRUNK], theta[LAST])
    fixed = encoding(sources_of("to_rope"), attentions=(TRUNK, LAST))
    theta = fixed.apply({}, signals())
    np.testing.assert_array_equal(theta[TRUNK], theta[LAST])


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
    np.testing.assert_array_equal(a, b)


def test_planes_of_a_clock_turn_a_whole_number_of_times_in_its_period() -> None:
    """By the local time, decades from the origin too; one harmonic is a ladder without a base."""
    seconds = np.asarray([START, 0, 4_000_000_000, START + 1, START + 86_399, -2_000_000_000])
    time = Time.from_seconds(seconds, offset=3_600)
    given = dataclasses.replace(signals(), time=time)
    module = encoding({"time": source(clock={"period": 86_400.0, "harmonics": 2})})
    theta, params = angles_of(module, given)
    turns = (seconds + 3_600) % 86_400 / 86_400 * 2 * np.pi
    assert not params
    for plane, harmonic in enumerate((1, 2, 1, 2)):
        wrong = np.exp(1j * (np.asarray(theta)[:, 0, plane] - harmonic * turns)) - 1
        assert np.abs(wrong).max() < 1e-3
    one, _ = angles_of(encoding({"time": source(clock={})}), given)
    flat = {"signal": "local_time", "unit": 86_400 / (2 * np.pi), "base": 1.0}
    as_ladder, _ = angles_of(encoding({"time": source(ladder=flat)}), given)
    np.testing.assert_allclose(np.exp(1j * one), np.exp(1j * as_ladder), atol=1e-3)


def test_ladders_of_day_and_week_turn_with_the_local_clock() -> None:
    """Across a change to winter time too, as the phases that networks are given do."""
    time = Time.from_seconds(
        START + np.asarray([0, 7, 4_000, 90_000, 700_000, 2_000_000]),
        offset=3600 * np.asarray([-4, -4, -4, -5, -5, 9]),
    )
    given = Signals(np.arange(LENGTH, dtype=np.int32), time, {"topic": None})
    theta, _ = angles_of(encoding(sources_of("to_rope_day_week")), given)
    turns = np.asarray(theta[:, 0] / (2 * np.pi))
    day, week = phases(time)
    quarter = PLANES // 4
    for phase, planes in ((day, slice(0, quarter)), (week, slice(quarter, 2 * quarter))):
        off = turns[:, planes] - phase[:, None]
        np.testing.assert_allclose(off - off[0], np.round(off - off[0]), atol=1e-5)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"ladder": {}, "linear": {}}, ""),
    ({"embedding": {"category": "genre"}}, ".category"),
    ({"network": {"category": "genre"}}, ".category"),
    ({"network": {"features": ()}}, ".network.features"),
    ({"network": {"branches": ()}}, ".network.branches"),
    ({"ladder": {}, "planes": (0.5, 0.51)}, ".planes"),
    ({"ladder": {}, "planes": (0.5, 0.5)}, ".planes"),
    ({"ladder": {}, "heads": (0.5,)}, ".heads"),
    ({"ladder": {"unit": 0.0}}, ".ladder.unit"),
    ({"ladder": {"base": -1.0}}, ".ladder.base"),
    ({"ladder": {"signal": "day"}}, ".signal"),
    ({"network": {"counts": ("column",)}}, ".counts"),
    ({"linear": {"unit": 0.0}}, ".linear.unit"),
    ({"time2vec": {"unit": 0.0}}, ".time2vec.unit"),
    ({"network": {"omega_0": 0.0}}, ".network.omega_0"),
    ({"network": {"width": 0}}, ".network.width"),
    ({"network": {"layers": 0}}, ".network.layers"),
    ({"network": {"features": ("days",)}}, ".network.features[0]"),
]


@pytest.mark.parametrize(("entries", "key"), IMPOSSIBLE)
def test_impossible_sources_are_refused_by_the_argument(entries: dict[str, Any], key: str) -> None:
    """In somebody's own model the error is about `sources`, not about a config of ours."""
    with refused(f"sources.x{key}"):
        rotary({"x": entries}).init(jax.random.key(0), np.arange(3), START + np.arange(3))


def rotary(sources: Any = "siren_rope", **changes: Any) -> TimeRotary:
    return TimeRotary(sources, **{"heads": HEADS, "head_width": 2 * PLANES, **changes})


COLUMN = {"column": {"ladder": {"signal": "column"}}}
SECONDS = START + np.asarray([0, 7, 4_000, 90_000, 700_000, 2_000_000])


def test_a_category_scales_the_angles_of_its_own_events_from_none_on() -> None:
    module, plain = encoding(sources_of("siren_rope_category_gate")), sources_of("siren_rope")
    given = signals()
    angles, params = angles_of(module, given)
    rows = params["time"]["category_gate"]
    assert rows.shape == (5, PLANES) and not rows.any()
    without = {**params, "time": {k: v for k, v in params["time"].items() if v is not rows}}
    np.testing.assert_array_equal(angles, angles_of(encoding(plain), given, without)[0])
    doubled = {**params, "time": {**params["time"], "category_gate": rows.at[3].set(1.0)}}
    changed, _ = angles_of(module, given, doubled)
    order, _ = angles_of(module, given, with_gate(params, "time", 0.0))
    topic = given.categories["topic"]
    np.testing.assert_array_equal(changed[topic != 3], angles[topic != 3])
    twice = 2 * (angles - order)[topic == 3]
    np.testing.assert_allclose((changed - order)[topic == 3], twice, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "arguments", "about"),
    [
        ({"head_width": 7}, {}, "head_width"),
        ({"heads": 0}, {}, "heads"),
        ({"sources": "siren_ropes"}, {}, "variant"),
        ({"sources": "semantic"}, {}, "category"),
        ({}, {"time": SECONDS * 1000}, "time"),
        ({}, {"time": SECONDS * 1.0}, "time"),
        ({}, {"time": jnp.asarray(SECONDS * 1.0)}, "time"),
        ({}, {"position": np.arange(6.0)}, "position"),
        ({}, {"position": np.arange(5)}, "time"),
        ({}, {"query_time": SECONDS[:4]}, "query_time"),
        ({"sources": named("semantic", "topic")}, {}, "sources.category.category"),
        ({"sources": named("siren_rope_category_gate", "topic")}, {}, "sources.time.gate.category"),
        ({"sources": COLUMN, "category_sizes": {"column": 80}}, {}, "counts"),
        (
            {"sources": named("semantic", "topic"), "category_sizes": {"topic": 5}},
            {"categories": {"topics": np.zeros(6, int)}},
            "categories",
        ),
        (
            {"sources": named("semantic", "topic"), "category_sizes": {"topic": 5}},
            {"categories": {"topic": np.zeros(6)}},
            "categories.topic",
        ),
    ],
)
def test_mistakes_of_somebody_elses_model_are_about_its_arguments(
    module: dict[str, Any], arguments: dict[str, Any], about: str
) -> None:
    given = {"position": np.arange(LENGTH), "time": SECONDS, **arguments}
    with refused(about):
        rotary(**module).init(jax.random.key(0), **given)


@pytest.mark.parametrize(
    "shape", [(6, 8), (6, 2, 6), (2, 6, 8), (5, 2, 8), (1, 2, 8), (6, 3, 8), (3, 6, 2, 8)]
)
def test_queries_that_the_angles_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    by_head = rotary("to_rope_split_head").apply({}, np.arange(LENGTH), SECONDS)
    if shape == (3, 6, 2, 8):  # the same angles for three histories
        assert by_head.query(jnp.ones(shape)).shape == shape
        return
    with refused("queries or keys", shape[-1]):
        by_head.query(jnp.ones(shape))


def test_a_rotation_of_ones_own_is_the_encodings() -> None:
    """Times as seconds, on the host or on a device, and as a `Time`; queries by another time."""
    position, module = np.arange(LENGTH), rotary(scale=SCALE)
    variables = module.init(jax.random.key(0), position, SECONDS)
    expected, _ = angles_of(
        encoding(sources_of("siren_rope")), signals(), variables["params"]["encoding"]
    )
    x = jax.random.normal(jax.random.key(1), (LENGTH, HEADS, 2 * PLANES))
    apply = jax.jit(module.apply)
    for time in (SECONDS, jnp.asarray(SECONDS), Time.from_seconds(SECONDS)):
        q, k = module.apply(variables, position, time)(x, x)
        np.testing.assert_allclose(q, Rotation.from_angles(expected)(x), atol=1e-5)
        np.testing.assert_array_equal(q, k)
        np.testing.assert_allclose(apply(variables, position, time).query(x), q, atol=1e-5)
    request = int(SECONDS[-1]) + 7_200
    later = module.apply(variables, position, SECONDS, query_time=request)
    np.testing.assert_array_equal(later.key(x), k)
    assert not np.allclose(later.query(x), q, atol=0.1)


def test_a_time_made_on_the_host_may_be_absent_under_jit_too() -> None:
    module, seconds = rotary("to_rope"), np.where(np.arange(LENGTH) == 2, NO_TIME, SECONDS)
    x = jnp.ones((LENGTH, HEADS, 2 * PLANES))
    position = np.arange(LENGTH)
    plain = module.apply({}, position, seconds).query(x)
    jitted = jax.jit(module.apply)({}, position, Time.from_seconds(seconds)).query(x)
    ordinal = rotary("ordinal").apply({}, position).query(x)
    np.testing.assert_allclose(plain, jitted, atol=1e-5)
    np.testing.assert_allclose(plain[2], ordinal[2], atol=1e-5)


def test_a_named_encoding_is_a_copy() -> None:
    named("siren_rope")["order"]["gate"]["init"] = 99.0
    assert named("siren_rope")["order"]["gate"]["init"] == 1.0
    with refused("category", "semantic"):
        named("semantic")
    with refused("category", "ordinal"):
        named("ordinal", "topic")


def test_a_map_cannot_forget_its_angles_or_whether_it_uses_time() -> None:
    for of in MAPS.values():
        assert not of.__abstractmethods__
    with pytest.raises(TypeError, match="abstract"):
        type("Forgetful", (AngleMap,), {"angles": lambda *_: 0})()


@dataclasses.dataclass(frozen=True)
class LogAge(AngleMap):
    """A map of somebody's own: it has no gradient at the times that are absent if those pass."""

    planes: int
    uses_time = True

    def angles(self, owner: Any, signals: Signals) -> jax.Array:
        age = 1.0 + since(signals.time, START - 86_400, 1.0)
        w = owner.param("w", lambda _: jnp.ones(self.planes))
        return jnp.log(age)[..., None] * w


def test_a_map_never_meets_an_absent_time_and_must_give_an_angle_per_plane() -> None:
    absent = signals(seconds=np.where(np.arange(LENGTH) == 2, NO_TIME, START))
    module = encoding({"x": AngleSource(LogAge(PLANES))})
    _, params = angles_of(module, absent)
    gradient = jax.grad(lambda p: module.apply({"params": p}, absent)[TRUNK].sum())(params)
    assert np.isfinite(gradient["x"]["w"]).all()
    with pytest.raises(ValueError, match="4 planes"):
        angles_of(encoding({"x": AngleSource(LogAge(1))}), absent)
