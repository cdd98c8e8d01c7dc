"""Labels by ABACUS with DeltaSpin: inputs, and where its outputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.units import Bohr
from pydantic import Field

from ..spins import get_spins
from ._engine import ENGINES
from ._external import ExternalEngine, Positive

#: Settings of the constraint and of self-consistency that converge.
_DEFAULTS: dict[str, Any] = {
    "calculation": "scf",
    "nspin": 4,
    "noncolin": 1,
    "lspinorb": 0,
    "symmetry": -1,
    "scf_thr": 1e-7,
    "scf_nmax": 200,
    "smearing_method": "gaussian",
    "mixing_type": "broyden",
    "mixing_beta": 0.5,
    "mixing_beta_mag": 0.8,
    "mixing_ndim": 8,
    "mixing_gg0": 0.0,
    "cal_force": 1,
    "cal_stress": 1,
    "sc_mag_switch": 1,
    "decay_grad_switch": 0,
    "sc_thr": 1e-6,
    "nsc": 50,
    "nsc_min": 2,
    "sc_scf_thr": 10,
    "alpha_trial": 0.3,
    "sccut": 3,
    "sc_drop_thr": 0.01,
    "onsite_radius": 3.0,
    "out_chg": -1,
}

_SOLVERS = {"pw": "dav_subspace", "lcao": "genelpa"}


class ABACUSEngine(ExternalEngine):
    """Non-collinear calculations with constrained moments by ABACUS (DeltaSpin).

    Attributes
    ----------
    command, kpts, kpt_spacing
        See :class:`ExternalEngine`; ``"mpirun -np 8 abacus"``.
    pseudopotentials : dict of str
        Files by element, in ``pseudo_dir``.
    orbitals : dict of str
        Files of numerical orbitals by element, in ``orbital_dir``: the basis of
        ``lcao``, and what moments are projected on with ``pw``.
    pseudo_dir, orbital_dir : str
        Absolute paths.
    basis : {"pw", "lcao"}
    cutoff : float
        Ry, as ABACUS counts.
    width : float
        Of the Gaussian smearing, Ry.
    hubbard : dict of float
        U in eV on the d electrons by element.
    input : dict
        Further keys of ``INPUT``, and others than the defaults.
    """

    pseudopotentials: dict[str, str]
    orbitals: dict[str, str]
    pseudo_dir: str
    orbital_dir: str
    basis: Literal["pw", "lcao"] = "pw"
    cutoff: Positive = 100.0
    width: Positive = 0.01
    hubbard: dict[str, float] = Field(default_factory=dict)
    input: dict[str, Any] = Field(default_factory=dict)

    @property
    def format(self) -> str:
        """Format of the outputs."""
        return "abacus/deltaspin"

    def finished(self, folder: Path) -> bool:
        """Return whether ABACUS has written the final energy, after all tables."""
        logs = folder.glob("OUT.*/running_scf.log")
        return any("FINAL_ETOT_IS" in log.read_text("utf-8", "replace") for log in logs)

    def write_inputs(self, atoms: Atoms, folder: Path) -> None:
        """Write ``INPUT``, ``STRU`` and ``KPT``, for atoms sorted by element.

        Raises
        ------
        ValueError
            If the files of an element are not given.
        """
        elements = self.elements(atoms, "pseudopotentials", "orbitals")
        _write(folder / "INPUT", self._input(elements))
        _write(folder / "STRU", self._structure(atoms, elements))
        mesh = " ".join(map(str, self.mesh(atoms)))
        _write(folder / "KPT", ["K_POINTS", "0", "Gamma", f"{mesh} 0 0 0"])

    def _input(self, elements: list[str]) -> list[str]:
        values = {
            "suffix": "abacus",
            "ntype": len(elements),
            "pseudo_dir": self.pseudo_dir,
            "orbital_dir": self.orbital_dir,
            "basis_type": self.basis,
            "ks_solver": _SOLVERS[self.basis],
            "ecutwfc": self.cutoff,
            "smearing_sigma": self.width,
            **_DEFAULTS,
        }
        if self.hubbard:
            correlated = [x in self.hubbard for x in elements]
            values |= {
                "dft_plus_u": 1,
                "orbital_corr": " ".join("2" if x else "-1" for x in correlated),
                "hubbard_u": " ".join(str(self.hubbard.get(x, 0.0)) for x in elements),
            }
        values |= self.input
        return ["INPUT_PARAMETERS", *(f"{k} {v}" for k, v in values.items())]

    def _structure(self, atoms: Atoms, elements: list[str]) -> list[str]:
        spins = get_spins(atoms)
        held = np.linalg.norm(spins, axis=1) > 0.0
        symbols = atoms.get_chemical_symbols()
        lines = ["ATOMIC_SPECIES"]
        lines += [f"{x} 1.0 {self.pseudopotentials[x]}" for x in elements]
        lines += ["", "NUMERICAL_ORBITAL", *(self.orbitals[x] for x in elements)]
        lines += ["", "LATTICE_CONSTANT", f"{1.0 / Bohr:.12f}", "", "LATTICE_VECTORS"]
        lines += [" ".join(f"{x:.12f}" for x in row) for row in atoms.cell.array]
        lines += ["", "ATOMIC_POSITIONS", "Cartesian"]
        for element in elements:
            own = [k for k, symbol in enumerate(symbols) if symbol == element]
            lines += ["", element, "0.0", str(len(own))]
            for k in own:
                place = " ".join(f"{x:.12f}" for x in atoms.positions[k])
                moment = " ".join(f"{x:.10f}" for x in spins[k])
                flag = "1 1 1" if held[k] else "0 0 0"
                lines.append(f"{place} m 1 1 1 mag {moment} sc {flag}")
        return lines

    def provenance(self) -> dict[str, Any]:
        """Return code and settings; see :meth:`Engine.provenance`.

        The version stands in the outputs of each structure.
        """
        return {
            "code": "ABACUS",
            "functional": self.input.get("dft_functional", "of the pseudopotentials")
            + ("+U" if self.hubbard else ""),
            "pseudopotentials": self.pseudopotentials,
            "moments": "projections on numerical orbitals within onsite_radius",
            "settings": self.model_dump(exclude={"command"}),
        }


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


ENGINES["abacus"] = ABACUSEngine.from_dict
