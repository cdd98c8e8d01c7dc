"""Ready Hamiltonians of iron, nickel oxide and bismuth ferrite.

They are quantitative where their docstrings say so and serve as teachers and
test beds elsewhere: every driver, optimizer and analysis can be tried on them
without a network.
"""

from __future__ import annotations

from typing import Any

import torch

from ...units import G_FACTOR
from .._base import Potential
from .._sums import Sum
from ..networks._sevennet import SevenNet
from ..radial import BetheSlater, CubicCut, SmoothShells, Switched
from ..terms._buckingham import BuckinghamCoulomb
from ..terms._embedded_atom import dudarev_derlet_fe, finnis_sinclair_fe
from ..terms._exchange import Heisenberg, MomentExchange
from ..terms._onsite import Landau, UniaxialAnisotropy
from ._bismuth_ferrite import BismuthFerriteSpins, bismuth_ferrite

__all__ = [
    "BismuthFerriteSpins",
    "bifeo3_reference",
    "bismuth_ferrite",
    "fe",
    "nio",
]


#: Lattice constant (A) at which the Landau expansion of iron is set.
_FE_LATTICE_CONSTANT = 2.8665

#: Heisenberg-Landau constants of iron for spins S: coupling (eV) and its cutoff
#: (A), and A, B, C of A S^2 + B S^4 + C S^6 (eV).
_FE_COUPLING = CubicCut(0.870, 3.75)
_FE_LANDAU = (-0.744824, 0.345295, -0.00790205)


def fe(
    *,
    lattice: str | None = "dudarev-derlet",
    exchange: str | None = "heisenberg-landau",
) -> Sum:
    """Return a Hamiltonian of bcc iron.

    Parameters
    ----------
    lattice : {"dudarev-derlet", "finnis-sinclair"}, optional
        Embedded-atom potential, see :func:`dudarev_derlet_fe` and
        :func:`finnis_sinclair_fe`. None for the spins alone.
    exchange : {"heisenberg-landau", "bethe-slater"}, optional
        ``"heisenberg-landau"``: moments of varying length m = g S mu_B, with
        J(r) = 0.870 eV (1 - r/3.75 A)^3 and A S^2 + B S^4 + C S^6 [Ma2012]_. Its
        ferromagnet at a = 2.8665 A has S = 1.1785, m = 2.36 mu_B.
        ``"bethe-slater"``: unit spins with the curve that [Tranchida2018]_ fitted to J
        of 19.48 and 11.08 meV at 2.4824 and 2.8665 A in a sum over both (i, j) and
        (j, i). Here pairs count once, so that J is twice that. LAMMPS's example has
        the same numbers, but LAMMPS counts pairs once since 2020, and its exchange is
        half of this. It is switched off between 3.0 and 3.4 A. None for the lattice
        alone.

    Returns
    -------
    Sum

    Raises
    ------
    ValueError
        If a name is unknown, or both parts are None.

    Notes
    -----
    Both lattices were fitted to ferromagnetic iron. With a lattice, the exchange
    is therefore measured from the ferromagnet (m_i.m_j - |m_i||m_j|), and the
    Landau coefficient A is lowered by J_0/2 of the ideal crystal in exchange: in
    the ferromagnet the spins exert no force and the lengths stay the same at any
    volume. Elastic constants and lattice constant then are those of the lattice
    term. The Landau expansion adds its constant depth to the energy per atom.

    Limits: nearest and second neighbours only, so that the spin stiffness, 435
    (Heisenberg-Landau) and 457 meV A^2 (Bethe-Slater), and the Curie temperature
    are larger than those observed; no coupling of the moment's length to its
    surroundings apart from J; no spin-orbit coupling. Not for other phases or
    surfaces.

    References
    ----------
    .. [Ma2012] Ma, Dudarev, Woo, Phys. Rev. B 85, 184301 (2012),
       doi:10.1103/PhysRevB.85.184301; Comput. Phys. Commun. 207, 350 (2016),
       doi:10.1016/j.cpc.2016.05.017.
    .. [Tranchida2018] Tranchida, Plimpton, Thibaudeau, Thompson, J. Comput. Phys.
       372, 406 (2018), doi:10.1016/j.jcp.2018.06.042; J from Pajda, Kudrnovsky, Turek,
       Drchal, Bruno, Phys. Rev. B 64, 174402 (2001),
       doi:10.1103/PhysRevB.64.174402.
    """
    lattices = {
        "dudarev-derlet": dudarev_derlet_fe,
        "finnis-sinclair": finnis_sinclair_fe,
    }
    exchanges = {"heisenberg-landau": _fe_landau, "bethe-slater": _fe_bethe_slater}
    members: list[Potential] = []
    if lattice is not None:
        members.append(_choose("lattice", lattice, lattices)())
    if exchange is not None:
        build = _choose("exchange", exchange, exchanges)
        members.extend(build(subtract_collinear=lattice is not None))
    if not members:
        raise ValueError("lattice and exchange are both None: nothing is left")
    return Sum(members, elements=("Fe",), magnetic=("Fe",))


def _choose(name: str, value: str, choices: dict[str, Any]) -> Any:
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)} or None, got {value!r}"
        )
    return choices[value]


def _fe_landau(*, subtract_collinear: bool) -> list[Potential]:
    """Return the Heisenberg-Landau terms of iron in moments m = g S mu_B."""
    a, b, c = _FE_LANDAU
    if subtract_collinear:
        a0 = _FE_LATTICE_CONSTANT
        near, far = _FE_COUPLING(torch.tensor([3**0.5 / 2 * a0, a0])).tolist()
        a -= 0.5 * (8 * near + 6 * far)
    g2 = G_FACTOR**2
    coupling = CubicCut(_FE_COUPLING.value / g2, _FE_COUPLING.cutoff)
    return [
        MomentExchange(
            coupling, subtract_collinear=subtract_collinear, elements=("Fe", "Fe")
        ),
        Landau((a / g2, b / g2**2, c / g2**3), elements=("Fe",)),
    ]


def _fe_bethe_slater(*, subtract_collinear: bool) -> list[Potential]:
    """Return the Bethe-Slater exchange of iron, pairs counted once."""
    radial = Switched(BetheSlater(2 * 0.02726, 0.2171, 1.841, cutoff=3.4), start=3.0)
    return [
        Heisenberg(radial, subtract_collinear=subtract_collinear, elements=("Fe", "Fe"))
    ]


def nio(*, lattice: bool = True) -> Sum:
    """Return a Hamiltonian of nickel oxide.

    Rigid ions of charge +-2 [Lewis1985]_, the exchange from neutron scattering
    [Hutchings1972]_ and its anisotropy, for unit spins on Ni (S = 1): any length of
    the moments will do, such as 2 mu_B.

    Parameters
    ----------
    lattice : bool
        Include the rigid ions. Without them Ni must sit near the sites of the
        crystal.

    Returns
    -------
    Sum

    Notes
    -----
    E = -sum_{i<j} J(r) e_i.e_j + sum_i D_1 (e_i.x)^2 + D_2 (e_i.y)^2 with J_1 =
    +1.37 meV at 2.954 A, J_2 = -19.01 meV at 4.178 A (the signs are opposite to
    those of H = sum J S.S), D_1 = 0.097 meV, D_2 = 0.0051 meV. The ground state
    is AFM-II with k = (1/2, 1/2, 1/2); x = [111] and y = [1-10] are fixed to this
    domain and to a crystal along the Cartesian axes.

    Distance dependence, linear within 0.3 A of either shell and gone at 0.6 A:
    dJ_2/dr = +20.9 meV/A, from spin-polarised density-functional calculations of
    NiO with displaced Ni and O held fixed; dJ_1/dr = +11.6 meV/A, set so that the
    ground state is contracted along [111] to the observed cell angle of 90.1
    degrees.

    The rigid ions give a = 4.178 A and B = 206 GPa, the antiferromagnet contracts
    to a = 4.173 A. Limits: central forces only (C12 = C44 = 173 GPa); ions
    without polarisability, so no quality in LO phonons or at surfaces; the
    position of O does not enter J_2; and the classical Neel temperature lacks
    the factor (S + 1)/S: Monte Carlo gives about 310 K, 523 K is observed.

    References
    ----------
    .. [Lewis1985] Lewis and Catlow, J. Phys. C 18, 1149 (1985),
       doi:10.1088/0022-3719/18/6/010.
    .. [Hutchings1972] Hutchings and Samuelsen, Phys. Rev. B 6, 3447 (1972),
       doi:10.1103/PhysRevB.6.3447.
    """
    shells = SmoothShells([(2.954, 1.37e-3, 11.6e-3), (4.178, -19.01e-3, 20.9e-3)], 0.6)
    members: list[Potential] = [
        Heisenberg(shells, elements=("Ni", "Ni")),
        UniaxialAnisotropy(-0.097e-3, (1, 1, 1), elements=("Ni",)),
        UniaxialAnisotropy(-0.0051e-3, (1, -1, 0), elements=("Ni",)),
    ]
    if lattice:
        ions = BuckinghamCoulomb(
            {"Ni": 2.0, "O": -2.0},
            {"Ni-O": (683.5, 0.3332, 0.0), "O-O": (22764.3, 0.149, 27.88)},
        )
        members.insert(0, ions)
    return Sum(members, elements=("Ni", "O"), magnetic=("Ni",))


def bifeo3_reference() -> Sum:
    """Return a Hamiltonian of bismuth ferrite: a universal lattice and spins.

    The lattice is SevenNet-l3i5 (:class:`SevenNet`), the spins are those of
    :class:`BismuthFerriteSpins`, which vanish in the G order that the universal
    model stands for. It is accurate and slow: of the order of half a second for
    ten atoms on one core. The shipped model ``"BiFeO3"`` was trained on it.

    Returns
    -------
    Sum
        For Bi, Fe and O; Fe may carry moments, of which only the direction counts.

    Raises
    ------
    ImportError
        If sevenn is not installed: ``pip install 'deepspin-ase[reference]'``.

    Notes
    -----
    R3c has a = 5.634 and c = 14.119 A (hexagonal), a polarisation of 92 uC/cm^2
    with the Born charges Bi 4.37, Fe 3.87, O -2.747, and tilts of 8.8 degrees about
    each axis. Above it, in meV per formula unit: Pnma 43, R-3c 227, cubic 1042.

    Examples
    --------
    >>> atoms = bismuth_ferrite()
    >>> atoms.calc = DeepSpinCalculator(bifeo3_reference())  # doctest: +SKIP
    """
    members: list[Potential] = [SevenNet(), BismuthFerriteSpins()]
    return Sum(members, elements=("Bi", "Fe", "O"), magnetic=("Fe",))
