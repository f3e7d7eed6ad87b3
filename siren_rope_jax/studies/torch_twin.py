"""The ranker with SIREN-RoPE in PyTorch, as one of its users would write it, to race against.

The same model as `models/ranker.py` with the variant `siren_rope`: parameters, loss, AdamW and its
schedule. Modules are named as ours are, so that parameters are handed over by their names. Only
`contestants.py` imports this module, for it needs the extra `bench`.

Letters as in `rotation/rotate.py`.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F
from flax.traverse_util import flatten_dict
from torch import Tensor, nn

from siren_rope_jax.base.times import DAY, WEEK
from siren_rope_jax.models.batch import DataSpec, RankingBatch
from siren_rope_jax.models.ranker import RankerConfig
from siren_rope_jax.rotation.maps import Network
from siren_rope_jax.rotation.rotate import ladder
from siren_rope_jax.rotation.time import TimeScale
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.optim import decays, learning_rate

_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}

Tensors = Any
"""A `RankingBatch` with tensors in place of arrays."""


class Visible(NamedTuple):
    """What the queries of an attention see.

    Attributes:
      mask: whether a query sees a key, bool [B, 1, L, L].
      some: whether it sees any, bool [B, L, 1].
    """

    mask: Tensor
    some: Tensor


class Rotation(NamedTuple):
    """cos and sin of the angles, float32 [B, 1, L, P]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(E3) of queries or keys [B, H, L, K]."""
        a, b = x.float().chunk(2, dim=-1)
        rotated = (a * self.cos - b * self.sin, a * self.sin + b * self.cos)
        return torch.cat(rotated, dim=-1).type_as(x)


class Sine(nn.Module):
    """sin(omega_0 x)"""

    def __init__(self, omega_0: float) -> None:
        super().__init__()
        self.omega_0 = omega_0

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega_0 * x)


def mlp(widths: Sequence[int], activation: nn.Module, hidden: str, last: str) -> nn.Sequential:
    """Linear layers from the first width to the last, with an activation between them.

    Args:
      widths: of the input and of every layer.
      activation: between two layers.
      hidden: the name of the layers but the last one, before their numbers.
      last: the name of the last one.
    """
    count = len(widths) - 1
    names = [*(f"{hidden}_{i}" for i in range(count - 1)), last]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, sizes in zip(names, itertools.pairwise(widths), strict=True):
        layers[name] = nn.Linear(*sizes)
        layers[f"after_{name}"] = activation
    layers.popitem()
    return nn.Sequential(layers)


def silu_mlp(*widths: int) -> nn.Sequential:
    """`mlp` with SiLU, named as the layers of our `Mlp`."""
    return mlp(widths, nn.SiLU(), "dense", f"dense_{len(widths) - 2}")


class Branches(nn.Module):
    """f_phi (E4): both branches."""

    def __init__(self, network: Network, features: int, planes: int) -> None:
        super().__init__()
        widths = (features, *(network.width,) * network.layers, planes)
        self.siren = mlp(widths, Sine(network.omega_0), "sine", "linear")
        self.dnn = mlp(widths, nn.ReLU(), "relu", "linear")

    def forward(self, x: Tensor) -> Tensor:
        return self.siren(x) + self.dnn(x)


class TimeAngles(Branches):
    """omega f_phi, for the blocks and, with another f_phi, for the last attention."""

    def __init__(self, network: Network, features: int, planes: int) -> None:
        super().__init__(network, features, planes)
        self._final = Branches(network, features, planes)
        self.gate = nn.Parameter(torch.ones(planes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gate * super().forward(x), self.gate * self._final(x)


class Encoding(nn.Module):
    """(E2): the rotations of the blocks and of the last attention."""

    def __init__(self, config: RankerConfig, scale: TimeScale) -> None:
        super().__init__()
        network: Any = config.encoding["time"].map
        index: Any = config.encoding["order"].map
        self.scale = scale
        self.time = TimeAngles(network, 5, config.planes)
        self.order = nn.ParameterDict({"gate": torch.ones(())})
        self.register_buffer("theta", torch.tensor(ladder(config.planes, index.base)).float())

    def forward(self, batch: Tensors, cyclic: Tensor) -> list[Rotation]:
        known, time = batch.time.known[..., None], seconds(batch)
        long_range = ((time - self.scale.origin) / self.scale.half_span).clamp(-1, 1)
        features = torch.cat([cyclic, long_range[..., None] * known], dim=-1)
        order = self.order["gate"] * batch.position[..., None] * self.theta
        angles = [(known * time + order)[:, None] for time in self.time(features)]
        return [Rotation(angle.cos(), angle.sin()) for angle in angles]


def seconds(batch: Tensors) -> Tensor:
    """The times of the events in Unix seconds, int64 [B, L]."""
    return batch.time.day.long() * DAY + batch.time.second


def cyclic_features(batch: Tensors) -> Tensor:
    """(E5): cos and sin of the local phases of day and week, [B, L, 4]."""
    local = seconds(batch) + batch.time.offset
    phases = [2 * torch.pi * (local % period) / period for period in (DAY, WEEK)]
    columns = [function(phase) for phase in phases for function in (torch.cos, torch.sin)]
    return torch.stack(columns, dim=-1) * batch.time.known[..., None]


class Attention(nn.Module):
    """Softmax attention over rotated queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("query", "key", "value", "output"):
            self.add_module(name, nn.Linear(width, width, bias=False))
        self.learned_empty_output = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, values: Tensor, rotation: Rotation, visible: Visible) -> Tensor:
        def project(layer: nn.Module, inputs: Tensor) -> Tensor:
            return layer(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k = (rotation(project(layer, x)) for layer in (self.query, self.key))
        v = project(self.value, values)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible.mask)
        out = out.transpose(1, 2).flatten(2)
        return self.output(torch.where(visible.some, out, self.learned_empty_output.type_as(out)))


class Block(nn.Module):
    """Attention with values of x + a, and a feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = silu_mlp(width, 4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, actions: Tensor, rotation: Rotation, visible: Visible) -> Tensor:
        normed, values = self.attention_norm(x), self.attention_norm(x + actions)
        x = x + self.dropout(self.attention(normed, values, rotation, visible))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Ranker(nn.Module):
    """Logits of every task for every event."""

    def __init__(self, config: RankerConfig, data: DataSpec) -> None:
        super().__init__()
        width = config.width
        for name, rows in data.categories.items():
            self.add_module(f"embed_{name}", nn.Embedding(rows, config.embedding_width))
        self.categories = tuple(data.categories)
        self.item = nn.Linear(len(self.categories) * config.embedding_width + data.dense, width)
        self.item_norm = nn.LayerNorm(width)
        self.action = silu_mlp(data.actions, 64, 64, width)
        self.encoding = Encoding(config, data.scale)
        for i in range(config.layers):
            self.add_module(f"block_{i}", Block(width, config.heads, config.dropout))
        self.blocks = [self.get_submodule(f"block_{i}") for i in range(config.layers)]
        self.fusion = Attention(width, config.heads)
        self.dropout = nn.Dropout(config.dropout)
        self.head = silu_mlp(2 * width + 4 + data.context, *config.head_widths, len(data.tasks))
        self.autocast = config.dtype == "bfloat16"

    def forward(self, batch: Tensors) -> Tensor:
        cyclic = cyclic_features(batch)
        of_blocks, of_last = self.encoding(batch, cyclic)
        visible = seen(batch.segment)
        with torch.autocast(cyclic.device.type, torch.bfloat16, enabled=self.autocast):
            parts = [
                self.get_submodule(f"embed_{name}")(batch.categorical[..., i])
                for i, name in enumerate(self.categories)
            ]
            x = self.item_norm(F.relu(self.item(torch.cat([*parts, batch.dense], dim=-1))))
            actions = F.relu(self.action(batch.actions))
            for block in self.blocks:
                x = block(x, actions, of_blocks, visible)
            fused = self.fusion(x, actions, of_last, visible)
            joined = torch.cat([x, fused, cyclic, batch.context], dim=-1)
            return self.head(self.dropout(joined)).float()

    def loss(self, batch: Tensors) -> Tensor:
        """Mean cross-entropy of all labels that count."""
        logits, mask = self(batch), batch.label_mask
        each = F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none")
        return (each * mask).sum() / mask.sum().clamp(min=1)


def seen(segment: Tensor) -> Visible:
    """An event sees the earlier ones of its segment; 0 is padding."""
    same = (segment[:, :, None] == segment[:, None, :]) & (segment > 0)[:, None, :]
    mask = same.tril(-1)
    return Visible(mask[:, None], mask.any(-1, keepdim=True))


def as_tensors(batch: RankingBatch, device: str) -> Tensors:
    """The same batch on a device."""
    return jax.tree.map(lambda x: torch.tensor(np.asarray(x), device=device), batch)


def by_name(tree: Any) -> dict[str, Any]:
    """A tree of ours, of parameters or of what belongs to each of them, by the twin's names."""
    flat = flatten_dict(tree)
    return {".".join((*at, _LEAVES.get(leaf, leaf))): x for (*at, leaf), x in flat.items()}


def twin_of(config: RankerConfig, data: DataSpec, params: Any, device: str = "cpu") -> Ranker:
    """The twin with our parameters."""
    twin, values = Ranker(config, data), by_name(params)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            value = torch.tensor(np.asarray(values.pop(name)))
            if name.startswith("embed_"):  # [Q, S, D], with some more rows
                value = value.flatten(0, 1)[: len(parameter)]
            elif value.ndim == 2:
                value = value.T
            parameter.copy_(value)
    if values:
        raise ValueError(f"the twin has no {', '.join(values)}")
    return twin.to(device)


def training_step(
    config: ExperimentConfig, data: DataSpec, params: Any, steps: int, device: str, compiled: bool
) -> Callable[[Tensors], Tensor]:
    """A function that trains the twin on a batch of tensors and returns its loss.

    Args:
      config: of the experiment; `slices` play no role.
      data: of the batches.
      params: ours, to start from.
      steps: of the whole training.
      device: where it is trained, "cpu" or "cuda".
      compiled: with torch.compile.
    """
    ours, twin = config.optimizer, twin_of(config.model, data, params, device)
    decayed = by_name(decays(ours, params))
    groups = [
        {
            "params": [p for name, p in twin.named_parameters() if decayed[name] == whether],
            "weight_decay": ours.weight_decay * whether,
        }
        for whether in (False, True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, fused=True)
    rates = np.asarray(jax.vmap(learning_rate(ours, steps))(np.arange(steps + 1))).tolist()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: rates[min(n, steps)])
    loss_of = torch.compile(twin.loss) if compiled else twin.loss

    def step(batch: Tensors) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), ours.clip_norm)
        optimizer.step()
        schedule.step()
        return loss.detach()

    return step
