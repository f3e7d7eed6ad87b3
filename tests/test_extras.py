"""The core needs no extra, what needs one says which, and the floors are those of setup.cfg."""

import re
import subprocess
import sys
from configparser import ConfigParser

import pytest

from siren_rope_jax.base import cli
from siren_rope_jax.base.extras import needs
from tests.refusals import refused
from tests.scripts import ROOT

_IMPORT_CORE = """
import pkgutil, sys

extras = "PIL duckdb flatbuffers ibis matplotlib pooch requests sqlglot tensorboardX wandb".split()
sys.modules.update(dict.fromkeys(extras))  # as if they were not installed
import siren_rope_jax

for module in pkgutil.walk_packages(siren_rope_jax.__path__, "siren_rope_jax."):
    # Each command says itself which extra it needs.
    if module.name.split(".")[1] not in ("commands", "prepare", "studies"):
        __import__(module.name)
"""


def test_all_rooms_but_three_work_without_extras():
    subprocess.run([sys.executable, "-c", _IMPORT_CORE], cwd=ROOT, check=True)


def test_a_missing_extra_is_refused_with_the_remedy_but_a_missing_module_of_ours_is_a_bug():
    with refused("absent", "pip install 'siren-rope-jax[plots]'"), needs("plots"):
        import absent.module  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs("plots"):
        import siren_rope_jax.absent  # noqa: F401


def test_a_script_without_its_extra_says_one_line_and_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as ended, cli.needs("plots"):
        import absent  # noqa: F401
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: absent: ") and line.count("\n") == 1


def test_the_floors_are_the_oldest_versions_that_the_package_allows():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    allowed = dict(re.findall(r"^([\w-]+).*?>=([\d.]+)", "\n".join(groups), re.MULTILINE))
    floors = (ROOT / "constraints/floors.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", floors, re.MULTILINE))
    assert allowed == {name: pinned.get(name) for name in allowed}
