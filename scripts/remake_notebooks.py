"""Run the scripts of ``tutorials/`` and keep their results in the notebooks.

    python scripts/remake_notebooks.py            # all of them
    python scripts/remake_notebooks.py 03 04      # those whose names begin so

Needs ``pip install -e '.[docs,test]' nbclient ipykernel``, and for the first tutorial
the DFT frames that it names. They run in a copy of ``tutorials/``, where the files they
write are left behind.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
FRAMES = TUTORIALS.parents[1] / "shared" / "data" / "nio_dft"


def main() -> None:
    """Remake the notebooks that the arguments name."""
    chosen = tuple(sys.argv[1:]) or ("",)
    # Warnings hold paths of the machine that runs this.
    os.environ["PYTHONWARNINGS"] = "ignore"
    os.environ.setdefault("NIO_DATA", str(FRAMES))
    for script in sorted(TUTORIALS.glob("[0-9]*.py")):
        if not script.stem.startswith(chosen):
            continue
        notebook = jupytext.read(script)
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(TUTORIALS, Path(folder, "tutorials"))
            resources = {"metadata": {"path": copy}}
            NotebookClient(notebook, timeout=None, resources=resources).execute()
        jupytext.write(notebook, script.with_suffix(".ipynb"))
        print(script.stem)


if __name__ == "__main__":
    main()
