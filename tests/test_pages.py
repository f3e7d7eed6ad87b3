"""The pages say what is so: their code runs, their commands parse, what they name is there."""

import ast
import gzip
import importlib
import re
import runpy
import sys
import tomllib
from configparser import ConfigParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import siren_rope_jax as sr
from siren_rope_jax.base import cli
from siren_rope_jax.base.config import from_config_dict, load_config_file
from siren_rope_jax.base.reference import keys_of
from siren_rope_jax.commands import keys, prepare
from siren_rope_jax.commands.main import _LISTS, COMMANDS
from tests.pages import PAGES, commands, python_blocks, text_of
from tests.scripts import ROOT
from tests.test_own_log import write_log

# ML Collections loads config files in a way that Python deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")

PACKAGE = Path(sr.__file__).parent
WITH_COMMANDS = [page for page in (*PAGES, "results/README.md") if commands(page)]


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "results/README.md"])
def test_files_that_are_named_are_there(page: str) -> None:
    text = text_of(page)
    folders = "configs|docs|experiments|results|siren_rope_jax|tests"
    named = re.findall(rf"(?<![\w/])(?:{folders})/[\w/]+\.\w+", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    here = [link for link in linked if "notebooks/" not in link]  # which tell stories of their own
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [link for link in here if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log, the prepared logs and the runs that the pages speak of.

    The code of docs/colab.md runs here: it trains the retriever that the other pages ask.
    """
    place = tmp_path_factory.mktemp("pages")
    write_log(place / "clicks.csv.gz")
    log = gzip.decompress((place / "clicks.csv.gz").read_bytes()).decode()
    log = log.replace("\nu1,", "\nann,").replace("\nu2,", "\nbob,")
    (place / "clicks.csv.gz").write_bytes(gzip.compress(log.encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for page in ("docs/own-log.md", "docs/next-items.md"):
            patch.setattr(sys, "argv", commands(page)[0])
            prepare.run()
        few = {"data.path": "runs/data/clicks", "training.epochs": 0.5, "model.layers": 1}
        config = sr.read_experiment(load_config_file("configs/table.py", few))
        sr.fit(config, "runs/clicks", sr.make_mesh(devices=jax.devices()[:1]))
        (code,) = python_blocks("docs/colab.md")
        exec(code, {})
        Path("runs/colab").rename("runs/next")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({p for p in PAGES if python_blocks(p)} - {"docs/colab.md"}))
def test_python_code_runs(workplace: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after the other, as a reader would run them."""
    monkeypatch.chdir(workplace)
    names: dict[str, Any] = {}
    for block in python_blocks(page):
        exec(block, names)
    if page == "README.md":
        assert names["attended"].shape == (1, 50, 4, 16)
    if page == "docs/next-items.md":
        assert names["monday_morning"]["user"].tolist() == ["ann"] * 10 + ["bob"] * 10
    if page == "docs/serving.md":
        scores, later = names["scores"], names["later"]
        assert len(scores) == 4 and not scores["like"].equals(later["like"])
        assert len(names["week"]) == 168 * 4


def flags_of(command: str) -> Any:
    """The flags of a command."""
    module = f"siren_rope_jax.commands.{command.replace('-', '_')}"
    return importlib.import_module(module)._FLAGS


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_have_their_flags_and_config_files(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, *arguments in commands(page):
        assert name in (*COMMANDS, *_LISTS, "COMMAND", "--help"), name
        if name in COMMANDS and arguments and "--help" not in arguments:
            numbered = [argument.replace("$SLURM_ARRAY_TASK_ID", "0") for argument in arguments]
            monkeypatch.setattr(sys, "argv", [name, *numbered])
            cli._parse(flags_of(name), sys.argv)


def test_extras_that_are_named_are_there() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for page in PAGES:
        for named in re.findall(r"(?:\.|siren-rope-jax)\[([\w,]+)\]'", text_of(page)):
            assert set(named.split(",")) <= set(setup["options.extras_require"]), (page, named)


def test_an_encoding_in_a_model_of_ones_own() -> None:
    names: dict[str, Any] = {}
    exec(python_blocks("docs/own-model.md")[0], names)

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
    (block,) = python_blocks("docs/own-model.md", "An encoding is a list of angle sources")
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
    diagram = text_of("docs/rooms.md").split("```mermaid\n")[1].split("```")[0]
    arrows = re.findall(r"^ *(\w+)(?:\[.*?\])? --> (\w+)", diagram, re.MULTILINE)
    allowed = {(a, b) for low, high in pairwise(levels) for a in low for b in high}
    assert sorted(arrows) == sorted(allowed)


def test_every_public_name_is_there_and_described() -> None:
    described = re.findall(r"^::: siren_rope_jax\.[\w.]+\.(\w+)$", text_of("docs/api.md"), re.M)
    for name in dir(sr):
        assert getattr(sr, name) is not None and name in described
    stub = Path(sr.__file__).read_text().split("if TYPE_CHECKING:\n")[1].split("\n\n")[0]
    assert sorted(line.split(" as ")[1] for line in stub.splitlines()) == dir(sr)
    with pytest.raises(AttributeError, match="TimeRotray"):
        _ = sr.TimeRotray


def config_keys() -> set[str]:
    """Every key of every config, without names of one's choice."""
    return {key.name for _, cls in keys._classes().values() for key in keys_of(cls)}


def parts(names: set[str]) -> set[str]:
    """What can be left of these dotted names if their beginning is taken away."""
    return {".".join(name.split(".")[n:]) for name in names for n in range(name.count(".") + 1)}


def errors_are_about() -> set[str]:
    """What errors are about, where the sources write it out, and the groups of all configs."""
    groups = {".".join(key.split("[")[0].split(".")[:2]) for _, cls in keys._classes().values()
              for key, *_ in keys_of(cls)}  # fmt: skip
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Name("UserError"), [ast.Constant(about), *_]):
                    found.add(about)
                case ast.Call(ast.Name("check"), [_, ast.Constant(key), *_]):
                    # A field of a config, which its group stands for, or an argument.
                    found |= {key} - parts(config_keys()) if "." not in key else set()
    return groups | found


def test_troubleshooting_says_something_of_everything_that_an_error_can_be_about() -> None:
    headings = re.findall(r"^### (.*)", text_of("docs/troubleshooting.md"), re.MULTILINE)
    explained = {name for heading in headings for name in re.findall(r"`([^`]+)`", heading)}
    assert len(errors_are_about()) > 80
    assert sorted(errors_are_about() - explained) == []
    flags = {f"--{flag}" for name in COMMANDS for flag in flags_of(name)}
    gone = explained - errors_are_about() - parts(config_keys()) - flags - {"config.json"}
    assert sorted(gone) == []


@pytest.mark.parametrize("url", ["", "https://host/owner/name"])
def test_the_long_description_has_no_link_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name in ("setup.py", "README.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "setup.cfg").write_text(f"[metadata]\nurl = {url}\n" if url else "[metadata]\n")
    given: dict[str, str] = {}
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(setup=given.update))
    runpy.run_path(str(tmp_path / "setup.py"))
    text = given["long_description"]
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link] == []
    picture = f"({url}/raw/HEAD/results/foursquare_nyc/attended_hours.png)"
    assert (picture in text) == bool(url) and ("](" + url in text)
