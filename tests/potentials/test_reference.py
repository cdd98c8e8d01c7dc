"""Ready Hamiltonians of iron and NiO against the numbers they were made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.units import GPa

from deepspin_ase.potentials import (
    Heisenberg,
    Potential,
    dudarev_derlet_fe,
    finnis_sinclair_fe,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.materials.reference import fe, nio
from deepspin_ase.system import System
from deepspin_ase.units import G_FACTOR


def iron(a: float = 2.8665, moment: float = 0.0, repeat: int = 1) -> Atoms:
    atoms = bulk("Fe", "bcc", a=a, cubic=True) * (repeat, 1, 1)
    return with_spins(atoms, np.tile([0.0, 0.0, moment], (len(atoms), 1)))


def with_spins(atoms: Atoms, spins: np.ndarray) -> Atoms:
    atoms = atoms.copy()
    atoms.arrays.pop("initial_magmoms", None)
    atoms.set_initial_magnetic_moments(spins)
    return atoms


def rocksalt(a: float = 4.178, order: str = "none", angle: float = 90.0) -> Atoms:
    """Two formula units, doubled along [111]; ``angle`` of the cubic axes."""
    basis = 0.5 * a * np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2]])
    sites = [[0, 0, 0], [0.25] * 3, [0.5] * 3, [0.75] * 3]
    atoms = Atoms("NiONiO", scaled_positions=sites, cell=basis, pbc=True)
    shear = 0.5 * np.cos(np.radians(angle)) * (1 - np.eye(3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + shear), scale_atoms=True)
    signs = {"none": [0, 0], "fm": [1, 1], "afm2": [1, -1]}[order]
    spins = np.zeros((4, 3))
    spins[[0, 2]] = 2.0 * np.outer(signs, np.array([1, 1, -2]) / 6**0.5)
    return with_spins(atoms, spins)


def energies(potential: Potential, images: list[Atoms]) -> np.ndarray:
    system = System.from_atoms(images)
    return potential.evaluate(system, virial=False).energy.numpy()


def parabola(potential: Potential, build, x: float, h: float) -> tuple[float, float]:
    """Return minimum and curvature of the energy of build(x), five points."""
    steps = np.arange(-2, 3)
    e = energies(potential, [build(x + h * k) for k in steps])
    fit = np.polynomial.Polynomial.fit(steps, e, 4).convert()
    roots = fit.deriv().roots()
    k = roots[np.argmin(np.abs(roots))].real
    return x + h * k, fit.deriv(2)(k) / h**2


def elastic_constants(potential: Potential, atoms: Atoms) -> np.ndarray:
    """Return C11, C12, C44 in GPa of a cubic crystal without internal strain."""
    shear = np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])
    curvatures = []
    for mode in (np.diag([1, 0, 0]), np.diag([1, 1, 0]), shear):

        def strained(x: float, mode: np.ndarray = mode) -> Atoms:
            image = atoms.copy()
            image.set_cell(atoms.cell @ (np.eye(3) + x * mode), scale_atoms=True)
            return image

        curvatures.append(parabola(potential, strained, 0.0, 2e-4)[1])
    c11, biaxial, c44 = np.array(curvatures) / atoms.get_volume() / GPa
    return np.array([c11, biaxial / 2 - c11, c44])


@pytest.mark.parametrize(
    ("build", "cohesion", "constants"),
    [
        (dudarev_derlet_fe, 4.316, (243.4, 138.3, 122.1)),
        (finnis_sinclair_fe, 4.280, (243.1, 138.1, 121.9)),
    ],
)
def test_iron_lattices(build, cohesion: float, constants: tuple[float, ...]) -> None:
    potential = build()
    a, _ = parabola(potential, iron, 2.86, 0.01)
    assert a == pytest.approx(2.8665, abs=1e-4)
    assert energies(potential, [iron()])[0] / 2 == pytest.approx(-cohesion, abs=1e-4)
    found = elastic_constants(potential, iron())
    assert found == pytest.approx(constants, abs=0.15)


@pytest.mark.parametrize("build", [dudarev_derlet_fe, finnis_sinclair_fe])
def test_iron_has_a_core_and_isolated_atoms_have_no_energy(build) -> None:
    potential = build()
    r = torch.linspace(0.5, 2.2, 200, dtype=torch.float64)
    assert bool((potential.pair(r).diff() < 0).all())
    apart = Atoms("Fe2", [[0, 0, 0], [0, 0, 9.0]])
    found = potential.evaluate(System.from_atoms(apart, require_spins=False))
    assert not found.energies.any()
    assert not found.forces.any()
    # Just inside the range of the density, where sqrt(rho) is steepest.
    near = Atoms("Fe2", [[0, 0, 0], [0, 0, potential.density.cutoff - 1e-9]])
    found = potential.evaluate(System.from_atoms(near, require_spins=False))
    assert torch.isfinite(found.forces).all()


def test_embedding_of_dudarev_and_derlet() -> None:
    rho = np.array([0.01, 0.3, 0.95, 1.0, 1.05, 3.0])
    magnetic = (1 - np.sqrt(rho)) * np.log(np.maximum(2 - rho, 1.0)) / np.log(2)
    expected = -4.100199340884814 * np.sqrt(rho) - 1.565647547483517 * magnetic
    found = dudarev_derlet_fe().embedding(torch.tensor(rho))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("lattice", [None, "dudarev-derlet", "finnis-sinclair"])
def test_heisenberg_landau_iron(lattice: str | None) -> None:
    potential = fe(lattice=lattice)
    moment, curvature = parabola(potential, lambda m: iron(moment=m), 2.36, 0.01)
    assert moment / G_FACTOR == pytest.approx(1.1785, abs=1e-4)
    assert curvature > 0
    if lattice is not None:
        # The ferromagnet stays that of the lattice term, at any volume.
        small, _ = parabola(potential, lambda m: iron(2.80, m), 2.36, 0.01)
        assert small == pytest.approx(moment, abs=1e-6)
        a, _ = parabola(potential, lambda a: iron(a, moment), 2.86, 0.01)
        assert a == pytest.approx(2.8665, abs=1e-4)


def test_couplings_of_iron() -> None:
    exchange = fe(lattice=None).members[0]
    r = torch.tensor([3**0.5 / 2 * 2.8665, 2.8665], dtype=torch.float64)
    near, far = (G_FACTOR**2 * exchange.radial(r)).tolist()
    assert 8 * near + 6 * far == pytest.approx(0.337, abs=5e-4)
    # Twice the values of the source, which counts (i, j) and (j, i).
    bethe_slater = fe(lattice=None, exchange="bethe-slater").members[0]
    assert isinstance(bethe_slater, Heisenberg)
    found = 0.5e3 * bethe_slater.radial(torch.tensor([2.4824, 2.8665])).double()
    assert found.tolist() == pytest.approx([19.483, 11.09], abs=0.02)


@pytest.mark.parametrize(
    ("exchange", "moment", "stiffness"),
    [("heisenberg-landau", 2.3597, 435.0), ("bethe-slater", 2.2, 457.0)],
)
def test_spin_stiffness_of_iron(exchange: str, moment: float, stiffness: float) -> None:
    """D = 2 g dE/d(q^2)/m of a spin spiral, to the numbers of the docstring."""
    n = 60
    atoms = iron(repeat=n)
    q = 2 * np.pi / (n * 2.8665)
    phase = q * atoms.positions[:, 0]
    spiral = np.stack([np.cos(phase), np.sin(phase), 0 * phase], axis=1)
    ferro = np.tile([1.0, 0.0, 0.0], (len(atoms), 1))
    images = [with_spins(atoms, moment * order) for order in (spiral, ferro)]
    turned, straight = energies(fe(exchange=exchange), images) / len(atoms)
    found = 2 * G_FACTOR * (turned - straight) / (moment * q**2) * 1e3
    assert found == pytest.approx(stiffness, rel=0.01)


def test_ferromagnetic_iron_feels_no_exchange() -> None:
    for exchange in ("heisenberg-landau", "bethe-slater"):
        rattled = iron(moment=2.2, repeat=3)
        rattled.rattle(0.05, seed=1)
        system = System.from_atoms(rattled)
        with_exchange = fe(exchange=exchange).evaluate(system)
        without = fe(exchange=None).evaluate(system)
        torch.testing.assert_close(with_exchange.forces, without.forces)


def test_rigid_ion_nio() -> None:
    ions = nio().members[0]
    a, _ = parabola(ions, rocksalt, 4.17, 0.01)
    assert a == pytest.approx(4.178, abs=1e-3)
    c11, c12, _ = elastic_constants(ions, rocksalt(a))
    assert (c11 + 2 * c12) / 3 == pytest.approx(206.0, abs=0.5)


def test_exchange_and_anisotropy_of_nio() -> None:
    exchange, out_of_plane, in_plane = nio(lattice=False).members
    images = [rocksalt(order="afm2"), rocksalt(order="fm")]
    afm, fm = energies(exchange, images) / 2 * 1e3
    # Six parallel and six antiparallel first, six antiparallel second neighbours.
    assert afm == pytest.approx(-3 * 19.01, rel=1e-6)
    assert fm == pytest.approx(3 * 19.01 - 6 * 1.37, rel=1e-3)

    def along(*axis: float) -> System:
        spin = np.array(axis) / np.linalg.norm(axis)
        return System.from_atoms(with_spins(Atoms("Ni"), spin[None]))

    easy, middle, hard = (
        1e3 * float((out_of_plane + in_plane).evaluate(along(*axis)).energy)
        for axis in ((1, 1, -2), (1, -1, 0), (1, 1, 1))
    )
    assert hard - easy == pytest.approx(0.097)
    assert middle - easy == pytest.approx(0.0051)


def test_nio_contracts_along_its_axis() -> None:
    angle, _ = parabola(nio(), lambda x: rocksalt(4.173, "afm2", x), 90.1, 0.05)
    assert angle == pytest.approx(90.1, abs=0.005)
    cubic, _ = parabola(nio(), lambda x: rocksalt(4.173, "fm", x), 90.0, 0.05)
    assert cubic == pytest.approx(90.0, abs=1e-6)
    a, _ = parabola(nio(), lambda x: rocksalt(x, "afm2", 90.1), 4.17, 0.01)
    assert a == pytest.approx(4.173, abs=1e-3)


@pytest.mark.parametrize("build", [fe, nio])
def test_save_and_load(build, tmp_path) -> None:
    atoms = rocksalt(order="afm2") if build is nio else iron(moment=2.2)
    atoms.rattle(0.03, seed=2)
    system = System.from_atoms(atoms)
    save_potential(tmp_path / "model.pt", build())
    loaded = load_potential(tmp_path / "model.pt")
    before, after = build().evaluate(system), loaded.evaluate(system)
    assert torch.equal(before.energies, after.energies)
    assert torch.equal(before.magnetic_forces, after.magnetic_forces)
    foreign = System.from_atoms(Atoms("Co", magmoms=[[0.0, 0.0, 1.0]]))
    with pytest.raises(ValueError, match="does not know the element Co"):
        loaded.evaluate(foreign)


def test_what_is_refused() -> None:
    for options in (
        {"lattice": "morse"},
        {"exchange": "rkky"},
        {"lattice": None, "exchange": None},
    ):
        with pytest.raises(ValueError, match=r"lattice|exchange"):
            fe(**options)
    atoms = rocksalt(order="fm")
    atoms.arrays["initial_magmoms"][1] = [0, 0, 0.1]
    with pytest.raises(ValueError, match="O carries a moment"):
        nio().evaluate(System.from_atoms(atoms))
