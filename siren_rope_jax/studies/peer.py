"""RecTools' SASRec on a prepared log, the "peer", evaluated like a run of this library.

RecTools trains in a separate Python environment (`rectools_sasrec.py` says why) and returns the
vectors of items and queries. Ranks, metrics and files come from the same code as for other runs.
"""

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.files import file_digest, read_json, write_json
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import TRAIN
from siren_rope_jax.evaluation.evaluate import predictions_path, result, write_predictions
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics.intervals import Interval, interval
from siren_rope_jax.metrics.ranks import metrics_of_ranks
from siren_rope_jax.models.item_ranks import rank_targets
from siren_rope_jax.studies.comparable import RUN_KEYS, check_alike, config_keys, finished_run
from siren_rope_jax.studies.predictions import read_predictions
from siren_rope_jax.training.kinds.retrieval import Retrieval
from siren_rope_jax.training.rank_scorer import QUERIES_AT_ONCE, Ranked, seen_items

_SCRIPT = Path(__file__).with_name("rectools_sasrec.py")
_KEYS = (*config_keys(Retrieval), *RUN_KEYS, "config.data.length")  # to be agreed on
_NEEDED = ("rectools", "pytorch_lightning", "torch")


@dataclass(frozen=True)
class SasRecConfig:
    """Arguments of RecTools' SASRecModel, with its names and defaults.

    A history has at most `session_max_len` events; each row of a batch is one user.
    """

    n_blocks: int = 2
    n_heads: int = 4
    n_factors: int = 256
    dropout_rate: float = 0.2
    session_max_len: int = 100
    loss: Literal["softmax", "BCE", "gBCE", "sampled_softmax"] = "softmax"
    n_negatives: int = 1
    gbce_t: float = 0.2
    lr: float = 0.001
    batch_size: int = 128


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """RecTools' SASRec on a log.

    Attributes:
      log: directory of a prepared log with a leave-one-out split.
      model: the model's arguments.
      epochs: at most; the epoch with the best validation NDCG@10 is kept.
      patience: epochs without improvement before training stops.
      seed: of everything random.
      filter_seen: whether the evaluation leaves out items that the user had before.
    """

    log: str
    model: SasRecConfig = field(default_factory=SasRecConfig)
    epochs: int = 100
    patience: int = 10
    seed: int = 0
    filter_seen: bool = True

    def __post_init__(self) -> None:
        check(self.epochs >= 1, "epochs", "at least 1")
        check(self.patience >= 1, "patience", "at least 1")


def compare(config: PeerConfig, python: str, workdir: Path) -> dict[str, Any]:
    """Trains the peer, unless `workdir` holds its trained vectors, and evaluates it like a run.

    `python` is an interpreter with RecTools. `workdir` receives the files of a run:
    predictions.parquet and result.json of the test split, and data.json.

    Returns:
      the content of result.json: that of a run, "validation", the metrics of that split, and
      "peer", RecTools' account of the training. There is no NLL, because the scores need not be
      log-probabilities.

    Raises:
      UserError: the log has no leave-one-out split, RecTools is missing, its training failed, or
        `workdir` is neither empty nor from the same settings.
    """
    log = _open_log(config)
    _train(config, log, python, workdir)
    fitted = read_json(workdir / "fit.json")
    with np.load(workdir / "vectors.npz") as file:
        validation, test = (
            rank(log, split, file[split], file["items"], config.filter_seen)
            for split in ("validation", "test")
        )
    evaluated = Evaluated.of(log, test)
    outcome = result(
        evaluated,
        _as_experiment(config),
        split="test",
        step=fitted["best_epoch"],
        parameters=fitted["parameters"],
        train_seconds=fitted["train_seconds"],
        training_ended=True,
    )
    outcome |= {"validation": metrics_of_ranks(validation.rank, validation.nll), "peer": fitted}
    written = workdir / "predictions.parquet"
    write_predictions(written, evaluated, Retrieval)
    outcome["predictions"] = file_digest(written)
    write_json(workdir / "data.json", {"fingerprint": log.fingerprint})
    write_json(workdir / "result.json", outcome)
    return outcome


def _open_log(config: PeerConfig) -> PreparedLog:
    log = PreparedLog.open(config.log)
    if log.schema.protocol != "leave_one_out":
        raise UserError(
            "config.log",
            f"{config.log} is not split by leave-one-out; prepare it with "
            "--config.split.kind=leave_one_out",
        )
    return log


def _as_experiment(config: PeerConfig) -> dict[str, Any]:
    """The config in the form of a run's result.json."""
    return to_dict(config) | {
        "kind": Retrieval.name,
        "variant": "rectools_sasrec",
        "data": {"path": config.log, "target_task": "", "length": config.model.session_max_len},
        "model": {"query_time": None, **to_dict(config.model)},
    }


def peer_events(log: PreparedLog, longest: int) -> dict[str, np.ndarray]:
    """What events.npz holds (`rectools_sasrec.py`), for histories of at most `longest` events."""
    item, events = log.schema.categorical[0], log.events()
    ids, split = item.known_ids(events.rows[f"categorical/{item.name}"]), events.rows["split"]
    training = np.flatnonzero((split == TRAIN) & (ids > 0))
    session, place = sessions(events.user[training], longest)
    return {
        "user": events.user,
        "item": ids,
        "split": split,
        "session": session,
        "session_item": ids[training][place],
    }


def sessions(
    user: Int[np.ndarray, " N"], longest: int
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Cuts histories into sessions in which every event but a user's first is a target once.

    RecTools learns from the last events of each user alone. Given these sessions as users, it
    learns from all events. A session has at most `longest` targets and one event before them.

    Returns:
      the session's number and the index in `user` of every event, session by session, oldest first.
      In `user`, too, the events of a user are adjacent, oldest first.
    """
    pieces = []
    for own in np.split(np.arange(len(user)), np.flatnonzero(np.diff(user)) + 1):
        stops = range(len(own), min(1, len(own) - 1), -longest)
        pieces += [own[max(stop - longest - 1, 0) : stop] for stop in reversed(stops)]
    number = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    return number, np.concatenate(pieces)


def rank(
    log: PreparedLog,
    split: str,
    query: Float[np.ndarray, "N D"],
    items: Float[np.ndarray, "V D"],
    filter_seen: bool,
) -> Ranked:
    """Ranks the targets of a split's events as `RankScorer` does, but by given vectors.

    There is a query for every event of the split, in order, and an item for every id; the first
    one, which stands for unknown items, is not ranked. Every NLL is NaN.

    Raises:
      ValueError: the shapes do not fit the log.
    """
    item, asked = log.schema.categorical[0], log.events(split)
    target = item.known_ids(asked.rows[f"categorical/{item.name}"])
    if len(query) != len(asked.event) or len(items) != item.rows:
        raise ValueError(
            f"{len(query)} queries and {len(items)} rows of items, but {len(asked.event)} events "
            f"of the {split} split and {item.rows} rows"
        )
    ranks = [np.zeros(0, np.int32)]
    rank_of = jax.jit(rank_targets)
    for start in range(0, len(query), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        nothing = np.zeros((len(query[part]), 0), np.int32)
        seen = seen_items(log, asked.event[part]) if filter_seen else nothing
        ranks.append(np.asarray(rank_of(query[part], items, target[part], seen)[0]))
    return Ranked(asked.event, np.concatenate(ranks), np.full(len(query), np.nan))


def check_comparable(ours: Sequence[Path], config: PeerConfig) -> None:
    """Refuses finished runs that cannot be compared with the peer, which may be untrained.

    Raises:
      UserError: a run is not finished, uses histories of another length, or was evaluated in
        another way or on another log; or the log has no leave-one-out split.
    """
    log = _open_log(config)
    peer = {
        "config": _as_experiment(config),
        "split": "test",
        "protocol": log.schema.protocol,
        "catalogue": log.schema.categorical[0].known,
        "log": {"fingerprint": log.fingerprint},
        "version": __version__,
    }
    check_alike({"the peer": peer} | {str(run): finished_run(run) for run in ours}, _KEYS)


def difference_to(ours: Sequence[Path], peer: Path) -> dict[str, Interval]:
    """The metrics of finished runs, averaged, minus the peer's, with paired 95 % intervals.

    Raises:
      UserError: a run is not finished, or they were evaluated in different ways or on different
        events.
    """
    check_alike({str(run): finished_run(run) for run in (peer, *ours)}, _KEYS)
    other, *paths = (predictions_path(path) for path in (peer, *ours))
    columns = Retrieval.resampled("", {})
    a = columns.resample(*read_predictions(paths, columns, other))
    b = columns.resample(*read_predictions([other], columns, paths[0]))
    return {metric: interval(a[metric], b[metric]) for metric in a if metric != "nll"}


def _train(config: PeerConfig, log: PreparedLog, python: str, workdir: Path) -> None:
    """Has RecTools write fit.json and vectors.npz."""
    events = peer_events(log, config.model.session_max_len)
    digest = hashlib.sha256()
    for name, array in events.items():
        digest.update(f"{name} {array.dtype} {array.shape};".encode() + array.tobytes())
    settings = to_dict(config) | {
        "trained_with": __version__,
        "events": digest.hexdigest()[:16],
        "log": log.fingerprint,
    }
    path = workdir / "settings.json"
    if path.is_file():
        if read_json(path) != settings:
            raise UserError(
                workdir,
                "belongs to a peer with other settings, other data or another version than "
                f"siren-rope-jax {__version__}; choose another --workdir, or remove this one",
            )
        if (workdir / "fit.json").is_file():
            return
    elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(
            workdir, "is neither an empty directory nor that of a peer; choose another --workdir"
        )
    _check_python(python)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)  # first, to mark the directory as this peer's
    np.savez(workdir / "events.npz", **events)  # type: ignore[arg-type]
    done = subprocess.run([python, str(_SCRIPT), str(workdir)], check=False)
    if done.returncode:
        raise UserError(_SCRIPT, f"ended with status {done.returncode}; see its output above")


def _check_python(python: str) -> None:
    find = f"import importlib.util as u; print(*[m for m in {_NEEDED} if u.find_spec(m) is None])"
    try:
        done = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError("--python", f"{python} cannot be run: {error}") from error
    if missing := done.stdout.split():
        raise UserError(
            "--python",
            f"{python} has no {', '.join(missing)}; install RecTools in a separate environment "
            "(python -m venv peer && peer/bin/pip install 'rectools[torch]==0.19.0'), and give "
            "--python=peer/bin/python",
        )
