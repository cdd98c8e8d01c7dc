"""Phonon bands, densities of states and harmonic thermal properties.

>>> from deepspin_ase.potentials.materials import reference
>>> atoms.calc = DeepSpinCalculator(reference.fe())
>>> phonon = calculate_phonons(atoms, 2)
>>> axes = plot_phonon_bands(phonon_bands(phonon))
>>> axes = plot_phonon_dos(phonon_dos(phonon, mesh=20))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from numpy.typing import ArrayLike
from phonopy import Phonopy

from ..._figures import figure_axes
from ..._result import Result, plots
from .._kpath import KPath, k_path
from ._force_constants import from_phonopy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: h times 1 THz, eV.
THZ = units._hplanck * 1e12 * units.J


@dataclass(frozen=True, eq=False)
class PhononBands(Result):
    """Frequencies along a path.

    Attributes
    ----------
    path : KPath
        In reciprocal lattice units of phonopy's primitive cell.
    frequencies_THz : (K, 3N) array
        Imaginary ones as negative numbers.
    """

    path: KPath
    frequencies_THz: np.ndarray

    @property
    def energies(self) -> np.ndarray:
        """(K, 3N) energies h f, eV."""
        return THZ * self.frequencies_THz


def phonon_bands(
    phonon: Phonopy, path: str | KPath | None = None, **options: Any
) -> PhononBands:
    """Return frequencies along a path.

    Parameters
    ----------
    phonon : Phonopy
    path : str or KPath, optional
        Named points; see :func:`~deepspin_ase.analysis.k_path`, also for
        the other options.
    """
    if not isinstance(path, KPath):
        path = k_path(from_phonopy(phonon.primitive), path, **options)
    phonon.run_qpoints(path.kpts)
    assert phonon.qpoints is not None
    return PhononBands(path, np.array(phonon.qpoints.frequencies))


@dataclass(frozen=True, eq=False)
class PhononDOS(Result):
    """Density of phonon states.

    Attributes
    ----------
    frequencies_THz : (F,) array
    dos : (F,) array, states / THz
        Per primitive cell; the integral is three times the number of its atoms.
    """

    frequencies_THz: np.ndarray
    dos: np.ndarray


def phonon_dos(phonon: Phonopy, *, mesh: float | Sequence[int] = 60.0) -> PhononDOS:
    """Return the density of states by the tetrahedron method.

    Parameters
    ----------
    phonon : Phonopy
    mesh : float or three ints
        phonopy's: a length in A, or numbers of wave vectors.
    """
    phonon.run_mesh(mesh)
    phonon.run_total_dos()
    found = phonon.total_dos
    assert found is not None
    return PhononDOS(np.array(found.frequency_points), np.array(found.dos))


@dataclass(frozen=True, eq=False)
class ThermalProperties(Result):
    """Harmonic thermal properties of the primitive cell.

    Attributes
    ----------
    temperatures_K : (T,) array
    free_energy : (T,) array, eV
    entropy, heat_capacity : (T,) arrays, eV/K
        At constant volume.
    """

    temperatures_K: np.ndarray
    free_energy: np.ndarray
    entropy: np.ndarray
    heat_capacity: np.ndarray


def thermal_properties(
    phonon: Phonopy, temperatures_K: ArrayLike, *, mesh: float | Sequence[int] = 60.0
) -> ThermalProperties:
    """Return free energy, entropy and heat capacity of the phonons.

    Parameters
    ----------
    phonon : Phonopy
    temperatures_K : (T,) array
    mesh : float or three ints
        phonopy's: a length in A, or numbers of wave vectors.
    """
    temperatures = np.atleast_1d(np.asarray(temperatures_K, dtype=float))
    phonon.run_mesh(mesh)
    # phonopy 4.8 squares exp(hw/kT), which overflows where modes are frozen out: zero.
    with np.errstate(over="ignore"):
        phonon.run_thermal_properties(temperatures=temperatures)
    found = phonon.thermal_properties
    assert found is not None
    per_mol = units.kJ / units.mol
    return ThermalProperties(
        temperatures,
        np.array(found.free_energy) * per_mol,
        np.array(found.entropy) * per_mol / 1000.0,
        np.array(found.heat_capacity) * per_mol / 1000.0,
    )


@plots(PhononBands)
def plot_phonon_bands(
    result: PhononBands, ax: Axes | None = None, **style: Any
) -> Axes:
    """Draw frequencies in THz along the path; imaginary ones below zero.

    Parameters
    ----------
    **style
        Passed to ``ax.plot``.
    """
    ax = figure_axes(ax)
    x = result.path.distances
    drawn: dict[str, Any] = {"color": "C0", "lw": 1.2} | style
    ax.plot(x, result.frequencies_THz, **drawn)
    ax.axhline(0.0, color="0.8", lw=0.8, zorder=0)
    result.path.decorate(ax)
    ax.set_ylabel("frequency (THz)")
    return ax


@plots(PhononDOS)
def plot_phonon_dos(result: PhononDOS, ax: Axes | None = None, **style: Any) -> Axes:
    """Draw the density of states against frequency in THz.

    Parameters
    ----------
    **style
        Passed to ``ax.plot``.
    """
    ax = figure_axes(ax)
    ax.plot(result.frequencies_THz, result.dos, **style)
    ax.set(xlabel="frequency (THz)", ylabel="states per THz and cell", ylim=(0, None))
    return ax


@plots(ThermalProperties)
def plot_thermal_properties(result: ThermalProperties, ax: Axes | None = None) -> Axes:
    """Draw entropy and heat capacity in k_B per cell against temperature."""
    ax = figure_axes(ax)
    ax.plot(result.temperatures_K, result.entropy / units.kB, label="entropy")
    ax.plot(result.temperatures_K, result.heat_capacity / units.kB, label="$C_V$")
    ax.set(xlabel="temperature (K)", ylabel="per cell ($k_B$)")
    ax.legend(frameon=False)
    return ax
