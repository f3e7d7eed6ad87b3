"""SIREN-RoPE: rotary encodings driven by time, for sequential models in JAX.

import siren_rope_jax as sr

rotary = sr.TimeRotary("siren_rope", heads=4, head_width=16)  # a Flax module
variables = rotary.init(jax.random.key(1), position, time)
q, k = rotary.apply(variables, position, time)(q, k)
"""

import importlib
from typing import TYPE_CHECKING, Any

from siren_rope_jax.base.version import __version__ as __version__

if TYPE_CHECKING:
    from siren_rope_jax.base.errors import UserError as UserError
    from siren_rope_jax.base.times import NO_TIME as NO_TIME
    from siren_rope_jax.data.log import PreparedLog as PreparedLog
    from siren_rope_jax.evaluation.calibrate import calibrate as calibrate
    from siren_rope_jax.evaluation.evaluate import evaluate_run as evaluate_run
    from siren_rope_jax.inference.encoded import Encoded as Encoded
    from siren_rope_jax.inference.encoded import encode as encode
    from siren_rope_jax.inference.export import export as export
    from siren_rope_jax.inference.files import read_table as read_table
    from siren_rope_jax.inference.files import write_table as write_table
    from siren_rope_jax.inference.recommend import recommend as recommend
    from siren_rope_jax.rotation.maps import AngleMap as AngleMap
    from siren_rope_jax.rotation.rotary import TimeRotary as TimeRotary
    from siren_rope_jax.rotation.rotate import QueryKeyRotation as QueryKeyRotation
    from siren_rope_jax.rotation.sources import AngleSource as AngleSource
    from siren_rope_jax.rotation.sources import Gate as Gate
    from siren_rope_jax.rotation.time import Time as Time
    from siren_rope_jax.rotation.time import TimeScale as TimeScale
    from siren_rope_jax.rotation.variants import ENCODINGS as ENCODINGS
    from siren_rope_jax.rotation.variants import encoding as encoding
    from siren_rope_jax.training.kinds import read_experiment as read_experiment
    from siren_rope_jax.training.loop import fit as fit
    from siren_rope_jax.training.mesh import make_mesh as make_mesh
    from siren_rope_jax.training.setup import setup as setup
    from siren_rope_jax.training.trained import TrainedRun as TrainedRun

_PUBLIC = {
    "base.errors": ("UserError",),
    "base.times": ("NO_TIME",),
    "data.log": ("PreparedLog",),
    "evaluation.calibrate": ("calibrate",),
    "evaluation.evaluate": ("evaluate_run",),
    "inference.encoded": ("Encoded", "encode"),
    "inference.export": ("export",),
    "inference.files": ("read_table", "write_table"),
    "inference.recommend": ("recommend",),
    "rotation.rotary": ("TimeRotary",),
    "rotation.rotate": ("QueryKeyRotation",),
    "rotation.maps": ("AngleMap",),
    "rotation.sources": ("AngleSource", "Gate"),
    "rotation.time": ("Time", "TimeScale"),
    "rotation.variants": ("ENCODINGS", "encoding"),
    "training.kinds": ("read_experiment",),
    "training.loop": ("fit",),
    "training.mesh": ("make_mesh",),
    "training.setup": ("setup",),
    "training.trained": ("TrainedRun",),
}
"""Imported when first used, so that whoever wants a rotation does not wait for a trainer."""


if not TYPE_CHECKING:  # which would take any name for an attribute

    def __getattr__(name: str) -> Any:
        for module, names in _PUBLIC.items():
            if name in names:
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for names in _PUBLIC.values() for name in names)
