"""RecTools' SASRec, trained and asked in a Python of its own.

    python rectools_sasrec.py DIR

`peer.py` starts it so, since RecTools and JAX need different versions of numpy: nothing of this
package is imported. The model is RecTools' throughout (data loading, loss, optimiser, the history
it reads); the only thing added is which epoch is kept: the one of the best NDCG@10 on the
validation events, among all items that are new to the user.

DIR/events.npz: `user`, `item` (0: never seen in training) and `split` (0 train, 1 validation, 2
test) of all N events of a log, a user's oldest first; every user has at most one event of
validation and of test. DIR/settings.json: `model`, arguments of SASRecModel; `epochs`, `patience`,
`seed`.

DIR/vectors.npz: the items' vectors by id, `items` [V, D], row 0 zeros; a `validation` and a `test`
query [n, D] for each event of these splits, in their order. A score is the inner product.
DIR/fit.json: seconds, epochs, versions.
"""

import json
import sys
import time
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


def main(directory: Path) -> None:
    """Trains on the events in `directory` and writes the vectors there."""
    with np.load(directory / "events.npz") as file:
        events = pd.DataFrame({name: file[name] for name in ("user", "item", "split")})
    settings = json.loads((directory / "settings.json").read_text())
    torch.set_float32_matmul_precision("highest")
    seed_everything(settings["seed"], verbose=False)
    keeper = KeepBest(events, settings["patience"])
    model = SASRecModel(
        **settings["model"],
        get_trainer_func=lambda: Trainer(
            max_epochs=settings["epochs"],
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[keeper],
        ),
    )
    train = events[events["split"] == 0]
    model.fit(Dataset.construct(interactions(train)))
    (keeper,) = (c for c in model.fit_trainer.callbacks if isinstance(c, KeepBest))  # a copy of it
    model.torch_model.load_state_dict(keeper.state)
    asked = {split: queries(model, *histories(events, split)) for split in _SPLITS}
    np.savez(directory / "vectors.npz", items=item_vectors(model, events), **asked)
    fitted = {
        "train_seconds": keeper.seconds,
        "epochs": model.fit_trainer.current_epoch,
        "best_epoch": keeper.best_epoch,
        "parameters": sum(p.numel() for p in model.torch_model.parameters()),
        "versions": {name: version(name) for name in ("rectools", "torch", "pytorch-lightning")},
    }
    (directory / "fit.json").write_text(json.dumps(fitted))


class KeepBest(Callback):
    """Keeps the parameters of the epoch of the best validation NDCG@10, and stops without one.

    Attributes:
      state: those parameters.
      best_epoch: their epoch, from 1.
      seconds: spent in training, without what is done here.
    """

    def __init__(self, events: pd.DataFrame, patience: int) -> None:
        self._events, self._patience = events, patience
        self._best = -1.0
        self.state: dict[str, torch.Tensor] = {}
        self.best_epoch = 0
        self.seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Stops the clock and looks at the validation."""
        self.seconds += time.perf_counter() - self._started
        epoch = trainer.current_epoch + 1
        score = self._ndcg(module)
        loss = float(trainer.callback_metrics["train_loss"])
        print(
            f"epoch {epoch}: {self.seconds:.0f} s, loss {loss:.4f}, validation NDCG@10 {score:.4f}",
            flush=True,
        )
        if score > self._best:
            self._best, self.best_epoch = score, epoch
            self.state = {k: v.detach().clone() for k, v in module.torch_model.state_dict().items()}
        elif epoch - self.best_epoch >= self._patience:
            trainer.should_stop = True

    def _ndcg(self, module: Any) -> float:
        targets, past = histories(self._events, "validation")
        table = torch.from_numpy(vectors_by_id(module, module.data_preparator, self._events))
        query = torch.from_numpy(encode(module, module.data_preparator, targets, past))
        module.train()
        row_of = pd.Series(np.arange(len(targets)), targets["user"].to_numpy())
        seen_row = torch.from_numpy(row_of[past["user"]].to_numpy())
        seen_item = torch.from_numpy(past["item"].to_numpy(np.int64))
        target = torch.from_numpy(targets["item"].to_numpy(np.int64))
        gains = []
        for start in range(0, len(query), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            scores = query[part] @ table.T
            own = scores.gather(1, target[part, None])
            here = (seen_row >= start) & (seen_row < start + len(scores))
            scores[seen_row[here] - start, seen_item[here]] = -torch.inf
            scores[:, 0] = -torch.inf
            scores.scatter_(1, target[part, None], -torch.inf)
            rank = 1 + (scores >= own).sum(1)
            hit = (rank <= 10) & (target[part] > 0)
            gains.append(torch.where(hit, 1 / torch.log2(1 + rank), 0.0))
        return float(torch.cat(gains).mean())


def interactions(events: pd.DataFrame) -> pd.DataFrame:
    """Events as RecTools takes them; the order alone counts, so its times are places in it."""
    return pd.DataFrame(
        {
            Columns.User: events["user"],
            Columns.Item: events["item"],
            Columns.Weight: 1,
            Columns.Datetime: pd.to_datetime(events.index.to_numpy(), unit="s"),
        }
    )


def histories(events: pd.DataFrame, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The events of a split, and all earlier ones of their users."""
    number = _SPLITS[split]
    targets = events[events["split"] == number]
    earlier = events["split"] < number
    return targets, events[earlier & events["user"].isin(targets["user"])]


def queries(model: Any, targets: pd.DataFrame, past: pd.DataFrame) -> np.ndarray:
    """[n, D]: what the model makes of each target's earlier events."""
    return encode(model.lightning_model, model.data_preparator, targets, past)


def encode(module: Any, preparator: Any, targets: pd.DataFrame, past: pd.DataFrame) -> np.ndarray:
    """As `queries`, by the parts of a model that exist while it is fitted."""
    users = targets["user"].to_numpy()
    dataset = preparator.transform_dataset_u2i(Dataset.construct(interactions(past)), users)
    loader = preparator.get_dataloader_recommend(dataset, 256)
    encoded, _ = module._get_user_item_embeddings(loader, None)
    encoded = encoded.numpy()[dataset.user_id_map.convert_to_internal(users)]
    return np.pad(encoded, [(0, 0), (0, 1)], constant_values=1)


def item_vectors(model: Any, events: pd.DataFrame) -> np.ndarray:
    """[V, D]: the items' vectors by our id."""
    return vectors_by_id(model.lightning_model, model.data_preparator, events)


def vectors_by_id(module: Any, preparator: Any, events: pd.DataFrame) -> np.ndarray:
    """As `item_vectors`, by the parts of a model that exist while it is fitted."""
    with torch.no_grad():
        vectors = module.torch_model.item_model.get_all_embeddings().cpu().numpy()
    ids = np.arange(1, events["item"].max() + 1)
    internal, known = preparator.item_id_map.convert_to_internal(
        ids, strict=False, return_missing=True
    )
    table = np.zeros((len(ids) + 1, vectors.shape[1] + 1), np.float32)
    table[:, -1] = _NEVER
    table[1:][np.isin(ids, known, invert=True)] = np.pad(vectors[internal], [(0, 0), (0, 1)])
    return table


if __name__ == "__main__":
    main(Path(sys.argv[1]))
