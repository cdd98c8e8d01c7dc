"""Potentials: energies of atoms and moments, and how to combine and save them."""

from __future__ import annotations

from .._config import Configuration
from ._backend import choose_backend
from ._base import Potential
from ._compiled import CompiledPotential
from ._download import get_model
from ._external import External, PotentialOf
from ._files import load_card, load_potential, save_potential
from ._library import available_models, models_folder, shipped_models
from ._prediction import Prediction
from ._range import TrainingRange
from ._registry import register
from ._sums import Committee, Sum, TimeReversal
from ._symmetry_checks import SymmetryViolations, symmetry_violations
from ._torchscript import export_torchscript
from ._watch import OutOfRangeWarning
from .bonds import BondHamiltonian
from .materials import reference
from .materials._bismuth_ferrite import BismuthFerriteSpins, bismuth_ferrite
from .networks._config import DeepSpinConfig
from .networks._deepspin import DeepSpinNetwork
from .networks._moments import SpinMomentConfig, SpinMomentNetwork
from .networks._trainable import ARCHITECTURES, Trainable, architecture
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
from .terms._buckingham import Buckingham, BuckinghamCoulomb
from .terms._dipole import DipoleDipole
from .terms._electric import ElectricField
from .terms._embedded_atom import (
    CubicKnots,
    DudarevDerlet,
    EmbeddedAtom,
    FinnisSinclairDensity,
    FinnisSinclairPair,
    SquareRoot,
    dudarev_derlet_fe,
    finnis_sinclair_fe,
)
from .terms._exchange import (
    Biquadratic,
    DzyaloshinskiiMoriya,
    Heisenberg,
    MomentExchange,
)
from .terms._onsite import (
    CubicAnisotropy,
    Landau,
    UniaxialAnisotropy,
    Zeeman,
    ZeemanGradient,
    ZeemanWave,
)
from .terms._pairwise import ZBL, Harmonic, LennardJones, PairPotential
from .terms._short_range import Blend, ScreenedNuclear

__all__ = [
    "ARCHITECTURES",
    "ZBL",
    "BetheSlater",
    "Biquadratic",
    "BismuthFerriteSpins",
    "Blend",
    "BondHamiltonian",
    "Buckingham",
    "BuckinghamCoulomb",
    "Committee",
    "CompiledPotential",
    "Configuration",
    "CubicAnisotropy",
    "CubicCut",
    "CubicKnots",
    "DampedCoulomb",
    "DeepSpinConfig",
    "DeepSpinNetwork",
    "DipoleDipole",
    "DudarevDerlet",
    "DzyaloshinskiiMoriya",
    "ElectricField",
    "EmbeddedAtom",
    "Exponential",
    "External",
    "FinnisSinclairDensity",
    "FinnisSinclairPair",
    "Harmonic",
    "Heisenberg",
    "Landau",
    "LennardJones",
    "Mixture",
    "MomentExchange",
    "OutOfRangeWarning",
    "PairPotential",
    "Potential",
    "PotentialOf",
    "Prediction",
    "Radial",
    "ScreenedNuclear",
    "Shells",
    "SmoothShells",
    "SpinMomentConfig",
    "SpinMomentNetwork",
    "SquareRoot",
    "Sum",
    "Switched",
    "SymmetryViolations",
    "TimeReversal",
    "Trainable",
    "TrainingRange",
    "UniaxialAnisotropy",
    "Zeeman",
    "ZeemanGradient",
    "ZeemanWave",
    "architecture",
    "available_models",
    "bismuth_ferrite",
    "choose_backend",
    "dudarev_derlet_fe",
    "export_torchscript",
    "finnis_sinclair_fe",
    "get_model",
    "load_card",
    "load_potential",
    "models_folder",
    "reference",
    "register",
    "save_potential",
    "shipped_models",
    "symmetry_violations",
]
