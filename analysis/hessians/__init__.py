"""Second derivatives of the energy by positions and moments."""

from __future__ import annotations

from ._cartesian import (
    CartesianHessian,
    DifferenceHessian,
    SecondDerivatives,
    cartesian_hessian,
)
from ._joint_hessian import JointHessian
from ._response import Crystal, interaction_range

__all__ = [
    "CartesianHessian",
    "Crystal",
    "DifferenceHessian",
    "JointHessian",
    "SecondDerivatives",
    "cartesian_hessian",
    "interaction_range",
]
