"""Terms of Hamiltonians: analytic energies of atoms, pairs and moments."""

from __future__ import annotations

from ._bases import PairTerm, RadialTerm, SiteTerm
from ._buckingham import Buckingham, BuckinghamCoulomb
from ._dipole import DipoleDipole
from ._electric import ElectricField
from ._embedded_atom import (
    CubicKnots,
    DudarevDerlet,
    EmbeddedAtom,
    FinnisSinclairDensity,
    FinnisSinclairPair,
    SquareRoot,
    dudarev_derlet_fe,
    finnis_sinclair_fe,
)
from ._exchange import Biquadratic, DzyaloshinskiiMoriya, Heisenberg, MomentExchange
from ._invariants import INVARIANTS, PairMoments
from ._onsite import (
    CubicAnisotropy,
    Landau,
    UniaxialAnisotropy,
    Zeeman,
    ZeemanGradient,
    ZeemanWave,
)
from ._pairwise import ZBL, Harmonic, LennardJones, PairPotential
from ._short_range import Blend, ScreenedNuclear
from ._sites import (
    Bonds,
    find_bonds,
    magnetic_sites,
    of_elements,
    unit_spins,
)

__all__ = [
    "INVARIANTS",
    "ZBL",
    "Biquadratic",
    "Blend",
    "Bonds",
    "Buckingham",
    "BuckinghamCoulomb",
    "CubicAnisotropy",
    "CubicKnots",
    "DipoleDipole",
    "DudarevDerlet",
    "DzyaloshinskiiMoriya",
    "ElectricField",
    "EmbeddedAtom",
    "FinnisSinclairDensity",
    "FinnisSinclairPair",
    "Harmonic",
    "Heisenberg",
    "Landau",
    "LennardJones",
    "MomentExchange",
    "PairMoments",
    "PairPotential",
    "PairTerm",
    "RadialTerm",
    "ScreenedNuclear",
    "SiteTerm",
    "SquareRoot",
    "UniaxialAnisotropy",
    "Zeeman",
    "ZeemanGradient",
    "ZeemanWave",
    "dudarev_derlet_fe",
    "find_bonds",
    "finnis_sinclair_fe",
    "magnetic_sites",
    "of_elements",
    "unit_spins",
]
