"""Exchange tensors against the parameters that a Hamiltonian was made with."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from scipy.spatial.transform import Rotation
from structures import rocksalt_afm, triclinic

from deepspin_ase import DeepSpinCalculator, set_spins, spiral
from deepspin_ase.analysis import (
    MagnonPhonons,
    SpinWaves,
    exchange_tensors,
    plot_exchange,
    spin_lattice_coupling,
    strain_derivative,
)
from deepspin_ase.analysis.exchange import (
    assemble_tensors,
    fit_exchange,
    plot_exchange_convergence,
    plot_spin_lattice_coupling,
)
from deepspin_ase.analysis.hessians import Crystal, interaction_range
from deepspin_ase.analysis.hessians import _response as response
from deepspin_ase.analysis.hessians._response import _apart
from deepspin_ase.potentials import (
    Biquadratic,
    CubicCut,
    DipoleDipole,
    DzyaloshinskiiMoriya,
    Heisenberg,
    Landau,
    LennardJones,
    MomentExchange,
    Potential,
    Shells,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.potentials.materials import reference
from deepspin_ase.potentials.terms import find_bonds, unit_spins
from deepspin_ase.units import DIPOLE, MU_B

matplotlib.use("Agg")

J, D = CubicCut(0.3, 3.5), CubicCut(0.1, 3.5)
AXIS = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)
K = 0.002
FIELD = (1.0, -2.0, 4.0)


def hamiltonian(*more: Potential) -> Potential:
    terms = [
        Heisenberg(J),
        DzyaloshinskiiMoriya(D),
        UniaxialAnisotropy(K, AXIS),
        Zeeman(FIELD),
        LennardJones(0.3, 2.3, cutoff=4.5),
    ]
    return Sum([*terms, *more])


def value(radial, distances) -> np.ndarray:
    return radial(torch.tensor(distances)).numpy()


ORDERS = {
    "ferro": [(0, 0, 2.2), (0, 0, 0.9), (0, 0, 2.2), (0, 0, 0)],
    "antiferro": [(1, 1, 1), (-1, -1, -1), (2, 2, 2), (0, 0, 0)],
    "general": [(1.0, 2.0, 0.5), (-0.3, 0.2, -0.9), (2.0, 0, -1.0), (0, 0, 0)],
}


@pytest.mark.parametrize("order", ORDERS)
def test_parameters_come_back(order):
    """Heisenberg, DM, anisotropy and field to 1e-8, about any reference order."""
    atoms = triclinic()
    set_spins(atoms, ORDERS[order])
    atoms.calc = DeepSpinCalculator(hamiltonian())
    x = exchange_tensors(atoms)
    assert x.sites.tolist() == [0, 1, 2]
    assert x.aliasing == 0.0
    places = atoms.positions[x.j] + x.shift @ atoms.cell.array - atoms.positions[x.i]
    assert np.abs(places - x.vectors).max() < 1e-10
    assert x.distances.max() < 3.5
    assert np.abs(x.isotropic - value(J, x.distances)).max() < 1e-8
    strength = value(D, x.distances)[:, None]
    assert np.abs(x.dm - strength * x.vectors / x.distances[:, None]).max() < 1e-8
    assert np.abs(x.anisotropic).max() < 1e-8
    exact = K * (np.outer(AXIS, AXIS) - np.eye(3) / 3)
    assert np.abs(x.onsite - exact).max() < 1e-8
    fields = MU_B * x.lengths[:, None] * np.array(FIELD)
    assert np.abs(x.fields - fields).max() < 1e-8
    assert x.residuals.max() < 1e-10
    # As many pairs as a direct count finds.
    large = atoms.repeat((5, 5, 1))
    home = 4 * 12
    near = [large.get_distances(home + i, range(len(large))) for i in range(3)]
    found = sum(((d > 0.1) & (d < 3.5) & (large.numbers != 8)).sum() for d in near)
    assert len(x.distances) == found


def test_energies_of_orders():
    """The tensors give the energy differences of the Hamiltonian itself."""
    atoms = triclinic()
    calc = DeepSpinCalculator(hamiltonian())
    atoms.calc = calc
    x = exchange_tensors(atoms)
    rng = np.random.default_rng(2)
    differences = []
    for _ in range(3):
        e = Rotation.random(3, random_state=rng).apply([0, 0, 1.0])
        spins = np.zeros((4, 3))
        spins[x.sites] = x.lengths[:, None] * e
        set_spins(atoms, spins)
        differences.append(calc.get_potential_energy(atoms) - x.energy(e))
    assert np.ptp(differences) < 1e-10


def test_symmetric_anisotropy_of_dipoles():
    """Dipolar tensors, which reach farther than any cell: shared, flagged, exact."""
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.5)])
    set_spins(atoms, [(0, 1.0, 2.0), (2.0, 0, 0)])
    atoms.calc = DeepSpinCalculator(DipoleDipole(cutoff=6.0))
    x = exchange_tensors(atoms)
    assert len(x.distances) == 2
    scale = DIPOLE * np.prod(x.lengths) / 2.5**3
    exact = -scale * np.diag([1.0, 1.0, -2.0])
    assert np.abs(x.anisotropic[0] - exact).max() < 1e-12
    assert np.abs(x.dm).max() < 1e-15


def test_moments_and_their_lengths():
    """Exchange of moments gives J |m_i||m_j|; Landau terms give nothing."""
    atoms = bulk("Fe", "bcc", a=2.87, cubic=True)
    set_spins(atoms, [(0, 0, 2.0), (1.0, 0, 2.0)])
    terms = [MomentExchange(CubicCut(0.01, 2.8)), Landau((-0.4, 0.1))]
    atoms.calc = DeepSpinCalculator(Sum(terms))
    x = exchange_tensors(atoms)
    exact = value(CubicCut(0.01, 2.8), x.distances) * 2.0 * np.sqrt(5.0)
    assert np.abs(x.isotropic - exact).max() < 1e-10
    assert np.abs(x.onsite).max() < 1e-10 and np.abs(x.fields).max() < 1e-10


def test_biquadratic_exchange_shows_in_the_residuals():
    """About a collinear order its transverse part is 2 B, and the rest is missed."""
    atoms = bulk("Fe", "bcc", a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    atoms.calc = DeepSpinCalculator(Biquadratic(CubicCut(0.1, 2.8)))
    x = exchange_tensors(atoms)
    assert x.isotropic == pytest.approx(2 * value(CubicCut(0.1, 2.8), x.distances))
    set_spins(atoms, {"Fe": 2.2})
    pair = bulk("Fe", "bcc", a=2.87, cubic=True)
    set_spins(pair, [(0, 0, 2.2), (1.5, 0, 1.5)])
    pair.calc = atoms.calc
    assert exchange_tensors(pair).residuals.max() > 1e-4


def test_other_calculators():
    """Differences of the magnetic forces of any ASE calculator give the same."""

    class Wrapped(Calculator):
        implemented_properties = ["energy", "forces", "magnetic_forces"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            calc.calculate(atoms)
            self.results = {k: calc.results[k] for k in self.implemented_properties}

    atoms = triclinic()
    calc = DeepSpinCalculator(hamiltonian())
    atoms.calc = calc
    exact = exchange_tensors(atoms).within(3.4)
    atoms.calc = Wrapped()
    with pytest.raises(ValueError, match="give repeat"):
        exchange_tensors(atoms)
    found = exchange_tensors(atoms, repeat=(2, 2, 1)).within(3.4)
    assert np.abs(found.tensors - exact.tensors).max() < 1e-6
    assert np.abs(found.onsite - exact.onsite).max() < 1e-6


def test_single_precision():
    atoms = triclinic()
    atoms.calc = DeepSpinCalculator(hamiltonian(), dtype="float32")
    x = exchange_tensors(atoms).within(3.4)
    assert np.abs(x.isotropic - value(J, x.distances)).max() < 1e-5


def test_images_at_the_edge_share():
    """In a cell of two periods a pair and its image are one; J is shared, flagged."""
    c = 2.0
    atoms = Atoms("Fe", cell=(12, 12, c), pbc=(0, 0, 1))
    set_spins(atoms, [(0, 0, 2.0)])
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(c, 0.02), (2 * c, 0.01)], 0.1)))
    with pytest.warns(UserWarning, match="increase repeat"):
        x = exchange_tensors(atoms, repeat=(1, 1, 4))
    assert sorted(x.shift[:, 2]) == [-2, -1, 1, 2]
    assert x.isotropic == pytest.approx(0.02 / np.abs(x.shift[:, 2]))
    assert x.aliasing == pytest.approx(0.5)
    assert exchange_tensors(atoms).aliasing == 0.0
    assert np.sort(exchange_tensors(atoms).isotropic) == pytest.approx(
        np.sort(x.isotropic)
    )
    with pytest.raises(ValueError, match="too small"):
        exchange_tensors(atoms, repeat=1)


def test_range_of_the_interaction(monkeypatch):
    atoms = triclinic()
    atoms.calc = DeepSpinCalculator(hamiltonian())
    assert interaction_range(atoms) == 3.5
    assert interaction_range(atoms, positions=True) == 4.5
    # Supercells are not chosen without bounds.
    nio = rocksalt_afm(4.178, 2.0)
    nio.calc = DeepSpinCalculator(reference.nio())
    with pytest.raises(ValueError, match="choose repeat"):
        Crystal(nio, positions=True)
    iron = bulk("Fe", "bcc", a=2.87, cubic=True).repeat((1, 1, 3))
    set_spins(iron, {"Fe": 2.2})
    iron.calc = DeepSpinCalculator(hamiltonian())
    assert Crystal(iron).repeat == (3, 3, 1)
    # Beyond them a cell that is nearly large enough is taken as it is.
    monkeypatch.setattr(response, "MAX_ATOMS", 20)
    wide = bulk("Fe", "bcc", a=2.87, cubic=True).repeat(2)
    set_spins(wide, {"Fe": 2.2})
    wide.calc = iron.calc
    assert Crystal(wide).repeat == (1, 1, 1)
    # Sums without end are no ground for taking moments as uncoupled.
    assert interaction_range(atoms) == 3.5
    atoms.calc = DeepSpinCalculator(hamiltonian(DipoleDipole(cutoff=6.0)))
    assert interaction_range(atoms) == np.inf
    # Per-atom energies of a network couple moments on either side of an atom.
    nio = rocksalt_afm(4.2, 1.27)
    nio.calc = DeepSpinCalculator("NiO")
    assert interaction_range(nio) == 10.0


class Messages(Potential):
    """Three rounds of messages between moments along bonds of 3 A."""

    cutoff = 3.0

    def forward(self, system, pairs):
        bonds, e = find_bonds(system, pairs, self.cutoff), unit_spins(system)
        h = e
        for _ in range(3):
            heard = torch.zeros_like(h).index_add(0, bonds.i, h[bonds.j])
            h = torch.tanh(h + 0.5 * heard)
        return (h * e).sum(1)


class SaidMessages(Messages):
    def interaction_range(self, system, *, moments_only=False):
        return 2 * 3 * self.cutoff


def chain():
    atoms = Atoms("Fe", [(0, 0, 0)], cell=[2.5, 20, 20], pbc=(True, False, False))
    set_spins(atoms, {"Fe": 2.0})
    return atoms


def test_unknown_range_is_refused_without_repeat():
    """Messages carry couplings far beyond two cutoffs: nobody may guess where."""
    atoms = chain()
    atoms.calc = DeepSpinCalculator(Messages())
    assert interaction_range(atoms) is None
    for refused in (
        lambda: exchange_tensors(atoms),
        lambda: SpinWaves.from_atoms(atoms),
        lambda: MagnonPhonons.from_atoms(atoms),
    ):
        with pytest.raises(ValueError, match=r"range of Messages is not known.*repeat"):
            refused()
    expected = exchange_tensors(atoms, repeat=(16, 1, 1))
    distances = expected.distances[np.abs(expected.isotropic) > 1e-6]
    assert distances.max() == pytest.approx(7.5)
    # Also as a part of a sum, unless it does not depend on moments.
    atoms.calc = DeepSpinCalculator(Sum([Heisenberg(J), Messages()]))
    assert interaction_range(atoms) is None
    # A potential that says its range is asked nothing.
    atoms.calc = DeepSpinCalculator(SaidMessages())
    found = exchange_tensors(atoms)
    assert found.aliasing == 0.0
    np.testing.assert_allclose(
        found.field_within(found.distances.max()), expected.field_within(20.0)
    )
    coupled = found.distances[np.abs(found.isotropic) > 1e-6]
    np.testing.assert_allclose(np.sort(coupled), np.sort(distances))


def test_sites_that_share_products():
    """A large cell takes few products, and gives what the small one gives."""
    small = bulk("Fe", "bcc", a=2.87, cubic=True)
    set_spins(small, {"Fe": 2.2})
    small.calc = DeepSpinCalculator(hamiltonian())
    expected = np.sort(exchange_tensors(small).isotropic)
    large = small.repeat((1, 1, 10))
    large.calc = small.calc
    crystal = Crystal(large, repeat=(4, 4, 1))
    raw = fit_exchange(crystal)
    x = assemble_tensors(crystal, raw)
    assert np.sort(x.isotropic) == pytest.approx(np.repeat(expected, 10), abs=1e-12)
    assert np.abs(raw.onsite - exchange_tensors(small).onsite[0]).max() < 1e-12
    groups = [len(group) for group, _ in _apart(crystal, np.arange(20))]
    assert sum(groups) == 20 and len(groups) <= 10


def test_spiral_reference():
    """The fit does not care which order it starts from."""
    atoms = bulk("Fe", "bcc", a=2.87, cubic=True).repeat((1, 1, 3))
    set_spins(atoms, {"Fe": 2.2}, pattern=spiral((0, 0, 1), normal=(1, 0, 1)))
    atoms.calc = DeepSpinCalculator(hamiltonian())
    x = exchange_tensors(atoms)
    assert np.abs(x.isotropic - value(J, x.distances)).max() < 1e-8


def test_shells_of_nio():
    """The reference Hamiltonian of NiO: J1, J2 and their slopes."""
    atoms = rocksalt_afm(4.178, 2.0)
    atoms.calc = DeepSpinCalculator(reference.nio(lattice=False))
    x = exchange_tensors(atoms)
    first, second = x.shells()
    assert first.pairs == 12 and second.pairs == 6
    assert first.isotropic == pytest.approx(1.37e-3, abs=1e-5)
    assert second.isotropic == pytest.approx(-19.01e-3, rel=1e-6)
    assert second.spread < 1e-10
    assert "Ni-Ni 4.178 A x6: J -19.01" in str(second)
    # The six parallel and six antiparallel nearest neighbours cancel.
    fields = x.field_within([2.0, 3.0, 10.0])
    assert fields == pytest.approx([0.0, 0.0, 6 * 19.01e-3], abs=1e-8)
    assert plot_exchange_convergence(x).get_xlabel() == "distance (Å)"
    coupling = spin_lattice_coupling(atoms, 0)
    across = np.isclose(coupling.distances, 4.178)
    assert across.sum() == 6
    assert coupling.slopes[across] == pytest.approx(20.9e-3, rel=1e-4)
    ax = plot_exchange(x)
    assert ax.get_ylabel() == "exchange (meV)"
    plot_spin_lattice_coupling(coupling)


def test_shipped_network():
    """J2 is between that of the torques and that of the energies, 14.8 and 18.4 meV."""
    atoms = rocksalt_afm(4.186, 1.277)
    atoms.calc = DeepSpinCalculator("NiO")
    first, second = exchange_tensors(atoms, repeat=5, cutoff=4.4).shells()
    assert -18.4e-3 < second.isotropic < -14.8e-3
    assert abs(first.isotropic) < 2e-3


def test_derivatives_by_positions_and_strain():
    atoms = triclinic()
    atoms.calc = DeepSpinCalculator(hamiltonian())
    coupling = spin_lattice_coupling(atoms, 1, step=1e-3)
    r = torch.tensor(coupling.distances, requires_grad=True)
    (slope,) = torch.autograd.grad(J(r).sum(), r)
    # Shells at the cutoff come and go with the displacement.
    inside = coupling.distances < 3.4
    assert np.abs(coupling.slopes - slope.numpy())[inside].max() < 1e-6
    # What moves the bare atom does not move J.
    assert len(spin_lattice_coupling(atoms, 1, displaced=3).j) == 0
    with pytest.raises(ValueError, match="carries no moment"):
        spin_lattice_coupling(atoms, 3)
    with pytest.raises(ValueError, match="no atom 9"):
        spin_lattice_coupling(atoms, 9)

    strain = np.array([[1.0, 0.3, 0], [0.3, -0.5, 0], [0, 0, 0.2]])
    change = strain_derivative(atoms, strain, step=1e-4).within(3.4)
    r = torch.tensor(change.distances, requires_grad=True)
    (slope,) = torch.autograd.grad(J(r).sum(), r)
    n = change.vectors / change.distances[:, None]
    stretch = change.distances * np.einsum("pa,ab,pb->p", n, strain, n)
    assert np.abs(change.isotropic - slope.numpy() * stretch).max() < 1e-5
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        strain_derivative(atoms, [1, 2, 3])


def test_no_exchange():
    """An anisotropy alone leaves no pairs, and nothing to draw."""
    atoms = triclinic()
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(K, AXIS))
    x = exchange_tensors(atoms, repeat=(2, 2, 1))
    assert len(x.distances) == 0 and x.shells() == [] and x.aliasing == 0.0
    assert np.abs(x.onsite - K * (np.outer(AXIS, AXIS) - np.eye(3) / 3)).max() < 1e-9
    plot_exchange(x)


def test_bad_input():
    atoms = triclinic()
    with pytest.raises(ValueError, match="no calculator"):
        exchange_tensors(atoms)
    with pytest.raises(TypeError, match=r"ase\.Atoms"):
        exchange_tensors("Fe")
    set_spins(atoms, np.zeros(4))
    atoms.calc = DeepSpinCalculator(hamiltonian())
    with pytest.raises(ValueError, match="no atom carries a moment"):
        exchange_tensors(atoms)
    atoms = triclinic()
    atoms.calc = DeepSpinCalculator(hamiltonian())
    with pytest.raises(ValueError, match="not periodic"):
        exchange_tensors(atoms, repeat=(2, 2, 2))
