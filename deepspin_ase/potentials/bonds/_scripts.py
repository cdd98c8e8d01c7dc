"""Scripts that rebuild a model in Sunny (Julia) and in pySpinW (Python).

Both: E = sum_bonds S_i.M_ij.S_j + sum_i S_i.A_i.S_i, bonds once, meV, with spins S
along the moments: M = -J/(S_i S_j).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...units import G_FACTOR
from ._hamiltonian import BondHamiltonian
from ._tables import (
    NEGLIGIBLE,
    HasBonds,
    PathLike,
    WrappedSites,
    refuse,
    wrapped_sites,
    write_lines,
)


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{x:.10g}" for x in np.ravel(values))


def _with_moments(fold: WrappedSites, code: str) -> None:
    """Raise ValueError where a site has no moment, of which spins are made."""
    lacking = np.flatnonzero(fold.lengths == 0.0)
    if len(lacking):
        raise ValueError(
            f"{code} needs a moment at every site of the model; site "
            f"{fold.model.sites[lacking[0]]} has none"
        )


def write_spinw(model: BondHamiltonian | HasBonds, path: PathLike) -> None:
    """Write a Python script that rebuilds a model in pySpinW.

    Its function ``hamiltonian()`` returns a ``pyspinw.hamiltonian.Hamiltonian`` with
    spins |m|/g in the directions of the reference state. pySpinW 1.1.0b2 gets our
    magnons from the script where all spins are equal; where they are not, it
    errs itself about bonds of a site with its images. It puts a along x and b into the
    plane of x and y: tensors and spins are rotated with the cell.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    path : path

    Raises
    ------
    ValueError
        If there are fields, biquadratic or cubic terms or derivatives, or a site has no
        moment.
    """
    fold = wrapped_sites(model)
    model = fold.model
    refuse(model, "pySpinW", "fields", "biquadratic", "cubic", "slopes")
    _with_moments(fold, "pySpinW")
    cell = model.atoms.cell
    # Rows of the cell times Q are those of the standard orientation.
    _, Q = cell.standard_form()
    turn = np.asarray(Q)
    S = fold.lengths / G_FACTOR
    spins = (S[:, None] * fold.directions) @ turn.T
    lines = [
        '"""Spin Hamiltonian written by deepspin-ase, for pySpinW; energies in meV."""',
        "",
        "import numpy as np",
        "from pyspinw.anisotropy import Anisotropy",
        "from pyspinw.exchange import Exchange",
        "from pyspinw.hamiltonian import Hamiltonian",
        "from pyspinw.site import Site",
        "from pyspinw.structure import Structure",
        "from pyspinw.symmetry.unitcell import UnitCell",
        "",
        f"CELL = [{_listed(cell.cellpar())}]  # A, degrees",
        "# Name, place in the cell, spin.",
        "SITES = [",
    ]
    for k, name in enumerate(fold.names):
        lines.append(
            f'    ("{name}{k + 1}", [{_listed(fold.fractional[k])}], '
            f"[{_listed(spins[k])}]),"
        )
    lines += ["]", "# Sites, translation, matrix by rows.", "BONDS = ["]
    tensors = np.einsum("ab,pbc,dc->pad", turn, model.tensors, turn)
    for p in fold.once:
        i, j = fold.i[p], fold.j[p]
        matrix = -1e3 * tensors[p] / (S[i] * S[j])
        shift = ", ".join(str(x) for x in fold.shift[p])
        lines.append(f"    ({i}, {j}, ({shift}), [{_listed(matrix)}]),")
    lines += ["]", "# Site, matrix by rows.", "ANISOTROPIES = ["]
    onsite = np.einsum("ab,pbc,dc->pad", turn, model.onsite[model.sites], turn)
    for k, A in enumerate(onsite):
        if np.abs(A).max() > NEGLIGIBLE:
            lines.append(f"    ({k}, [{_listed(-1e3 * A / S[k] ** 2)}]),")
    lines += [
        "]",
        "",
        "",
        "def hamiltonian():",
        '    """Return the Hamiltonian."""',
        "    sites = [Site(*place, *spin, name=name) for name, place, spin in SITES]",
        "    exchanges = [",
        "        Exchange(sites[i], sites[j], shift, np.reshape(matrix, (3, 3)))",
        "        for i, j, shift, matrix in BONDS",
        "    ]",
        "    anisotropies = [",
        "        Anisotropy(sites[k], np.reshape(matrix, (3, 3)))",
        "        for k, matrix in ANISOTROPIES",
        "    ]",
        "    return Hamiltonian(Structure(sites, UnitCell(*CELL)), exchanges, "
        "anisotropies)",
        "",
        "",
        'if __name__ == "__main__":',
        "    hamiltonian().print_summary()",
    ]
    write_lines(Path(path), lines)


def write_sunny(model: BondHamiltonian | HasBonds, path: PathLike) -> None:
    """Write a Julia script that rebuilds a model in Sunny.

    The crystal has no symmetry (space group 1), so that every bond is as it is here,
    and the mode is ``:dipole_uncorrected``, classical vectors. Sunny takes spins s that
    are multiples of 1/2: those nearest to |m|/g, with g such that moments are ours, and
    classical energies are ours. Names are those of Sunny 0.7; it was not run.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    path : path

    Raises
    ------
    ValueError
        If there are fields or derivatives, or a site has no moment.
    """
    fold = wrapped_sites(model)
    model = fold.model
    refuse(model, "Sunny", "fields", "slopes")
    _with_moments(fold, "Sunny")
    s = np.maximum(np.rint(2.0 * fold.lengths / G_FACTOR), 1.0) / 2.0
    cell = model.atoms.cell.array
    lines = [
        "# Spin Hamiltonian written by deepspin-ase, for Sunny; A and meV.",
        "# Magnon energies are those of spins s: of |m|/g they are s g/|m| times as "
        "large.",
        "using Sunny, LinearAlgebra",
        "",
        f"latvecs = [{'; '.join(' '.join(f'{x:.10f}' for x in r) for r in cell.T)}]",
        f"positions = [{', '.join(f'[{_listed(x)}]' for x in fold.fractional)}]",
        "types = ["
        + ", ".join(f'"{name}{k + 1}"' for k, name in enumerate(fold.names))
        + "]",
        "crystal = Crystal(latvecs, positions, 1; types)",
        "moments = [",
    ]
    for k, spin in enumerate(s):
        g = fold.lengths[k] / spin
        lines.append(f"    {k + 1} => Moment(s={_half(spin)}, g={g:.10g}),")
    lines += ["]", "system = System(crystal, moments, :dipole_uncorrected)", ""]
    for p in fold.once:
        i, j = fold.i[p], fold.j[p]
        size = s[i] * s[j]
        matrix = -1e3 * model.tensors[p] / size
        rows = "; ".join(" ".join(f"{x:.10g}" for x in row) for row in matrix)
        square = model.biquadratic[p]
        more = f"; biquad={-1e3 * square / size**2:.10g}" if square else ""
        shift = ", ".join(str(x) for x in fold.shift[p])
        lines.append(
            f"set_exchange!(system, [{rows}], Bond({i + 1}, {j + 1}, [{shift}]){more})"
        )
    for k, site in enumerate(model.sites):
        terms = _polynomial(model, site, s[k])
        if terms:
            lines.append(f"set_onsite_coupling!(system, S -> {terms}, {k + 1})")
    lines.append("")
    for k, direction in enumerate(fold.directions):
        lines.append(f"set_dipole!(system, [{_listed(direction)}], (1, 1, 1, {k + 1}))")
    write_lines(Path(path), lines)


def _half(spin: float) -> str:
    return f"{round(2 * spin)}//2" if round(2 * spin) % 2 else f"{round(spin)}"


def _polynomial(model: BondHamiltonian, site: int, s: float) -> str:
    """Return the energy of a site as a polynomial of its spin, meV."""
    A = -1e3 * model.onsite[site] / s**2
    terms = [
        f"{(1 if a == b else 2) * A[a, b]:.10g}*S[{a + 1}]*S[{b + 1}]"
        for a in range(3)
        for b in range(a, 3)
        if abs(A[a, b]) > 1e3 * NEGLIGIBLE
    ]
    K1, K2 = 1e3 * model.cubic[site] / (s**4, s**6)
    if K1 or K2:
        a, b, c = (
            "(" + " + ".join(f"{x:.10g}*S[{k + 1}]" for k, x in enumerate(axis)) + ")"
            for axis in model.cubic_axes[site]
        )
        if K1:
            pairs = (f"{x}^2*{y}^2" for x, y in ((a, b), (b, c), (c, a)))
            terms.append(f"{K1:.10g}*({' + '.join(pairs)})")
        if K2:
            terms.append(f"{K2:.10g}*{a}^2*{b}^2*{c}^2")
    return " + ".join(terms)
