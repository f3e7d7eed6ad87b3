"""Made-up logs, runs and ablations: real files in the package's formats, without training."""

import json

import numpy as np
import pyarrow as pa
from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict, to_dict
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import Categorical, Schema
from siren_rope_jax.evaluation.evaluate import result, write_predictions
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.prepare.writer import encode_ids, write_log
from siren_rope_jax.studies import ablation
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.kinds.ranking import Scored
from siren_rope_jax.training.rank_scorer import Ranked
from siren_rope_jax.training.workdir import claim_workdir

MONDAY = 1_700_438_400  # Monday 2023-11-20 00:00 UTC
TASKS = ("like", "long")


def make_log(
    path, users=30, events=40, days=20, seed=0, no_time=0.0, has_utc_offset=True, items=60,
    min_count=12,
):  # fmt: skip
    """Random events over some days; the item's id and the user move the labels."""
    rng = np.random.default_rng(seed)
    size = users * events
    user = np.repeat(np.arange(users), events)
    time = np.sort(rng.integers(0, days * 86400, (users, events)), axis=1).ravel() + MONDAY
    item = np.char.add("i", rng.integers(0, items, size).astype(str))
    split = np.digitize(time, MONDAY + np.array([0.6, 0.8]) * days * 86400)
    ids, vocabulary = encode_ids(item, split == 0)
    counts = vocabulary["train_count"].to_numpy()
    feature = Categorical("item", len(counts), int(np.sum(counts >= min_count)))
    schema = Schema(
        "made_up", (feature,), (), (), (),
        TASKS, has_utc_offset, int(time.min()), int(MONDAY + 0.6 * days * 86400),
        int(MONDAY + 0.8 * days * 86400), int(time.max()),
    )  # fmt: skip
    rows = np.zeros(size, schema.event_dtype)
    rows["time"] = np.where(rng.random(size) < no_time, NO_TIME, time)
    rows["utc_offset"] = np.where(user % 2, -5 * 3600, 2 * 3600) * has_utc_offset
    rows["split"], rows["categorical/item"] = split, ids
    p = 1 / (1 + np.exp(-rng.normal(size=users)[user] - rng.normal(size=len(counts) + 1)[ids]))
    for task in TASKS:
        rows[f"task/{task}"] = np.where(rng.random(size) < 0.1, -1, rng.random(size) < p)
    floor = pa.table({"event": np.arange(size), "oracle/like": p, "ideal/like": p.round(1)})
    raw = [f"user {u}" for u in range(users)]
    write_log(path, schema, np.split(rows, users), raw, {"item": vocabulary}, {}, floor)
    return PreparedLog.open(path)


def make_result(log, scored, kind="ranking", **config):
    """What result.json says of scores, of the test split by name."""
    config = {"kind": kind, "variant": "ordinal", "seed": 0} | config
    if kind == "retrieval":
        config = {"filter_seen": False, "model": {"query_time": "request"}} | config
    return result(
        Evaluated.of(log, scored), config, split="test", step=500,
        parameters=12_345 + len(config["variant"]), train_seconds=61.0 + 20 * config["seed"],
        training_ended=True,
    )  # fmt: skip


def make_run(workdir, log, kind="ranking", noise=0.5, **config):
    """A finished run's files, as if the model had known the truth but for some noise."""
    variant, seed = config.get("variant", "ordinal"), config.get("seed", 0)
    rng = np.random.default_rng([seed, len(variant)])
    event = log.events("test").event
    if kind == "ranking":
        truth = log.baselines()["oracle/like"].to_numpy()[event]
        errors = noise * rng.normal(size=(len(event), len(TASKS)))
        scores = 1 / (1 + np.exp(-np.log(truth / (1 - truth))[:, None] - errors))
        scored = Scored(event, scores.astype(np.float32), np.full(scores.shape, np.nan))
        best = {f"ne/{task}": 0.9 + 0.2 * noise for task in TASKS}
    else:
        item = log.schema.categorical[0]
        target = item.known_ids(log.events().rows["categorical/item"][event])
        rank = np.minimum(np.exp(3 * noise * rng.exponential(size=len(event))), item.known)
        rank = np.where(target > 0, rank, 0).astype(np.int32)
        nll = np.where(target > 0, 0.5 + np.log(np.maximum(rank, 1)), np.nan).astype(np.float32)
        scored = Ranked(event, rank, nll)
        best = {"nll": 3 + noise, "hr@10": 0.7}
        best |= {"mrr": 0.4 - 0.1 * noise, "ndcg@10": 0.5 - 0.1 * noise}
    workdir.mkdir(parents=True, exist_ok=True)
    write_predictions(workdir / "predictions.parquet", Evaluated.of(log, scored), KINDS[kind])
    with (workdir / "metrics.jsonl").open("w") as lines:
        for step in range(1, 501):
            train = {"step": step, "kind": "train", "events_per_second": 1e5,
                     "loss": 0.6 + 0.3 * np.exp(-step / 80) + 0.02 * rng.normal()}  # fmt: skip
            lines.write(json.dumps(train) + "\n")
            if step % 50 == 0:
                value = {key: value + np.exp(-step / 60) / 5 for key, value in best.items()}
                if variant != "ordinal":
                    value["gate/order"] = 1 - 0.8 * step / 500 + 0.01 * seed
                    value["gate/time"] = np.pi - 0.3 * step / 500
                lines.write(json.dumps({"step": step, "kind": "validation"} | value) + "\n")
    outcome = make_result(log, scored, kind, **config)
    write_json(workdir / "result.json", outcome)  # last: its presence says "finished"
    return outcome


BASES = {
    kind: f'''
from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import {kind}_variant
from siren_rope_jax.training.kinds import KINDS

def get_config(name="ordinal"):
    return complete(KINDS["{kind}"].config_class, {{
        "variant": name, "data": {{"path": "", "length": 16, "stride": 8, "batch_size": 32}},
        "model": {{"width": 8, "heads": 1, "layers": 1, "dropout": 0.9, **{kind}_variant(name)}},
        "training": {{"epochs": 1.0, "log_every": 5}},
    }})
'''
    for kind in ("ranking", "retrieval")
}
"""Config files of experiments, by kind."""
LOGS = {"ranking": {"min_count": 24}, "retrieval": {"items": 300, "min_count": 1}}
MIDDLE = {
    "ranking": {"name": "middle", "argument": "ordinal", "overrides": {"model.dropout": 0.5}},
    "retrieval": {"name": "siren_rope_event", "overrides": {"model.dropout": 0.5}},
}


def train(config, workdir):
    """Stands in for training: writes a run's files, with the config's dropout as its noise.

    A module-level function, as worker processes import it by name.
    """
    log = PreparedLog.open(config.data.path)
    claim_workdir(workdir, config, log.fingerprint)
    make_run(workdir, log, noise=config.model.dropout, **to_dict(config))


def make_plan(tmp_path, kind="ranking", chosen=None, **changes):
    """An ablation of three variants with two seeds, and its runs."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "base.py").write_text(BASES[kind])
    log = tmp_path / "log"
    if not log.exists():
        make_log(log, users=60, **LOGS[kind])
    data = {"name": "made_up", "base": str(tmp_path / "base.py"), "prepared": str(log)}
    values = {
        "name": "Noise",
        "variants": (
            {"name": "ordinal"},
            {"name": "siren_rope", "overrides": {"model.dropout": 0.1}},
            MIDDLE.get(kind),
        ),
        "datasets": ({**data, **changes.pop("data", {})},),
        "seeds": (0, 1),
        "baseline": "ordinal",
    }
    spec = from_config_dict(ablation.Ablation, ConfigDict(values | changes))
    return spec, ablation.plan(spec, tmp_path / "out", chosen)


def change(path, **values):
    """Changes values of a JSON file."""
    write_json(path, read_json(path) | values)
