"""Second derivatives of the energy by positions and moments."""

from __future__ import annotations

from ._cartesian import (
    CartesianHessian,
    DifferenceHessian,
    SecondDerivatives,
    cartesian_hessian,
)
from ._joint_hessian import JointHessian
from ._reach import finite_reach, interaction_reach
from ._response import Crystal

__all__ = [
    "CartesianHessian",
    "Crystal",
    "DifferenceHessian",
    "JointHessian",
    "SecondDerivatives",
    "cartesian_hessian",
    "finite_reach",
    "interaction_reach",
]
