"""Carries weights of the SIREN-RoPE authors' PyTorch demo into the `Ranker`.

The demo differs in layout and sign, not in what it can compute:

- it rotates interleaved planes (2j, 2j+1), here they are half-split: rows of W_q and W_k move;
- its positions descend (the newest event is 0) except in its TO-RoPE, here they ascend: all angles
  change their sign (up to a constant), which conjugates every plane. Negating the second component
  of each plane in W_q and W_k, and omega, undoes that and leaves lambda as it was;
- its network reads [order, T~, sin day, cos day, sin week, cos week], here the order is
  [order, cos day, sin day, cos week, sin week, T~].
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY
from siren_rope_jax.models.batch import Inputs
from siren_rope_jax.models.ranker import RankerConfig
from siren_rope_jax.rotation.rotate import interleaved_to_half_split
from siren_rope_jax.rotation.sources import AngleSource, Gate, Ladder, Network
from siren_rope_jax.rotation.time import TimeScale

DemoEncoding = Literal["siren_rope", "ordinal_rope", "to_rope"]
_NETWORK_INPUTS = np.array([0, 3, 2, 5, 4, 1])  # the demo's columns in our order
_DEMO_BASE = {"siren_rope": 1e5, "ordinal_rope": 1e5, "to_rope": 1e4}
DEMO_TIME_SCALE = TimeScale(55 * 365 * DAY, 365 * DAY, limit=math.inf)  # t / 31 536 000 s - 55


def demo_config(encoding: DemoEncoding, sizes: Mapping[str, Any]) -> tuple[RankerConfig, Inputs]:
    """The model that computes what the demo computes.

    Args:
      encoding: which of the demo's rotations.
      sizes: the demo's own names: d_model, num_heads, num_layers, d_labels, sequence_length,
        attn_scale, skip_scale; rope_d_angle and angle_nn_width (siren_rope); time_scale (to_rope).
    """
    base = _DEMO_BASE[encoding]
    sources = {"order": AngleSource(ladder=Ladder(base=base))}
    if encoding == "siren_rope":
        network = Network(
            order=True,
            width=int(sizes["angle_nn_width"]),
            siren_layers=3,
            dnn_layers=3,
            angles=int(sizes["rope_d_angle"]),
        )
        sources = {
            "time": AngleSource(network=network, gate=Gate(np.pi, per_plane=True)),
            "order": AngleSource(ladder=Ladder(base=base), gate=Gate(1.0)),
        }
    elif encoding == "to_rope":
        unit = DAY / float(sizes["time_scale"])
        sources["time"] = AngleSource(ladder=Ladder("time", unit, base))
    config = RankerConfig(
        encoding=sources,
        width=int(sizes["d_model"]),
        heads=int(sizes["num_heads"]),
        layers=int(sizes["num_layers"]),
        head_time_features=(),
        softmax_scale=float(sizes["attn_scale"]),
        residual_scale=float(sizes["skip_scale"]),
    )
    tasks = tuple(f"label_{i}" for i in range(int(sizes["d_labels"])))
    length = int(sizes.get("sequence_length", 0))  # only the order signal of siren_rope needs it
    return config, Inputs({}, tasks, length, DEMO_TIME_SCALE)


def from_demo(weights: Mapping[str, np.ndarray], config: RankerConfig) -> dict[str, Any]:
    """Parameters of the `Ranker` from the demo's state dict.

    Args:
      weights: torch name -> array, as `{k: v.numpy() for k, v in model.state_dict().items()}`.
      config: from `demo_config`.

    Raises:
      UserError: a weight is missing, or one is left over that nothing here reads.
    """
    reader = _Reader(weights, config)
    params: dict[str, Any] = {
        "item": reader.dense("seq_projection.0"),
        "item_norm": reader.norm("seq_norm"),
        "action": reader.mlp("action_embedding"),
        "fusion": reader.attention("action_attention"),
        "head": reader.mlp("head"),
    }
    for i in range(config.layers):
        torch = f"transformer_layers.{i}"
        params[f"block_{i}"] = {
            "attention_norm": reader.norm(f"{torch}.prenorm_1"),
            "mlp_norm": reader.norm(f"{torch}.prenorm_2"),
            "attention": reader.attention(f"{torch}.mha"),
            "mlp": reader.mlp(f"{torch}.ffwd"),
        }
    if "time" in config.encoding and config.encoding["time"].network is not None:
        params["encoding"] = reader.encoding(config.encoding["time"].network)
    if unread := reader.unread():
        raise UserError(f"demo weights: nothing here corresponds to {sorted(unread)}")
    return params


class _Reader:
    """Reads torch arrays by name and remembers which were used."""

    def __init__(self, weights: Mapping[str, np.ndarray], config: RankerConfig) -> None:
        self.weights = weights
        self.config = config
        time = config.encoding.get("time")
        self.descending = time is None or time.ladder is None
        self.used: set[str] = set()

    def __call__(self, name: str) -> np.ndarray:
        if name not in self.weights:
            raise UserError(f"demo weights: {name!r} is missing")
        self.used.add(name)
        return self.weights[name]

    def unread(self) -> set[str]:
        # Every attention of the demo holds a reference to the one set of gates.
        return {name for name in set(self.weights) - self.used if ".rope." not in name}

    def dense(self, name: str) -> dict[str, np.ndarray]:
        return {"kernel": self(f"{name}.weight").T, "bias": self(f"{name}.bias")}

    def norm(self, name: str) -> dict[str, np.ndarray]:
        params = {"scale": self(f"{name}.weight")}
        return params | ({"bias": self(f"{name}.bias")} if f"{name}.bias" in self.weights else {})

    def mlp(self, name: str, prefix: str = "dense_") -> dict[str, Any]:
        layers = sorted(
            int(key.removeprefix(f"{name}.").removesuffix(".weight"))
            for key in self.weights
            if key.startswith(f"{name}.") and key.endswith(".weight")
        )
        return {f"{prefix}{i}": self.dense(f"{name}.{layer}") for i, layer in enumerate(layers)}

    def attention(self, name: str) -> dict[str, Any]:
        return {
            "query": {"kernel": self.rotated(f"{name}.W_q.weight")},
            "key": {"kernel": self.rotated(f"{name}.W_k.weight")},
            "value": {"kernel": self(f"{name}.W_v.weight").T},
            "output": {"kernel": self(f"{name}.W_o.weight").T},
            "empty": self(f"{name}.padding_embedding"),
        }

    def rotated(self, name: str) -> np.ndarray:
        """A query or key projection with planes half-split, conjugated if need be, [D, D]."""
        weight_DxD = self(name)
        heads = self.config.heads
        width = weight_DxD.shape[0] // heads
        weight_HxKxD = weight_DxD.reshape(heads, width, -1)[:, interleaved_to_half_split(width)]
        sign = -1.0 if self.descending else 1.0
        sign_K = np.repeat([1.0, sign], width // 2).astype(np.float32)
        return (weight_HxKxD * sign_K[:, None]).reshape(weight_DxD.shape).T

    def encoding(self, network: Network) -> dict[str, Any]:
        omega = self("rope.freq")
        planes = self.config.width // self.config.heads // 2
        return {
            "time": self.network("angle_nn", network),
            "time_final": self.network("action_angle_nn", network),
            "time_gate": -omega.repeat(planes // len(omega))[None, None, :],
            "order_gate": self("rope.order_scale").reshape(1, 1, 1),
        }

    def network(self, name: str, network: Network) -> dict[str, Any]:
        siren = {
            f"sine_{i}": self.dense(f"{name}.net.{i}.linear") for i in range(network.siren_layers)
        }
        siren["linear"] = self.dense(f"{name}.net.{network.siren_layers}")
        mlp = self.mlp(f"{name}.residual", "relu_")
        mlp["linear"] = mlp.pop(f"relu_{network.dnn_layers}")
        for first in (siren["sine_0"], mlp["relu_0"]):
            first["kernel"] = first["kernel"][_NETWORK_INPUTS]
        return {"siren": siren, "dnn": mlp}
