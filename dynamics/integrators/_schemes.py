"""Spin integrators: one step of the LLG equation at a fixed lattice.

A scheme holds settings only and may serve many drivers at once; what it learns from
the steps of one driver is that driver's *memory*. ``memory = scheme.init()`` begins,
and ``spins, forces, memory = scheme.step(spins, evaluate, rate, dt, memory, start)``
is a step:

- ``spins`` (N, 3), mu_B, at the beginning of the step;
- ``evaluate(spins)`` returns the field (N, 3), eV/mu_B, and the forces (N, 3),
  eV/A, or None where the lattice is frozen: one model call;
- ``rate(spins, field)`` returns the angular velocity (N, 3), rad per ASE time
  (:meth:`Precession.rate <.integrators.Precession.rate>`);
- ``memory`` is plain data (nested dictionaries, lists, tensors, numbers) that is never
  changed in place, so that checkpoints can hold it and a failed step leaves it as it
  was;
- ``start`` is the field at ``spins``, if it is known already.

The forces that come back are those that act on the lattice during the step. All
schemes keep the lengths of the spins to round-off and take random fields as part of
the field, the same in every stage (Stratonovich).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from .._state import Stateful
from ._acceleration import AndersonMixing, LinearPrediction, StoppingCriterion
from ._rotations import cayley, rotate, with_lengths

Evaluate: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor | None]]
Rate: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Memory: TypeAlias = dict[str, Any]
Step: TypeAlias = tuple[Tensor, Tensor | None, Memory]

#: Spin integrators by name.
SCHEMES: dict[str, type[Scheme]] = {}


@dataclass(frozen=True)
class Scheme:
    """Settings of a spin integrator; the module describes the contract.

    A subclass is a frozen dataclass whose fields are plain data. It is known by its
    ``name``, in arguments, run files and checkpoints.
    """

    #: Its name in files and arguments.
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Register the scheme by its name."""
        SCHEMES[cls.name] = cls

    def init(self) -> Memory:
        """Return the memory before the first step, and after a jump of the state."""
        return {}

    def step(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        memory: Memory,
        start: Tensor | None = None,
    ) -> Step:
        """Return the spins after ``dt``, the forces during it and the new memory."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rotation(Scheme):
    """Exact rotation about the field at the beginning: explicit, one model call.

    Exact where the field does not depend on the spins; of first order and with an
    energy that drifts where it does.
    """

    name = "rotation"

    def step(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        memory: Memory,
        start: Tensor | None = None,
    ) -> Step:
        """Return the spins after ``dt``, the forces during it and the new memory."""
        field, forces = evaluate(spins)
        return rotate(spins, dt * rate(spins, field)), forces, memory


@dataclass(frozen=True)
class DepondtMertens(Scheme):
    """Heun's scheme with rotations: second order, two model calls, one with start.

    Ph. Depondt and F. G. Mertens, J. Phys.: Condens. Matter 21, 336005 (2009),
    doi:10.1088/0953-8984/21/33/336005.
    """

    name = "depondt-mertens"

    def step(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        memory: Memory,
        start: Tensor | None = None,
    ) -> Step:
        """Return the spins after ``dt``, the forces during it and the new memory."""
        field, forces = evaluate(spins) if start is None else (start, None)
        first = rate(spins, field)
        predicted = rotate(spins, dt * first)
        field, later = evaluate(predicted)
        rotation = 0.5 * dt * (first + rate(predicted, field))
        if forces is not None and later is not None:
            forces = 0.5 * (forces + later)
        return rotate(spins, rotation), forces, memory


@dataclass(frozen=True)
class SemiImplicitB(Scheme):
    """Semi-implicit scheme B: second order, two model calls, one if start is known.

    A first rotation in the field of the beginning predicts the spins at the middle of
    the step, and the field there rotates them (J. H. Mentink et al., J. Phys.:
    Condens. Matter 22, 176001 (2010), doi:10.1088/0953-8984/22/17/176001). Rotations
    are exact: rational ones come out too small where random fields are strong, and
    spins too cold.
    """

    name = "sib"

    def step(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        memory: Memory,
        start: Tensor | None = None,
    ) -> Step:
        """Return the spins after ``dt``, the forces during it and the new memory."""
        field = evaluate(spins)[0] if start is None else start
        predicted = rotate(spins, dt * rate(spins, field))
        middle = 0.5 * (spins + predicted)
        field, forces = evaluate(middle)
        return rotate(spins, dt * rate(middle, field)), forces, memory


@dataclass(frozen=True)
class Midpoint(Scheme):
    """Spherical implicit midpoint rule: reversible, of second order, no drift.

    With the midpoint on the sphere, n = (S + S') |S| / |S + S'|, it solves
    S' - S = dt omega(n, B(n)) x n: symplectic at zero damping (R. I. McLachlan,
    K. Modin, O. Verdier, Phys. Rev. E 89, 061301 (2014),
    doi:10.1103/PhysRevE.89.061301). The equations are solved by fixed-point
    iteration, one model call each: linear prediction from the angular velocities of
    earlier steps is the first guess, and Anderson mixing accelerates it with secants
    of this and earlier steps (D. G. Anderson, J. ACM 12, 547 (1965),
    doi:10.1145/321296.321305). Both are the memory of the scheme.

    Parameters
    ----------
    tolerance : float
        Largest remaining error of a rotation, rad. The default is reversible to
        round-off; energy conservation needs far less.
    max_calls : int
        Iterations after which the step is accepted as it is.
    """

    name = "midpoint"

    tolerance: float = 1e-13
    max_calls: int = 60

    def __post_init__(self) -> None:
        """Raise ValueError for settings without a meaning."""
        if not self.tolerance > 0 or self.max_calls < 1:
            raise ValueError(
                "Midpoint needs tolerance > 0 and max_calls >= 1, got "
                f"{self.tolerance} and {self.max_calls}"
            )

    def init(self) -> Memory:
        """Return the memory before the first step, and after a jump of the state."""
        return {"dt": None, "rates": [], "secants": {}, "criterion": {}}

    def step(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        memory: Memory,
        start: Tensor | None = None,
    ) -> Step:
        """Return the spins after ``dt``, the forces during it and the new memory."""
        if dt != memory["dt"] or memory["rates"][-1].shape != spins.shape:
            memory = self.init()
        prediction = LinearPrediction(memory["rates"])
        mixing = AndersonMixing(**memory["secants"])
        criterion = StoppingCriterion(self.tolerance, **memory["criterion"])
        lengths = torch.linalg.vector_norm(spins, dim=1, keepdim=True)
        if len(prediction):
            omega = prediction.next()
        elif start is not None:
            omega = rate(spins, start)
        else:
            omega = rate(spins, evaluate(spins)[0])
        for _ in range(self.max_calls):
            total = spins + cayley(spins, dt * omega)
            middle = with_lengths(total, lengths)
            field, forces = evaluate(middle)
            # |S + S'| / (2 |S|), the cosine of half the angle.
            cosine = 0.5 * torch.linalg.vector_norm(total, dim=1, keepdim=True)
            cosine = torch.where(lengths > 0, cosine / lengths, 1.0)
            correction = (rate(middle, field) / cosine - omega) * (lengths > 0)
            solved = criterion.is_met(float(abs(dt) * correction.abs().max()))
            if not criterion.above_round_off:
                mixing.skip_secant()
            omega, forces = mixing.next(omega, correction, forces)
            if solved:
                break
        prediction.append(omega)
        memory = {
            "dt": dt,
            "rates": prediction.values,
            "secants": mixing.secants,
            "criterion": criterion.measured,
        }
        return cayley(spins, dt * omega), forces, memory


class SchemeState(Stateful):
    """A scheme with the memory of one driver.

    Attributes
    ----------
    scheme : Scheme
    memory : dict
    """

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.reset()

    def reset(self) -> None:
        """Discard the iteration history after a jump of the state."""
        self.memory = self.scheme.init()

    def step(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spins after ``dt`` and the forces during it."""
        spins, forces, self.memory = self.scheme.step(
            spins, evaluate, rate, dt, self.memory, start
        )
        return spins, forces

    def state_dict(self) -> Memory:
        """Return the memory."""
        return self.memory

    def load_state_dict(self, state: Memory) -> None:
        """Restore the memory returned by :meth:`state_dict`."""
        self.memory = state


def as_scheme(scheme: str | Scheme, **settings: Any) -> Scheme:
    """Return a scheme by its name and settings; a scheme is returned as it is.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise ValueError(
            f"unknown spin_integrator {scheme!r}; choose from {', '.join(SCHEMES)}"
        )
    return SCHEMES[scheme](**settings)
