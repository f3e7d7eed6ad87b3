"""A kind of experiment is one class: a third one, defined here, is trained, measured and told."""

import json
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.data.assemble import RANKING_LAYOUT
from siren_rope_jax.evaluation.evaluate import as_text, headline
from siren_rope_jax.metrics.bootstrap import resample_means
from siren_rope_jax.models.batch import RankingBatch
from siren_rope_jax.models.partition import WHOLE
from siren_rope_jax.studies import plots, report
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.kinds.kind import Kind, Metric
from siren_rope_jax.training.mesh import fetch_one_behind, place_batch, replicated
from tests.made_up import BASES, make_log, make_plan

BASE = """
from ml_collections import ConfigDict

def get_config(name):
    return ConfigDict({
        "kind": "level", "variant": name, "seed": 0, "model": {"start": 0.0},
        "data": {"path": "", "length": 16, "stride": 8, "batch_size": 32},
        "training": {"epochs": 1.0},
    })
"""


@dataclass(frozen=True)
class LevelConfig:
    start: float


@dataclass(frozen=True, kw_only=True)
class LevelExperiment(ExperimentConfig):
    model: LevelConfig
    kind: Literal["level"] = "level"


class LevelModel(nn.Module):
    """Predicts one number for all events."""

    start: float

    @nn.compact
    def __call__(self, batch):
        level = self.param("level", nn.initializers.constant(self.start), ())
        return jnp.broadcast_to(level, batch.event.shape)


class Errors(NamedTuple):
    event: np.ndarray
    error: np.ndarray


class ErrorColumn(NamedTuple):
    error: str

    def truth(self, values):
        return np.isfinite(values[self.error])

    def resample(self, users, values):
        return resample_means({"mse": values[self.error] ** 2}, users)


class Level(Kind[LevelExperiment]):
    """The label of the log's first task, predicted by a constant."""

    name = "level"
    config_class = LevelExperiment
    measured = "level"
    metrics: ClassVar = {"mse": Metric("MSE"), "within": Metric("within 1/2", "share", True)}
    shown = ("mse",)
    primary = "mse"
    compared = ("mse",)
    chief = ("mse",)
    slices: ClassVar = {"revisit": ("mse",), "gap": ()}
    glossary = "MSE: mean squared error."
    layout = RANKING_LAYOUT
    criterion = ("mse", False)

    def check(self, schema):
        pass

    def model(self, data, partition=WHOLE):
        return LevelModel(self.config.model.start)

    def padding(self, data, rows):
        return RankingBatch.padding(data, rows)

    def loss(self, model, variables, batch, key, statistics):
        is_event = batch.event >= 0
        error = batch.labels[..., 0] - model.apply(variables, batch)
        count = is_event.sum()
        return jnp.sum(is_event * error**2) / jnp.maximum(count, 1), count

    def scorer(self, model, log, mesh):
        @partial(jax.jit, out_shardings=replicated(mesh))
        def errors(params, batch):
            return batch.event, batch.labels[..., 0] - model.apply({"params": params}, batch)

        def score(params, batches):
            parts = fetch_one_behind(errors(params, place_batch(batch, mesh)) for batch in batches)
            event, error = (np.concatenate(x, axis=None) for x in zip(*parts, strict=True))
            return Errors(event[event >= 0].astype(np.int64), error[event >= 0])

        return score

    def validation(self, schema, scores):
        return {"mse": float(np.mean(scores.error**2))}

    @classmethod
    def columns(cls, schema, events, scores):
        return {"error": scores.error}

    @classmethod
    def measure(cls, schema, events, scores):
        error = np.abs(scores.error.astype(np.float64))
        means = {"mse": np.mean(error**2), "within": np.mean(error < 0.5)}
        return {name: float(v) for name, v in means.items()} | {"count": len(error)}

    measure_slice = measure

    @classmethod
    def resampled(cls, part, measured):
        return ErrorColumn("error")

    @classmethod
    def rule(cls, result):
        return f"labels of {result['level']['count']} events"


def test_a_third_kind_is_one_class(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "level", Level)
    monkeypatch.setitem(BASES, "level", BASE)
    log, out = make_log(tmp_path / "log"), tmp_path / "out"
    variants = ({"name": "low"}, {"name": "high", "overrides": {"model.start": 1.0}})
    spec, runs = make_plan(tmp_path, "level", variants=variants, baseline="low", seeds=(0,))
    assert report.run_and_report(spec, out, runs) == []

    low, high = (run.result() for run in runs)
    error = pd.read_parquet(runs[0].workdir / "predictions.parquet")["error"].to_numpy(float)
    assert low["level"]["mse"] == pytest.approx(np.mean(error**2), rel=1e-6)
    assert low["level"]["count"] == len(log.events("test").event) == len(error)
    assert low["baselines"] == {} and set(low["slices"]) == {"revisit", "gap"}
    assert headline(low) == f"MSE {low['level']['mse']:.4f}"
    assert as_text(low).splitlines()[1:3] == [Level.rule(low), f"{'MSE':>14}"]

    numbers = json.loads((out / "report.json").read_text())["datasets"]["made_up"]
    part = numbers["variants"]["high"]["parts"][""]
    difference = high["level"]["mse"] - low["level"]["mse"]
    assert part["difference"]["mse"]["value"] == pytest.approx(difference, rel=1e-5)
    text = (out / "report.md").read_text()
    for told in (Level.glossary, Level.rule(low), "Δ MSE", "| within 1/2 |", "MSE, again"):
        assert told in text
    names = ["models", "gap"]  # after a single step there is no curve
    assert numbers["pictures"] == [f"made_up-{name}.png" for name in names]
    assert [path.stem for path in plots.draw_run(runs[0].workdir)] == names
