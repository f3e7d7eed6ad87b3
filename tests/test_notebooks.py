"""The notebooks: what is stored in them, and the cell that installs the package on Colab."""

import base64
import importlib.util
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from tests.scripts import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def test_outputs_are_stored_whole_and_small(notebook: Any) -> None:
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert len(nbformat.writes(notebook)) < 400_000
    assert not any(output.output_type == "error" for output in outputs)
    pictures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert pictures and all(len(base64.b64decode(picture)) < 60 * 1024 for picture in pictures)
    assert not any(WIDGET in output.get("data", {}) for output in outputs)


def test_outputs_name_no_folder_of_the_machine_that_made_them(notebook: Any) -> None:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            texts = [output.get("text", ""), *(data[key] for key in data if key != "image/png")]
            assert not re.search(r"/(tmp|home|root|work|usr|Users)/", str(texts))


def test_a_sentence_follows_every_picture(notebook: Any) -> None:
    for cell, next_cell in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert next_cell is not None and next_cell.cell_type == "markdown"
            assert next_cell.source.strip()[0] != "#" and next_cell.source.strip()[-1] == "."


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    """What a notebook's cells run in, where the package seems to be missing."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "siren_rope_jax" else found(name)
    )
    return InteractiveShell()


def install_cell() -> str:
    (cell,) = {code_cells(nbformat.read(path, as_version=4))[0].source for path in NOTEBOOKS}
    return str(cell)


def test_all_notebooks_install_alike_and_tell_pip_to_leave_jax_alone(
    shell: InteractiveShell,
) -> None:
    told: list[str] = []

    def pip(line: str) -> None:
        constraints, source = re.fullmatch(r'install .* (\S+) "(.+)"', line).groups()
        told.extend([Path(constraints).read_text(), source])

    shell.register_magic_function(pip, magic_name="pip")
    shell.run_cell(install_cell()).raise_error()
    fixed = told[0].splitlines()
    assert {f"{name}=={version(name)}" for name in ("jax", "jaxlib", "numpy")} <= set(fixed)
    assert told[1] == "siren-rope-jax[plots,prepare]"


def test_an_installation_that_changes_jax_is_noticed(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jax.py").write_text("__version__, devices = '9.9.9', list")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # restored after the test

    def pip(line: str) -> None:
        os.environ["PYTHONPATH"] = str(tmp_path)

    shell.register_magic_function(pip, magic_name="pip")
    result = shell.run_cell(install_cell())
    assert isinstance(result.error_in_exec, AssertionError)
    assert version("jax") in str(result.error_in_exec) and "9.9.9" in str(result.error_in_exec)


TRAINING = """
import siren_rope_jax as sr
from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate

generate(SyntheticConfig(num_users=100, events_per_user=20, num_items=30), "feed")
small = {"data.path": "feed", "data.batch_size": 8, "model.width": 16, "model.layers": 1}
small |= {"training.epochs": 2.0, "training.log_every": 5}
sr.fit(sr.read_experiment(load_config_file("configs/synthetic.py", small, "ordinal")), "run")
"""


@pytest.mark.slow
def test_a_training_in_a_notebook_shows_one_bar_and_a_line_for_each_validation(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ipywidgets")
    cell = nbformat.v4.new_code_cell(TRAINING)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = notebook.cells[0].outputs
    assert sum(WIDGET in output.get("data", {}) for output in outputs) == 1
    assert not any(output.get("name") == "stderr" for output in outputs)
    lines = "".join(output.get("text", "") for output in outputs).splitlines()
    assert len(lines) == 2 and all("validation" in line for line in lines)
    bars = client.widget_state.values()
    assert any("mean loss" in str(state.get("value")).replace("\u2007", " ") for state in bars)
