"""Optional dependencies: the extras of setup.cfg."""

from collections.abc import Iterator
from contextlib import contextmanager

from siren_rope_jax.base.errors import UserError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wraps imports that need an extra of this package.

    Raises:
      UserError: about the missing module; it names the extra that brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "siren_rope_jax"):
            raise
        raise UserError(module, f"not installed; pip install 'siren-rope-jax[{extra}]'") from error
