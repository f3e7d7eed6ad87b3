"""The Linen modules work from Flax NNX, through its bridge."""

import jax
import numpy as np
from flax import nnx

from siren_rope_jax.models.ranker import Ranker
from tests.batches import DATA, random_batch, small_config


def test_the_ranker_works_from_nnx() -> None:
    batch = jax.device_put(random_batch())
    linen = Ranker(small_config("siren_rope"), DATA)
    model = nnx.bridge.ToNNX(linen, rngs=nnx.Rngs(0)).lazy_init(batch)
    logits = model(batch)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    np.testing.assert_allclose(logits, linen.apply({"params": params}, batch), atol=1e-6)
