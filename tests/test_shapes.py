"""Annotated shapes are true: the models run with every jaxtyping annotation checked."""

import subprocess
import sys

import pytest

from tests.scripts import ROOT

HOOK = """
from jaxtyping import install_import_hook

rooms = ["base.arrays", "rotation", "models"]
with install_import_hook(["siren_rope_jax." + room for room in rooms], "beartype.beartype"):
    import jax
    import jax.numpy as jnp
    from tests.batches import DATA, random_batch, random_next_items, small_model, small_retriever
    from siren_rope_jax.models.item_ranks import rank_targets, top_items
    from siren_rope_jax.models.losses import LossConfig, ranking_loss, retrieval_loss
"""

RANKER = """
for name, changes in (
    ("siren_rope", {}),
    ("to_rope_split_head", {}),
    ("siren_rope_category", {}),
    ("time2vec", {"interleaved": True, "mixed_value": False, "late_fusion": False}),
    ("time_in_embedding", {}),
    ("siren_rope_hstu_bias", {"block": "hstu"}),
    ("fuxi_bias", {}),
):
    model, params = small_model(name, **changes)
    batch = jax.tree.map(jax.device_put, random_batch())
    logits = model.apply({"params": params}, batch)
    ranking_loss(DATA.tasks, logits, batch.labels, batch.label_mask)
"""

RETRIEVER = """
losses = (LossConfig(), LossConfig("sampled_softmax", sampler="in_batch"), LossConfig("gbce"))
for name, changes in (
    ("siren_rope_hstu_bias", {"block": "hstu"}),
    ("fuxi_bias", {}),
    ("hstu_bias_only", {"normalize": True}),
    ("time_in_embedding", {"learned_positions": True}),
):
    model, params = small_retriever(name, **changes)
    batch = jax.tree.map(jax.device_put, random_next_items())
    query, items, _ = model.apply({"params": params}, batch)
    query, target = query.reshape(-1, query.shape[-1]), batch.target.reshape(-1)
    for loss in losses:
        given = {"item_counts": jnp.ones(model.data.items), "key": jax.random.key(0)}
        retrieval_loss(loss, query, items, target, target > 0, **given)
    rank_targets(query, items.values, target, target[:, None])
    top_items(query, items.values, target[:, None], 3)
for attention in ("dense", "blocked"):
    model, params = small_retriever("siren_rope", repeat=True, attention=attention)
    query, items, repeat = model.apply({"params": params}, batch)
    slots = query, batch.target, repeat.of_targets(batch.target)
    query, target, repeated = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), slots)
    retrieval_loss(LossConfig(), query, items, target, target > 0, repeat=repeated)
mixtures = repeat.mixtures(jnp.nonzero(batch.segment >= 0))
rank_targets(query, items.values, target, target[:, None], mixtures)
top_items(query, items.values, target[:, None], 3, mixtures)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [RANKER, RETRIEVER], ids=["ranker", "retriever"])
def test_shapes_are_as_annotated(program: str) -> None:
    subprocess.run([sys.executable, "-c", HOOK + program], check=True, cwd=ROOT)
