"""Joint coordinates of atoms, moments and cell for ASE's optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.filters import Filter, OptimizableFilter

from .._plausible import warn_of_unusual
from .._rotations import jacobian_transposed, rotate
from .._validate import finite, flag, positive, require_calculator, vectors_of
from ..calculators._deepspin import require_stress
from ..constraints import fixed_spins
from ..spins import get_spins, set_spins
from ..system import check_structure
from ._cell import Deformation
from ._defaults import SPIN_SCALE, STRESS_MAX, TORQUE_MAX

#: The reference of a moment follows once it has rotated by more than this, rad. The
#: parametrisation is singular at 2 pi only.
_FOLLOW = np.pi / 2

#: Round-off of a torque, in units of |m| |F_m| and of that of a number.
_ROUND_OFF = 100.0

#: At least this modulus (eV/A^3) is taken for a crystal's where scales are set.
_MODULUS = 1.0


class SpinLatticeFilter(Filter):
    r"""Let an ASE optimizer move positions, cell, directions and lengths of moments.

    The rows that the optimizer sees, in A, are those of the chosen parts:

    ============== ==== =======================================================
    ``positions``  N    Cartesian positions; with ``cell``, in the first cell
    ``cell``       3    logarithm of the deformation times ``cell_scale``
    ``spins``      N    rotation vectors times ``spin_scale``
    ``magnitudes`` N    (ln of the length over the first one times
                        ``spin_scale``, 0, 0)
    ============== ==== =======================================================

    A moment is m = R(theta - theta_0) m_0, with R the rotation by a rotation vector
    (rad). Its length is kept to round-off. The generalised force is J^T (m x F_m),
    where F_m = -dE/dm and J is the left Jacobian of the rotation group at
    theta - theta_0, singular only at a full rotation. The reference (theta_0, m_0)
    follows a moment that has rotated by 90 degrees: theta continues without a jump,
    and no axis is special.

    Parameters
    ----------
    atoms : Atoms
        Its calculator gives forces, ``magnetic_forces`` (eV/mu_B) and, for a
        cell, stress. Atoms, moments and cell are changed in place. Its constraints
        hold: ASE's for positions (and, where they can, cells),
        :class:`deepspin_ase.FixSpins` for directions and lengths of moments.
    positions, cell, spins, magnitudes : bool
        What moves. Moments of length zero stay zero.
    torque_max : float, optional
        Converged when no torque m x F_m, and with ``magnitudes`` no m.F_m, exceeds
        this, eV, by default 1e-4, ...
    stress_max : float
        ... when, with ``cell``, no component of the stress exceeds this, eV/A^3
        (1 GPa = 0.00624 eV/A^3), and no force ``fmax`` of ``opt.run(fmax=...)``.
    spin_scale : float
        Length that one radian is to the optimizer, A: its largest step (0.2 A) rotates
        a moment by at most 0.2 A/``spin_scale``. Curvatures of the energy divide by
        its square.
    cell_scale : float, optional
        Length that a strain of one is to the optimizer, A. By default such that a
        solid's strain is as stiff as an atom's displacement.
    cell_mask : (6,) or (3, 3) booleans, optional
        Components of the strain that are free, as in ASE.
    pressure_GPa : float
        External pressure; p V is added to the energy.

    Raises
    ------
    ValueError
        If there is no calculator, nothing to move, no moments, no cell or periodic
        direction for ``cell``, a mask or pressure without ``cell``, or if positions,
        cell or a number are not finite or a scale or threshold is not positive.
    TypeError
        If ``atoms`` is not an Atoms object, or a scale or threshold not a number.

    Examples
    --------
    >>> BFGS(SpinLatticeFilter(atoms, cell=True, torque_max=1e-5)).run(fmax=0.01)
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        positions: bool = True,
        cell: bool = False,
        spins: bool = True,
        magnitudes: bool = False,
        torque_max: float | None = None,
        stress_max: float = STRESS_MAX,
        spin_scale: float = SPIN_SCALE,
        cell_scale: float | None = None,
        cell_mask: Sequence[Any] | np.ndarray | None = None,
        pressure_GPa: float = 0.0,
    ) -> None:
        check_structure(atoms)
        super().__init__(atoms, indices=range(len(atoms)))
        self.parts = _parts(
            positions=positions, cell=cell, spins=spins, magnitudes=magnitudes
        )
        _check(atoms, self.parts)
        warn_of_unusual("pressure_GPa", finite("pressure_GPa", pressure_GPa))
        if not cell and (cell_mask is not None or pressure_GPa):
            raise ValueError("cell_mask and pressure_GPa do nothing without cell=True")
        if cell_scale is None:
            volume = atoms.get_volume() if cell else 1.0
            cell_scale = float(np.sqrt(_MODULUS * volume / 10.0))
        self.torque_max: float | None = None
        self.set_limits(torque_max=torque_max, stress_max=stress_max)
        self.spin_scale = positive("spin_scale", spin_scale)
        self.cell_scale = positive("cell_scale", cell_scale)
        self.pressure = pressure_GPa * units.GPa
        self.deformation = (
            Deformation(atoms, mask=cell_mask, pressure=self.pressure) if cell else None
        )
        self.blocks = self._layout()
        if self.moving_moments:
            self._start_moments()

    @property
    def moving_moments(self) -> bool:
        """Whether directions or lengths of moments move."""
        return bool({"spins", "magnitudes"} & self.parts)

    def _layout(self) -> dict[str, slice]:
        """Return the rows of each part."""
        blocks: dict[str, slice] = {}
        start = 0
        for name in ("positions", "cell", "spins", "magnitudes"):
            if name in self.parts:
                stop = start + (3 if name == "cell" else len(self.atoms))
                blocks[name] = slice(start, stop)
                start = stop
        return blocks

    def _start_moments(self) -> None:
        """Make the present moments the reference."""
        spins = get_spins(self.atoms)
        set_spins(self.atoms, spins)
        lengths = np.linalg.norm(spins, axis=1)
        self._free = (lengths > 0) & ~fixed_spins(self.atoms)
        self._reference = spins
        self._angles = np.zeros_like(spins)
        self._reference_angles = np.zeros_like(spins)
        self._log_lengths = np.zeros(len(spins))
        self._reference_log_lengths = np.zeros(len(spins))

    def __len__(self) -> int:
        """Return the number of rows."""
        return max(block.stop for block in self.blocks.values())

    def __ase_optimizable__(self) -> _JointOptimizable:
        """Return the object that ASE's optimizers drive."""
        return _JointOptimizable(self)

    def get_positions(self) -> np.ndarray:
        """Return the coordinates, (rows, 3), A."""
        rows = np.zeros((len(self), 3))
        for name, block in self.blocks.items():
            if name == "positions":
                rows[block] = self._positions()
            elif name == "cell" and self.deformation:
                rows[block] = self.cell_scale * self.deformation.get()
            elif name == "spins":
                rows[block] = self.spin_scale * self._angles
            elif name == "magnitudes":
                rows[block, 0] = self.spin_scale * self._log_lengths
        return rows

    def set_positions(self, positions: np.ndarray, **kwargs: Any) -> None:
        """Move atoms, cell and moments to the coordinates (rows, 3), A."""
        if self.deformation:
            self.deformation.set(positions[self.blocks["cell"]] / self.cell_scale)
        if "positions" in self.parts:
            own = positions[self.blocks["positions"]]
            if self.deformation:
                own = own @ self.deformation.gradient()
            self.atoms.set_positions(own, **kwargs)
        if self.moving_moments:
            self._set_moments(positions)

    def _positions(self) -> np.ndarray:
        """Return the positions as they would be in the first cell, (N, 3), A."""
        positions = self.atoms.get_positions()
        if self.deformation:
            positions = np.linalg.solve(self.deformation.gradient(), positions.T).T
        return positions

    def _set_moments(self, new: np.ndarray) -> None:
        if "spins" in self.parts:
            angles = new[self.blocks["spins"]] / self.spin_scale
            self._angles = np.where(self._free[:, None], angles, 0.0)
        if "magnitudes" in self.parts:
            logs = new[self.blocks["magnitudes"], 0] / self.spin_scale
            self._log_lengths = np.where(self._free, logs, 0.0)
        spins = rotate(self._reference, self._angles - self._reference_angles)
        growth = np.exp(self._log_lengths - self._reference_log_lengths)
        set_spins(self.atoms, spins * growth[:, None])
        # Now, not before the next move: gradients hold where the next move starts.
        self._follow(_FOLLOW)

    def recenter(self) -> None:
        """Make the present moments the reference, so that J = 1 here."""
        if self.moving_moments:
            self._follow(0.0)

    def _follow(self, limit: float) -> None:
        """Move the reference of moments that have rotated by more than ``limit``."""
        rotations = self._angles - self._reference_angles
        moved = np.linalg.norm(rotations, axis=1) > limit
        self._reference[moved] = get_spins(self.atoms)[moved]
        self._reference_angles[moved] = self._angles[moved]
        self._reference_log_lengths[moved] = self._log_lengths[moved]

    def get_forces(self, **kwargs: Any) -> np.ndarray:
        """Return minus the gradient of the energy, (rows, 3), eV/A."""
        rows = np.zeros((len(self), 3))
        for name, block in self.blocks.items():
            if name == "positions":
                forces = self.atoms.get_forces(**kwargs)
                if self.deformation:
                    forces = forces @ self.deformation.gradient()
                rows[block] = forces
            elif name == "cell" and self.deformation:
                rows[block] = self.deformation.forces() / self.cell_scale
            elif name == "spins":
                rotations = self._angles - self._reference_angles
                torques = jacobian_transposed(rotations, self.torques())
                rows[block] = torques / self.spin_scale
            elif name == "magnitudes":
                rows[block, 0] = self.stretches() / self.spin_scale
        return rows

    def free(self) -> np.ndarray:
        """Return a mask of the coordinates that may move, (rows, 3) bool.

        Those of atoms that a constraint fixes may not; constraints that couple atoms
        are ignored here.
        """
        rows = np.ones((len(self), 3), dtype=bool)
        for name, block in self.blocks.items():
            if name == "positions":
                probe = np.random.default_rng(0).normal(size=(len(self.atoms), 3))
                for constraint in self.atoms.constraints:
                    constraint.adjust_forces(self.atoms, probe)
                rows[block] = probe != 0.0
            elif name != "cell":
                rows[block] = self._free[:, None]
        return rows

    def get_potential_energy(self, **kwargs: Any) -> float:
        """Return the energy, eV; with a cell, p V is added."""
        known = "free_energy" in self.atoms.calc.implemented_properties
        energy = self.atoms.get_potential_energy(force_consistent=known)
        if self.deformation:
            energy += self.pressure * self.atoms.get_volume()
        return float(energy)

    def magnetic_forces(self) -> np.ndarray:
        """Return -dE/dm of the moments that may move, zero elsewhere, (N, 3)."""
        forces = vectors_of(self.atoms.calc, "magnetic_forces", self.atoms)
        return np.where(self._free[:, None], forces, 0.0)

    def torques(self) -> np.ndarray:
        """Return m x (-dE/dm) of the moments that may move, (N, 3), eV."""
        return np.cross(get_spins(self.atoms), self.magnetic_forces())

    def stretches(self) -> np.ndarray:
        """Return -m.dE/dm = -dE/dln|m| of the moments that may move, (N,), eV."""
        return np.sum(get_spins(self.atoms) * self.magnetic_forces(), axis=1)

    def torques_vanish(self) -> bool:
        """Return whether no moment feels more than round-off."""
        if not self.moving_moments:
            return True
        return self.residuals()["torque"] <= float(self._noise().max())

    def common_rotation(self, angle: float) -> np.ndarray | None:
        """Return the step (rows, 3) that rotates all moments down the energy, A.

        By ``angle`` (rad) about the total torque; None where that is round-off.
        """
        total = self.torques().sum(axis=0) if "spins" in self.parts else np.zeros(3)
        size = float(np.linalg.norm(total))
        if size <= self._noise().sum():
            return None
        spins = get_spins(self.atoms)
        length = np.linalg.norm(spins, axis=1, keepdims=True)
        along = spins / np.where(length > 0.0, length, 1.0)
        rotations = np.where(self._free[:, None], angle * total / size, 0.0)
        rotations -= along * np.sum(along * rotations, axis=1, keepdims=True)
        step = np.zeros((len(self), 3))
        step[self.blocks["spins"]] = self.spin_scale * rotations
        return step

    def _noise(self) -> np.ndarray:
        """Return the round-off of the torques, (N,), eV."""
        double = self.atoms.calc.parameters.get("dtype", "float64") == "float64"
        eps = float(np.finfo(np.float64 if double else np.float32).eps)
        forces = np.linalg.norm(self.magnetic_forces(), axis=1)
        return _ROUND_OFF * eps * np.linalg.norm(get_spins(self.atoms), axis=1) * forces

    def residuals(self) -> dict[str, float]:
        """Return the largest force (eV/A), torque (eV) and stress (eV/A^3), by name."""
        found = {}
        if "positions" in self.parts:
            forces = self.atoms.get_forces()
            found["force"] = float(np.linalg.norm(forces, axis=1).max())
        if "spins" in self.parts:
            torques = np.linalg.norm(self.torques(), axis=1)
            found["torque"] = float(torques.max())
        if "magnitudes" in self.parts:
            largest = float(abs(self.stretches()).max())
            found["torque"] = max(found.get("torque", 0.0), largest)
        if self.deformation:
            found["stress"] = float(abs(self.deformation.stress()).max())
        return found

    def set_limits(
        self, *, torque_max: float | None = None, stress_max: float | None = None
    ) -> None:
        """Change the thresholds of convergence that are given, eV and eV/A^3."""
        if torque_max is not None:
            self.torque_max = positive("torque_max", torque_max)
            warn_of_unusual("torque_max", torque_max, stacklevel=4)
        if stress_max is not None:
            self.stress_max = positive("stress_max", stress_max)
            warn_of_unusual("stress_max", stress_max, stacklevel=4)

    def converged(self, fmax: float) -> bool:
        """Return whether forces, torques and stress are all below their thresholds."""
        limits = {
            "force": fmax,
            "torque": TORQUE_MAX if self.torque_max is None else self.torque_max,
            "stress": self.stress_max,
        }
        return all(value <= limits[k] for k, value in self.residuals().items())


class _JointOptimizable(OptimizableFilter):
    """The filter as ASE's optimizers see it: converged part by part."""

    filterobj: SpinLatticeFilter

    def get_value(self) -> float:
        return self.filterobj.get_potential_energy()

    def converged(self, gradient: np.ndarray, fmax: float) -> bool:
        return self.filterobj.converged(fmax)

    def iterimages(self) -> Iterator[Atoms]:
        return self.filterobj.iterimages()


def _parts(**chosen: bool) -> frozenset[str]:
    parts = frozenset(name for name, value in chosen.items() if flag(name, value))
    if not parts:
        raise ValueError(f"nothing may move: set one of {', '.join(chosen)}")
    return parts


def _check(atoms: Atoms, parts: frozenset[str]) -> None:
    require_calculator(atoms)
    if "cell" in parts:
        require_stress(atoms, purpose="cell=True")
    if {"spins", "magnitudes"} & parts:
        purpose = "spins=True or magnitudes=True"
        require_calculator(atoms, "magnetic_forces", purpose=purpose)
        spins = get_spins(atoms)
        if not np.any(spins):
            raise ValueError(
                "all moments are zero; set them with deepspin_ase.set_spins, or "
                "leave them alone with spins=False, magnitudes=False"
            )
    if "cell" in parts and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ValueError(
            "cell=True needs a structure that is periodic in three directions; "
            f"this one has pbc {atoms.pbc.tolist()} and a cell of rank "
            f"{atoms.cell.rank}"
        )
