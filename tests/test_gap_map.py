"""The picture of which encoding closes how much of the gap on which feed."""

import numpy as np
import pytest
from PIL import Image

from siren_rope_jax.studies.gap_map import draw_gap_map, shares_closed


def of_dataset(**shares):
    """What report.json holds of a data set with two tasks; None: the best is not known."""
    closed = {
        v: [None if s is None else {"seeds": [0], "mean": s + shift} for shift in (-0.1, 0.1)]
        for v, s in shares.items()
    }
    variants = {
        v: {"parts": {str(n): {"gap_closed": one} for n, one in enumerate(own)}}
        for v, own in closed.items()
    }
    return {"variants": variants}


def test_shares_are_means_over_tasks():
    shares = shares_closed(of_dataset(ordinal=0.0, siren_rope=0.6, none=None))
    assert shares == {"ordinal": pytest.approx(0), "siren_rope": pytest.approx(0.6)}


def test_the_picture_needs_two_feeds_that_know_their_best_prediction(tmp_path):
    known, other = of_dataset(ordinal=0.0, siren_rope=0.6), of_dataset(ordinal=0.0, to_rope=0.2)
    unknown = of_dataset(ordinal=None)
    path = tmp_path / "map.png"
    assert draw_gap_map(path, "Map", {"a": known, "b": unknown}) is None and not path.exists()
    assert draw_gap_map(path, "Map", {"clock": known, "sharp_clock": other}) == path
    with Image.open(path) as image:
        assert image.size[0] > image.size[1] > 100
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
