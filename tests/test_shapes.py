"""Annotated shapes are true: the model runs with every jaxtyping annotation checked."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

CHECKED = """
from jaxtyping import install_import_hook

modules = ["rotary", "time_features", "siren", "angles", "attention", "recommender", "losses"]
with install_import_hook(["siren_rope_jax." + m for m in modules], "beartype.beartype"):
    import jax
    from tests.batches import random_batch, small_model
    from siren_rope_jax.losses import ranking_loss

for name, changes in (
    ("siren_rope", {}),
    ("to_rope_split_head", {}),
    ("siren_rope_category", {}),
    ("time2vec", {"interleaved": True, "mixed_value": False, "late_fusion": False}),
    ("time_in_embedding", {}),
):
    model, params = small_model(name, **changes)
    batch = jax.device_put(random_batch())
    logits = model.apply({"params": params}, batch)
    ranking_loss(logits, batch.labels, batch.label_mask)
"""


def test_shapes_are_as_annotated() -> None:
    subprocess.run([sys.executable, "-c", CHECKED], check=True, cwd=ROOT)
