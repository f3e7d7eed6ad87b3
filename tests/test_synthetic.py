"""The synthetic feed and the ideal observers that are its floors."""

import dataclasses
import itertools

import numpy as np
import pytest

from configs.data.synthetic import get_config
from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.times import DAY, HOUR, WEEK, hour_of_day
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare import ideal
from siren_rope_jax.prepare.synthetic import (
    Mood,
    SyntheticConfig,
    floors,
    generate,
    simulate,
    time_basis,
)
from tests.raw_logs import decoded
from tests.refusals import refused
from tests.scripts import printed

SMALL = SyntheticConfig(num_users=300, num_items=40)
OBSERVERS = ("oracle", "ideal", "order_only", "time_blind")


def cross_entropy(p, labels):
    """That of probabilities with labels, or with the true probabilities of these."""
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def excess(exact, p):
    """What predicting `p` costs where `exact` is right, relative to the entropy."""
    return cross_entropy(p, exact) / cross_entropy(exact, exact) - 1


def alone(covariance, offset, scale, labels):
    """Predictions for a single sequence."""
    length = np.array([len(labels)])
    return ideal.filter_sequences(covariance[None], offset[None], scale, labels[None], length)[0]


@pytest.fixture(scope="module")
def small():
    feed = simulate(SMALL)
    return feed, floors(SMALL, feed)


@pytest.fixture
def sequences():
    """Covariances of interests of rank 3, offsets, scales and labels of a few short sequences."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(6, 8, 3))
    offset = rng.normal(size=(6, 8, 2)) - 1
    scale = np.array([1.0, 1.5])
    z = np.einsum("snd,sd->sn", features, rng.normal(size=(6, 3)))
    labels = rng.random(offset.shape) < sigmoid(offset + z[..., None] * scale)
    return features, offset, scale, labels


def test_predictions_agree_with_the_exact_posterior_in_one_dimension(sequences):
    _, offset, scale, labels = sequences
    strength = 1.5
    grid = np.linspace(-10, 10, 4001)
    p = sigmoid(offset[..., None, :] + strength * grid[:, None] * scale)  # [S, n, G, T]
    seen = np.where(labels[:, :, None], p, 1 - p).prod(axis=-1)
    before = np.cumprod(seen, axis=1) / seen  # the earlier events' likelihood
    posterior = before * np.exp(-(grid**2) / 2)
    posterior /= posterior.sum(axis=-1, keepdims=True)
    exact = np.einsum("sng,sngt->snt", posterior, p)
    length = np.full(len(labels), labels.shape[1])
    covariance = np.full((len(labels), 8, 8), strength**2)
    filtered = ideal.filter_sequences(covariance, offset, scale, labels, length)
    assert np.abs(filtered[:, 0] - exact[:, 0]).max() < 1e-4
    assert excess(exact, filtered) < 0.001


def test_predictions_agree_with_importance_sampling_in_several_dimensions(sequences):
    features, offset, scale, labels = sequences
    w = np.random.default_rng(0).normal(size=(400_000, 3))
    for s in range(2):
        weight = np.ones(len(w))
        exact = []
        for i in range(labels.shape[1]):
            p = sigmoid(offset[s, i] + (w @ features[s, i])[:, None] * scale)
            exact.append(weight @ p / weight.sum())
            weight *= np.where(labels[s, i], p, 1 - p).prod(axis=1)
        filtered = alone(features[s] @ features[s].T, offset[s], scale, labels[s])
        assert excess(np.array(exact), filtered) < 0.001


def test_the_noise_of_the_time_blind_observer_is_integrated_per_event(sequences):
    """Exact for two events: constant interest and noise integrated on a grid."""
    _, offset, scale, labels = sequences
    constant, noise = 1.2, 0.8
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    z = np.sqrt(constant) * nodes[:, None] + np.sqrt(noise) * nodes  # [interest, noise]
    p = sigmoid(offset[:, :2, None, None] + z[..., None] * scale)  # [S, 2, G, G, T]
    seen = np.where(labels[:, 0, None, None], p[:, 0], 1 - p[:, 0]).prod(axis=-1) @ weights
    posterior = seen * weights / (seen @ weights)[:, None]
    exact = np.einsum("sg,sght,h->st", posterior, p[:, 1], weights)
    prior = ideal.constant_kernel(constant, noise)(np.zeros((6, 2), int))
    filtered = ideal.filter_sequences(prior, offset[:, :2], scale, labels[:, :2], np.full(6, 2))
    assert np.abs(filtered[:, 1] - exact).max() < 0.01


def test_groups_of_any_length_are_predicted_as_if_alone(sequences):
    features, offset, scale, labels = sequences
    lengths = np.array([8, 1, 5, 8, 2, 3])
    group = np.repeat(np.arange(6), lengths)
    index = np.concatenate([np.arange(n) for n in lengths])
    mixed = np.random.default_rng(1).permutation(len(group))
    mixed = mixed[np.argsort(index[mixed], kind="stable")]  # any order that respects time
    rows = group[mixed], index[mixed]
    kernel = ideal.basis_kernel(features[rows])
    found = ideal.predict(group[mixed], offset[rows], scale, labels[rows], {"x": kernel})["x"]
    for s, n in enumerate(lengths):
        covariance = features[s, :n] @ features[s, :n].T
        expected = alone(covariance, offset[s, :n], scale, labels[s, :n])
        np.testing.assert_allclose(found[rows[0] == s], expected, rtol=1e-12)


def test_the_oracle_beats_the_ideal_observer_and_that_the_blind_ones(small):
    feed, found = small
    second_half = slice(SMALL.events_per_user // 2, None)
    for task in range(len(SMALL.tasks)):
        at = np.s_[:, second_half, task]
        losses = [cross_entropy(found[name][at], feed.labels[at]) for name in OBSERVERS]
        assert losses == sorted(losses)
        assert losses[0] < losses[-1] - 0.05


def test_harmonics_share_the_strength_of_the_day_and_make_it_sharper():
    seconds = np.arange(0, DAY, HOUR)
    one, four = (SyntheticConfig(harmonics=n, drift=0, weekly=0, constant=0) for n in (1, 4))
    kernels = [(x := time_basis(seconds, config)) @ x.T for config in (one, four)]
    for kernel in kernels:
        np.testing.assert_allclose(np.diag(kernel), 4)
    hours = np.arange(24)
    cosines = [np.cos(2 * np.pi * n * hours / 24) for n in range(1, 5)]
    np.testing.assert_allclose(kernels[1][0], 4 * np.mean(cosines, axis=0), atol=1e-12)
    assert kernels[1][0, 3] < 0.1 < kernels[0][0, 3]


@pytest.mark.parametrize("by", ["time", "order"])
def test_moods_pass_with_their_distance(by):
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.integers(0, DAY, (1, 6)), axis=1)
    mood = Mood(2.0, 4 * HOUR if by == "time" else 3.0, by)
    places = mood.places(np.repeat(seconds, 20_000, axis=0))
    drawn = mood.draw(rng, places, 1)[..., 0]
    expected = mood.covariance(places[0][:, None], places[0])
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.15)


def test_who_knows_the_order_knows_all_of_moods_that_pass_with_it():
    pure = {"constant": 0.0, "daily": 0.0, "weekly": 0.0, "drift": 0.0, "num_users": 200}
    by_order = SyntheticConfig(order=2.0, **pure)
    found = floors(by_order, simulate(by_order))
    np.testing.assert_allclose(found["ideal"], found["order_only"], atol=1e-9)
    by_time = SyntheticConfig(recency=2.0, **pure)
    feed = simulate(by_time)
    found = floors(by_time, feed)
    losses = [cross_entropy(found[name], feed.labels) for name in OBSERVERS]
    assert losses == sorted(losses) and losses[1] < losses[2] - 0.003
    hidden = SyntheticConfig(hidden=2.0, **pure)
    feed = simulate(hidden)
    found = floors(hidden, feed)
    assert cross_entropy(found["ideal"], feed.labels) < cross_entropy(
        found["order_only"], feed.labels
    )


def test_the_ideal_observer_is_calibrated(small):
    feed, found = small
    for name in ("oracle", "ideal"):
        p = found[name]
        deviation = np.sqrt((p * (1 - p)).sum())
        assert abs((feed.labels - p).sum()) < 4 * deviation
        # Nor is its confidence too high or too low: logits need no factor.
        logit = np.log(p / (1 - p)) - np.log(p.mean() / (1 - p.mean()))
        error = (logit * (feed.labels - p)).sum() / np.sqrt((logit**2 * p * (1 - p)).sum())
        assert abs(error) < 4


def test_without_any_role_of_time_all_observers_agree():
    config = dataclasses.replace(SMALL, daily=0.0, weekly=0.0, drift=0.0)
    found = floors(config, simulate(config))
    for name in ("time_blind", "order_only"):
        np.testing.assert_allclose(found["ideal"], found[name], atol=1e-9)
    config = dataclasses.replace(config, constant=0.0, quality=0.0)  # only base rates are left
    for p in floors(config, simulate(config)).values():
        np.testing.assert_allclose(p, np.broadcast_to(config.base_rates, p.shape), atol=1e-9)


@pytest.mark.parametrize("position", [0, 20, 49])
def test_predictions_depend_on_earlier_events_of_the_same_user_and_topic_only(small, position):
    feed, found = small
    labels = feed.labels.copy()
    labels[7, position] ^= True
    changed = floors(SMALL, dataclasses.replace(feed, labels=labels))
    topic = feed.topic[feed.item[7]]
    for name in OBSERVERS[1:]:
        users, events = np.nonzero((changed[name] != found[name]).any(axis=-1))
        later = np.flatnonzero(topic == topic[position])
        assert set(users) <= {7}
        assert set(events) == set(later[later > position])


def test_the_order_of_the_users_does_not_matter(small):
    feed, found = small
    order = np.random.default_rng(0).permutation(SMALL.num_users)
    of_users = ("time", "item", "labels", "probabilities")
    moved = dataclasses.replace(feed, **{key: getattr(feed, key)[order] for key in of_users})
    for name, p in floors(SMALL, moved).items():
        np.testing.assert_allclose(p, found[name][order], rtol=1e-9)


def test_only_the_ideal_observer_sees_the_times(small):
    feed, found = small
    later = dataclasses.replace(feed, time=feed.time + np.arange(50) * HOUR)
    changed = floors(SMALL, later)
    assert np.abs(changed["ideal"] - found["ideal"]).max() > 0.1
    np.testing.assert_array_equal(changed["time_blind"], found["time_blind"])
    # The order's observer knows the rhythm of the feed, not the times of a user.
    other = feed.time.copy()
    other[[0, 1]] = other[[1, 0]]
    swapped = floors(SMALL, dataclasses.replace(feed, time=other))
    np.testing.assert_allclose(swapped["order_only"], found["order_only"], rtol=1e-9)
    assert np.abs(swapped["ideal"][0] - found["ideal"][0]).max() > 0.01


def test_the_basis_has_the_stated_variances():
    seconds = np.arange(0, SMALL.days * DAY, 600)
    names = {"constant": [0], "daily": [1, 2], "weekly": [3, 4], "drift": [5, 6, 7]}
    for (name, columns), strength in itertools.product(names.items(), (0.0, 0.7)):
        zero = dict.fromkeys(names, 0.0)
        phi = time_basis(seconds, dataclasses.replace(SMALL, **(zero | {name: strength})))
        others = np.delete(phi, columns, axis=1)
        assert np.all(others == 0)
        assert (phi**2).sum(axis=1).mean() == pytest.approx(strength**2, rel=1e-3)


def test_the_feed_is_as_described():
    config = dataclasses.replace(SMALL, num_users=3000, rhythm=0.8)
    feed = simulate(config)
    rates = feed.labels.mean(axis=(0, 1))
    np.testing.assert_allclose(rates, config.base_rates, atol=0.02)
    gap = np.diff(feed.time, axis=1)
    assert np.all(gap >= 0)
    assert feed.time.min() >= config.start_time
    in_session = gap < 1800
    assert in_session.mean() == pytest.approx(1 - 1 / config.session_events, abs=0.03)
    assert np.median(gap[in_session]) == pytest.approx(config.event_gap, rel=0.1)
    assert np.median(gap[~in_session]) > 12 * HOUR
    hour = hour_of_day(feed.time)
    evening, morning = np.isin(hour, [19, 20]).mean(), np.isin(hour, [7, 8]).mean()
    assert evening / morning == pytest.approx(1.8 / 0.2, rel=0.3)


def test_the_same_seed_gives_the_same_feed_and_another_another(small):
    feed, _ = small
    again, other = simulate(SMALL), simulate(dataclasses.replace(SMALL, seed=1))
    for field in dataclasses.fields(feed):
        np.testing.assert_array_equal(getattr(feed, field.name), getattr(again, field.name))
    assert np.any(feed.time != other.time) and np.any(feed.labels != other.labels)


def test_a_generated_log_holds_the_feed_and_its_floors(tmp_path, small):
    feed, found = small
    report = generate(SMALL, tmp_path / "feed")
    log = PreparedLog.open(tmp_path / "feed")
    events = log.events()
    rows = events.rows
    assert log.schema.tasks == SMALL.tasks
    np.testing.assert_array_equal(rows["time"], feed.time.reshape(-1))
    for t, task in enumerate(SMALL.tasks):
        np.testing.assert_array_equal(rows[f"task/{task}"], feed.labels[..., t].reshape(-1))
    raw = decoded(log)
    np.testing.assert_array_equal(raw["categorical/item"], feed.item.reshape(-1))
    np.testing.assert_array_equal(raw["categorical/topic"], feed.topic[feed.item].reshape(-1))
    train_end = SMALL.start_time + 70 * DAY
    split = (rows["time"] >= train_end) + 1 * (rows["time"] >= train_end + WEEK)
    np.testing.assert_array_equal(rows["split"], split)
    train = rows[split == 0]
    quality = log.schema.dense[0]
    assert quality.mean == pytest.approx(train["dense/quality"].mean(), abs=1e-6)
    assert quality.std == pytest.approx(train["dense/quality"].std(), rel=1e-5)
    table = log.baselines()
    np.testing.assert_array_equal(table["event"], events.event)
    for name, p in found.items():
        for t, task in enumerate(SMALL.tasks):
            np.testing.assert_allclose(table[f"{name}/{task}"], p[..., t].reshape(-1), rtol=1e-6)
    assert log.report == report
    assert report["events"]["test"] == log.index[:, 3].sum()
    assert report["validation_end"] == "2024-03-18T00:00:00Z"
    like = report["tasks"]["like"]["test"]
    assert like["rate"] == pytest.approx(rows[split == 2]["task/like"].mean(), abs=1e-6)


def test_the_config_file_describes_the_default_feed():
    config = get_config()
    assert from_config_dict(SyntheticConfig, config) == SyntheticConfig()
    config.daily = 0
    assert from_config_dict(SyntheticConfig, config).daily == 0.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_users", 0), ("num_items", 3), ("days", 14), ("test_days", 0), ("session_events", 0.5),
        ("event_gap", 0.0), ("rhythm", 1.5), ("daily", -1.0), ("tasks", ("like", "like", "love")),
        ("base_rates", (0.5, 0.5)), ("base_rates", (0.5, 0.5, 1.0)), ("scales", (1.0,)),
        ("start", "1 May"), ("start", "2099-12-01"),
    ],
)  # fmt: skip
def test_impossible_feeds_are_refused_by_the_key(key, value):
    with refused(key):
        dataclasses.replace(SMALL, **{key: value})
    with refused(f"config.{key}"):
        from_config_dict(SyntheticConfig, {key: value})


def test_nothing_is_written_when_a_split_lacks_events_or_a_class(tmp_path):
    for users, events, lacking in ((1, 2, "validation"), (10, 10, "contribution")):
        config = dataclasses.replace(SMALL, num_users=users, events_per_user=events)
        with refused("config.num_users", lacking):
            generate(config, tmp_path / "feed")
    assert not any(tmp_path.iterdir())


def test_the_script_generates_the_feed_and_prints_its_floors(tmp_path):
    flags = ("--config.num_users=200", f"--output={tmp_path}/feed")
    assert "order_only" in printed("prepare", "--config=configs/data/synthetic.py", *flags)
    assert len(PreparedLog.open(tmp_path / "feed").index) == 200
