"""Carries weights of the SIREN-RoPE authors' PyTorch demo into the `Ranker`.

The demo differs in layout, sign and constants, not in what it can compute:

- it rotates interleaved planes (2j, 2j+1), here they are half-split: rows of W_q and W_k move;
- its positions descend (the newest event is 0) except in its TO-RoPE, here they ascend: all angles
  change their sign (up to a constant), which conjugates every plane. Negating the second component
  of each plane in W_q and W_k, and omega, undoes that and leaves lambda as it was;
- it scales logits and residual branches by constants of its own, which go into W_q and into the
  last layer of every branch;
- its head does not see the time of the request: here those weights are zero;
- its network also sees the reverse order, T~ in years without a limit, and repeats its angles in
  consecutive planes: `DemoNetwork`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.ranker import REQUEST_FEATURES, RankerConfig
from siren_rope_jax.models.tasks import Binary
from siren_rope_jax.rotation.maps import Ladder, Network, Owner
from siren_rope_jax.rotation.rotate import interleaved_to_half_split
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.sources import AngleSource, Gate
from siren_rope_jax.rotation.time import TimeScale, since

DemoEncoding = Literal["siren_rope", "ordinal_rope", "to_rope"]
_NETWORK_INPUTS = np.array([0, 3, 2, 5, 4, 1])  # the demo's columns in our order
_DEMO_BASE = {"siren_rope": 1e5, "ordinal_rope": 1e5, "to_rope": 1e4}
DEMO_TIME_SCALE = TimeScale(55 * 365 * DAY, 365 * DAY)  # t / 31 536 000 s - 55


@dataclass(frozen=True)
class DemoNetwork(Network):
    """The demo's f_phi.

    Attributes:
      context_length: C; the reverse order (C - 1 - p) / C is the first input.
      distinct: number of distinct angles, each repeated in consecutive planes.
    """

    context_length: int = 1
    distinct: int = 1

    def inputs(self, owner: Owner, signals: Signals) -> Sequence[Float[Array, "... L F"]]:
        reverse = self.context_length - 1 - signals.position
        order = jnp.asarray(reverse[..., None], jnp.float32) / self.context_length
        years = since(signals.time, owner.scale.origin, owner.scale.half_span)[..., None]
        return [order, *super().inputs(owner, signals), years]

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        x = jnp.concatenate(self.inputs(owner, signals), axis=-1)
        return jnp.repeat(self.network(x, self.distinct), owner.planes // self.distinct, axis=-1)


@dataclass(frozen=True)
class DemoModel:
    """The model that computes what the demo computes.

    Attributes:
      config, data: of the `Ranker`.
      softmax_scale: the demo's factor on the logits.
      residual_scale: its factor on every residual branch.
      descending: whether its positions descend.
    """

    config: RankerConfig
    data: DataSpec
    softmax_scale: float
    residual_scale: float
    descending: bool


def demo_model(encoding: DemoEncoding, sizes: Mapping[str, Any]) -> DemoModel:
    """The model of one of the demo's rotations.

    Args:
      encoding: which rotation.
      sizes: the demo's own names: d_model, num_heads, num_layers, d_labels, sequence_length,
        attn_scale, skip_scale; rope_d_angle and angle_nn_width (siren_rope); time_scale (to_rope).
    """
    base = _DEMO_BASE[encoding]
    sources = {"order": AngleSource(Ladder(base=base))}
    length = int(sizes.get("sequence_length", 0))  # only siren_rope needs it
    if encoding == "siren_rope":
        network = DemoNetwork(
            features=("day", "week"),
            width=int(sizes["angle_nn_width"]),
            layers=3,
            context_length=length,
            distinct=int(sizes["rope_d_angle"]),
        )
        sources = {
            "time": AngleSource(network, Gate(np.pi, per_plane=True)),
            "order": AngleSource(Ladder(base=base), Gate(1.0)),
        }
    elif encoding == "to_rope":
        unit = DAY / float(sizes["time_scale"])
        sources["time"] = AngleSource(Ladder("time", unit, base))
    config = RankerConfig(
        encoding=sources,
        width=int(sizes["d_model"]),
        heads=int(sizes["num_heads"]),
        layers=int(sizes["num_layers"]),
    )
    tasks = tuple(Binary(f"label_{i}") for i in range(int(sizes["d_labels"])))
    data = DataSpec({}, tasks, length, DEMO_TIME_SCALE)
    scales = float(sizes["attn_scale"]), float(sizes["skip_scale"])
    return DemoModel(config, data, *scales, descending=encoding != "to_rope")


def from_demo(weights: Mapping[str, np.ndarray], demo: DemoModel) -> dict[str, Any]:
    """Parameters of the `Ranker` from the demo's state dict.

    Args:
      weights: torch name -> array, as `{k: v.numpy() for k, v in model.state_dict().items()}`.
      demo: from `demo_model`.

    Raises:
      UserError: about a weight that is missing, or left over because nothing here reads it.
    """
    reader = _Reader(weights, demo)
    params: dict[str, Any] = {
        "item": reader.dense("seq_projection.0"),
        "item_norm": reader.norm("seq_norm"),
        "action": reader.mlp("action_embedding"),
        "fusion": reader.attention("action_attention", 1.0),
        "head": reader.mlp("head"),
    }
    scale = demo.residual_scale
    for i in range(demo.config.layers):
        torch = f"transformer_layers.{i}"
        mlp = reader.mlp(f"{torch}.ffwd")
        mlp["dense_1"] = {name: weight * scale for name, weight in mlp["dense_1"].items()}
        params[f"block_{i}"] = {
            "attention_norm": reader.norm(f"{torch}.prenorm_1"),
            "mlp_norm": reader.norm(f"{torch}.prenorm_2"),
            "attention": reader.attention(f"{torch}.mha", scale),
            "mlp": mlp,
        }
    first, pooled = params["head"]["dense_0"], 2 * demo.config.width
    blind = np.zeros((2 * len(REQUEST_FEATURES), first["kernel"].shape[1]), np.float32)
    parts = [first["kernel"][:pooled], blind, first["kernel"][pooled:]]
    first["kernel"] = jnp.concatenate(parts)
    if "time" in demo.config.encoding and demo.descending:
        params["encoding"] = reader.encoding()
    if unread := reader.unread():
        raise UserError(sorted(unread)[0], f"nothing here corresponds to {sorted(unread)}")
    return params


class _Reader:
    """Reads torch arrays by name and remembers which were used."""

    def __init__(self, weights: Mapping[str, np.ndarray], demo: DemoModel) -> None:
        self.weights, self.demo = weights, demo
        self.head_width = demo.config.width // demo.config.heads
        self.used: set[str] = set()

    def __call__(self, name: str) -> np.ndarray:
        if name not in self.weights:
            raise UserError(name, "is missing among the demo's weights")
        self.used.add(name)
        return self.weights[name]

    def unread(self) -> set[str]:
        # Every attention of the demo holds a reference to the one set of gates.
        return {name for name in set(self.weights) - self.used if ".rope." not in name}

    def dense(self, name: str) -> dict[str, Any]:
        return {"kernel": self(f"{name}.weight").T, "bias": self(f"{name}.bias")}

    def norm(self, name: str) -> dict[str, Any]:
        params = {"scale": self(f"{name}.weight")}
        return params | ({"bias": self(f"{name}.bias")} if f"{name}.bias" in self.weights else {})

    def mlp(self, name: str, prefix: str = "dense_") -> dict[str, Any]:
        layers = sorted(
            int(key.removeprefix(f"{name}.").removesuffix(".weight"))
            for key in self.weights
            if key.startswith(f"{name}.") and key.endswith(".weight")
        )
        return {f"{prefix}{i}": self.dense(f"{name}.{layer}") for i, layer in enumerate(layers)}

    def attention(self, name: str, residual_scale: float) -> dict[str, Any]:
        softmax_scale = self.demo.softmax_scale * math.sqrt(self.head_width)
        return {
            "query": {"kernel": self.rotated(f"{name}.W_q.weight") * softmax_scale},
            "key": {"kernel": self.rotated(f"{name}.W_k.weight")},
            "value": {"kernel": self(f"{name}.W_v.weight").T},
            "output": {"kernel": self(f"{name}.W_o.weight").T * residual_scale},
            "learned_empty_output": self(f"{name}.padding_embedding"),
        }

    def rotated(self, name: str) -> np.ndarray:
        """A query or key projection with planes half-split, conjugated if need be, [D, D]."""
        weight_DxD = self(name)
        heads, width = self.demo.config.heads, self.head_width
        weight_HxKxD = weight_DxD.reshape(heads, width, -1)[:, interleaved_to_half_split(width)]
        sign = -1.0 if self.demo.descending else 1.0
        sign_K = np.repeat([1.0, sign], width // 2).astype(np.float32)
        return (weight_HxKxD * sign_K[:, None]).reshape(weight_DxD.shape).T

    def encoding(self) -> dict[str, Any]:
        omega, planes = self("rope.freq"), self.demo.config.planes
        time = self.network("angle_nn") | {"_final": self.network("action_angle_nn")}
        time["gate"] = -omega.repeat(planes // len(omega))
        return {"time": time, "order": {"gate": self("rope.order_scale").reshape(())}}

    def network(self, name: str) -> dict[str, Any]:
        network = self.demo.config.encoding["time"].map
        assert isinstance(network, DemoNetwork)
        layers = range(network.layers)
        siren = {f"sine_{i}": self.dense(f"{name}.net.{i}.linear") for i in layers}
        siren["linear"] = self.dense(f"{name}.net.{network.layers}")
        mlp = self.mlp(f"{name}.residual", "relu_")
        mlp["linear"] = mlp.pop(f"relu_{network.layers}")
        for first in (siren["sine_0"], mlp["relu_0"]):
            first["kernel"] = first["kernel"][_NETWORK_INPUTS]
        return {"siren": siren, "dnn": mlp}
