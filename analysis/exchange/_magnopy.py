"""Exchange tensors as spin Hamiltonians of magnopy, and back.

magnopy (magnopy.org) is an optional library under the GPL. What it reads, such as
files of TB2J and GROGU, can be used here through :func:`from_magnopy`:

>>> hamiltonian = to_magnopy(exchange_tensors(atoms))  # or magnopy.io.load_tb2j(path)
>>> waves = SpinWaves.from_exchange(from_magnopy(hamiltonian))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._extras import require
from ...potentials.bonds import wrapped_sites
from ...spins import set_spins, unit_vector
from ...units import G_FACTOR
from ..hessians._bloch import Blocks
from ._tensors import ExchangeTensors


def to_magnopy(exchange: ExchangeTensors, *, g_factor: float = G_FACTOR) -> Any:
    """Return a ``magnopy.SpinHamiltonian`` of the magnetic atoms, in meV.

    Its convention is H = -1/2 sum_{i != j} e_i.J_ij.e_j - sum_i e_i.A_i.e_i, every
    pair twice, with unit vectors: numbers are ours. Its spins S = |m|/g lie along
    the moments, not opposite to them: where Dzyaloshinskii-Moriya exchange
    distinguishes k from -k, its magnons about the reversed directions are ours.
    The reference state is kept as ``magnetic_moments`` of its atoms, and fields as
    terms of one spin, -sum_i h_i.e_i. Checked with magnopy 0.6.1.

    Parameters
    ----------
    exchange : ExchangeTensors
    g_factor : float

    Raises
    ------
    ImportError
        If magnopy is missing.
    """
    magnopy = require("magnopy", "conversions to and from magnopy")
    fold = wrapped_sites(exchange)
    count = len(fold.names)
    hamiltonian = magnopy.SpinHamiltonian(
        cell=exchange.atoms.cell.array,
        atoms={
            "names": [f"{name}{k + 1}" for k, name in enumerate(fold.names)],
            "positions": fold.fractional,
            "spins": [float(m) / g_factor for m in fold.lengths],
            "g_factors": [g_factor] * count,
            "magnetic_moments": fold.lengths[:, None] * fold.directions,
        },
        convention=_convention(magnopy),
        units="meV",
    )
    pairs = zip(fold.i, fold.j, fold.shift, fold.model.tensors, strict=True)
    for i, j, shift, J in pairs:
        hamiltonian.add(
            nus=[tuple(int(n) for n in shift)],
            alphas=[int(i), int(j)],
            parameter=1e3 * J,
            when_present="replace",
        )
    for k, (A, field) in enumerate(zip(exchange.onsite, exchange.fields, strict=True)):
        hamiltonian.add(nus=[(0, 0, 0)], alphas=[k, k], parameter=1e3 * A)
        if field.any():
            hamiltonian.add(nus=[], alphas=[k], parameter=1e3 * field)
    return hamiltonian


def from_magnopy(
    hamiltonian: Any, directions: ArrayLike | None = None
) -> ExchangeTensors:
    """Return the exchange tensors of a ``magnopy.SpinHamiltonian``.

    Bonds that are listed from one of their ends, or from both with different
    numbers, are shared between the ends, which leaves the energy as it is.

    Parameters
    ----------
    hamiltonian : magnopy.SpinHamiltonian
        With terms of one and two spins only.
    directions : (n, 3) array or str, optional
        Of the moments of its magnetic atoms: the reference state. By default that of
        the ``magnetic_moments`` of its atoms, which files of TB2J bring; numbers
        mean along z.

    Raises
    ------
    ImportError
        If magnopy is missing.
    ValueError
        If there are terms of three or more spins or a magnetic field, or if nothing
        says how the moments are directed.
    """
    magnopy = require("magnopy", "conversions to and from magnopy")
    own = hamiltonian.copy()
    if np.any(own.magnetic_field):
        raise ValueError("give the spin Hamiltonian without magnetic field")
    for name in ("p31", "p32", "p33", "p41", "p42", "p43", "p44", "p45"):
        if len(getattr(own, name)):
            raise ValueError("ExchangeTensors hold no terms of three or more spins")
    own.units = "meV"
    # Counted once, the ends of a bond are added up; twice, both get the same.
    for twice in (True, False, True):
        own.convention = _convention(magnopy, multiple_counting=twice)
    sites = own.magnetic_atoms
    atoms = Atoms(
        "X" * len(sites.names),
        scaled_positions=sites.positions,
        cell=own.cell,
        pbc=True,
    )
    atoms.symbols = [_element(name) for name in sites.names]
    lengths = np.array(
        [s * g for s, g in zip(sites.spins, sites.g_factors, strict=True)]
    )
    e = _directions(sites, directions)
    set_spins(atoms, lengths[:, None] * e)
    onsite, fields = np.zeros((len(atoms), 3, 3)), np.zeros((len(atoms), 3))
    for _, (k,), field in own.p1:
        fields[own.map_to_magnetic[k]] = 1e-3 * np.asarray(field)
    for _, (k, _), A in own.p21:
        onsite[own.map_to_magnetic[k]] = 1e-3 * np.asarray(A)
    trace = np.trace(onsite, axis1=1, axis2=2)[:, None, None]
    number = own.map_to_magnetic
    rows = [(number[a], number[b], nu, J) for (nu,), (a, b), J in own.p22]
    i, j = (np.array([row[x] for row in rows], dtype=int) for x in (0, 1))
    shift = np.array([row[2] for row in rows], dtype=int).reshape(-1, 3)
    blocks = Blocks(
        i,
        j,
        shift,
        atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i],
        1e-3 * np.array([row[3] for row in rows]).reshape(-1, 3, 3),
        (len(atoms), len(atoms)),
    )
    return ExchangeTensors(
        atoms=atoms,
        sites=np.arange(len(atoms)),
        lengths=lengths,
        directions=e,
        blocks=blocks,
        onsite=onsite - trace * np.eye(3) / 3.0,
        fields=fields,
        residuals=np.zeros(len(rows)),
    )


def _directions(sites: Any, given: ArrayLike | None) -> np.ndarray:
    """Return unit vectors (n, 3) as given, or of the moments that the atoms have."""
    if isinstance(given, str):
        return np.tile(unit_vector(given), (len(sites.names), 1))
    moments: Any = sites.get("magnetic_moments") if given is None else given
    if moments is None:
        raise ValueError(
            "the spin Hamiltonian does not say how its moments are directed; give "
            '`directions`, (n, 3) or "z" for a ferromagnet'
        )
    # Collinear moments are numbers, and a file may hold both.
    e = np.array([(0.0, 0.0, m) if np.ndim(m) == 0 else m for m in moments], float)
    length = np.linalg.norm(e, axis=1, keepdims=True)
    if e.shape != (len(sites.names), 3) or not (length > 0.0).all():
        raise ValueError(
            f"directions must be vectors with a length, ({len(sites.names)}, 3), "
            f"got {moments}"
        )
    return e / length


def _convention(magnopy: Any, *, multiple_counting: bool = True) -> Any:
    return magnopy.Convention(
        multiple_counting=multiple_counting,
        spin_normalized=True,
        c1=-1,
        c21=-1,
        c22=-0.5,
    )


def _element(name: str) -> str:
    letters = "".join(c for c in name if c.isalpha())
    return letters[:1].upper() + letters[1:].lower()
