"""A model behind simple rules is told so, in a sentence that names the rule."""

import numpy as np
import pytest

from siren_rope_jax.evaluation.advice import advice
from siren_rope_jax.training.kinds.ranking import Scored
from siren_rope_jax.training.rank_scorer import Ranked
from tests.made_up import TASKS, make_log, make_result


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return make_log(tmp_path_factory.mktemp("data") / "log", min_count=1)


def test_a_ranker_behind_the_users_rate_is_told(log):
    event = log.events("test").event
    wrong = np.full((len(event), len(TASKS)), 0.999, np.float32)
    said = list(advice(make_result(log, Scored(event, wrong, np.full(wrong.shape, np.nan)))))
    assert len(said) == 3  # one for each task, and what to try
    for task, line in zip(TASKS, said, strict=False):
        assert line.startswith(f"{task}: ") and "_rate'" in line and "NE" in line


def test_a_good_ranker_hears_nothing(log):
    """Its scores are the true probabilities of one task, and labels of the other."""
    events = log.events("test")
    truth = log.baselines()["oracle/like"].to_numpy()[events.event]
    scores = np.stack([truth, np.clip(events.rows["task/long"], 0.1, 0.9)], axis=-1)
    scored = Scored(events.event, scores.astype(np.float32), np.full(scores.shape, np.nan))
    assert list(advice(make_result(log, scored))) == []


def test_a_retriever_is_compared_by_each_chief_metric(log):
    """By its NDCG where its NLL is good."""
    event = log.events("test").event
    known = log.schema.categorical[0].known_ids(log.events().rows["categorical/item"][event]) > 0
    for rank, lines in ((1, 0), (60, 2)):
        ranks = np.where(known, rank, 0).astype(np.int32)
        nll = np.where(known, 1.0, np.nan).astype(np.float32)
        said = list(advice(make_result(log, Ranked(event, ranks, nll), kind="retrieval")))
        assert len(said) == lines
