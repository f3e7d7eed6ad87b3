"""The peer: its input, the evaluation of its vectors, and that it does not see its targets.

SIREN_ROPE_PEER names a Python that has RecTools; without it, the tests that train it are skipped.
"""

import json
import os
import subprocess
import sys
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.config import from_config_dict, load_config_file, to_dict
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.metrics.ranks import metrics_of_ranks
from siren_rope_jax.studies import peer
from siren_rope_jax.studies.peer import PeerConfig, SasRecConfig, compare
from siren_rope_jax.training.kinds import read_experiment
from tests.made_up import make_run
from tests.raw_logs import decoded, prepared, raw_log
from tests.refusals import refused
from tests.scripts import ROOT, complaint

SMALL = SasRecConfig(n_factors=8, n_heads=1, n_blocks=1, session_max_len=6, batch_size=4)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """With repeats, users of one and of two events, items outside the training events, and one item
    whose only event is the only training event of its user.
    """
    raw = raw_log(300)
    few = pd.DataFrame({"uid": [90, 91, 91], "iid": ["i1", "i2", "alone"], "at": raw["at"].max()})
    late = pd.DataFrame({"uid": [0, 1, 1], "iid": ["a", "b", "i3"], "at": raw["at"].max() + 9})
    lone = pd.DataFrame({"uid": 92, "iid": ["lonely", "i1", "i2"], "at": raw["at"].max()})
    raw = pd.concat([raw, few, late, lone], ignore_index=True)
    return prepared(
        tmp_path_factory.mktemp("log"), raw, tasks={}, min_count=1, split={"kind": "leave_one_out"}
    )


@pytest.fixture
def python():
    """A Python interpreter with RecTools."""
    path = os.environ.get("SIREN_ROPE_PEER")
    if not path:
        pytest.skip("SIREN_ROPE_PEER names no Python that has RecTools")
    return path


@pytest.fixture(scope="module")
def events(log):
    """The peer's input, from the log."""
    return peer.peer_events(log, longest=6)


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_ranks_of_given_vectors_against_plain_python(log, split, filter_seen):
    rng = np.random.default_rng(0)
    events, item = log.events(), log.schema.categorical[0]
    asked = log.events(split)
    query = rng.integers(-2, 3, (len(asked.event), 3)).astype(np.float32)  # with many ties
    items = rng.integers(-2, 3, (item.rows, 3)).astype(np.float32)
    found = peer.rank(log, split, query, items, filter_seen)
    np.testing.assert_array_equal(found.event, asked.event)
    ids = events.rows["categorical/item"]
    expected = []
    for row, event in enumerate(asked.event):
        had = set(ids[log.offsets[asked.user[row]] : event]) if filter_seen else set()
        rivals = set(range(1, item.rows)) - had - {ids[event]}
        scores = items @ query[row]
        known = ids[event] <= item.known and ids[event] not in had
        at_least = sum(scores[r] >= scores[ids[event]] for r in rivals) if known else -1
        expected.append(1 + at_least)
    np.testing.assert_array_equal(found.rank, expected)
    assert 0 in expected and metrics_of_ranks(found.rank, found.nll)["nll"] is None


def test_vectors_of_other_events_are_refused(log):
    items = np.zeros((log.schema.categorical[0].rows, 2), np.float32)
    query = np.zeros((len(log.events("test").event), 2), np.float32)
    peer.rank(log, "test", query, items, True)
    for rows, table in ((query[1:], items), (query, items[1:])):
        with pytest.raises(ValueError, match="rows of items, but"):
            peer.rank(log, "test", rows, table, True)


def test_what_the_peer_reads_are_the_events_in_order(log, events):
    expected = decoded(log)
    vocabulary = log.vocabulary("item").to_pandas()
    known = vocabulary[vocabulary["train_count"] > 0]
    ids = dict(zip(known["value"], known["id"], strict=True))
    assert events["item"].tolist() == [ids.get(v, 0) for v in expected["categorical/item"]]
    assert 0 in events["item"] and events["item"].max() == len(known)
    np.testing.assert_array_equal(events["split"], expected["split"])
    assert (np.diff(events["user"]) >= 0).all()
    users = log.users().to_pandas().to_numpy()
    np.testing.assert_array_equal(users[events["user"]], expected["user"])


def test_the_peer_is_asked_for_every_training_event_once(events):
    learnt = events["split"] == 0
    expected = [
        (item, before)
        for user in np.unique(events["user"])
        for before, item in pairwise(events["item"][learnt & (events["user"] == user)])
    ]
    starts = np.flatnonzero(np.diff(events["session"])) + 1
    sessions = np.split(events["session_item"], starts)
    asked = [(item, before) for s in sessions for before, item in pairwise(s)]
    assert asked == expected  # users and sessions oldest first
    assert {len(s) for s in sessions} >= {1, 7} and max(map(len, sessions)) == 7


def test_the_peer_learns_no_event_of_an_item_outside_the_catalogue(tmp_path):
    rare = prepared(tmp_path, raw_log(300), tasks={}, min_count=12, split={"kind": "leave_one_out"})
    events = peer.peer_events(rare, longest=6)
    learnt = events["item"][events["split"] == 0]
    assert 0 in learnt and 0 not in events["session_item"]


@pytest.mark.parametrize("longest", [1, 2, 3, 7, 50])
def test_sessions_of_histories_of_every_length(longest):
    user = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 6, 7, 8, 15])
    session, event = peer.sessions(user, longest)
    assert (np.diff(session) >= 0).all()
    pairs = [(a, b) for a, b in pairwise(zip(session, event, strict=True)) if a[0] == b[0]]
    steps = [(a[1], b[1]) for a, b in pairs]
    assert steps == [(i, i + 1) for i in range(len(user) - 1) if user[i] == user[i + 1]]
    sizes = np.bincount(session)
    assert sizes.max() <= longest + 1
    assert sum(sizes == 1) == 1  # the user of one event


def test_no_events_make_no_sessions():
    assert [len(column) for column in peer.sessions(np.zeros(0, np.int64), 3)] == [0, 0]


def test_errors_say_what_would_be_right(log, tmp_path):
    config = PeerConfig(log=str(log.path))
    missing = tmp_path / "no-python"
    with refused("--python", missing):
        compare(config, str(missing), tmp_path / "peer")
    by_time = prepared(tmp_path, raw_log())
    with refused("config.log", by_time.path, "--config.split.kind=leave_one_out"):
        compare(PeerConfig(log=str(by_time.path)), sys.executable, tmp_path / "peer")
    (tmp_path / "file").write_text("")
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old/settings.json", {"model": {}})
    for name in ("", "file", "old"):
        with refused(tmp_path / name, "--workdir"):
            compare(config, sys.executable, tmp_path / name)
    with refused("config.patience", 1):
        from_config_dict(PeerConfig, {"log": "x", "patience": 0})
    assert not (tmp_path / "peer").exists()


def complained(log, workdir, *flags):
    """What the script says of a config with our log."""
    config = "--config=configs/peer/movielens_next.py", f"--config.log={log.path}"
    line = complaint("compare_peer", *config, f"--workdir={workdir}", *flags)
    assert not workdir.exists()
    return line


def test_the_script_says_how_to_install_the_peer(log, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    line = complained(log, tmp_path / "run", f"--python={bare / 'bin/python'}")
    assert line.startswith("--python: ") and "pip install 'rectools[torch]==0.19.0'" in line


def finished_run(workdir, log):
    """Made-up files of a run that was evaluated as the peer is."""
    data = {"path": str(log.path), "target_task": "", "length": SasRecConfig.session_max_len}
    make_run(workdir, log, "retrieval", filter_seen=True, data=data)
    write_json(workdir / "data.json", {"fingerprint": log.fingerprint})
    return workdir


def test_runs_that_were_evaluated_alike_are_compared(log, tmp_path):
    ours = [finished_run(tmp_path / f"seed_{seed}", log) for seed in range(2)]
    peer.check_comparable(ours, PeerConfig(log=str(log.path)))
    found = peer.difference_to(ours, finished_run(tmp_path / "peer", log))
    assert all(interval == (0, 0, 0, 1, 0, 0) for interval in found.values()) and "ndcg@10" in found


@pytest.mark.parametrize(
    ("key", "ours"),
    [("config.kind", "ranking"), ("config.filter_seen", False), ("config.data.length", 5),
     ("config.data.target_task", "like"), ("split", "validation"), ("protocol", "time"),
     ("catalogue", 5), ("version", "0.0.1"), ("log.fingerprint", "123")],
)  # fmt: skip
def test_runs_that_were_evaluated_otherwise_are_refused(log, tmp_path, key, ours):
    other, run = (finished_run(tmp_path / name, log) for name in ("peer", "run"))
    path = run / ("data.json" if key == "log.fingerprint" else "result.json")
    values = read_json(path)
    *groups, name = key.removeprefix("log.").split(".")
    place = reduce(dict.get, groups, values)
    theirs, place[name] = place[name], ours
    write_json(path, values)
    with refused(key, repr(ours), run, repr(theirs)):
        peer.check_comparable([run], PeerConfig(log=str(log.path)))
    with refused(key, repr(ours), run, repr(theirs), other):
        peer.difference_to([run], other)


@pytest.mark.slow
def test_runs_are_looked_at_before_the_peer_trains(log, tmp_path):
    ours = finished_run(tmp_path / "ours", log)
    run = tmp_path / "run"
    line = complained(log, run, f"--ours={ours}", "--config.filter_seen=False")
    assert line.startswith("config.filter_seen: ") and f"True for {ours}" in line
    line = complained(log, run, f"--ours={ours},{tmp_path}/none")
    assert line.startswith(f"{tmp_path}/none: ") and "result.json" in line
    (ours / "result.json").write_text("{")
    assert complained(log, run, f"--ours={ours}").startswith(f"{ours}/result.json: ")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/peer").glob("*.py")), ids=lambda p: p.stem)
def test_a_config_of_the_peer_has_its_commands_and_reads_as_much_as_ours(path):
    config = from_config_dict(PeerConfig, load_config_file(path, {}))
    text = path.read_text()
    for command in (
        f"siren-rope prepare --config=configs/data/{path.name}", f"--output={config.log}\n",
        f"siren-rope train --config=configs/{path.name}:learned_positions",
        f"--config.data.path={config.log} ", f"--config=configs/peer/{path.name}",
    ):  # fmt: skip
        assert command in text
    ours = read_experiment(load_config_file(ROOT / "configs" / path.name, {}, "learned_positions"))
    assert ours.data.length == config.model.session_max_len
    assert ours.filter_seen == config.filter_seen


@pytest.mark.slow
def test_a_trained_peer_is_a_run_like_ours(log, tmp_path, python):
    config = PeerConfig(log=str(log.path), model=SMALL, epochs=3)
    outcome = compare(config, python, tmp_path / "peer")
    frame = pd.read_parquet(tmp_path / "peer/predictions.parquet")
    assert frame["event"].tolist() == log.events("test").event.tolist()
    metrics = metrics_of_ranks(frame["rank"].fillna(0).to_numpy(int), frame["nll"].to_numpy(float))
    asked, starts = log.events("test"), log.offsets[log.events("test").user]
    ids = log.schema.categorical[0].known_ids(log.events().rows["categorical/item"])
    out = [ids[e] in (0, *ids[s:e]) for s, e in zip(starts, asked.event, strict=True)]
    assert metrics == outcome["ranking"] and metrics["unranked"] == sum(out)
    assert json.loads((tmp_path / "peer/result.json").read_text()) == outcome
    assert outcome["peer"]["versions"]["rectools"] and outcome["train_seconds"] > 0
    # The second time, nothing is trained, no Python is needed, and nothing differs.
    assert compare(config, "no-python", tmp_path / "peer") == outcome
    with refused(tmp_path / "peer", "--workdir"):
        compare(PeerConfig(log=str(log.path), model=SMALL, epochs=4), python, tmp_path / "peer")
    same = peer.difference_to([tmp_path / "peer"], tmp_path / "peer")
    assert all(found == (0, 0, 0) for found in same.values()) and "ndcg@10" in same


@pytest.mark.slow
def test_the_peer_does_not_see_its_targets(events, tmp_path, python):
    """Other test items change nothing; other validation items change only the test's queries."""
    found = {}
    for changed in ("", "validation", "test"):
        directory = tmp_path / f"changed-{changed}"
        directory.mkdir()
        items = events["item"].copy()
        rows = np.flatnonzero(events["split"] == ["", "validation", "test"].index(changed))
        if changed:
            items[rows] = np.roll(np.maximum(items[rows], 1), 1)
        np.savez(directory / "events.npz", **events | {"item": items})
        config = PeerConfig(log="", model=SMALL, epochs=1, patience=1)
        write_json(directory / "settings.json", to_dict(config))
        subprocess.run([python, str(peer._SCRIPT), str(directory)], check=True)
        with np.load(directory / "vectors.npz") as file:
            found[changed] = dict(file)
    for split in ("validation", "test", "items"):
        np.testing.assert_array_equal(found["test"][split], found[""][split])
    for split in ("validation", "items"):
        np.testing.assert_array_equal(found["validation"][split], found[""][split])
    assert not np.array_equal(found["validation"]["test"], found[""]["test"])


@pytest.mark.slow
def test_the_vectors_say_what_rectools_recommends(events, tmp_path, python):
    np.savez(tmp_path / "events.npz", **events)
    program = f"""
import sys, numpy as np, pandas as pd
sys.path.insert(0, {str(Path(peer._SCRIPT).parent)!r})
from rectools_sasrec import *
events, learnt = read_events(Path({str(tmp_path)!r}))
model = SASRecModel(**{vars(SMALL)!r}, epochs=2).fit(dataset_of(learnt))
targets, past = targets_and_past(events, "test")
told = model.recommend(targets["user"].to_numpy(), dataset_of(past), k=5, filter_viewed=True)
scores = queries(model.lightning_model, targets, past) @ item_vectors(
    model.lightning_model, int(events["item"].max())
).T
for row, user in enumerate(targets["user"]):
    had = past["item"][past["user"] == user]
    scores[row, had] = scores[row, 0] = -np.inf
    mine = told[told["user_id"] == user]
    best = np.sort(scores[row])[::-1][:5]
    np.testing.assert_allclose(mine["score"], best, rtol=1e-5)
    np.testing.assert_allclose(scores[row, mine["item_id"].astype(int)], best, rtol=1e-5)
"""
    subprocess.run([python, "-c", program], check=True)
