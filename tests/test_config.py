"""The boundary between config files and dataclasses."""

from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from ml_collections import ConfigDict

from siren_rope_jax.base.config import (
    complete,
    from_config_dict,
    load_config_file,
    one_of,
    to_dict,
)
from siren_rope_jax.base.errors import check, suggestion
from siren_rope_jax.prepare.make import read_config
from siren_rope_jax.studies.ablation import Ablation, plan
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from tests.refusals import refused
from tests.scripts import ROOT


@dataclass(frozen=True)
class Inner:
    size: int = 3
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        check(self.size >= 0, "size", "0 or more")


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    inner: Inner = field(default_factory=Inner)
    many: dict[str, Inner] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    maybe: Inner | None = None
    limit: float | None = None
    kinds: tuple[Literal["a", "b"], ...] = ()


def test_nested_configs_become_dataclasses() -> None:
    config = ConfigDict(
        {
            "name": "x",
            "rate": 1,
            "inner": {"size": 4},
            "many": {"one": {"kind": "b"}},
            "sizes": (1, 2),
        }
    )
    expected = Outer("x", 1.0, Inner(4), {"one": Inner(3, "b")}, (1, 2))
    assert from_config_dict(Outer, config) == expected
    assert from_config_dict(Outer, to_dict(expected)) == expected


def test_complete_shows_every_key() -> None:
    config = complete(Outer, {"name": "x", "maybe": {}})
    config.inner.size = 7
    config.maybe.kind = "b"
    wanted = Outer("x", inner=Inner(7), maybe=Inner(kind="b"))
    assert from_config_dict(Outer, config) == wanted
    config.limit = 0.5  # None until now, and no group
    assert from_config_dict(Outer, config).limit == 0.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "config.name"),
        ({"name": "x", "raet": 1.0}, "config.raet: rate"),
        ({"name": "x", "many": {"one": {"siez": 1}}}, "config.many.one.siez: size"),
        ({"name": "x", "inner": {"kind": "c"}}, "config.inner.kind: c"),
        ({"name": "x", "rate": "fast"}, "config.rate: fast"),
        ({"name": "x", "inner": {"size": True}}, "config.inner.size: True"),
        ({"name": "x", "inner": {"size": -1}}, "config.inner.size"),
        ({"name": "x", "many": {"one": {"size": -1}}}, "config.many.one.size"),
        ({"name": "x", "sizes": "12"}, "config.sizes: 12"),
        ({"name": "x", "sizes": (1, "2")}, "config.sizes[1]: 2"),
        ({"name": "x", "inner": 3}, "config.inner: 3"),
        ({"name": "x", "kinds": ("a", "b", "a")}, "config.kinds: ('a', 'b', 'a')"),
    ],
)
def test_what_is_refused(config: dict, message: str) -> None:
    about, _, named = message.partition(": ")
    with refused(about, named):
        from_config_dict(Outer, config)


@dataclass(frozen=True)
class Circle:
    radius: float = 1.0

    def __post_init__(self) -> None:
        check(self.radius > 0, "radius", "above 0")


@dataclass(frozen=True)
class Square:
    side: float


@dataclass(frozen=True)
class Drawing:
    name: str
    shape: Circle | Square = field(metadata=one_of(circle=Circle, square=Square))


def test_a_field_may_be_one_of_several_classes_chosen_by_their_key() -> None:
    for values, shape in (({"square": {"side": 2}}, Square(2.0)), ({"circle": {}}, Circle())):
        config = {"name": "x", **values}
        drawing = from_config_dict(Drawing, config)
        assert drawing == Drawing("x", shape)
        assert from_config_dict(Drawing, to_dict(drawing)) == drawing
        assert from_config_dict(Drawing, complete(Drawing, config)) == drawing
    assert complete(Drawing, {"name": "x", "circle": {}}).circle.radius == 1.0
    for wrong, about in (
        ({}, "config"),
        ({"circle": {}, "square": {"side": 1}}, "config"),
        ({"shape": {}}, "config.shape"),
        ({"circle": {"radius": 0}}, "config.circle.radius"),
        ({"square": {}}, "config.square.side"),
    ):
        with refused(about):
            from_config_dict(Drawing, {"name": "x", **wrong})


def test_a_suggestion_is_the_nearest_name_or_a_short_list() -> None:
    assert suggestion("tset", ["train", "test"]) == "; did you mean 'test'?"
    assert suggestion("x", ["train", "test"]) == "; known: test, train"
    assert suggestion("x", []) == ""
    assert suggestion(1234567, [1234568, 42]) == "; did you mean '1234568'?"
    assert suggestion(None, range(3)) == "; known: 0, 1, 2"
    few, many = ([f"item_{i:03d}" for i in range(n)] for n in (20, 200))
    assert suggestion("x", few) == f"; known: {', '.join(few)}"
    assert suggestion("x", many) == f"; known: {', '.join(few)}, ... and 180 more"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_every_experiment_of_the_repository_is_read(path) -> None:
    assert read_experiment(load_config_file(path, {})).data.path.startswith("runs/data/")
    assert f"--config=configs/{path.name}" in path.read_text()


ABLATIONS = [
    (path, form)
    for path in sorted((ROOT / "configs" / "ablation").glob("*.py"))
    for form in {
        "foursquare_nyc": ("repeat", "plain", "plain_summer"),
        "categories": ("movielens_next", "globo", "synthetic"),
        "encodings": (
            *("foursquare_nyc", "foursquare_nyc_without_repeat", "globo_next", "synthetic"),
            *("movielens_next", "yelp", "amazon_beauty"),
        ),
        "retrieval": ("", "yelp", "globo_next", "amazon_beauty", "movielens_next"),
    }.get(path.stem, ("",))
]


@pytest.mark.parametrize(("path", "form"), ABLATIONS, ids=lambda x: getattr(x, "stem", x))
def test_every_ablation_of_the_repository_can_be_planned(path, form, tmp_path) -> None:
    ablation = from_config_dict(Ablation, load_config_file(path, {}, form))
    runs = plan(ablation, tmp_path)
    assert len(runs) == len(ablation.variants) * len(ablation.datasets) * len(ablation.seeds)
    assert f"configs/ablation/{path.name}" in path.read_text()
    for dataset in ablation.datasets:
        if dataset.config:
            read_config(dataset.data_config(), dataset.input or None, dataset.items or None)


@pytest.mark.parametrize("name", ["table", "next_item"])
def test_an_ablation_of_ones_own_log_takes_its_directory(name, tmp_path) -> None:
    path = ROOT / "configs" / "ablation" / f"{name}.py"
    ablation = from_config_dict(Ablation, load_config_file(path, {}, "runs/data/clicks"))
    runs = plan(ablation, tmp_path)
    assert {run.log.path for run in runs} == {"runs/data/clicks"}
    assert {run.config.data.path for run in runs} == {"runs/data/clicks"}
    assert {run.dataset for run in runs} == {"clicks"}
    assert {run.variant for run in runs} >= {"ordinal", "to_rope", "siren_rope"}


def test_hstus_recipe_has_positions_where_nothing_takes_the_place_of_its_biases() -> None:
    for name, positions in (
        ("hstu_bias_only", True), ("siren_rope", False), ("siren_rope_event", False),
        ("learned_positions", True),
    ):  # fmt: skip
        config = read_experiment(load_config_file(ROOT / "configs" / "hstu.py", {}, name))
        assert isinstance(config, RetrievalExperiment)
        assert config.model.learned_positions == positions, name
        assert config.model.query_time == ("event" if name.endswith("_event") else "request")


def test_the_ablation_of_losses_has_hstus_recipe() -> None:
    recipe = read_experiment(load_config_file(ROOT / "configs" / "hstu.py", {}))
    path = ROOT / "configs" / "ablation" / "losses.py"
    losses = from_config_dict(Ablation, load_config_file(path, {}))
    (hstu,) = (variant for variant in losses.variants if variant.name == "hstu")
    path = ROOT / losses.datasets[0].base
    theirs = read_experiment(load_config_file(path, hstu.overrides, hstu.argument))
    assert isinstance(recipe, RetrievalExperiment) and isinstance(theirs, RetrievalExperiment)
    sizes = {key: getattr(theirs.model, key) for key in ("width", "heads", "layers", "dropout")}
    assert replace(recipe.model, **sizes) == theirs.model
    assert recipe.loss == theirs.loss


@pytest.mark.parametrize(
    ("overrides", "about"),
    [
        ({"loss.kind": "bce"}, "config.loss.kind"),
        ({"loss.label_smoothing": 0.1}, "config.loss.kind"),
        ({"filter_seen": True}, "config.model.repeat"),
    ],
)
def test_what_a_model_that_repeats_cannot_be_combined_with(overrides: dict, about: str) -> None:
    config = load_config_file(str(ROOT / "configs/next_item.py"), overrides, "ordinal")
    with refused(about):
        read_experiment(config)


def test_a_loss_that_learns_no_probabilities_cannot_be_judged_by_them() -> None:
    path, plain = str(ROOT / "configs/next_item.py"), {"model.repeat": False}
    for loss in ({"loss.kind": "gbce"}, {"loss.kind": "sampled_softmax", "loss.log_q": False}):
        overrides = {**plain, **loss}
        with refused("config.criterion", "ndcg@10"):
            read_experiment(load_config_file(path, overrides, "ordinal"))
        read_experiment(load_config_file(path, {**overrides, "criterion": "mrr"}, "ordinal"))


def test_a_model_that_repeats_may_learn_from_samples() -> None:
    overrides = {"loss.kind": "sampled_softmax", "loss.sampler": "in_batch"}
    config = load_config_file(str(ROOT / "configs/next_item.py"), overrides, "ordinal")
    experiment = read_experiment(config)
    assert isinstance(experiment, RetrievalExperiment) and experiment.model.repeat
