"""One step of the spins at a fixed lattice: four schemes with one signature.

A scheme is called as ``scheme(spins, evaluate, rate, dt, start=None)``:

- ``spins`` (N, 3), mu_B, at the beginning of the step;
- ``evaluate(spins)`` returns the field (N, 3), eV/mu_B, and the forces (N, 3),
  eV/A, or None where the lattice is frozen: one model call;
- ``rate(spins, field)`` returns the turning rate (N, 3), rad per ASE time
  (:meth:`Precession.rate <.integrators.Precession.rate>`);
- ``start``: the field at ``spins``, if it is known already.

It returns the new spins and the forces that act on the lattice during the step.
All schemes keep the lengths of the spins to round-off and take random fields as
part of the field, the same in every stage (Stratonovich).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ._acceleration import Control, LinearPrediction, SecantMemory
from ._rotations import cayley, rotate, with_lengths

Evaluate: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor | None]]
Rate: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Scheme:
    """A spin integrator; see the module for how it is called."""

    #: Its name in files and arguments.
    name: str

    def __call__(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spins after ``dt`` and the forces during the step."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget what earlier steps taught: the spins no longer continue them."""

    def state(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""


class Rotation(Scheme):
    """Exact rotation about the field at the beginning: explicit, one model call.

    Exact where the field does not depend on the spins; of first order and with an
    energy that drifts where it does.
    """

    name = "rotation"

    def __call__(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spins after ``dt`` and the forces during the step."""
        field, forces = evaluate(spins)
        return rotate(spins, dt * rate(spins, field)), forces


class DepondtMertens(Scheme):
    """Heun's scheme with rotations: second order, two model calls, one with start.

    Ph. Depondt and F. G. Mertens, J. Phys.: Condens. Matter 21, 336005 (2009),
    doi:10.1088/0953-8984/21/33/336005.
    """

    name = "depondt-mertens"

    def __call__(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spins after ``dt`` and the forces during the step."""
        field, forces = evaluate(spins) if start is None else (start, None)
        first = rate(spins, field)
        predicted = rotate(spins, dt * first)
        field, later = evaluate(predicted)
        turn = 0.5 * dt * (first + rate(predicted, field))
        if forces is not None and later is not None:
            forces = 0.5 * (forces + later)
        return rotate(spins, turn), forces


class SemiImplicitB(Scheme):
    """Semi-implicit scheme B: second order, two model calls, one if start is known.

    The field at the middle, which a first turn in the field of the beginning
    predicts, turns the spins (J. H. Mentink et al., J. Phys.: Condens. Matter 22,
    176001 (2010), doi:10.1088/0953-8984/22/17/176001). Turns are exact rotations:
    rational ones come out too small where random fields are strong, and spins too
    cold.
    """

    name = "sib"

    def __call__(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spins after ``dt`` and the forces during the step."""
        field = evaluate(spins)[0] if start is None else start
        predicted = rotate(spins, dt * rate(spins, field))
        middle = 0.5 * (spins + predicted)
        field, forces = evaluate(middle)
        return rotate(spins, dt * rate(middle, field)), forces


class Midpoint(Scheme):
    """Spherical implicit midpoint rule: reversible, of second order, no drift.

    With the midpoint on the sphere, n = (S + S') |S| / |S + S'|, it solves
    S' - S = dt omega(n, B(n)) x n: symplectic at zero damping (R. I. McLachlan,
    K. Modin, O. Verdier, Phys. Rev. E 89, 061301 (2014),
    doi:10.1103/PhysRevE.89.061301). The equations are solved by fixed-point
    iteration that starts from the rates of earlier steps, continued by linear
    prediction, and is accelerated by what earlier iterations and steps taught about
    the model's response (Anderson, J. ACM 12, 547 (1965),
    doi:10.1145/321296.321305), one model call each.

    Parameters
    ----------
    tolerance : float
        Largest error of a turn, rad, that is left. The default is reversible to
        round-off; energy conservation needs far less.
    max_calls : int
        Iterations after which the step is accepted as it is.
    """

    name = "midpoint"

    def __init__(self, tolerance: float = 1e-13, max_calls: int = 60) -> None:
        if not tolerance > 0 or max_calls < 1:
            raise ValueError("Midpoint needs tolerance > 0 and max_calls >= 1")
        self.tolerance = tolerance
        self.max_calls = max_calls
        self.reset()

    def reset(self) -> None:
        """Forget what earlier steps taught."""
        self._rates = LinearPrediction()
        self._memory = SecantMemory()
        self._control = Control(self.tolerance)
        self._dt: float | None = None
        self._shape: torch.Size | None = None

    def state(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {
            "rates": self._rates.state(),
            "memory": self._memory.state(),
            "control": self._control.state(),
            "dt": self._dt,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self._rates.restore(state["rates"])
        self._memory.restore(state["memory"])
        self._control.restore(state["control"])
        self._dt = state["dt"]
        self._shape = state["rates"][-1].shape if state["rates"] else None

    def __call__(
        self,
        spins: Tensor,
        evaluate: Evaluate,
        rate: Rate,
        dt: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spins after ``dt`` and the forces during the step."""
        if dt != self._dt or spins.shape != self._shape:
            self.reset()
            self._dt, self._shape = dt, spins.shape
        lengths = torch.linalg.vector_norm(spins, dim=1, keepdim=True)
        if len(self._rates):
            turning = self._rates.next()
        elif start is not None:
            turning = rate(spins, start)
        else:
            turning = rate(spins, evaluate(spins)[0])
        self._control.begin()
        for _ in range(self.max_calls):
            total = spins + cayley(spins, dt * turning)
            middle = with_lengths(total, lengths)
            field, forces = evaluate(middle)
            # |S + S'| / (2 |S|), the cosine of half the turn.
            cosine = 0.5 * torch.linalg.vector_norm(total, dim=1, keepdim=True)
            cosine = torch.where(lengths > 0, cosine / lengths, 1.0)
            correction = (rate(middle, field) / cosine - turning) * (lengths > 0)
            solved = self._control.solved(float(abs(dt) * correction.abs().max()))
            if not self._control.teaches:
                self._memory.end_step()
            turning, forces = self._memory.next(turning, correction, forces)
            if solved:
                break
        self._memory.end_step()
        self._rates.append(turning)
        return cayley(spins, dt * turning), forces


_SCHEMES: dict[str, type[Scheme]] = {
    scheme.name: scheme
    for scheme in (Rotation, DepondtMertens, SemiImplicitB, Midpoint)
}


def as_scheme(scheme: str | Scheme) -> Scheme:
    """Return a scheme by its name.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in _SCHEMES:
        raise ValueError(
            f"unknown spin_integrator {scheme!r}; choose from {', '.join(_SCHEMES)}"
        )
    return _SCHEMES[scheme]()
