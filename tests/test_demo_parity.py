"""With the weights of the authors' demo, the same logits, loss and gradients as the demo.

`golden/*.npz` hold numbers computed by the authors' PyTorch demo in float64 on random weights and
inputs; time features exact.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from siren_rope_jax.models.batch import RankingBatch
from siren_rope_jax.models.losses import ranking_loss
from siren_rope_jax.models.ranker import Ranker
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.studies.demo_weights import demo_model, from_demo
from tests.refusals import refused

# A constant added to all angles changes nothing (E6): the exact gradient of f_phi's output biases
# is zero; what is stored of it is rounding noise, and so is ours.
OUTPUT_BIASES = ("angle_nn.net.3.bias", "angle_nn.residual.6.bias")
FILES = ["ordinal_rope", "to_rope", "siren_rope", "siren_rope_tiled"]


class Golden:
    """One file of numbers, and our model with its weights."""

    def __init__(self, name: str) -> None:
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as file:
            groups: dict[str, dict[str, np.ndarray]] = {}
            for key in file.files:
                group, _, rest = key.partition("/")
                groups.setdefault(group, {})[rest] = file[key]
        self.groups = groups
        encoding: Any = name.removesuffix("_tiled")
        self.demo = demo_model(encoding, groups["config"])
        self.model = Ranker(self.demo.config, self.demo.data)
        self.params = from_demo(groups["weight"], self.demo)
        given = groups["input"]
        rows, length = given["timestamps"].shape
        self.batch = RankingBatch(
            categorical=np.zeros((rows, length, 0), np.int32),
            dense=given["sequence_features"],
            context=given["dynamic_context_features"],
            actions=given["action_features"],
            labels=given["labels"],
            label_mask=np.ones(given["labels"].shape, bool),
            time=Time.from_seconds(given["timestamps"]),
            position=np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length)),
            segment=np.ones((rows, length), np.int32),
            event=np.zeros((rows, length), np.int32),
            counts=np.zeros((rows, length, 0), np.int32),
        )

    def loss(self, params: Any) -> jax.Array:
        logits = self.model.apply({"params": params}, self.batch)
        return ranking_loss(self.model.data.tasks, logits, self.batch.labels, self.batch.label_mask)


@pytest.fixture(scope="module", params=FILES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_logits_and_loss_agree(golden: Golden) -> None:
    logits = golden.model.apply({"params": golden.params}, golden.batch)
    output = golden.groups["output"]
    np.testing.assert_allclose(logits, output["logits"], atol=2e-5, rtol=0)
    assert abs(float(golden.loss(golden.params)) - float(output["loss"])) < 1e-6


def test_gradients_agree(golden: Golden) -> None:
    """Our gradient, pulled back through the linear conversion, is the demo's gradient."""

    def loss_of_demo_weights(weights: dict[str, Any]) -> jax.Array:
        return golden.loss(from_demo(weights, golden.demo))

    with jax.default_matmul_precision("highest"):
        ours = jax.grad(loss_of_demo_weights)(golden.groups["weight"])
    for name, theirs in golden.groups["grad"].items():
        scale = np.linalg.norm(theirs)
        if name.endswith(OUTPUT_BIASES):
            of_weights = np.linalg.norm(golden.groups["grad"][name.replace("bias", "weight")])
            assert max(scale, np.linalg.norm(ours[name])) < 1e-5 * of_weights, name
        else:
            assert np.linalg.norm(ours[name] - theirs) < 1e-3 * scale, name


def test_missing_and_unknown_weights_are_named() -> None:
    golden = Golden("ordinal_rope")
    weights = dict(golden.groups["weight"])
    with refused("extra.weight"):
        from_demo(weights | {"extra.weight": np.zeros(1)}, golden.demo)
    del weights["head.0.bias"]
    with refused("head.0.bias"):
        from_demo(weights, golden.demo)
