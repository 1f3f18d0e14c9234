"""Execute the notebooks of the documentation: ``make notebooks`` stores their outputs in them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs").glob("*.ipynb"))
TEMPORARY = re.compile(r"\S*/robustness-\w+")
"""The run directory of a run without one."""


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a fresh kernel, without what differs from one execution to the next."""
    notebook = nbformat.read(path, as_version=4)
    sockets = Config(KernelManager={"transport": "ipc"})  # other users of the machine cannot read along
    NotebookClient(notebook, record_timing=False, config=sockets).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
                data = output.get("data", {})
                data |= {kind: TEMPORARY.sub("…", text) for kind, text in data.items() if kind.startswith("text/")}
    return notebook


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(execute(path), path)
