"""Band of images with cached evaluations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from ...calculators._deepspin import DeepSpinCalculator, require_stress
from ...calculators._recorded import RecordedResults
from ...calculators._results import results_of
from ...constraints import fixed_spins
from ...dynamics._engine import engine_of
from ...potentials._external import PotentialOf
from ...spins import get_spins, set_spins
from ...system import System
from .._joint_space import Metric, periodic_plane
from ._interpolation import check_same_atoms

_NEEDED = ("energy", "forces", "torques", "magnetic_forces")


class Band:
    """P images of the same atoms with calculators.

    Images of a :class:`~deepspin_ase.DeepSpinCalculator` are evaluated together, in
    one call of the model, those of other calculators one after the other; in both
    cases only images that have changed since they were evaluated.

    Parameters
    ----------
    images : sequence of Atoms
        Where they share a DeepSpinCalculator, each gets a copy with the same
        model, which keeps the results of that image.
    cell : bool
        Whether cells move, so that virials are needed.
    held : sequence of str
        Parts that stay as they are: ``lattice`` or ``spins``.

    Attributes
    ----------
    images : list of Atoms
    n_calls : int
        Evaluations so far: batched calls of a model, or calls of the first image's
        calculator and the like.
    n_evaluated : int
        Images evaluated so far.
    record : RecordedResults, optional
        Where the results of every call are kept; what is known is not asked for again.

    Raises
    ------
    TypeError
        If ``images`` is not a sequence of Atoms.
    ValueError
        If there are fewer than 3 images, or they differ in atoms, periodic
        directions, constraints or, without ``cell``, in cells; if positions are not
        finite, moments or calculators are missing, or calculators are of different
        kinds or models.
    """

    def __init__(
        self, images: Sequence[Atoms], *, cell: bool, held: Sequence[str] = ()
    ) -> None:
        if isinstance(images, Atoms) or not isinstance(images, Iterable):
            raise TypeError(
                "a band is a sequence of Atoms, such as interpolate gives, not "
                f"{type(images).__name__}"
            )
        self.images = list(images)
        self.cell = cell
        self.held = tuple(held)
        _check(self.images, cell)
        for image in self.images:
            set_spins(image, get_spins(image))
        kinds = {type(image.calc) for image in self.images if image.calc is not None}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"the images of a band have one kind of calculator: {names}"
            )
        engine_of(self.images)  # raises where they differ in their models
        self._batched = isinstance(self.images[0].calc, DeepSpinCalculator)
        if self._batched:
            _separate_calculators(self.images)
        self.n_calls = self.n_evaluated = 0
        self.record: RecordedResults | None = None
        self.results: list[dict[str, Any]] = [{} for _ in self.images]
        self._seen: list[tuple[np.ndarray, ...] | None] = [None] * len(self.images)
        self._plane = periodic_plane(self.images[0])

    def evaluate(self) -> bool:
        """Evaluate the images that have changed; return whether any had.

        Raises
        ------
        CalculationFailed
            If an energy, force, torque or virial is not finite.
        """
        now = [_geometry(image) for image in self.images]
        changed = [
            k
            for k, (a, b) in enumerate(zip(now, self._seen, strict=True))
            if b is None or not all(map(np.array_equal, a, b))
        ]
        if not changed:
            return False
        for k, results in zip(changed, self._ask(changed), strict=True):
            _check_finite(results, k)
            if self.cell:
                results["virial"] = self._plane @ results["virial"] @ self._plane
            self.results[k] = results
            self._seen[k] = now[k]
        self.n_calls += 1
        self.n_evaluated += len(changed)
        return True

    def _ask(self, changed: list[int]) -> list[dict[str, Any]]:
        images = [self.images[k] for k in changed]
        found = None if self.record is None else self.record.get(images)
        if found is None:
            found = self._compute(images)
            if self.record is not None:
                self.record.add(images, found)
        if self._batched:
            for image, results in zip(images, found, strict=True):
                image.calc.take_results(image, results)
        return found

    def _compute(self, images: list[Atoms]) -> list[dict[str, Any]]:
        if not self._batched:
            return [self._ask_calculator(image) for image in images]
        calculator = self.images[0].calc
        if self.record is not None:
            calculator.clear_pairs()
        found: list[dict[str, Any]] = calculator.evaluate(images, virial=self.cell)
        return found

    def _ask_calculator(self, image: Atoms) -> dict[str, Any]:
        system = System.from_atoms(image)
        potential = PotentialOf.of_images([image])
        prediction = potential.evaluate(system, virial=self.cell)
        return results_of(prediction, system)[0]

    def energies(self) -> np.ndarray:
        """Return the energies (P,), eV, those of constraints included."""
        energies = np.array([results["energy"] for results in self.results])
        for k, image in enumerate(self.images):
            for constraint in image.constraints:
                if hasattr(constraint, "adjust_potential_energy"):
                    energies[k] += constraint.adjust_potential_energy(image)
        return energies

    def forces(self, metric: Metric) -> np.ndarray:
        """Return minus the gradients of the energies by rows (P, R, 3), eV/A.

        Constraints hold; on what is held there are none.
        """
        rows = np.stack([metric.forces(results) for results in self.results])
        for image, own in zip(self.images, rows, strict=True):
            constrain(image, own, potentials=True)
        parts = metric.parts(len(self.images[0]))
        for name in self.held:
            rows[:, parts[name]] = 0.0
        return rows

    def snapshots(self) -> Iterator[Atoms]:
        """Yield copies of the images that keep their results."""
        for image, results in zip(self.images, self.results, strict=True):
            frame = image.copy()
            known = {k: v for k, v in results.items() if k in all_properties}
            frame.calc = SinglePointCalculator(frame, **known)
            frame.calc.results.update(results)
            yield frame


def constrain(image: Atoms, rows: np.ndarray, *, potentials: bool) -> None:
    """Remove from rows (R, 3) of ``image`` what its constraints forbid, in place.

    With ``potentials``, forces of constraints that are potentials (springs, external
    forces) are added.
    """
    n_atoms = len(image)
    for constraint in image.constraints:
        if potentials or not hasattr(constraint, "adjust_potential_energy"):
            constraint.adjust_forces(image, rows[:n_atoms])
    rows[n_atoms : 2 * n_atoms][fixed_spins(image)] = 0.0


def _geometry(image: Atoms) -> tuple[np.ndarray, ...]:
    return image.positions.copy(), get_spins(image), image.cell.array.copy()


def _check(images: list[Atoms], cell: bool) -> None:
    if len(images) < 3:
        raise ValueError(f"a band needs at least 3 images, got {len(images)}")
    check_same_atoms(images)
    first = images[0]
    for k, image in enumerate(images):
        if cell:
            require_stress(image, name=f"image {k}", purpose="cell=True")
        if not cell and not np.allclose(
            image.cell.array, first.cell.array, rtol=0.0, atol=1e-8
        ):
            raise ValueError(
                f"image {k} has a different cell from image 0: give cell=True for a "
                "path on which the cell changes"
            )
        if (fixed_spins(image) != fixed_spins(first)).any():
            raise ValueError(f"image {k} has different fixed spins from image 0")
        if len(image.constraints) != len(first.constraints):
            raise ValueError(f"image {k} has different constraints from image 0")
    if cell and not first.pbc.any():
        raise ValueError("cell=True needs a periodic direction")
    if cell and any(hasattr(c, "adjust_cell") for c in first.constraints):
        raise ValueError("constraints of the cell are not supported with cell=True")


def _separate_calculators(images: list[Atoms]) -> None:
    """Copy the calculators that several images share."""
    taken: set[int] = set()
    for image in images:
        if id(image.calc) in taken:
            twin = copy.copy(image.calc)
            twin.reset()
            image.calc = twin
        taken.add(id(image.calc))


def _check_finite(results: dict[str, Any], k: int) -> None:
    for name in (*_NEEDED, "virial"):
        if name in results and not np.isfinite(results[name]).all():
            raise CalculationFailed(
                f"the {name.replace('_', ' ')} of image {k} is not finite; the path "
                "may lead far outside the range of the model"
            )


def springs(spring: float | tuple[float, float]) -> tuple[float, float]:
    """Return the spring constants of low and of high images, eV/A^2."""
    try:
        constants = np.atleast_1d(np.asarray(spring, dtype=float))
    except (TypeError, ValueError):
        constants = np.zeros(0)
    if constants.shape not in ((1,), (2,)) or not (
        np.isfinite(constants).all() and (constants > 0.0).all()
    ):
        raise ValueError(
            "spring must be a positive constant, or those of low and high images, "
            f"eV/A^2, got {spring!r}"
        )
    return float(constants[0]), float(constants[-1])


def chosen_images(name: str, chosen: bool | Sequence[int], count: int) -> list[int]:
    """Return the images, of ``count``, that ``climb`` or ``fall`` (``name``) lists."""
    if chosen is False:
        return []
    if isinstance(chosen, str) or not isinstance(chosen, (Sequence, np.ndarray)):
        raise TypeError(
            f"{name} must be True, False or a list of images, got {chosen!r}"
        )
    images = [int(k) for k in chosen]
    if any(not 1 <= k <= count - 2 for k in images):
        raise ValueError(
            f"{name} names images from 1 to {count - 2} (the ends stay), got {images}"
        )
    return images
