"""Models for LAMMPS: frozen models of DeePMD-kit from this package's networks."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from ..._files import atomic_write
from ...potentials import Potential, load_potential
from ...potentials.deepmd import write_deepmd
from ._process import environment_python

#: Of frozen models: DeePMD-kit knows them by it.
SUFFIX = ".pth"


def export_lammps_model(
    path: str | os.PathLike[str],
    model: Potential | str | os.PathLike[str],
    *,
    python: str | os.PathLike[str] | None = None,
) -> None:
    """Write a network as a frozen model for ``pair_style deepspin``.

    The conversion is that of DeePMD-kit in LAMMPS' environment (``dp
    convert-backend``); it takes some seconds.

    Parameters
    ----------
    path : path
        Ends in ``.pth``. Written whole or not at all.
    model : Potential, path or str
        A :class:`~deepspin_ase.potentials.DeepSpinNetwork` or a file of one.
    python : path, optional
        The Python of LAMMPS' environment; by default what
        ``DEEPSPIN_LAMMPS_PYTHON`` names.

    Raises
    ------
    ValueError
        If the model is no pseudo-atom network, the suffix is another, or there is
        no such environment.
    ImportError
        If the environment has no DeePMD-kit that can do it: says why.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} must end in {SUFFIX}, the suffix of frozen models")
    python = environment_python(python)
    potential = model if isinstance(model, Potential) else load_potential(model)
    with (
        tempfile.TemporaryDirectory(prefix="deepspin-") as folder,
        atomic_write(path) as temporary,
    ):
        neutral = Path(folder, "model.yaml")
        write_deepmd(neutral, potential)
        done = subprocess.run(
            [python, "-m", "deepmd", "convert-backend", neutral, temporary.resolve()],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        if done.returncode != 0 or not temporary.exists():
            raise ImportError(
                f"DeePMD-kit of {python} did not convert the model: "
                + "\n".join(done.stderr.splitlines()[-5:])
            )
