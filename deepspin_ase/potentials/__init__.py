"""Potentials: energies of atoms and moments, and how to combine and save them."""

from __future__ import annotations

from . import reference
from .backend import choose_backend
from .base import Potential, Prediction
from .bismuth_ferrite import BismuthFerriteSpins, bismuth_ferrite
from .buckingham import Buckingham, BuckinghamCoulomb
from .combine import Committee, Sum, TimeReversal
from .config import DeepSpinConfig
from .dipole import DipoleDipole
from .embedded_atom import (
    CubicKnots,
    DudarevDerlet,
    EmbeddedAtom,
    FinnisSinclairDensity,
    FinnisSinclairPair,
    SquareRoot,
    dudarev_derlet_fe,
    finnis_sinclair_fe,
)
from .exchange import Biquadratic, DzyaloshinskiiMoriya, Heisenberg, MomentExchange
from .network import DeepSpinNetwork
from .onsite import CubicAnisotropy, Landau, UniaxialAnisotropy, Zeeman
from .pairwise import ZBL, Harmonic, LennardJones, PairPotential
from .radial import (
    BetheSlater,
    CubicCut,
    DampedCoulomb,
    Exponential,
    Mixture,
    Radial,
    Shells,
    SmoothShells,
    Switched,
)
from .serialize import load_card, load_potential, save_potential, shipped_models
from .short_range import Blend, ScreenedNuclear
from .symmetry import SymmetryViolations, symmetry_violations

__all__ = [
    "ZBL",
    "BetheSlater",
    "Biquadratic",
    "BismuthFerriteSpins",
    "Blend",
    "Buckingham",
    "BuckinghamCoulomb",
    "Committee",
    "CubicAnisotropy",
    "CubicCut",
    "CubicKnots",
    "DampedCoulomb",
    "DeepSpinConfig",
    "DeepSpinNetwork",
    "DipoleDipole",
    "DudarevDerlet",
    "DzyaloshinskiiMoriya",
    "EmbeddedAtom",
    "Exponential",
    "FinnisSinclairDensity",
    "FinnisSinclairPair",
    "Harmonic",
    "Heisenberg",
    "Landau",
    "LennardJones",
    "Mixture",
    "MomentExchange",
    "PairPotential",
    "Potential",
    "Prediction",
    "Radial",
    "ScreenedNuclear",
    "Shells",
    "SmoothShells",
    "SquareRoot",
    "Sum",
    "Switched",
    "SymmetryViolations",
    "TimeReversal",
    "UniaxialAnisotropy",
    "Zeeman",
    "bismuth_ferrite",
    "choose_backend",
    "dudarev_derlet_fe",
    "finnis_sinclair_fe",
    "load_card",
    "load_potential",
    "reference",
    "save_potential",
    "shipped_models",
    "symmetry_violations",
]
