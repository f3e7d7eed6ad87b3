"""Every key of every config is described, and docs/config.md has them as they are."""

import dataclasses

import pytest

from siren_rope_jax.base.reference import as_markdown, keys_of
from siren_rope_jax.commands import keys
from siren_rope_jax.training.kinds import KINDS
from tests.scripts import ROOT


@pytest.mark.parametrize(
    "name", ["ranking", "retrieval", "prepare", "synthetic", "ablation", "sweep"]
)
def test_every_key_has_a_type_and_a_meaning(name: str) -> None:
    described = list(keys_of(keys._classes()[name][1]))
    assert len(described) > 15
    assert [key.name for key in described if not key.meaning or not key.type] == []


def test_the_page_is_that_of_the_classes() -> None:
    """If it is not: siren-rope keys > docs/config.md."""
    assert (ROOT / "docs/config.md").read_text(encoding="utf-8") == keys.page()


def test_what_is_said_of_a_key() -> None:
    found = {key.name: key for key in keys_of(KINDS["ranking"].config_class)}
    assert found["config.data.length"][1:3] == ("int", "64")
    assert "`blocked`" in found["config.model.attention"].type
    assert "token" in found["config.model.width"].meaning  # of the class that it extends
    assert found["config.model.encoding.NAME.ladder.base"].default == "10000.0"


def test_signs_of_a_table_are_escaped() -> None:
    @dataclasses.dataclass
    class Config:
        """A config.

        Attributes:
          key: this | that,
            on two lines.
        """

        key: str | None = None

    assert as_markdown(keys_of(Config)).splitlines()[-1] == (
        "| `config.key` | str or nothing | `None` | this \\| that, on two lines. |"
    )
