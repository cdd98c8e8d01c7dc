"""A calculator on the surface of the moments' lowest energy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.outputs import Properties, all_outputs
from typing_extensions import Self

from .._validate import positive, require_property, vectors_of, whole
from ..calculators._deepspin import DeepSpinCalculator
from ..calculators._magnetic import MagneticCalculator
from ..constraints import fixed_spins
from ..spins import get_spins, set_spins
from ._lbfgs_memory import LBFGSMemory
from ._relax import relax_spins

logger = logging.getLogger(__name__)

#: What may be minimised.
KINDS = ("lengths", "directions", "vectors")

#: Moments start at no less than this length, mu_B: none is lost that would grow again.
SEED = 0.05

#: Largest change of a moment in a step, mu_B.
_LIMIT = 0.3

#: Curvature of the energy by a moment before any is known, eV/mu_B^2.
_CURVATURE = 1.0

#: Share of the expected decrease of the energy that a step must bring (Armijo).
_DECREASE = 1e-4

#: Relative round-off of an energy. Within it, the slope at the end decides.
_ROUND_OFF = 1e-10


class AdiabaticMoments(MagneticCalculator):
    """Energies and forces at the moments that minimise the energy.

    At every call the moments follow the atoms to a minimum of the energy, from where
    they were before. ASE's own molecular dynamics, optimizers, bands, and phonopy then
    run on the surface of the electronic ground state, E(R) = min_m E(R, m), and need
    to know nothing of moments. Forces and stress are its exact derivatives: at the
    minimum dE/dm = 0, so that the change of the moments does not contribute
    (Hellmann-Feynman). Stress is at fixed Cartesian moments.

    The moments reached are results, ``atoms.get_magnetic_moments()``, (N, 3), mu_B;
    those of the atoms, their initial moments, stay as they are. The first call starts
    from these, and so does the next one after they, the elements or their number
    were changed, or after :meth:`restart`. Which of several minima is found depends on
    the start. Moments that are zero, or fixed by
    :class:`~deepspin_ase.constraints.FixSpins`, stay. Other ones begin every call
    with at least 0.05 mu_B: a moment that has vanished under pressure comes back.

    Parameters
    ----------
    calculator : Calculator
        Gives ``magnetic_forces`` (-dE/dm, eV/mu_B) for vector moments in the initial
        magnetic moments, as :class:`~deepspin_ase.DeepSpinCalculator` does.
    what : {"lengths", "directions", "vectors"}
        Lengths at fixed directions (a moment may pass through zero and then points
        the other way); directions at fixed lengths; or both.
    magnetic_force_max : float
        Largest magnetic force that is left of what is minimised, eV/mu_B (of
        directions: largest torque over the largest moment). Errors of forces are of
        its first order, those of energies of its second.
    steps : int
        Largest number of model calls for one structure.

    Attributes
    ----------
    n_calls : int
        Model calls so far.

    Raises
    ------
    TypeError
        If it is given no calculator.
    ValueError
        If the calculator gives no magnetic forces or minimises moments itself, or an
        argument is not as described.

    Examples
    --------
    >>> from deepspin_ase.potentials.materials import reference
    >>> calculator = DeepSpinCalculator(reference.fe())
    >>> atoms.calc = AdiabaticMoments(calculator, what="lengths")
    >>> found = BFGS(atoms, logfile=None).run(fmax=0.01)
    >>> moments = atoms.get_magnetic_moments()  # mu_B, (N, 3)
    """

    name = "adiabatic-moments"

    #: The moments that it evaluates are not those that it is given.
    changes_moments = True

    def __init__(
        self,
        calculator: Calculator,
        what: str = "lengths",
        *,
        magnetic_force_max: float = 1e-6,
        steps: int = 500,
    ) -> None:
        super().__init__()
        require_property(calculator, "magnetic_forces", purpose="AdiabaticMoments")
        if isinstance(calculator, AdiabaticMoments):
            raise ValueError(
                "this calculator minimises moments already; take the one inside, "
                "calculator.calculator, with what='vectors' for lengths and directions"
            )
        if what not in KINDS:
            raise ValueError(f"what must be one of {', '.join(KINDS)}, got {what!r}")
        self.calculator = calculator
        self.what = what
        self.magnetic_force_max = positive("magnetic_force_max", magnetic_force_max)
        self.steps = whole("steps", steps, 1)
        self.implemented_properties = [*calculator.implemented_properties, "magmoms"]
        self.parameters.update(
            calculator=type(calculator).__name__,
            what=what,
            magnetic_force_max=magnetic_force_max,
            **getattr(calculator, "parameters", {}),
        )
        self.n_calls = 0
        self.restart()

    def restart(self) -> None:
        """Forget the moments: the next call starts from those of the atoms."""
        self.reset()
        self._given: tuple[np.ndarray, np.ndarray] | None = None
        self._moments = np.zeros((0, 3))
        self._directions = np.zeros((0, 3))
        self._memory = LBFGSMemory()

    def __copy__(self) -> Self:
        """Return a calculator that shares the model, and starts where this one is."""
        copied = super().__copy__()
        copied._memory = LBFGSMemory()
        return copied

    def set_atoms(self, atoms: Atoms) -> None:
        """Let the calculator refuse atoms that it does not know."""
        if hasattr(self.calculator, "set_atoms"):
            self.calculator.set_atoms(atoms)

    def get_magnetic_moments(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return the moments that minimise the energy, (N, 3), mu_B."""
        return self.get_property("magmoms", atoms)

    def export_properties(self) -> Properties:
        """Return those results that ASE has a name for; of moments, it has numbers."""
        known = all_outputs.keys() - {"magmoms"}
        return Properties({k: v for k, v in self.results.items() if k in known})

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Minimise, and evaluate at the minimum.

        Raises
        ------
        ValueError
            If the atoms carry no moments.
        CalculationFailed
            If the minimum is not reached within ``steps`` calls, or the model gives
            numbers that are not finite. The next call starts from the atoms' moments.
        """
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        image = self.atoms.copy()
        image.calc = self.calculator
        free = self._start(image)
        try:
            if free.any():
                self._minimise(image, free)
            for name in ("energy", *properties):
                if name != "magmoms":
                    self.calculator.get_property(name, image)
            self.n_calls += 1
        except CalculationFailed:
            self.restart()
            raise
        self._remember(image)
        self.results = dict(self.calculator.results)
        self.results["magmoms"] = self._moments.copy()

    def _start(self, image: Atoms) -> np.ndarray:
        """Give the structure its first moments; return which may change, (N,)."""
        spins = get_spins(image)
        known = self._given
        if (
            known is None
            or not np.array_equal(known[0], image.numbers)
            or not np.array_equal(known[1], spins)
        ):
            self._given = image.numbers.copy(), spins
            self._moments = spins
            self._directions = np.zeros_like(spins)
            self._memory.clear()
        free = spins.any(axis=1) & ~fixed_spins(image)
        lengths = np.linalg.norm(self._moments, axis=1)
        # Round-off must not become the direction of a moment that has vanished.
        sure = lengths > SEED
        unknown = ~self._directions.any(axis=1)
        chosen = (sure | unknown) & (lengths > 0.0)
        self._directions[chosen] = self._moments[chosen] / lengths[chosen, None]
        if self.what != "directions":
            short = free & (lengths < SEED)
            self._moments[short] = SEED * self._directions[short]
        set_spins(image, self._moments)
        return free

    def _remember(self, image: Atoms) -> None:
        self._moments = get_spins(image)

    def _minimise(self, image: Atoms, free: np.ndarray) -> None:
        if self.what == "directions":
            largest = np.linalg.norm(get_spins(image), axis=1).max()
            limit = self.magnetic_force_max * largest
            found = relax_spins(image, torque_max=limit, steps=self.steps)
            self.n_calls += found.n_calls
            if not found.converged:
                left = f"a torque of {found.residuals['torque']:.1e} eV"
                raise self._failure(left, found.n_calls)
            return
        axes = self._directions[free] if self.what == "lengths" else None
        problem = _Coordinates(self, image, free, axes)
        before = self.n_calls
        force = problem.minimise(self._memory)
        if not force <= self.magnetic_force_max:
            left = f"a magnetic force of {force:.1e} eV/mu_B"
            raise self._failure(left, self.n_calls - before)

    def _failure(self, left: str, calls: int) -> CalculationFailed:
        return CalculationFailed(
            f"the {self.what} of the moments reach no minimum in {calls} model calls, "
            f"{left} is left: start from other moments, allow more steps, or a larger "
            "magnetic_force_max where the precision of the model limits it"
        )

    def ask(self, image: Atoms) -> tuple[float, np.ndarray]:
        """Return the energy, eV, and -dE/dm, (N, 3), eV/mu_B, by one model call."""
        self.n_calls += 1
        results: dict[str, Any]
        if isinstance(self.calculator, DeepSpinCalculator):
            (results,) = self.calculator.evaluate([image], forces=False, virial=False)
        else:
            results = {
                "magnetic_forces": vectors_of(
                    self.calculator, "magnetic_forces", image
                ),
                "energy": self.calculator.get_property("energy", image),
            }
        energy, forces = float(results["energy"]), results["magnetic_forces"]
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise CalculationFailed(
                "the energy or a magnetic force is not finite while the moments are "
                "minimised; they may be far outside the range of the model"
            )
        return energy, np.asarray(forces)


class _Coordinates:
    """Moments along fixed axes, or their Cartesian components, as coordinates.

    Parameters
    ----------
    surface : AdiabaticMoments
        What evaluates and has the thresholds.
    image : Atoms
        Its moments are changed in place.
    free : (N,) bool array
    axes : (n, 3) array, optional
        Unit vectors of the free moments, of which the lengths alone change.
    """

    def __init__(
        self,
        surface: AdiabaticMoments,
        image: Atoms,
        free: np.ndarray,
        axes: np.ndarray | None,
    ) -> None:
        self.surface, self.image = surface, image
        self.free, self.axes = free, axes
        self.spins = get_spins(image)

    def start(self) -> np.ndarray:
        """Return the present coordinates, (n, 1) or (n, 3), mu_B."""
        own = self.spins[self.free]
        if self.axes is None:
            return own
        return np.sum(own * self.axes, axis=1, keepdims=True)

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return energy and minus its gradient at coordinates."""
        spins = self.spins.copy()
        spins[self.free] = x if self.axes is None else x * self.axes
        set_spins(self.image, spins)
        energy, forces = self.surface.ask(self.image)
        own = forces[self.free]
        if self.axes is not None:
            own = np.sum(own * self.axes, axis=1, keepdims=True)
        return energy, own

    def minimise(self, memory: LBFGSMemory) -> float:
        """Go to a minimum by L-BFGS; return the largest force left, eV/mu_B.

        ``memory`` holds curvatures of the structure before, which are nearly those of
        this one.
        """
        x = self.start()
        last = self.surface.n_calls + self.surface.steps
        energy, forces = self.evaluate(x)
        limit = _LIMIT
        while True:
            left = float(np.linalg.norm(forces, axis=1).max())
            logger.debug("energy %.9f eV, magnetic force %.2e eV/mu_B", energy, left)
            done = left <= self.surface.magnetic_force_max
            if done or self.surface.n_calls >= last or limit < 1e-9:
                return left
            step = _direction(memory, forces)
            step *= min(1.0, limit / np.linalg.norm(step, axis=1).max())
            slope = float(np.sum(step * forces))
            ahead, end = self.evaluate(x + step)
            fine = ahead <= energy - _DECREASE * slope or (
                ahead <= energy + _ROUND_OFF * max(1.0, abs(energy))
                and np.sum(step * end) > -(1.0 - 2.0 * _DECREASE) * slope
            )
            if not memory.update(step, forces - end) and fine:
                memory.lengthen(step, forces - end, end)
            if fine:
                x, energy, forces = x + step, ahead, end
                limit = min(_LIMIT, 3.0 * limit)
            else:
                limit = 0.3 * float(np.linalg.norm(step, axis=1).max())


def _direction(memory: LBFGSMemory, forces: np.ndarray) -> np.ndarray:
    """Return the quasi-Newton step."""
    curvature = _CURVATURE
    if memory.pairs:
        s, y = memory.pairs[-1]
        curvature = float(np.sum(y * y) / np.sum(s * y))
    step = memory.direction(forces, lambda rest: rest / curvature)
    if np.sum(step * forces) <= 0.0:
        memory.clear()
        return forces / _CURVATURE
    return step
