"""The paired bootstrap: exact against literal resampling, paired, and covering."""

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.metrics import binary as metrics
from siren_rope_jax.studies import bootstrap, ranking_bootstrap


def made_up(users=40, events=12, seeds=2, seed=0):
    """Labels with a rate of each user's own and, per training seed, noisy scores with ties."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), events)
    logit = rng.normal(size=users)[user] + rng.normal(size=users * events)
    labels = (rng.random(logit.size) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    noisy = logit + rng.normal(size=(seeds, logit.size))
    return labels, user, np.round(1 / (1 + np.exp(-noisy)), 1) * 0.9 + 0.05


def paired(labels, users, scores_a, scores_b, **options):
    """The intervals of A - B."""
    a, b = (ranking_bootstrap.resample(labels, users, s, **options) for s in (scores_a, scores_b))
    return {metric: bootstrap.difference(a[metric], b[metric]) for metric in a}


def test_every_resample_equals_the_metric_on_the_literally_repeated_events():
    labels, users, scores = made_up()
    got = ranking_bootstrap.resample(labels, users, scores, resamples=5, auc_resamples=5, seed=3)
    for r, draws in enumerate(bootstrap.user_draws(40, 5, seed=3)):
        assert draws.sum() == 40
        repeats = draws[users]
        # A user drawn twice counts as two users, each with its own events.
        rows = np.repeat(np.arange(len(labels)), repeats)
        want = {
            "ne": [metrics.normalized_entropy(labels[rows], s[rows]) for s in scores],
            "auc": [metrics.auc(labels[rows], s[rows]) for s in scores],
            "gauc": [metrics.gauc(labels[rows], s[rows], users[rows]) for s in scores],
        }
        for name, values in want.items():
            np.testing.assert_allclose(got[name].samples[r], np.mean(values), rtol=1e-10)


def test_the_value_is_the_metric_of_the_data_itself():
    labels, users, scores = made_up()
    got = ranking_bootstrap.resample(labels, users, scores, resamples=2, auc_resamples=2)
    want = np.mean([metrics.normalized_entropy(labels, s) for s in scores])
    np.testing.assert_allclose(got["ne"].value, want)


def test_seeds_are_paired():
    """What a seed does to both models alike is no part of the deviation of their difference."""
    labels, users, scores = made_up(seeds=3)
    others = np.clip(scores + np.array([[0.02], [0.02], [0.05]]) * (labels - 0.5), 0.01, 0.99)
    a, b = (ranking_bootstrap.resample(labels, users, s, resamples=2, auc_resamples=2)
            for s in (others, scores))  # fmt: skip
    for name, metric in (("ne", metrics.normalized_entropy), ("auc", metrics.auc)):
        by_seed = [
            metric(labels, x) - metric(labels, y) for x, y in zip(others, scores, strict=True)
        ]
        assert bootstrap.seed_deviation(a[name], b[name]) == pytest.approx(np.std(by_seed, ddof=1))
        assert bootstrap.difference(a[name], b[name]).difference == pytest.approx(np.mean(by_seed))
    assert bootstrap.seed_deviation(a["ne"], a["ne"]) == 0
    one = bootstrap.Resampled(np.array([0.5]), np.zeros(2))
    assert np.isnan(bootstrap.seed_deviation(one, one))


def test_a_model_does_not_differ_from_itself():
    labels, users, scores = made_up()
    for interval in paired(labels, users, scores, scores).values():
        assert interval == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval():
    labels, users, scores = made_up()
    other = np.clip(scores * 0.8, 0.01, 0.99)
    first, second = (paired(labels, users, scores, other) for _ in range(2))
    assert first == second


def test_pairing_makes_the_interval_of_a_small_consistent_difference_narrow():
    labels, users, scores = made_up(users=200)
    better = np.clip(scores + 0.03 * (labels - 0.5), 0.01, 0.99)
    a, b = (ranking_bootstrap.resample(labels, users, s) for s in (better, scores))
    interval = bootstrap.difference(a["ne"], b["ne"])
    unpaired = np.hypot(a["ne"].samples.std(), b["ne"].samples.std())
    assert interval.low < interval.difference < interval.high < 0
    assert interval.high - interval.low < unpaired


def test_the_interval_covers_the_true_difference_about_95_times_of_100():
    """The truth: the mean over many draws of the population itself."""
    many = [made_up(users=60, seeds=1, seed=s) for s in range(300)]

    def shift(scores):
        return 1 / (1 + np.exp(-0.6 * np.log(scores / (1 - scores))))

    truth = np.mean(
        [
            metrics.normalized_entropy(y, shift(s)[0]) - metrics.normalized_entropy(y, s[0])
            for y, _, s in many
        ]
    )
    covered = []
    for labels, users, scores in many[:150]:
        interval = paired(labels, users, shift(scores), scores, resamples=200, auc_resamples=1)[
            "ne"
        ]
        covered.append(interval.low <= truth <= interval.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_one_class_only_gives_no_interval_and_no_warning():
    interval = paired(np.ones(6, int), np.arange(6), np.full((1, 6), 0.5), np.full((1, 6), 0.6))[
        "auc"
    ]
    assert np.isnan(interval).all()


def write(path, events, labels, scores, users=None):
    pd.DataFrame({
        "event": np.asarray(events, np.int64), "user": users or [f"u{e % 3}" for e in events],
        "like": pd.array(labels, dtype="Int8"), "like_score": np.asarray(scores, np.float32),
    }).to_parquet(path)  # fmt: skip
    return path


def test_scores_are_matched_by_event_whatever_the_order_of_the_rows(tmp_path):
    a = write(tmp_path / "a.parquet", [3, 4, 9], [1, None, 0], [0.1, 0.2, 0.3])
    b = write(tmp_path / "b.parquet", [9, 3, 4], [0, 1, None], [0.7, 0.8, 0.9])
    got = ranking_bootstrap.read_scores([a, b], "like")
    assert got.labels.tolist() == [1, 0]
    np.testing.assert_allclose(got.scores, [[0.1, 0.3], [0.8, 0.7]], rtol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"events": [3, 4, 8], "labels": [1, 0, 0]},
        {"events": [3, 4], "labels": [1, 0]},
        {"events": [3, 4, 9], "labels": [1, 1, 0]},
        {"events": [3, 4, 9], "labels": [1, None, 0]},
        {"events": [3, 4, 9], "labels": [1, 0, 0], "users": ["x", "y", "z"]},
    ],
)
def test_predictions_over_different_events_are_refused(tmp_path, other):
    a = write(tmp_path / "a.parquet", [3, 4, 9], [1, 0, 0], [0.1, 0.2, 0.3])
    b = write(tmp_path / "b.parquet", **other, scores=[0.5] * len(other["events"]))
    with pytest.raises(UserError, match=r"a\.parquet and .*b\.parquet"):
        ranking_bootstrap.read_scores([a], "like", reference=b)


def test_a_missing_file_or_task_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.parquet"):
        ranking_bootstrap.read_scores([tmp_path / "none.parquet"], "like")
    a = write(tmp_path / "a.parquet", [3], [1], [0.1])
    with pytest.raises(UserError, match="'love'"):
        ranking_bootstrap.read_scores([a], "love")
