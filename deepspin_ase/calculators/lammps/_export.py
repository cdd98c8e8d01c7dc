"""Models for LAMMPS with DeePMD-kit's ``pair_style deepspin``."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from ..._files import atomic_write
from ...potentials import Potential, export_torchscript, load_potential
from ...potentials.deepmd import is_writable, write_deepmd
from ._process import environment_python

#: Of frozen models: DeePMD-kit knows them by it.
SUFFIX = ".pth"


def export_lammps_model(
    path: str | os.PathLike[str],
    model: Potential | str | os.PathLike[str],
    *,
    python: str | os.PathLike[str] | None = None,
) -> None:
    """Write a model for ``pair_style deepspin``.

    A :class:`~deepspin_ase.potentials.DeepSpinNetwork` becomes a frozen model of
    DeePMD-kit, by DeePMD-kit itself in LAMMPS' environment (``dp convert-backend``), in
    some seconds. Other networks and sums with terms become programs of their own that
    take the place of one (:func:`~deepspin_ase.potentials.export_torchscript`).

    Parameters
    ----------
    path : path
        Ends in ``.pth``. Written whole or not at all.
    model : Potential, path or str
        Or the name of a model.
    python : path, optional
        The Python of LAMMPS' environment; by default what
        ``DEEPSPIN_LAMMPS_PYTHON`` names. Pseudo-atom networks alone need it.

    Raises
    ------
    ValueError
        If the model has no form that LAMMPS takes, such as sums over all atoms, the
        suffix is another, or there is no such environment.
    ImportError
        If the environment has no DeePMD-kit that can do it: says why.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} must end in {SUFFIX}, the suffix of frozen models")
    potential = model if isinstance(model, Potential) else load_potential(model)
    if not is_writable(potential):
        export_torchscript(path, potential)
        return
    python = environment_python(python)
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
