"""Executes the notebooks in place and stores their outputs, without what differs from run to run.

    python tests/recipes/notebooks.py
    python tests/recipes/notebooks.py 1_first_steps 6_reproducible_blocks

Run this after a change of a notebook, or of qrjax where it changes what a notebook shows; then read the notebook once
more, as its prose speaks of its outputs. All seven take a few minutes on two CPU cores. tests/test_notebooks.py executes
them by the same function and compares the cells tagged "same".
"""

import argparse
import os
import pathlib
import tempfile
import time

# On a new machine the first import of this says on stderr that it builds a cache; better here than in a notebook.
import matplotlib.font_manager  # noqa: F401
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parents[2] / "notebooks"
# For one cell, in seconds.
PATIENCE = 180


def names():
    """All notebooks, without .ipynb."""
    return [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]


def read(name):
    """A notebook as it is committed."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(notebook):
    """The notebook with the outputs of a run by this interpreter, cleaned; raises where a cell does."""
    notebook = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as folder:
        kernel = AsyncKernelManager(
            # No folders to look in: only ipykernel's own specification is left, whose interpreter is this one.
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            # Files in the place of ports, which another process might take first.
            transport="ipc", connection_file=f"{folder}/kernel.json",
        )  # fmt: skip
        # Neither somebody's profile of IPython nor a GPU is to show in the outputs.
        alone = {"IPYTHONDIR": folder, "JAX_PLATFORMS": "cpu"}
        client = NotebookClient(notebook, km=kernel, timeout=PATIENCE, record_timing=False)
        client.execute(cleanup_kc=True, cwd=folder, env=os.environ | alone)
    return cleaned(notebook)


def cleaned(notebook):
    """The notebook with nothing in it that depends on when or where it was run."""
    specification = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": specification, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    nbformat.validate(notebook)
    return notebook


def joined(outputs):
    """One stream in the place of several that follow each other: where they are cut is a matter of time."""
    result = []
    for output in outputs:
        last = result[-1] if result else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
        else:
            result.append(output)
    return result


def main(arguments=None):
    """Executes and writes; a notebook that fails stays as it is."""
    parser = argparse.ArgumentParser(description="Executes the notebooks in place.")
    parser.add_argument("names", nargs="*", metavar="name", help="without .ipynb; by default all")
    chosen = parser.parse_args(arguments).names or names()
    unknown = [name for name in chosen if name not in names()]
    if unknown:
        parser.error(f"no notebook {unknown[0]!r}; there are {', '.join(names())}")
    for name in chosen:
        start = time.perf_counter()
        notebook = executed(read(name))
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
