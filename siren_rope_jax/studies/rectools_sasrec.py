"""Trains RecTools' SASRec and writes its vectors, in a separate Python environment.

    python rectools_sasrec.py DIR

`peer.py` starts this script, because RecTools and JAX need different versions of numpy. It imports
nothing of this package. Model, batches, loss, optimiser and the use of the history are RecTools';
the script adds early stopping, by NDCG@10 on the validation events.

DIR/settings.json: `model`, the arguments of SASRecModel; `epochs`, at most; `patience`, epochs
without improvement before stopping; `seed`; `filter_seen`, whether only items new to the user are
ranked.

DIR/events.npz, on all N events of a log, oldest first within a user: `user`; `item`, 0 if outside
the catalogue; `split`, 0 train, 1 validation, 2 test. A user has at most one event in each of
validation and test. Training events: `session`, `session_item`, in sessions that stand in for
users, because RecTools would use only the last events of a user; without the events outside the
catalogue, which it would learn to recommend.

DIR/vectors.npz: `items` [V, D] by id, row 0 meaningless; `validation` and `test` [n, D], a query
for each event of the split, in order. Scores are inner products.

DIR/fit.json: `train_seconds`, `epochs`, `best_epoch`, `parameters`, `versions`.
"""

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

_SPLITS = {"validation": 1, "test": 2}
_QUERIES_AT_ONCE = 1024
_NEVER = -1e9  # the score of an item that RecTools does not know


class KeepBest(Callback):
    """Keeps `state`, the parameters of the best epoch, and stops training without improvement.

    `best_epoch` is counted from 1; `seconds` are those of training, without this callback.
    """

    def __init__(self, events: pd.DataFrame, patience: int, filter_seen: bool) -> None:
        self._patience, self._filter_seen = patience, filter_seen
        self._best, self._started = -1.0, 0.0
        self._targets, self._past = targets_and_past(events, "validation")
        self._items = int(events["item"].max())
        self.state: dict[str, torch.Tensor] = {}
        self.best_epoch, self.seconds = 0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        self.seconds += time.perf_counter() - self._started
        epoch, loss = trainer.current_epoch + 1, float(trainer.callback_metrics["train_loss"])
        ndcg = validation_ndcg(module, self._items, self._targets, self._past, self._filter_seen)
        module.train()
        spent = f"epoch {epoch}: {self.seconds:.0f} s"
        print(f"{spent}, loss {loss:.4f}, validation NDCG@10 {ndcg:.4f}", flush=True)
        if ndcg > self._best:
            self._best, self.best_epoch = ndcg, epoch
            parameters = module.torch_model.state_dict()
            self.state = {name: value.detach().clone() for name, value in parameters.items()}
        elif epoch - self.best_epoch >= self._patience:
            trainer.should_stop = True


def read_events(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All events with their `split`, and the training events with their sessions as users."""
    with np.load(directory / "events.npz") as file:
        events = pd.DataFrame({name: file[name] for name in ("user", "item", "split")})
        return events, pd.DataFrame({"user": file["session"], "item": file["session_item"]})


def targets_and_past(events: pd.DataFrame, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The events of a split, and all earlier events of their users."""
    number = _SPLITS[split]
    targets = events[events["split"] == number]
    earlier = (events["split"] < number) & events["user"].isin(targets["user"])
    return targets, events[earlier]


def dataset_of(events: pd.DataFrame) -> Dataset:
    """Events in RecTools' format, with the position in the log as the time it sorts by."""
    columns = {
        Columns.User: events["user"],
        Columns.Item: events["item"],
        Columns.Weight: 1,
        Columns.Datetime: pd.to_datetime(events.index.to_numpy(), unit="s"),
    }
    return Dataset.construct(pd.DataFrame(columns))


def queries(module: Any, targets: pd.DataFrame, past: pd.DataFrame) -> np.ndarray:
    """[n, D]: the model's query from the events before each target; the last component is 1.

    RecTools leaves out users whose events it does not know at all. Their other components are 0,
    so that all known items score the same.
    """
    users, preparator = targets["user"].to_numpy(), module.data_preparator
    dataset = preparator.transform_dataset_u2i(dataset_of(past), users)
    loader = preparator.get_dataloader_recommend(dataset, _QUERIES_AT_ONCE)
    vectors, _ = module._get_user_item_embeddings(loader, None)
    asked = np.isin(users, dataset.user_id_map.external_ids)
    rows = np.zeros((len(users), vectors.shape[1]), np.float32)
    rows[asked] = vectors.numpy()[dataset.user_id_map.convert_to_internal(users[asked])]
    return np.pad(rows, [(0, 0), (0, 1)], constant_values=1)


def item_vectors(module: Any, items: int) -> np.ndarray:
    """[items + 1, D] by the log's id; the last component is added to the score.

    It is very low for items that RecTools does not know: those in sessions of one event alone.
    """
    with torch.no_grad():
        vectors = module.torch_model.item_model.get_all_embeddings().cpu().numpy()
    known = module.data_preparator.get_known_item_ids().astype(np.int64)
    internal = module.data_preparator.get_known_items_sorted_internal_ids()
    table = np.zeros((items + 1, vectors.shape[1] + 1), np.float32)
    table[:, -1] = _NEVER
    table[known] = np.pad(vectors[internal], [(0, 0), (0, 1)])
    return table


def validation_ndcg(
    module: Any, items: int, targets: pd.DataFrame, past: pd.DataFrame, filter_seen: bool
) -> float:
    """NDCG@10 of the targets among all items, or among those new to the user."""
    query = torch.from_numpy(queries(module, targets, past))
    target = torch.from_numpy(targets["item"].to_numpy(np.int64))
    seen_item = torch.from_numpy(past["item"].to_numpy(np.int64))
    row = pd.Series(np.arange(len(targets)), targets["user"].to_numpy())
    seen_row = torch.from_numpy(row[past["user"]].to_numpy())
    table = torch.from_numpy(item_vectors(module, items))
    gains = []
    for start in range(0, len(query), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        scores, own = query[part] @ table.T, target[part, None]
        own_score = scores.gather(1, own)
        if filter_seen:
            here = (seen_row >= start) & (seen_row < start + len(scores))
            scores[seen_row[here] - start, seen_item[here]] = -torch.inf
        shown = (own > 0) & (scores.gather(1, own) > -torch.inf)
        scores.scatter_(1, own, -torch.inf)[:, 0] = -torch.inf
        rank = 1 + (scores >= own_score).sum(1)
        hit = (rank <= 10) & shown[:, 0]
        gains.append(torch.where(hit, 1 / torch.log2(1 + rank), 0.0))
    return float(torch.cat(gains).mean())


def main(directory: Path) -> None:
    """Trains on the events in `directory` and writes the results there."""
    settings = json.loads((directory / "settings.json").read_text(encoding="utf-8"))
    events, training = read_events(directory)
    seed_everything(settings["seed"], verbose=False)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=settings["epochs"],
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[KeepBest(events, settings["patience"], settings["filter_seen"])],
        )

    model = SASRecModel(**settings["model"], get_trainer_func=trainer)
    model.fit(dataset_of(training))
    module = model.lightning_model
    (best,) = (c for c in model.fit_trainer.callbacks if isinstance(c, KeepBest))
    module.torch_model.load_state_dict(best.state)
    np.savez(
        directory / "vectors.npz",
        items=item_vectors(module, int(events["item"].max())),
        validation=queries(module, *targets_and_past(events, "validation")),
        test=queries(module, *targets_and_past(events, "test")),
    )
    fitted = {
        "train_seconds": best.seconds,
        "epochs": model.fit_trainer.current_epoch,
        "best_epoch": best.best_epoch,
        "parameters": sum(p.numel() for p in module.torch_model.parameters()),
        "versions": {name: version(name) for name in ("rectools", "torch", "pytorch-lightning")},
    }
    (directory / "fit.json").write_text(json.dumps(fitted), encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # from RecTools and its dependencies
    main(Path(sys.argv[1]))
