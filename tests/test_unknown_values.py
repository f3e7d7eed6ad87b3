"""Values that come up after training: their row is trained, and their rates are told."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.models.batch import with_unknown
from siren_rope_jax.models.losses import LossConfig
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.table import prepare
from siren_rope_jax.training.experiment import TrainingConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.optim import OptimizerConfig
from siren_rope_jax.training.setup import setup
from tests.batches import random_batch, small_config, small_retriever_config
from tests.made_up import make_log


def test_a_share_of_all_ids_is_taken_for_unknown() -> None:
    batch = jax.tree.map(jax.numpy.asarray, random_batch(rows=200))
    batch = dataclasses.replace(batch, categorical=batch.categorical + 1)
    taken = with_unknown(batch, 0.1, jax.random.key(0))
    gone = taken.categorical == 0
    np.testing.assert_array_equal(taken.categorical[~gone], batch.categorical[~gone])
    assert all(abs(gone[..., f].mean() - 0.1) < 0.02 for f in range(gone.shape[-1]))
    both = (gone[..., 0] & gone[..., 1]).mean()
    assert abs(both - 0.01) < 0.01  # each by itself


@pytest.mark.parametrize("kind", ["ranking", "retrieval"])
@pytest.mark.parametrize("lazy", [False, True])
def test_training_moves_the_row_of_unknown_values(tmp_path: Any, kind: str, lazy: bool) -> None:
    log = make_log(tmp_path / "log", min_count=1, items=30)  # train has no unknown item
    ranking = kind == "ranking"
    model = (small_config if ranking else small_retriever_config)("ordinal")
    table = "embed_item" if ranking else "items"
    moved = {}
    for rate in (0.0, 0.2):
        loss: dict[str, Any] = {}
        if not ranking and lazy:
            loss = {"loss": LossConfig(kind="sampled_softmax", sampler="shared", negatives=8)}
        config = (RankingExperiment if ranking else RetrievalExperiment)(
            variant="ordinal",
            data=DataConfig(str(log.path), length=16, stride=16, batch_size=8),
            model=dataclasses.replace(model, unknown_rate=rate),
            optimizer=OptimizerConfig(lazy_adam=(table,) if lazy else ()),
            training=TrainingConfig(),
            **loss,
        )
        training = setup(config, log, make_mesh(devices=jax.devices()[:1]))
        state = training.init(0)
        before = np.asarray(flatten_dict(state.params)[table, "embedding"]).copy()
        batch = jax.device_put(next(iter(training.batches.train(0))))
        state, _ = training.step(state, batch, training.key(0), training.statistics)
        after = np.asarray(flatten_dict(state.params)[table, "embedding"])
        moved[rate] = np.abs(after - before)[0, 0].max()
    assert moved[0.0] == 0 < moved[0.2]


def test_prepare_tells_rates_of_rare_and_new_items_apart(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    rows = 2_000
    time = np.sort(rng.integers(0, 1_000_000, rows))
    item = np.where(rng.random(rows) < 0.9, rng.integers(0, 9, rows), 100 + np.arange(rows))
    like = np.where(item < 9, rng.random(rows) < 0.5, time < 800_000)
    frame = pd.DataFrame({"u": rng.integers(0, 50, rows), "i": item, "t": time, "liked": like})
    frame.to_parquet(tmp_path / "log.parquet")
    config = PrepareConfig(
        "made_up", "u", "i", "t", min_count=2, tasks={"like": "liked"}, time_unit="s"
    )
    report = prepare(config, tmp_path / "log.parquet", tmp_path / "prepared")
    by_item = report["by_item"]
    assert by_item["rare"]["train"]["rates"]["like"] > 0.95
    assert by_item["new"]["test"]["rates"]["like"] < 0.05
    assert by_item["new"]["train"] == {"events": 0, "rates": {"like": None}}
    for split, events in report["events"].items():
        assert sum(by_item[name][split]["events"] for name in by_item) == events
    log = PreparedLog.open(tmp_path / "prepared")
    counts = np.concatenate([[0], log.vocabulary("item")["train_count"].to_numpy()])
    test = log.events("test").rows
    new = counts[test["categorical/item"]] == 0
    assert by_item["new"]["test"]["events"] == new.sum()
    assert by_item["new"]["test"]["rates"]["like"] == round(float(test["task/like"][new].mean()), 6)
