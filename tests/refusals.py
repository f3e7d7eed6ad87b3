"""What a refusal must be about; its prose is free to improve."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from siren_rope_jax.base.errors import UserError


@contextmanager
def refused(about: str | Path, *named: object) -> Iterator[None]:
    """The block must raise a `UserError` about this key, flag, argument, column or file.

    Args:
      about: exactly what the error must be about.
      named: names and values that the user needs to see in the message, such as the nearest known
        key; never its phrasing.
    """
    with pytest.raises(UserError) as caught:
        yield
    assert caught.value.about == str(about), caught.value
    assert "\n" not in str(caught.value)
    for word in named:
        assert str(word) in caught.value.problem, caught.value
