"""The ASE calculator: energies, forces and magnetic forces of a Potential."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from numpy.typing import ArrayLike

from .._device import as_device
from .._plausible import warn_of_unusual
from .._validate import require_calculator
from ..potentials import (
    CompiledPotential,
    Potential,
    Sum,
    choose_backend,
    load_potential,
)
from ..potentials.terms._onsite import Zeeman
from ..quantities import result_names
from ..system import System
from ._magnetic import MagneticCalculator, check_finite
from ._results import results_of

_DTYPES = {"float32": torch.float32, "float64": torch.float64}

#: Atoms up to which structures share a model call, which bounds the memory.
BATCH_ATOMS = 20_000


class DeepSpinCalculator(MagneticCalculator):
    """Energy and its derivatives of atoms with vector moments.

    The moments are an input: (N, 3) vectors in mu_B in the atoms' initial
    magnetic moments (:func:`deepspin_ase.set_spins`). One evaluation of the
    potential gives all results:

    ========================= ========= ==========================================
    energy, free_energy       eV        the same number
    energies                  eV        (N,), its shares by atom
    forces                    eV/A      (N, 3), -dE/dR at fixed moments
    magnetic_forces           eV/mu_B   (N, 3), -dE/dm at fixed positions,
                                        longitudinal part included
    torques                   eV        (N, 3), m x magnetic_forces
    stress                    eV/A^3    (6,), (1/V) dE/dstrain at fixed Cartesian
                                        moments, symmetrised, in ASE's sign and
                                        Voigt order; only with three periodic
                                        directions
    virial                    eV        (3, 3), -dE/dstrain in full: not symmetric
                                        where torques act
    energy_deviation, ...               standard deviations: also forces_deviation,
                                        magnetic_forces_deviation (per component).
                                        Of a Committee over its members, with
                                        energies_deviation and virial_deviation; of
                                        a network with an error model (trained with
                                        validation frames) where they are asked for,
                                        ``atoms.calc.get_property(name, atoms)``
    ========================= ========= ==========================================

    Parameters
    ----------
    model : Potential, path or str
        Any Potential, a model file, the name of a shipped model, or a model of another
        program, ``"nep:nep.txt"``
        (:func:`deepspin_ase.potentials.load_potential`). A Potential is
        copied: it is left as it is, and later changes to it are not seen.
    device : torch.device or str, optional
        By default a CUDA device where torch finds one, the CPU elsewhere.
    dtype : "float64", "float32", "mixed" or torch.dtype
        Precision of the evaluation; results are float64 arrays in any case.
        ``"mixed"`` evaluates networks in float32, everything else in float64:
        faster (on the CPU by about half), with forces to 1e-6 eV/A, for dynamics.
    backend : {"fused", "reference"}
        ``"fused"`` evaluates networks on the CPU and on CUDA devices in compiled
        kernels with tabulated embeddings, which agree with ``"reference"``, torch,
        to 1e-9 eV/A (:func:`deepspin_ase.potentials.choose_backend`).
    external_field_T : (3,) array, optional
        Uniform magnetic field in tesla. Adds E = -mu_B sum_i m_i.B to energy,
        energies and magnetic forces. May be changed later by assignment.
    skin : float
        Extra radius of the neighbour list, A, which is kept until atoms have
        moved too far for it.

    Raises
    ------
    FileNotFoundError, ValueError
        If the model cannot be loaded, or an argument is not as described.

    Examples
    --------
    >>> atoms.calc = DeepSpinCalculator("model.pt", external_field_T=(0, 0, 5))
    >>> energy = atoms.get_potential_energy()  # eV
    >>> torques = atoms.calc.get_torques(atoms)  # eV
    """

    name = "deepspin"
    _told_of_field = False
    _looked_at_moments = False
    implemented_properties = result_names()

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str = "float64",
        backend: str = "fused",
        external_field_T: ArrayLike | None = None,
        skin: float = 0.5,
    ) -> None:
        super().__init__()
        self.implemented_properties = result_names()
        if isinstance(model, Potential):
            potential, label = copy.deepcopy(model), type(model).__name__
        else:
            potential, label = load_potential(model), os.fspath(model)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = as_device(device)
        if not potential.gives_virial:
            without = {"stress", "virial"}
            self.implemented_properties = [
                name for name in result_names() if name not in without
            ]
        mixed = dtype == "mixed"
        self.dtype = torch.float64 if mixed else _as_dtype(dtype)
        self._bare = potential.eval().requires_grad_(False)
        choose_backend(self._bare, backend, mixed=mixed)
        self._compiled = CompiledPotential(
            self._bare, device=self.device, dtype=self.dtype, skin=skin
        )
        #: For structures that are evaluated together: they have a list of their pairs.
        self._batched = self._compiled.twin()
        self.parameters.update(
            model=label,
            device=str(self.device),
            dtype="mixed" if mixed else str(self.dtype).removeprefix("torch."),
            backend=backend,
            skin=skin,
        )
        self.external_field_T = external_field_T

    @property
    def potential(self) -> Potential:
        """The Potential that is evaluated, on its device, the field included."""
        return self._potential

    @property
    def bare_potential(self) -> Potential:
        """The Potential without the field; call :meth:`refresh` after changes."""
        return self._bare

    @property
    def compiled(self) -> CompiledPotential:
        """The compiled Potential, the field included."""
        return self._compiled

    @property
    def external_field_T(self) -> tuple[float, ...] | None:
        """Uniform magnetic field in tesla; assigning one clears the results."""
        return self.parameters["external_field_T"]

    @external_field_T.setter
    def external_field_T(self, field_T: ArrayLike | None) -> None:
        if field_T is None:
            self._potential = self._bare
        else:
            field = np.asarray(field_T, dtype=float)
            if field.shape != (3,) or not np.isfinite(field).all():
                raise ValueError(
                    "external_field_T must be three finite numbers in tesla, "
                    f"got {field_T}"
                )
            if not self._told_of_field:
                self._told_of_field = warn_of_unusual("external_field_T", field)
            field_T = tuple(field.tolist())
            zeeman = Zeeman(field_T).to(self.device, self.dtype)
            self._potential = Sum([self._bare, zeeman])
        self._compiled = self._compiled.replaced(self._potential)
        self._batched = self._compiled.twin(self._batched.neighbors)
        self.parameters["external_field_T"] = field_T
        self.reset()

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change ``external_field_T``, the one parameter that may change."""
        fixed = parameters.keys() - {"external_field_T"}
        if fixed:
            raise ValueError(
                f"{', '.join(sorted(fixed))} cannot be changed; "
                "make a new DeepSpinCalculator"
            )
        if parameters:
            self.external_field_T = parameters["external_field_T"]
        return parameters

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the potential once; all results are kept.

        Deviations are estimated where one is among ``properties``.

        Raises
        ------
        ValueError
            If atoms, moments or elements are not what the potential takes.
        CalculationFailed
            If a result is not finite.
        PropertyNotImplementedError
            If a deviation is asked for that the potential does not estimate.
        """
        super().calculate(atoms, properties, system_changes)
        self.results = {}  # if this fails, none are left of other atoms
        system = self._system(self.atoms)
        if not self._looked_at_moments:
            self._looked_at_moments = True
            warn_of_unusual("moments", system.spins.norm(dim=1).cpu().numpy())
        asked = any(name.endswith("_deviation") for name in properties)
        prediction = self._compiled.evaluate(system, deviations=asked)
        results = results_of(prediction, system)[0]
        check_finite(results)
        for name in properties:
            if name.endswith("_deviation") and name not in results:
                raise PropertyNotImplementedError(
                    f"the model gives no {name}: networks with explicit spins do that "
                    "were trained with validation frames, and committees"
                )
        self.results = results

    def evaluate(
        self,
        images: Iterable[Atoms],
        *,
        forces: bool = True,
        magnetic_forces: bool = True,
        virial: bool = True,
        deviations: bool = False,
        max_atoms: int = BATCH_ATOMS,
    ) -> list[dict[str, Any]]:
        """Evaluate many structures, several in each call of the model.

        Parameters
        ----------
        images : iterable of Atoms
            Of any sizes, cells and elements. They and their calculators, and the
            results of this one, stay as they are.
        forces, magnetic_forces, virial : bool
            Which derivatives to compute; torques come with the magnetic forces and
            stress with the virial.
        deviations : bool
            Estimate errors, too, where the potential knows how.
        max_atoms : int
            Atoms up to which structures share a call, which bounds the memory.

        Returns
        -------
        list of dict
            The results of every structure by their ASE names, as :meth:`calculate`
            leaves them in :attr:`results`. Where one is not finite, it is returned so.

        Raises
        ------
        TypeError
            If ``images`` is one structure, or holds something else.
        ValueError
            If a structure is not one that the potential takes.

        Examples
        --------
        >>> images = [atoms, atoms.repeat(2)]
        >>> energies = [found["energy"] for found in atoms.calc.evaluate(images)]
        """
        if isinstance(images, Atoms):
            raise TypeError("expected a sequence of Atoms: write [atoms] for one")
        results = []
        for batch in batches(images, max_atoms):
            system = self._system(batch)
            prediction = self._batched.evaluate(
                system,
                forces=forces,
                magnetic_forces=magnetic_forces,
                virial=virial,
                deviations=deviations,
            )
            results += results_of(prediction, system)
        return results

    def clear_pairs(self) -> None:
        """Build the next pair lists anew: sums run in the order of a list.

        The next results then depend to the last bit on their structure alone, and not
        on where atoms were when the list was built.
        """
        for compiled in (self._compiled, self._batched):
            compiled.neighbors.clear()

    def _system(self, images: Atoms | Sequence[Atoms]) -> System:
        return System.from_atoms(images, require_spins=self.potential.uses_spins)

    def refresh(self) -> None:
        """Take up weights and settings of :attr:`bare_potential` that were changed.

        They are compiled at the first evaluation and not looked at again. Drivers made
        of this calculator take them up as well.
        """
        self._compiled.refresh()
        self.reset()

    def take_results(self, atoms: Atoms, results: dict[str, Any]) -> None:
        """Take results of the potential for ``atoms`` that were computed elsewhere."""
        self.atoms = atoms.copy()
        self.results = dict(results)


def require_stress(atoms: Atoms, *, name: str = "the structure", purpose: str) -> None:
    """Raise ValueError unless the calculator of ``atoms`` gives the stress.

    Warns
    -----
    OutOfRangeWarning
        Once, if its model was trained on no stress.
    """
    require_calculator(atoms, "stress", name=name, purpose=purpose)
    inner = getattr(atoms.calc, "calculator", atoms.calc)  # of one that is recorded
    if isinstance(inner, DeepSpinCalculator):
        inner.compiled.tell_of_stress()


def batches(
    images: Iterable[Atoms], max_atoms: int = BATCH_ATOMS
) -> Iterator[list[Atoms]]:
    """Yield structures in groups of at most ``max_atoms`` atoms, or of one."""
    group: list[Atoms] = []
    n_atoms = 0
    for image in images:
        if group and n_atoms + len(image) > max_atoms:
            yield group
            group, n_atoms = [], 0
        group.append(image)
        n_atoms += len(image)
    if group:
        yield group


def _as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(
            f"dtype must be 'float64', 'float32' or 'mixed', got {dtype!r}"
        )
    return _DTYPES[name]
