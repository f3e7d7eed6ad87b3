"""The README's code of an encoding runs as it stands, and every file that a page names is there.

`test_own_log.py` follows its commands.
"""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import siren_rope_jax as sr
from siren_rope_jax.base.config import from_config_dict
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
    (block,) = python_blocks("In a model of your own")
    exec(block, names)

    module = names["TimeAwareTransformer"](sr.TimeScale.fit(1_600_000_000, 1_700_000_000))
    seconds = np.cumsum(np.full((2, 7), 40_000), axis=1) + 1_650_000_000
    x = jax.random.normal(jax.random.key(0), (2, 7, 64))
    position = np.arange(7)
    variables = module.init(jax.random.key(1), x, position, seconds)

    def attended(position: Any, seconds: Any) -> Any:
        return module.apply(variables, x, position, seconds)

    one, later, reordered = (
        attended(position, seconds),
        attended(position, seconds + 7 * 3600),
        attended(position[::-1], seconds),
    )
    assert one.shape == x.shape
    assert not np.allclose(one, later, atol=0.01) and not np.allclose(one, reordered, atol=0.01)
    model = nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(x, position, seconds)
    assert model(x, position, seconds).shape == one.shape


def test_encodings_as_written_are_the_named_ones() -> None:
    names: dict[str, Any] = {}
    (block,) = python_blocks("An encoding is a list of angle sources")
    exec(block, names)
    for written, name in (("siren_rope", "siren_rope"), ("split_by_dim", "to_rope_split_dim")):
        ours, theirs = (
            {key: from_config_dict(sr.AngleSource, source) for key, source in encoding.items()}
            for encoding in (names[written], sr.encoding(name))
        )
        assert ours == theirs


def test_the_diagram_of_the_rooms_is_the_import_contract() -> None:
    """An arrow goes from every room to those of the next level, and no other is drawn."""
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    levels = [level.split(" | ") for level in reversed(contract["layers"])]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    diagram = text.split("```mermaid\n")[1].split("```")[0]
    arrows = re.findall(r"^ *(\w+)(?:\[.*?\])? --> (\w+)", diagram, re.MULTILINE)
    allowed = {(a, b) for low, high in pairwise(levels) for a in low for b in high}
    assert sorted(arrows) == sorted(allowed)


def test_every_public_name_is_there() -> None:
    for name in dir(sr):
        assert getattr(sr, name) is not None
    stub = Path(sr.__file__).read_text().split("if TYPE_CHECKING:\n")[1].split("\n\n")[0]
    assert sorted(line.split(" as ")[1] for line in stub.splitlines()) == dir(sr)
    with pytest.raises(AttributeError, match="TimeRotray"):
        _ = sr.TimeRotray
