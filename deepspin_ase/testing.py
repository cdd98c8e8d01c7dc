"""Tests of potentials: derivatives, batches, symmetries, cutoffs and ranges."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.geometry import complete_cell
from scipy.spatial.transform import Rotation
from torch import Tensor

from .neighbors import PairList, build_pairs
from .potentials import Potential, Prediction, choose_backend
from .system import System

__all__ = ["SYMMETRIES", "check_potential"]

#: Symmetries that a potential may have: of the moments against their reversal, of
#: lattice and moments turned together, of the moments turned alone (without spin-orbit
#: coupling), and of the lattice inverted with moments as axial vectors.
SYMMETRIES = ("time_reversal", "rotation", "spin_rotation", "inversion")

#: Steps of differences, A or mu_B, and of strains.
STEP = 1e-3

#: Distance from the cutoff, relative to it, at which a pair is compared on either side.
ASIDE = 1e-6

#: How much farther than the declared range atoms are that must not be coupled, A.
MARGIN = 1e-3

_QUANTITIES = ("energies", "forces", "magnetic_forces", "virial")


def check_potential(
    potential: Potential,
    atoms: Atoms | Sequence[Atoms],
    *,
    symmetries: Sequence[str] = ("time_reversal", "rotation"),
    smooth: bool = True,
    tolerance: float = 1e-6,
) -> None:
    """Check a potential against what calculators, drivers and analyses rely on.

    Energies of atoms are finite and the same with ``evaluate`` and ``forward``, with
    compiled kernels and in torch, in a batch and alone, for atoms in another order, for
    a longer pair list, and for atoms that are moved together and wrapped into the
    cell. Forces, magnetic forces and virial are derivatives of the energy. Atoms that
    are farther apart than the potential's ``interaction_range`` are not coupled, and
    energies of a potential that ``is_local`` come from the pairs of their atom.
    Derivatives are continuous where a pair crosses the cutoff.

    Parameters
    ----------
    potential : Potential
        In float64; it is left as it is.
    atoms : Atoms or sequence of Atoms
        Small structures without symmetry, with moments where the potential depends on
        them.
    symmetries : sequence of str
        What else leaves the energy as it is, of :data:`SYMMETRIES`. Leave out
        "rotation" for terms with a fixed axis, and "time_reversal" for external fields.
    smooth : bool
        Whether derivatives are continuous at the cutoff. Rigid shells and functions
        that are cut off abruptly are not.
    tolerance : float
        Largest error, relative to the largest value of a quantity, or to 1e-3 (eV, A,
        mu_B) where that is larger.

    Raises
    ------
    AssertionError
        If a check fails; lists all that do, with the size of the errors.
    ValueError
        If a symmetry is unknown, or the potential does not apply to the atoms.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from deepspin_ase import set_spins
    >>> from deepspin_ase.potentials import CubicCut, Heisenberg
    >>> from deepspin_ase.testing import check_potential
    >>> iron = bulk("Fe", cubic=True)
    >>> iron.rattle(0.1, seed=0)
    >>> set_spins(iron, [[0, 0.3, 2.1], [1.5, 0.2, -0.4]])
    >>> check_potential(Heisenberg(CubicCut(0.1, 4.0)), iron)
    """
    unknown = set(symmetries) - set(SYMMETRIES)
    if unknown:
        raise ValueError(
            f"symmetries must be among {', '.join(SYMMETRIES)}, got "
            f"{', '.join(sorted(unknown))}"
        )
    images = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    failures: list[str] = []
    for number, image in enumerate(images):
        checks = _Checks(copy.deepcopy(potential), image, tolerance)
        for failure in checks.run(symmetries, smooth=smooth):
            failures.append(f"structure {number}: {failure}")
    if failures:
        name = type(potential).__name__
        raise AssertionError(f"{name} fails:\n  " + "\n  ".join(failures))


class _Checks:
    """The checks of a potential on one structure."""

    def __init__(self, potential: Potential, atoms: Atoms, tolerance: float) -> None:
        self.potential, self.atoms, self.tolerance = potential, atoms, tolerance
        self.system = System.from_atoms(atoms, require_spins=potential.uses_spins)
        self.random = torch.Generator().manual_seed(0)
        self.active = (self.system.spins != 0).any(dim=1)

    def run(self, symmetries: Sequence[str], *, smooth: bool) -> Iterator[str]:
        """Yield what fails."""
        self.found = self.potential.evaluate(self.system)
        if not all(map(_is_finite, self._values(self.found))):
            yield "energies or derivatives are not finite"
            return
        yield from self._shapes()
        yield from self._evaluations()
        yield from self._moments()
        yield from self._derivatives()
        yield from self._batch()
        yield from self._order()
        yield from self._translation()
        yield from self._lists()
        yield from self._range()
        yield from self._symmetries(symmetries)
        if smooth:
            yield from self._cutoff()

    # --- helpers ---

    @staticmethod
    def _values(prediction: Prediction) -> list[Tensor]:
        return [getattr(prediction, name) for name in _QUANTITIES]

    def _differ(
        self, what: str, found: Tensor, expected: Tensor, scale: Tensor | None = None
    ) -> Iterator[str]:
        """Yield a sentence if two tensors differ by more than the tolerance."""
        found, expected = found.detach(), expected.detach()
        if found.shape != expected.shape:
            yield f"{what}: shape {tuple(found.shape)}, not {tuple(expected.shape)}"
        elif found.numel():
            size = (expected if scale is None else scale).abs().max().clamp_min(1e-3)
            error = float((found - expected).abs().max() / size)
            if not error <= self.tolerance:
                yield f"{what}: error of {error:.1e} of the largest value"

    def _compare(
        self, what: str, found: Prediction, expected: Sequence[Tensor]
    ) -> Iterator[str]:
        values = zip(_QUANTITIES, self._values(found), expected, strict=True)
        for name, value, other in values:
            yield from self._differ(f"{what}, {name}", value, other)

    def _energy(self, systems: Sequence[System]) -> Tensor:
        found = [
            self.potential.evaluate(
                system, forces=False, magnetic_forces=False, virial=False
            )
            for system in systems
        ]
        return torch.cat([x.energy for x in found]).double()

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    # --- checks ---

    def _shapes(self) -> Iterator[str]:
        n = self.system.n_atoms
        shapes = ((n,), (n, 3), (n, 3), (1, 3, 3))
        for name, value, shape in zip(
            _QUANTITIES, self._values(self.found), shapes, strict=True
        ):
            if tuple(value.shape) != shape:
                yield f"{name} has shape {tuple(value.shape)}, not {shape}"
        total = self.system.sum(self.found.energies)
        yield from self._differ(
            "energy as the sum of energies", self.found.energy, total
        )

    def _evaluations(self) -> Iterator[str]:
        expected = self._values(self.found)
        reference = copy.deepcopy(self.potential)
        choose_backend(reference, "reference")
        yield from self._compare(
            "in torch against kernels", reference.evaluate(self.system), expected
        )
        yield from self._compare(
            "with create_graph",
            self.potential.evaluate(self.system, create_graph=True),
            expected,
        )
        pairs = build_pairs(self.system, self.potential.pair_cutoff(self.system))
        with torch.no_grad():
            energies = self.potential(self.system, pairs)
        yield from self._differ("energies of forward()", energies, expected[0])

    def _moments(self) -> Iterator[str]:
        if not self.potential.uses_spins:
            spins = torch.where(
                self.active[:, None], self._randn(*self.active.shape, 3), 0
            )
            turned = self.potential.evaluate(self.system.replace(spins=spins))
            yield from self._differ(
                "uses_spins is False, but energies with other moments",
                turned.energies,
                self.found.energies,
            )
        magnetic = self.potential.magnetic_species
        if magnetic is not None and self.potential.uses_spins:
            forces = self.found.magnetic_forces
            assert forces is not None
            numbers = self.system.species.tolist()
            known = torch.tensor([z in magnetic for z in numbers])
            yield from self._differ(
                "magnetic forces on elements that carry no moment",
                torch.where(known[:, None], 0.0, forces),
                torch.zeros_like(forces),
                forces,
            )

    def _derivatives(self) -> Iterator[str]:
        """Compare derivatives along random directions with differences."""
        system, found = self.system, self.found
        n = system.n_atoms
        assert found.forces is not None and found.magnetic_forces is not None
        assert found.virial is not None
        kinds: list[tuple[str, Tensor, Tensor, Callable[[Tensor], System]]] = [
            (
                "forces",
                found.forces,
                self._randn(n, 3),
                lambda x: system.replace(positions=system.positions + x),
            ),
            (
                "virial",
                found.virial,
                self._randn(1, 3, 3),
                system.strained,
            ),
        ]
        if bool(self.active.any()):
            kinds.append(
                (
                    "magnetic_forces",
                    found.magnetic_forces,
                    self._randn(n, 3) * self.active[:, None],
                    lambda x: system.replace(spins=system.spins + x),
                )
            )
        for name, values, direction, moved in kinds:
            direction = direction / direction.norm()
            steps = (-2.0, -1.0, 1.0, 2.0)
            energies = self._energy([moved(k * STEP * direction) for k in steps])
            weights = energies.new_tensor([1.0, -8.0, 8.0, -1.0]) / 12.0
            slope = (weights * energies).sum() / STEP
            projected = -(values.double() * direction).sum()
            yield from self._differ(
                f"{name} against differences of the energy", projected, slope, values
            )

    def _batch(self) -> Iterator[str]:
        other = self.system.replace(
            positions=self.system.positions + 0.05 * self._randn(self.system.n_atoms, 3)
        )
        together = self.potential.evaluate(System.cat([self.system, other]))
        single = self.potential.evaluate(other)
        joined = [
            torch.cat(parts)
            for parts in zip(
                self._values(self.found), self._values(single), strict=True
            )
        ]
        yield from self._compare("in a batch against alone", together, joined)

    def _order(self) -> Iterator[str]:
        order = torch.randperm(self.system.n_atoms, generator=self.random)
        system = self.system
        turned = system.replace(
            positions=system.positions[order],
            spins=system.spins[order],
            species=system.species[order],
        )
        energies, forces, magnetic, virial = self._values(self.found)
        expected = (energies[order], forces[order], magnetic[order], virial)
        found = self.potential.evaluate(turned)
        yield from self._compare("atoms in another order", found, expected)

    def _translation(self) -> Iterator[str]:
        moved = self.atoms.copy()
        moved.positions += [0.7, -1.3, 2.1]
        moved.wrap()
        system = System.from_atoms(moved, require_spins=self.potential.uses_spins)
        found, expected = self.potential.evaluate(system), self._values(self.found)
        yield from self._compare("moved and wrapped", found, expected)

    def _lists(self) -> Iterator[str]:
        cutoff = self.potential.pair_cutoff(self.system)
        longer = build_pairs(self.system, cutoff + 1.0)
        found = self.potential.evaluate(self.system, longer)
        expected = self._values(self.found)
        yield from self._compare("with a longer pair list", found, expected)

    def _symmetries(self, names: Sequence[str]) -> Iterator[str]:
        system = self.system
        energies, forces, magnetic, virial = self._values(self.found)
        turn = torch.tensor(Rotation.random(random_state=1).as_matrix())

        def turned(values: Tensor) -> Tensor:
            return values @ turn.T

        if "time_reversal" in names:
            found = self.potential.evaluate(system.replace(spins=-system.spins))
            expected = (energies, forces, -magnetic, virial)
            yield from self._compare("moments reversed", found, expected)
        if "rotation" in names:
            found = self.potential.evaluate(
                system.replace(
                    positions=turned(system.positions),
                    spins=turned(system.spins),
                    cell=turned(system.cell),
                )
            )
            expected = (
                energies,
                turned(forces),
                turned(magnetic),
                turn @ turned(virial),
            )
            yield from self._compare("lattice and moments rotated", found, expected)
        if "spin_rotation" in names:
            found = self.potential.evaluate(system.replace(spins=turned(system.spins)))
            expected = (energies, forces, turned(magnetic), virial)
            yield from self._compare("moments rotated", found, expected)
        if "inversion" in names:
            found = self.potential.evaluate(
                system.replace(positions=-system.positions, cell=-system.cell)
            )
            expected = (energies, -forces, magnetic, virial)
            yield from self._compare("lattice inverted", found, expected)

    def _cutoff(self) -> Iterator[str]:
        """Compare energy and slope on both sides of where a pair is cut off."""
        cutoff = self.potential.cutoff
        if cutoff <= 0.0:
            return
        pairs = build_pairs(self.system, 1.5 * cutoff)
        distances = pairs.vectors(self.system).norm(dim=1)
        if not len(distances):
            return
        # Pairs that the potential tells apart by their elements are cut off by
        # different functions; those of each kind are tried that need least strain.
        kinds = self.system.species[pairs.i] * 1000 + self.system.species[pairs.j]
        for kind in kinds.unique():
            nearest = distances[kinds == kind]
            length = nearest[(nearest - cutoff).abs().argmin()]
            yield from self._across(float(cutoff / length))

    def _across(self, scale: float) -> Iterator[str]:
        """Yield which quantities jump at a strain, (1 + strain) = ``scale``."""
        identity = torch.eye(3, dtype=torch.float64)[None]
        a, b, c, d = (
            self.potential.evaluate(
                self.system.strained((scale * (1.0 + k * ASIDE) - 1.0) * identity)
            )
            for k in (-3.0, -1.0, 1.0, 3.0)
        )
        for name in ("energies", "forces", "magnetic_forces"):
            before, inside, outside, after = (getattr(x, name) for x in (a, b, c, d))
            # What a function with a finite slope changes by is no jump.
            change = 0.5 * (inside - before + after - outside)
            yield from self._differ(
                f"{name} on both sides of the cutoff", outside - change, inside
            )

    def _range(self) -> Iterator[str]:
        """Move an atom and its moment: what is beyond the range must not notice."""
        ends = self.potential.interaction_range(self.system)
        if ends is None or math.isinf(ends):
            return
        system = _spread(self.system, ends + MARGIN)
        ends = self.potential.interaction_range(system)
        assert ends is not None
        moved = system.positions.clone()
        moved[0] += 0.05 * self._randn(3)
        spins = system.spins.clone()
        if bool(self.active[0]):
            spins[0] += 0.1 * self._randn(3)
        changed = system.replace(positions=moved, spins=spins)
        cutoff = max(self.potential.pair_cutoff(s) for s in (system, changed))
        far = _beyond(system, changed, max(ends, 0.0) + MARGIN)
        before, after = (
            self.potential.evaluate(system),
            self.potential.evaluate(changed),
        )
        if not bool(far.any()):
            return
        for name in ("forces", "magnetic_forces"):
            values, others = getattr(after, name), getattr(before, name)
            yield from self._differ(
                f"range declared as {ends:.3g} A, but {name} beyond it change",
                values[far],
                others[far],
                others,
            )
        if self.potential.is_local:
            unseen = _beyond(system, changed, cutoff + MARGIN)
            yield from self._differ(
                "is_local, but energies beyond the pair cutoff change",
                after.energies[unseen],
                before.energies[unseen],
                before.energies,
            )
            yield from self._own_pairs(system, before)

    def _own_pairs(self, system: System, whole: Prediction) -> Iterator[str]:
        """Compare the energy of an atom with that from its own pairs alone."""
        pairs = build_pairs(system, self.potential.pair_cutoff(system))
        own = pairs.i == 0
        part = PairList(pairs.i[own], pairs.j[own], pairs.shift[own], pairs.cutoff)
        nothing = {"forces": False, "magnetic_forces": False, "virial": False}
        found = self.potential.evaluate(system, part, **nothing)
        yield from self._differ(
            "is_local, but the energy of an atom from its own pairs",
            found.energies[:1],
            whole.energies[:1],
            whole.energies,
        )


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _spread(system: System, ends: float) -> System:
    """Return a structure that holds atoms farther apart than ``ends``, A.

    Copies are added along the lattice vector that takes the fewest; without one, a
    copy is added that is farther away than ``ends``.
    """
    pbc = system.pbc[0].numpy()
    cell = complete_cell(np.where(pbc[:, None], system.cell[0].numpy(), 0.0))
    extent = float((system.positions.amax(0) - system.positions.amin(0)).norm())
    if pbc.any():
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        axis = int(np.argmax(np.where(pbc, heights, 0.0)))
        n = math.ceil((2.0 * ends + 1.0) / heights[axis]) + 1
        vector = system.cell[0, axis]
        stretched = system.cell.clone()
        stretched[0, axis] *= n
    else:
        n, stretched = 2, system.cell
        vector = system.positions.new_tensor([extent + ends + 0.1, 0.0, 0.0])
    positions = [system.positions + k * vector for k in range(n)]
    return System(
        torch.cat(positions),
        system.spins.repeat(n, 1),
        system.species.repeat(n),
        stretched,
        system.pbc,
        system.index.repeat(n),
    )


def _beyond(first: System, second: System, distance: float) -> Tensor:
    """Return which atoms (N,) are farther than ``distance`` from atom 0 in both."""
    far = torch.ones(first.n_atoms, dtype=torch.bool)
    for system in (first, second):
        pairs = build_pairs(system, distance)
        near = pairs.vectors(system).norm(dim=1) <= distance
        far[pairs.j[near & (pairs.i == 0)]] = False
    far[0] = False
    return far
