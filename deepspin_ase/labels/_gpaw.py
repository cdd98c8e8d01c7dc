"""Labels by GPAW: non-collinear LDA and LDA+U with constrained moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from .._config import Configuration
from .._extras import require
from ..data import Frame
from ..spins import get_spins
from ._engine import ENGINES, Engine, LabelError
from ._external import Count, Positive, mesh_of

#: Labels were compared with differences of energies.
CHECKED_VERSION = "26.7"


class GPAWEngine(Configuration, Engine):
    """Non-collinear plane-wave calculations by GPAW, embedded (extra ``gpaw``).

    Atoms with a moment are held at it by a quadratic penalty
    (:class:`~deepspin_ase.labels._gpaw_constraint.MomentConstraint`); the others are
    free. Labels are energy (free energy), forces and magnetic forces, at the moments
    that were reached. No stress: with plane waves of a fixed cut-off it differs from
    the derivative of the energy.

    Attributes
    ----------
    cutoff : float
        Of the plane waves, eV.
    kpts : (int, int, int), optional
        Mesh, with the Gamma point.
    kpt_spacing : float
        Largest distance of k-points instead, 2 pi/A.
    xc : {"LDA"}
        GPAW's non-collinear functional.
    hubbard : dict
        U in eV on the d electrons by element.
    width : float
        Of the Fermi-Dirac distribution, eV.
    penalty : float
        Of the constraint, eV/mu_B^2.
    moment_tolerance : float
        A moment may differ from what was asked for by so much, mu_B. Labels belong to
        the moment that was reached.
    density, eigenstates : float
        Convergence criteria of GPAW, per valence electron.
    max_iterations : int
    """

    cutoff: Positive = 350.0
    kpts: tuple[Count, Count, Count] | None = None
    kpt_spacing: Positive = 0.12
    xc: Literal["LDA"] = "LDA"
    hubbard: dict[str, float] = Field(default_factory=dict)
    width: Positive = 0.1
    penalty: Positive = 2.0
    moment_tolerance: Positive = 0.2
    density: Positive = 1e-5
    eigenstates: Positive = 1e-7
    max_iterations: Count = 333

    def label(self, atoms: Atoms, folder: Path) -> Frame:
        """Return energy, forces and magnetic forces; see :meth:`Engine.label`.

        GPAW's log is ``gpaw.txt`` in the folder.
        """
        gpaw = require("gpaw", "labels by GPAW")
        require_checked_version(gpaw.__version__)
        interface = require("gpaw.new.ase_interface", "labels by GPAW")
        from ._gpaw_constraint import MomentConstraint

        targets = get_spins(atoms)
        held = np.flatnonzero(np.linalg.norm(targets, axis=1) > 0.0).tolist()
        constraint = MomentConstraint({a: targets[a] for a in held}, self.penalty)
        atoms = atoms.copy()
        atoms.calc = interface.GPAW(
            mode={"name": "pw", "ecut": self.cutoff},
            xc=self.xc,
            kpts={"size": self.mesh(atoms), "gamma": True},
            symmetry="off",
            magmoms=targets,
            setups={x: f":d,{u}" for x, u in self.hubbard.items()},
            occupations={"name": "fermi-dirac", "width": self.width},
            convergence={"density": self.density, "eigenstates": self.eigenstates},
            maxiter=self.max_iterations,
            extensions=[constraint],
            txt=str(folder / "gpaw.txt"),
        )
        try:
            energy = atoms.get_potential_energy(force_consistent=True)
            forces = atoms.get_forces()
        except gpaw.KohnShamConvergenceError as error:
            raise LabelError(f"GPAW did not converge: {error}") from error
        moments, fields = np.zeros_like(targets), np.zeros_like(targets)
        for a in held:
            moments[a], fields[a] = constraint.moments[a], constraint.fields[a]
        missed = np.linalg.norm(moments - targets, axis=1)
        if missed.max(initial=0.0) > self.moment_tolerance:
            worst = int(missed.argmax())
            raise LabelError(
                f"the moment of atom {worst} is {missed[worst]:.2f} mu_B off what was "
                f"asked for, more than moment_tolerance ({self.moment_tolerance}); ask "
                "for another moment, or raise the penalty"
            )
        return Frame(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            spins=moments,
            energy=energy,
            forces=forces,
            magnetic_forces=fields,
        )

    def mesh(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return the numbers of k-points for a cell."""
        return mesh_of(atoms, self.kpts, self.kpt_spacing)

    def provenance(self) -> dict[str, Any]:
        """Return code, version and all settings; see :meth:`Engine.provenance`."""
        gpaw = require("gpaw", "labels by GPAW")
        return {
            "code": "GPAW",
            "version": gpaw.__version__,
            "functional": self.xc + ("+U" if self.hubbard else ""),
            "pseudopotentials": f"GPAW setups {_setups_version()}",
            "moments": "integrals over the PAW augmentation spheres",
            "settings": self.to_dict(),
        }


def require_checked_version(version: str) -> None:
    """Raise ImportError unless this version of GPAW was checked with the constraint.

    The constraint acts on parts of GPAW that change without notice.
    """
    if not version.startswith(CHECKED_VERSION + "."):
        raise ImportError(
            f"GPAW {version} was not checked with the constraint of moments: install "
            f"gpaw {CHECKED_VERSION} (pip install 'deepspin-ase[gpaw]')"
        )


def _setups_version() -> str:
    """Return the version of the package of PAW setups, as far as it is known."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gpaw-data")
    except PackageNotFoundError:
        return "of GPAW_SETUP_PATH"


ENGINES["gpaw"] = GPAWEngine.from_dict
