"""The pictures of one run, which two commands draw if they can."""

from importlib.util import find_spec
from pathlib import Path


def draw(workdir: Path, split: str = "test") -> None:
    """Draws the pictures of a split's result, or says what is missing for that."""
    if find_spec("matplotlib"):
        from siren_rope_jax.studies.plots import draw_run

        draw_run(workdir, split)
    else:
        print("no pictures without matplotlib; pip install 'siren-rope-jax[plots]'")
