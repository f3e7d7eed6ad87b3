"""SIREN-RoPE: rotary encodings driven by time, for sequential models in JAX.

    import siren_rope_jax as sr

    rotation = sr.TimeRotary(sr.encoding("siren_rope"), heads=4, head_width=16)(position, time)
    q, k = rotation(q, k)
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"
"""Raised by every change that moves a number or the content of a file. What another version trained
can be used, but its training is not continued."""

if TYPE_CHECKING:
    from siren_rope_jax.base.errors import UserError
    from siren_rope_jax.data.log import PreparedLog
    from siren_rope_jax.evaluation.evaluate import evaluate_run
    from siren_rope_jax.inference.recommend import recommend
    from siren_rope_jax.rotation.rotary import TimeRotary
    from siren_rope_jax.rotation.sources import AngleMap, AngleSource
    from siren_rope_jax.rotation.time import Time, TimeScale
    from siren_rope_jax.rotation.variants import ENCODINGS, encoding
    from siren_rope_jax.training.kinds import read_experiment
    from siren_rope_jax.training.loop import fit
    from siren_rope_jax.training.mesh import make_mesh
    from siren_rope_jax.training.setup import setup
    from siren_rope_jax.training.trained import TrainedRun

_PUBLIC = {
    "AngleMap": "rotation.sources",
    "AngleSource": "rotation.sources",
    "ENCODINGS": "rotation.variants",
    "PreparedLog": "data.log",
    "Time": "rotation.time",
    "TimeRotary": "rotation.rotary",
    "TimeScale": "rotation.time",
    "TrainedRun": "training.trained",
    "UserError": "base.errors",
    "encoding": "rotation.variants",
    "evaluate_run": "evaluation.evaluate",
    "fit": "training.loop",
    "make_mesh": "training.mesh",
    "read_experiment": "training.kinds",
    "recommend": "inference.recommend",
    "setup": "training.setup",
}
"""Where each public name lives. Imported when first used, so that a rotation needs no data room."""

__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
