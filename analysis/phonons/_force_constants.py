"""Phonons by phonopy, with the magnetic order kept or relaxed at every displacement.

>>> phonon = calculate_phonons(atoms, 3)  # a phonopy.Phonopy; atoms.calc set

What comes back is phonopy's own object, with all it offers;
:mod:`deepspin_ase.analysis.phonons._spectra` has shortcuts. Non-analytical corrections
for polar crystals are not applied: set ``phonon.nac_params`` for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator
from numpy.typing import ArrayLike
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from ..._progress import bar
from ..._result import convertible
from ..._validate import positive, require_calculator
from ...calculators._deepspin import DeepSpinCalculator, batches
from ...optimize import relax_batch
from ...optimize._defaults import TIGHT_TORQUE_MAX
from ...spins import get_spins, set_spins

#: |sin| of the angle to a common axis up to which moments are collinear.
_COLLINEAR = 1e-3

#: Torques that are left by default, as a share of those that displacements cause; and
#: the least threshold, eV, near round-off.
_SHARE, _LEAST = 1e-3, 1e-12


def to_phonopy(atoms: Atoms, *, moments: bool = True) -> PhonopyAtoms:
    """Return ``atoms`` for phonopy, with their vector moments.

    Parameters
    ----------
    atoms : Atoms
    moments : bool
        Hand over moments where there are any.
    """
    magnetic = None
    if moments and atoms.has("initial_magmoms") and get_spins(atoms).any():
        magnetic = get_spins(atoms)
    return PhonopyAtoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        masses=atoms.get_masses(),
        magnetic_moments=magnetic,
    )


def from_phonopy(cell: PhonopyAtoms) -> Atoms:
    """Return a cell of phonopy as periodic Atoms, moments and masses included."""
    atoms = Atoms(
        numbers=cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True
    )
    atoms.set_masses(cell.masses)
    moments = cell.magnetic_moments
    if moments is not None:
        set_spins(atoms, np.asarray(moments))
    return atoms


def calculate_phonons(
    atoms: Atoms,
    supercell: int | ArrayLike,
    *,
    distance: float = 0.01,
    relax_spins: bool = False,
    torque_max: float | None = None,
    symmetry: str = "magnetic",
    primitive_matrix: Any = None,
) -> Phonopy:
    """Return phonopy's object with force constants from finite displacements.

    The forces of the undisplaced supercell are subtracted.

    Parameters
    ----------
    atoms : Atoms
        Relaxed, with a calculator. Moments, if there are any, stay as they are
        unless they are relaxed.
    supercell : int, three ints or (3, 3) array
        Multiples of the cell, or phonopy's supercell matrix.
    distance : float
        Displacement, A.
    relax_spins : bool
        Relax the moments at every displacement: adiabatic spins.
        Their lengths are kept. By default moments keep their directions.
    torque_max : float, optional
        Convergence of that, eV; by default 1e-6, or a thousandth of the largest torque
        that the displacements cause where that is less.
    symmetry : {"magnetic", "collinear", "none"}
        Symmetry that saves displacements: the magnetic space group, in which moments
        rotate with the lattice; for collinear orders that do not feel the lattice (no
        spin-orbit coupling), the group of their signs; or nothing.
    primitive_matrix : optional
        phonopy's; by default the given cell is the primitive one.

    Raises
    ------
    ValueError
        If there is no calculator, the cell is not periodic, arguments are not as
        described, or moments are not collinear where they should be.
    CalculationFailed
        If forces are not finite, or moments do not relax.
    """
    phonon = prepare_phonopy(
        atoms,
        supercell,
        distance=distance,
        symmetry=symmetry,
        primitive_matrix=primitive_matrix,
    )
    images = displaced_supercells(phonon, atoms)
    for image in images:
        image.calc = atoms.calc
    if relax_spins:
        get_spins(atoms)  # moments must be there
        _relax(images, torque_max)
    forces = forces_of(images, atoms.calc)
    phonon.forces = forces[1:] - forces[0]
    phonon.produce_force_constants()
    return phonon


def prepare_phonopy(
    atoms: Atoms,
    supercell: int | ArrayLike,
    *,
    distance: float,
    symmetry: str,
    primitive_matrix: Any = None,
) -> Phonopy:
    """Return phonopy's object with displacements; see :func:`calculate_phonons`."""
    if not isinstance(atoms, Atoms):
        raise TypeError(f"expected ase.Atoms, got {type(atoms).__name__}")
    require_calculator(atoms)
    if not atoms.pbc.all():
        raise ValueError("phonopy needs three periodic directions; set atoms.pbc")
    positive("distance", distance)
    phonon = Phonopy(
        _with_symmetry(atoms, symmetry),
        supercell_matrix=_matrix(supercell),
        primitive_matrix=np.eye(3) if primitive_matrix is None else primitive_matrix,
        is_symmetry=symmetry != "none",
    )
    phonon.generate_displacements(distance=distance)
    return phonon


def _with_symmetry(atoms: Atoms, symmetry: str) -> PhonopyAtoms:
    """Return the cell with the moments that phonopy's symmetry search takes."""
    if symmetry not in ("magnetic", "collinear", "none"):
        raise ValueError(
            f"symmetry must be 'magnetic', 'collinear' or 'none', got {symmetry!r}"
        )
    cell = to_phonopy(atoms)
    if symmetry != "collinear" or cell.magnetic_moments is None:
        return cell
    spins = get_spins(atoms)
    axis = np.linalg.svd(spins, full_matrices=False)[2][0]
    along = spins @ axis
    if np.linalg.norm(spins - np.outer(along, axis)) > _COLLINEAR * np.linalg.norm(
        spins
    ):
        raise ValueError(
            "the moments are not collinear: use symmetry='magnetic' or 'none'"
        )
    cell = to_phonopy(atoms, moments=False)
    cell.magnetic_moments = along
    return cell


def _matrix(supercell: int | ArrayLike) -> np.ndarray:
    matrix = np.asarray(supercell)
    if matrix.ndim == 0:
        matrix = np.repeat(matrix, 3)
    if matrix.shape == (3,):
        matrix = np.diag(matrix)
    if (
        matrix.shape != (3, 3)
        or matrix.dtype.kind not in "iuf"
        or (matrix != np.rint(matrix)).any()
    ):
        raise ValueError(
            f"supercell must be an integer, three, or a 3 x 3 matrix, got {supercell!r}"
        )
    matrix = np.rint(matrix).astype(int)
    if round(np.linalg.det(matrix)) < 1:
        raise ValueError(f"the supercell has no positive volume: {supercell!r}")
    return matrix


def displaced_supercells(phonon: Phonopy, atoms: Atoms) -> list[Atoms]:
    """Return the supercell and the displaced ones, with the moments of ``atoms``."""
    supercell = phonon.supercell
    first = {int(s): k for k, s in enumerate(supercell.u2s_map)}
    originals = [first[int(s)] for s in supercell.s2u_map]
    images = []
    for cell in (supercell, *(phonon.supercells_with_displacements or [])):
        image = atoms[originals]
        image.set_constraint()
        image.set_cell(cell.cell)
        image.positions[:] = cell.positions
        images.append(image)
    return images


def _relax(images: Sequence[Atoms], torque_max: float | None) -> None:
    if torque_max is None:
        torques = [
            np.cross(
                get_spins(image), image.calc.get_property("magnetic_forces", image)
            )
            for image in images
        ]
        largest = float(np.linalg.norm(torques, axis=2).max())
        torque_max = min(TIGHT_TORQUE_MAX, max(_SHARE * largest, _LEAST))
    found = relax_batch(images, positions=False, torque_max=torque_max)
    done = [own.converged for own in found]
    if not all(done):
        raise CalculationFailed(
            f"the moments of displacement {done.index(False)} of {len(done) - 1} do "
            f"not relax to torques of {torque_max:.1e} eV; relax the undisplaced cell "
            "first, or raise torque_max"
        )


def forces_of(images: Sequence[Atoms], calculator: Calculator) -> np.ndarray:
    """Return the forces (B, N, 3), eV/A, of structures of the same atoms.

    A :class:`~deepspin_ase.DeepSpinCalculator` evaluates them in batches.

    Raises
    ------
    CalculationFailed
        If a force is not finite.
    """
    found = []
    with bar(total=len(images), desc="forces") as progress:
        if isinstance(calculator, DeepSpinCalculator):
            for batch in batches(images):
                results = calculator.evaluate(
                    batch, magnetic_forces=False, virial=False
                )
                found += [own["forces"] for own in results]
                progress.update(len(batch))
        else:
            for image in images:
                found.append(image.get_forces())
                progress.update()
    forces = np.stack(found)
    if not np.isfinite(forces).all():
        raise CalculationFailed("the forces at a displacement are not finite")
    return forces


def _plain_phonopy(phonon: Phonopy) -> dict[str, Any]:
    """Return the structure and the force constants of phonopy's object."""
    cell = phonon.unitcell
    rotations = phonon.symmetry.symmetry_operations["rotations"]
    return {
        "unitcell": {
            "numbers": cell.numbers,
            "positions": cell.positions,
            "cell": cell.cell,
            "masses": cell.masses,
            "magnetic_moments": cell.magnetic_moments,
        },
        "supercell_matrix": phonon.supercell_matrix,
        "primitive_matrix": phonon.primitive_matrix,
        "is_symmetry": bool((rotations != np.eye(3)).any()),
        "dataset": phonon.dataset,
        "force_constants": phonon.force_constants,
        "nac_params": phonon.nac_params,
    }


def _phonopy(parts: dict[str, Any]) -> Phonopy:
    phonon = Phonopy(
        PhonopyAtoms(**parts["unitcell"]),
        supercell_matrix=parts["supercell_matrix"],
        primitive_matrix=parts["primitive_matrix"],
        is_symmetry=parts["is_symmetry"],
    )
    phonon.dataset = parts["dataset"]
    phonon.force_constants = parts["force_constants"]
    phonon.nac_params = parts["nac_params"]
    return phonon


convertible(Phonopy, _plain_phonopy, _phonopy)
