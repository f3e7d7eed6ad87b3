"""The README's code of an encoding runs as it stands, and every file that a page names is there.

`test_own_log.py` follows its commands.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.rotation.time import Time, TimeScale
from tests.readme import python_blocks
from tests.scripts import ROOT


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_files_that_are_named_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = "configs|experiments|notebooks|siren_rope_jax|tests"
    named = re.findall(rf"(?<![\w/])(?:{folders})/[\w/]+\.\w+", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(named) > 3 and len(linked) > 3
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [link for link in linked if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_an_encoding_in_a_model_of_ones_own() -> None:
    names: dict[str, Any] = {}
    for block in python_blocks("An encoding is a list of angle sources"):
        exec(block, names)

    module = names["Logits"](TimeScale.fit(1_600_000_000, 1_700_000_000))
    seconds = np.cumsum(np.full((2, 7), 40_000), axis=1) + 1_650_000_000
    x = jax.random.normal(jax.random.key(0), (2, 7, 64))
    position = jnp.tile(jnp.arange(7), (2, 1))

    def logits(position: Any, seconds: Any) -> Any:
        time = Time.from_seconds(seconds)
        variables = module.init(jax.random.key(1), x, position, time)
        return module.apply(variables, x, position, time)

    one, later, reordered = (
        logits(position, seconds),
        logits(position, seconds + 7 * 3600),
        logits(position[:, ::-1], seconds),
    )
    assert one.shape == (2, 4, 7, 7)
    assert not np.allclose(one, later, atol=0.1) and not np.allclose(one, reordered, atol=0.1)
