"""The paired bootstrap: exact, paired, with the right coverage; and the predictions it reads."""

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.metrics import binary as metrics
from siren_rope_jax.metrics import bootstrap
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns, RankColumns
from siren_rope_jax.metrics.intervals import interval
from siren_rope_jax.metrics.ranks import metrics_of_ranks
from siren_rope_jax.studies.predictions import read_predictions
from tests.refusals import refused

LIKE, RANKS = ProbabilityColumns("like", "like_score"), RankColumns("rank", "nll")


def made_up(users=40, events=12, seeds=2, seed=0):
    """Labels whose rate depends on the user and, per training seed, noisy scores with ties."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), events)
    logit = rng.normal(size=users)[user] + rng.normal(size=users * events)
    labels = (rng.random(logit.size) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    noisy = logit + rng.normal(size=(seeds, logit.size))
    return labels, user, np.round(1 / (1 + np.exp(-noisy)), 1) * 0.9 + 0.05


def paired(labels, users, scores_a, scores_b, resamples=bootstrap.RESAMPLES):
    """The intervals of A - B."""
    a, b = (bootstrap.resample_scores(labels, users, s, resamples) for s in (scores_a, scores_b))
    return {metric: interval(a[metric], b[metric]) for metric in a}


def make_ranks(users=40, events=12, seeds=2):
    """Users, ranks and NLLs; some targets, the same for all seeds, have none."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users), events)
    rank = rng.geometric(0.1, (seeds, len(user))) * (rng.random(len(user)) < 0.8)
    nll = np.where(rank > 0, rng.exponential(size=rank.shape), np.nan)
    return user, {"rank": rank, "nll": nll}


@pytest.mark.parametrize("kind", ["scores", "ranks"])
def test_every_resample_equals_the_metric_on_the_literally_repeated_events(kind):
    if kind == "scores":
        labels, users, scores = made_up()
        got = bootstrap.resample_scores(labels, users, scores, resamples=5)
    else:
        users, values = make_ranks()
        got = RANKS.resample(users, values, resamples=5)

    def literal(rows):
        """The metrics of each seed, in which a user drawn twice counts as two users."""
        if kind == "ranks":
            seeds = zip(values["rank"], values["nll"], strict=True)
            return [metrics_of_ranks(rank[rows], nll[rows]) for rank, nll in seeds]
        seeds = [(labels[rows], score[rows], users[rows]) for score in scores]
        return [metrics.task_metrics(*seed) for seed in seeds]

    for r, draws in enumerate(bootstrap.unit_draws(40, 5)):
        assert draws.sum() == 40
        want = literal(np.repeat(np.arange(len(users)), draws[users]))
        for name, resampled in got.items():
            mean = np.mean([seed[name] for seed in want])
            np.testing.assert_allclose(resampled.samples[r], mean, rtol=1e-10)
    want = literal(slice(None))  # the data itself
    for name, resampled in got.items():
        np.testing.assert_allclose(resampled.by_seed, [seed[name] for seed in want], rtol=1e-10)


def test_a_model_does_not_differ_from_itself_and_the_interval_is_reproducible():
    labels, users, scores = made_up()
    for found in paired(labels, users, scores, scores).values():
        assert found == (0, 0, 0, 1, 0, 0)
    other = np.clip(scores * 0.8, 0.01, 0.99)
    first, second = (paired(labels, users, scores, other) for _ in range(2))
    assert first == second


def test_pairing_makes_the_interval_of_a_small_consistent_difference_narrow():
    labels, users, scores = made_up(users=200)
    better = np.clip(scores + 0.03 * (labels - 0.5), 0.01, 0.99)
    a, b = (bootstrap.resample_scores(labels, users, s) for s in (better, scores))
    found = interval(a["ne"], b["ne"])
    unpaired = np.hypot(a["ne"].samples.std(), b["ne"].samples.std())
    assert found.low < found.value < found.high < 0
    assert found.high - found.low < unpaired


def test_the_interval_covers_the_true_difference_about_95_times_of_100():
    """The truth: the mean over many draws of the population itself."""
    many = [made_up(users=60, seeds=1, seed=s) for s in range(300)]

    def shift(scores):
        return 1 / (1 + np.exp(-0.6 * np.log(scores / (1 - scores))))

    ne = metrics.normalized_entropy
    truth = np.mean([ne(y, shift(s)[0]) - ne(y, s[0]) for y, _, s in many])
    covered = []
    for labels, users, scores in many[:150]:
        found = paired(labels, users, shift(scores), scores, resamples=200)["ne"]
        covered.append(found.low <= truth <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_one_class_only_gives_no_interval_and_no_warning():
    scores = np.full((1, 6), 0.5)
    assert np.isnan(paired(np.ones(6, int), np.arange(6), scores, scores + 0.1)["auc"]).all()


def write(path, truth, events=(3, 4, 9), users=None, columns=LIKE, predicted=None):
    """Predictions whose labels or ranks are `truth`."""
    predicted = predicted or [0.5] * len(events)
    pd.DataFrame({
        "event": np.array(events), "user": users or [f"u{e % 3}" for e in events],
        columns[0]: pd.array(truth, "Int32"), columns[1]: pd.array(predicted, "Float32"),
    }).to_parquet(path)  # fmt: skip
    return path


def test_predictions_are_matched_by_event_whatever_the_order_of_the_rows(tmp_path):
    a = write(tmp_path / "a.parquet", [1, None, 0], predicted=[0.1, 0.2, 0.3])
    b = write(tmp_path / "b.parquet", [0, 1, None], (9, 3, 4), predicted=[0.7, 0.8, 0.9])
    users, values = read_predictions([a, b], LIKE)
    assert users.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(values["like"], [[1, np.nan, 0]] * 2)
    np.testing.assert_allclose(values["like_score"], [[0.1, 0.2, 0.3], [0.8, 0.9, 0.7]], rtol=1e-6)
    c = write(tmp_path / "c.parquet", [7, None, 2], columns=RANKS, predicted=[1.5, None, 1.5])
    values = read_predictions([c], RANKS)[1]
    np.testing.assert_array_equal(values["rank"], [[7, np.nan, 2]])
    np.testing.assert_array_equal(values["nll"], [[1.5, np.nan, 1.5]])


def test_events_without_a_label_do_not_count():
    labels, users, scores = made_up()
    absent = np.arange(len(labels)) % 3 == 0
    values = {"like": np.stack([np.where(absent, np.nan, labels)] * 2), "like_score": scores}
    got = LIKE.resample(users, values)
    want = bootstrap.resample_scores(labels[~absent], users[~absent], scores[:, ~absent])
    for metric, resampled in want.items():
        np.testing.assert_array_equal(got[metric].samples, resampled.samples)


@pytest.mark.parametrize(
    ("columns", "other"),
    [
        (LIKE, {"events": [3, 4, 8], "truth": [1, None, 0]}),
        (LIKE, {"events": [3, 4], "truth": [1, None]}),
        (LIKE, {"truth": [1, None, 1]}),
        (LIKE, {"truth": [1, 0, 0]}),
        (LIKE, {"truth": [1, None, 0], "users": ["x", "y", "z"]}),
        (RANKS, {"events": [3, 4, 8], "truth": [1, None, 0]}),
        (RANKS, {"truth": [1, 2, 3]}),  # of another catalogue
    ],
)
def test_predictions_over_different_events_are_refused(tmp_path, columns, other):
    a = write(tmp_path / "a.parquet", [1, None, 0], columns=columns)
    b = write(tmp_path / "b.parquet", **other, columns=columns)
    with refused(b, a):
        read_predictions([a], columns, reference=b)


def test_ranks_may_differ_where_labels_may_not(tmp_path):
    a, b = (write(tmp_path / f"{r}.parquet", [r, None], (3, 4), columns=RANKS) for r in (1, 9))
    assert len(read_predictions([a], RANKS, reference=b)[0]) == 2


def test_a_missing_file_or_task_is_named(tmp_path):
    with refused(tmp_path / "none.parquet"):
        read_predictions([tmp_path / "none.parquet"], LIKE)
    a = write(tmp_path / "a.parquet", [1], [3])
    with refused(a, "love"):
        read_predictions([a], ProbabilityColumns("love", "love_score"))


@pytest.mark.parametrize(
    ("unit", "groups"),
    [("item", [0, 1, 0]), ("hour", [0, 0, 1]), ("day", [0, 0, 1]), ("user", [0, 1, 0])],
)
def test_events_are_resampled_by_the_unit_that_is_asked_for(tmp_path, unit, groups):
    path = write(tmp_path / "a.parquet", [1, 0, 1], (3, 4, 9))
    frame = pd.read_parquet(path).assign(item=["a", "b", "a"], time=[7200, 7201, 90_000])
    frame.sample(frac=1, random_state=0).to_parquet(path)
    assert read_predictions([path], LIKE, unit=unit)[0].tolist() == groups


def test_without_a_ranked_target_there_is_no_nll():
    nothing = {"rank": np.full((1, 480), np.nan), "nll": np.full((1, 480), np.nan)}
    got = RANKS.resample(make_ranks()[0], nothing)
    assert np.isnan(got["nll"].by_seed).all() and got["mrr"].by_seed == [0]
