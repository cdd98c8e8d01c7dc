"""Every analytic term, and structures on which terms are compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

from deepspin_ase.potentials import (
    ZBL,
    BetheSlater,
    Biquadratic,
    Buckingham,
    BuckinghamCoulomb,
    CubicAnisotropy,
    CubicCut,
    DipoleDipole,
    DzyaloshinskiiMoriya,
    Harmonic,
    Heisenberg,
    Landau,
    LennardJones,
    MomentExchange,
    PairPotential,
    Potential,
    Shells,
    SmoothShells,
    Switched,
    UniaxialAnisotropy,
    Zeeman,
    dudarev_derlet_fe,
    finnis_sinclair_fe,
)
from deepspin_ase.system import System

CUT = CubicCut(0.05, 4.2)
PAIR = ("Fe", "Ni")
Builder = Callable[[np.ndarray], Potential]


def _all_elements(potential: Potential) -> Potential:
    """Treat every atom as iron, so that the common test structure will do."""
    arguments = potential.arguments() | {"elements": None}
    return type(potential)(**arguments)


#: Every term, built for axes turned by a rotation matrix R.
TERMS: dict[str, Builder] = {
    "heisenberg": lambda R: Heisenberg(CUT),
    "heisenberg-pair": lambda R: Heisenberg(CUT, elements=PAIR),
    "heisenberg-offset": lambda R: Heisenberg(CUT, subtract_collinear=True),
    "heisenberg-shells": lambda R: Heisenberg(Shells([(2.9, 0.02), (4.0, -0.01)], 0.5)),
    "heisenberg-smooth": lambda R: Heisenberg(
        SmoothShells([(2.6, 0.02, 0.05), (3.8, -0.01, 0.02)], 0.7)
    ),
    "heisenberg-bethe-slater": lambda R: Heisenberg(
        Switched(BetheSlater(0.05, 0.21, 1.8, 4.0), 3.0)
    ),
    "moment-exchange": lambda R: MomentExchange(CUT),
    "moment-exchange-offset": lambda R: MomentExchange(CUT, subtract_collinear=True),
    "biquadratic": lambda R: Biquadratic(CUT),
    "dm-bond": lambda R: DzyaloshinskiiMoriya(CUT),
    "dm-interfacial": lambda R: DzyaloshinskiiMoriya(
        CUT, direction="interfacial", axis=R @ [0.3, -0.2, 2.0]
    ),
    "dm-vector": lambda R: DzyaloshinskiiMoriya(
        CUT, direction="vector", vector=R @ [1, 2, 0.5], axis=R @ [0, 1, 1]
    ),
    "dm-elements": lambda R: DzyaloshinskiiMoriya(
        CUT, direction="vector", vector=R @ [1, 2, 0.5], elements=PAIR
    ),
    "uniaxial": lambda R: UniaxialAnisotropy(0.02, R @ [1, 1, 0.3]),
    "cubic": lambda R: CubicAnisotropy(0.02, -0.03, axes=R.T),
    "landau": lambda R: Landau([-0.1, 0.02, 0.001], elements=["Fe"]),
    "zeeman": lambda R: Zeeman(R @ [30.0, -20.0, 10.0]),
    "dipole": lambda R: DipoleDipole(cutoff=6.0, elements=["Fe", "Ni"]),
    "lennard-jones": lambda R: LennardJones(0.1, 1.9),
    "pair-potential": lambda R: PairPotential(
        Switched(Buckingham(1000.0, 0.3, 20.0, 4.5), 3.5)
    ),
    "harmonic": lambda R: Harmonic(1.5, 2.4, cutoff=3.3, elements=("Fe", "O")),
    "zbl": lambda R: ZBL(2.0, 3.5),
    "dudarev-derlet": lambda R: _all_elements(dudarev_derlet_fe()),
    "finnis-sinclair": lambda R: _all_elements(finnis_sinclair_fe()),
    "buckingham-coulomb": lambda R: BuckinghamCoulomb(
        {"Fe": 2.0, "Ni": 1.0, "O": -2.0},
        {"O-Ni": (683.5, 0.3332, 0.0), "O-O": (22764.3, 0.149, 27.88)},
        cutoff=6.0,
    ),
}


def structure(seed: int = 0, *, pbc: bool = True) -> Atoms:
    """Triclinic, neutral for Fe 2+, Ni 1+ and O 2-; shorter than the cutoffs."""
    rng = np.random.default_rng(seed)
    cell = [[4.1, 0.2, 0.0], [-0.3, 3.9, 0.4], [0.5, 0.1, 4.4]]
    fractional = np.array(
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.55]]
    )
    atoms = Atoms("FeNi2O2", scaled_positions=fractional, cell=cell, pbc=pbc)
    atoms.positions += rng.uniform(-0.08, 0.08, (5, 3))
    spins = rng.normal(size=(5, 3)) * 1.5
    spins[3:] = 0.0
    atoms.set_initial_magnetic_moments(spins)
    return atoms


def system_of(*seeds: int, pbc: bool = True) -> System:
    return System.from_atoms([structure(s, pbc=pbc) for s in seeds or (0,)])
