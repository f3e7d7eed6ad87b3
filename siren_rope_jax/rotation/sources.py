"""What an encoding is made of: angle sources, as an experiment's config describes them.

A source takes one signal (index, time, category) through one map, which is one of the classes
before `Gate`, weighs it with a gate, and acts on some planes of some heads. `angles.py` computes
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.times import DAY
from siren_rope_jax.rotation.time import TimeFeature


@dataclass(frozen=True)
class Ladder:
    """The geometric ladder of fixed frequencies theta_j, over the planes the source acts on.

    Attributes:
      signal: `index` is RoPE; `time` is TO-RoPE's tau = T / unit; `local_time` the same of the
        event's local clock, for ladders whose periods are the clock's own, such as a day.
      unit: seconds per step of a time.
      base: the ladder's base; one for all variants of an experiment, or the base is a confound.
    """

    signal: Literal["index", "time", "local_time"] = "index"
    unit: float = float(DAY)
    base: float = 10_000.0

    def __post_init__(self) -> None:
        _check_positive("ladder", unit=self.unit, base=self.base)


@dataclass(frozen=True)
class Linear:
    """Learned frequencies w_j of the time in units of `unit` seconds: shift-invariant.

    They start as the ladder with `base`.
    """

    unit: float = float(DAY)
    base: float = 10_000.0

    def __post_init__(self) -> None:
        _check_positive("linear", unit=self.unit, base=self.base)


@dataclass(frozen=True)
class Network:
    """f_phi of the time features, and if wanted of a category and the order of the event.

    Where it has time features, all of it is zero for an event without a time.

    Attributes:
      branches: which networks are summed: SIREN, DNN, or both (E4).
      features: the groups of time features (E5).
      category: name of a categorical feature whose learned embedding joins the input.
      order: adds (C - 1 - p) / C to the input, C the length of a row: the demo's reverse order,
        which is 0 at the newest event of a full row only.
      width: units of every hidden layer.
      siren_layers, dnn_layers: hidden layers of either branch.
      omega_0: factor inside the sines.
      angles: number of distinct angles, each repeated in consecutive planes; None: one per plane.
    """

    branches: tuple[Literal["siren", "dnn"], ...] = ("siren", "dnn")
    features: tuple[TimeFeature, ...] = ("day", "week", "long_range")
    category: str | None = None
    order: bool = False
    width: int = 64
    siren_layers: int = 2
    dnn_layers: int = 2
    omega_0: float = 10.0
    angles: int | None = None

    def __post_init__(self) -> None:
        given = {"angles": self.angles} if self.angles is not None else {}
        _check_positive("network", width=self.width, omega_0=self.omega_0, **given)
        for name in ("siren_layers", "dnn_layers"):
            check(getattr(self, name) >= 1, f"model.encoding.*.network.{name}", "at least 1")


@dataclass(frozen=True)
class Periodic:
    """Time2Vec as f_phi, of the time in units of `unit` seconds."""

    unit: float = float(DAY)

    def __post_init__(self) -> None:
        _check_positive("time2vec", unit=self.unit)


@dataclass(frozen=True)
class Embedding:
    """A learned angle per plane for every value of the categorical feature `category`."""

    category: str


@dataclass(frozen=True)
class Gate:
    """The learned factor of a source: omega (per plane) or lambda (one scalar) of (E2).

    Attributes:
      init: its value before training.
      per_plane, per_layer, per_head: whether each has its own; the last attention of late fusion
        counts as a layer.
    """

    init: float = 1.0
    per_plane: bool = False
    per_layer: bool = False
    per_head: bool = False


@dataclass(frozen=True)
class AngleSource:
    """One term of the sum: exactly one map, its gate, and where it acts.

    Attributes:
      ladder, linear, network, time2vec, embedding: the map; exactly one is given.
      gate: None: the map's angles as they are.
      planes, heads: the range the source acts on, as fractions of all; split-by-dim and
        split-by-head of TO-RoPE are two sources on complementary ranges.
    """

    ladder: Ladder | None = None
    linear: Linear | None = None
    network: Network | None = None
    time2vec: Periodic | None = None
    embedding: Embedding | None = None
    gate: Gate | None = None
    planes: tuple[float, ...] = (0.0, 1.0)
    heads: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for axis in ("planes", "heads"):
            ends = getattr(self, axis)
            in_order = len(ends) == 2 and 0 <= ends[0] < ends[1] <= 1
            check(in_order, f"model.encoding.*.{axis}", "two ends in 0..1, the lower one first")

    @property
    def map(self) -> Ladder | Linear | Network | Periodic | Embedding:
        """The one map that is given."""
        maps = [self.ladder, self.linear, self.network, self.time2vec, self.embedding]
        given = [m for m in maps if m is not None]
        if len(given) != 1:
            raise UserError(
                "an angle source needs exactly one of ladder, linear, network, time2vec, "
                f"embedding; got {len(given)}"
            )
        return given[0]

    @property
    def uses_time(self) -> bool:
        """Whether its angles depend on the events' times."""
        match self.map:
            case Ladder(signal=signal):
                return signal != "index"
            case Network(features=features):
                return bool(features)
            case Embedding():
                return False
            case _:
                return True

    def extent(self, count: int, axis: Literal["planes", "heads"]) -> tuple[int, int]:
        """The half-open range of planes or heads it acts on, of `count`."""
        low, high = getattr(self, axis)
        start, stop = round(low * count), round(high * count)
        if not 0 <= start < stop <= count:
            raise UserError(f"angle source: {axis} ({low}, {high}) selects none of {count}")
        return start, stop


def _check_positive(of: str, **values: int | float) -> None:
    for name, value in values.items():
        check(value > 0, f"model.encoding.*.{of}.{name}", "above 0")


def check_encoding(sources: Mapping[str, AngleSource], width: int, heads: int) -> None:
    """Refuses an encoding that cannot turn the heads of a model of this width.

    Raises:
      UserError: naming the keys of the model's config.
    """
    if width % heads or width // heads % 2:
        raise UserError(
            f"model.width {width} over model.heads {heads}: the head width must be a whole, even "
            "number, because rotation turns pairs of components"
        )
    for name, source in sources.items():
        _ = source.map, source.extent(width // heads // 2, "planes")
        source.extent(heads, "heads")
        if name.endswith(("_final", "_gate")):
            raise UserError(f"model.encoding.{name}: the endings _final and _gate are taken")
