"""Executes notebooks and stores their outputs in them, without what differs from run to run.

    python notebooks/store_outputs.py notebooks/*.ipynb

Progress bars are left out, because they are of use only while something runs.
"""

import sys
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

_WIDGET = "application/vnd.jupyter.widget-view+json"
_METADATA = ("kernelspec", "language_info")


def store_outputs(path: str) -> None:
    """Executes one notebook in an empty folder and writes it back."""
    notebook = nbformat.read(path, as_version=4)
    metadata = {key: notebook.metadata[key].copy() for key in _METADATA}
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=900,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,  # many small messages to one stream are one output
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    notebook.metadata = metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in cell.outputs if _WIDGET not in output.get("data", {})
            ]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, flush=True)
        store_outputs(path)
