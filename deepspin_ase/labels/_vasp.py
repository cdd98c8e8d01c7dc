"""Labels by VASP with constrained moments: inputs, and where its outputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ase import Atoms
from ase.io.vasp import write_vasp
from pydantic import Field

from ..spins import get_spins
from ._engine import ENGINES
from ._external import ExternalEngine, Positive

_DEFAULTS: dict[str, Any] = {
    "ISTART": 0,
    "ICHARG": 2,
    "LNONCOLLINEAR": ".TRUE.",
    "LSORBIT": ".FALSE.",
    "ISYM": -1,
    "PREC": "Accurate",
    "ALGO": "Normal",
    "EDIFF": 1e-7,
    "NELM": 300,
    "IBRION": -1,
    "NSW": 0,
    "ISIF": 2,
    "LASPH": ".TRUE.",
    "LMAXMIX": 4,
    "GGA_COMPAT": ".FALSE.",
    "LREAL": ".FALSE.",
    "LORBIT": 11,
    "LWAVE": ".FALSE.",
    "LCHARG": ".FALSE.",
}

#: Keys of the constraint by dialect: VASP's own penalty on size and direction, and the
#: multipliers of VASP builds with DeltaSpin.
_CONSTRAINTS: dict[str, dict[str, Any]] = {
    "penalty": {"I_CONSTRAINED_M": 2},
    "deltaspin": {"I_CONSTRAINED_M": 2, "SCTYPE": 1},
}


class VASPEngine(ExternalEngine):
    """Non-collinear calculations with constrained moments by VASP.

    Attributes
    ----------
    command, kpts, kpt_spacing
        See :class:`ExternalEngine`; ``"srun vasp_ncl"``.
    potcars : dict of str
        Absolute paths of POTCAR files by element.
    radii : dict of float
        RWIGS by element, A: of the spheres in which moments are counted.
    constraint : {"penalty", "deltaspin"}
        VASP's own (``I_CONSTRAINED_M = 2``: size and direction), or that of a build
        with DeltaSpin.
    penalty : float
        ``LAMBDA`` of VASP's own constraint, eV/mu_B^2.
    cutoff : float
        ENCUT, eV.
    hubbard : dict of float
        Effective U in eV on the d electrons by element (Dudarev).
    incar : dict
        Further keys of ``INCAR``, and others than the defaults.
    """

    potcars: dict[str, str]
    radii: dict[str, float]
    constraint: Literal["penalty", "deltaspin"] = "penalty"
    penalty: Positive = 10.0
    cutoff: Positive = 500.0
    hubbard: dict[str, float] = Field(default_factory=dict)
    incar: dict[str, Any] = Field(default_factory=dict)

    @property
    def format(self) -> str:
        """Format of the outputs."""
        return "vasp/constrained"

    def finished(self, folder: Path) -> bool:
        """Return whether VASP has written its timing, its last lines."""
        path = folder / "OUTCAR"
        if not path.exists():
            return False
        return "General timing and accounting" in path.read_text("utf-8", "replace")

    def write_inputs(self, atoms: Atoms, folder: Path) -> None:
        """Write ``INCAR``, ``POSCAR``, ``KPOINTS`` and ``POTCAR``, sorted by element.

        Raises
        ------
        ValueError
            If POTCAR or radius of an element are not given.
        FileNotFoundError
            If a POTCAR does not exist.
        """
        elements = self.elements(atoms, "potcars", "radii")
        write_vasp(folder / "POSCAR", atoms, direct=True, vasp5=True)
        mesh = " ".join(map(str, self.mesh(atoms)))
        kpoints = f"mesh\n0\nGamma\n{mesh}\n0 0 0\n"
        (folder / "KPOINTS").write_text(kpoints, encoding="utf-8")
        with (folder / "POTCAR").open("wb") as potcar:
            for element in elements:
                potcar.write(Path(self.potcars[element]).read_bytes())
        lines = [f"{k} = {v}" for k, v in self._incar(atoms, elements).items()]
        text = "\n".join(lines) + "\n"
        (folder / "INCAR").write_text(text, encoding="utf-8")

    def _incar(self, atoms: Atoms, elements: list[str]) -> dict[str, Any]:
        moments = " ".join(f"{x:.8f}" for x in get_spins(atoms).flatten())
        values = {
            "SYSTEM": "".join(elements),
            "ENCUT": self.cutoff,
            **_DEFAULTS,
            **_CONSTRAINTS[self.constraint],
            "RWIGS": " ".join(f"{self.radii[x]:.4f}" for x in elements),
            "MAGMOM": moments,
            "M_CONSTR": moments,
        }
        if self.constraint == "penalty":
            values["LAMBDA"] = self.penalty
        if self.hubbard:
            on = [x in self.hubbard for x in elements]
            values |= {
                "LDAU": ".TRUE.",
                "LDAUTYPE": 2,
                "LDAUL": " ".join("2" if x else "-1" for x in on),
                "LDAUU": " ".join(f"{self.hubbard.get(x, 0.0)}" for x in elements),
                "LDAUJ": " ".join("0.0" for _ in elements),
            }
        return values | self.incar

    def provenance(self) -> dict[str, Any]:
        """Return code and settings; see :meth:`Engine.provenance`.

        The version stands in the outputs of each structure.
        """
        return {
            "code": "VASP",
            "functional": str(self.incar.get("GGA", "of the POTCARs"))
            + ("+U" if self.hubbard else ""),
            "pseudopotentials": self.potcars,
            "moments": "integrals over spheres of RWIGS",
            "settings": self.model_dump(exclude={"command"}),
        }


ENGINES["vasp"] = VASPEngine.from_dict
