from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    get_spins,
    rotate_spins,
    set_spins,
)
from deepspin_ase.analysis import (
    CollectiveRotation,
    Displacement,
    RelativeRotation,
    plot_landscape,
    scan_landscape,
)
from deepspin_ase.analysis.landscape import Landscape
from deepspin_ase.potentials import (
    Heisenberg,
    LennardJones,
    Potential,
    Sum,
    UniaxialAnisotropy,
)
from deepspin_ase.potentials.radial import CubicCut
from deepspin_ase.units import MU_B

matplotlib.use("Agg")

K = 0.002


def hamiltonian() -> Potential:
    return Sum(
        [
            LennardJones(0.3, 2.25, cutoff=4.5),
            Heisenberg(CubicCut(-0.05, 2.8)),
            UniaxialAnisotropy(K, (0, 0, 1)),
        ]
    )


@pytest.fixture
def chromium() -> Atoms:
    """Return a two-sublattice antiferromagnet along z."""
    atoms = bulk("Cr", "bcc", a=2.88, cubic=True) * (2, 2, 1)
    order = antiferromagnetic((0, 0, 1), cell=2.88)
    set_spins(atoms, {"Cr": 1.5}, pattern=order)
    return atoms


def optical(atoms: Atoms) -> Displacement:
    """Return the displacement of one sublattice along x."""
    return Displacement(np.outer(get_spins(atoms)[:, 2] > 0, [1.0, 0.0, 0.0]))


def test_each_point_is_what_ase_computes(chromium):
    coordinates = [
        optical(chromium),
        RelativeRotation.of_sublattices(chromium, axis="x"),
        CollectiveRotation("y"),
    ]
    grids = [[-0.1, 0.0, 0.2], [0.0, 30.0], [0.0, 10.0, 45.0, 90.0]]
    surface = scan_landscape(
        chromium,
        coordinates=coordinates,
        grids=grids,
        derivatives=True,
        model=hamiltonian(),
    )
    assert surface.energy.shape == (3, 2, 4)
    calc = DeepSpinCalculator(hamiltonian())
    assert surface.start == pytest.approx(calc.get_potential_energy(chromium))
    signs = np.sign(get_spins(chromium)[:, 2])
    for index in [(0, 0, 0), (2, 1, 3), (1, 1, 2)]:
        d, c, r = (grid[k] for grid, k in zip(grids, index, strict=True))
        atoms = chromium.copy()
        atoms.positions[signs > 0, 0] += d
        rotate_spins(atoms, c / 2, axis="x", indices=signs > 0)
        rotate_spins(atoms, -c / 2, axis="x", indices=signs < 0)
        rotate_spins(atoms, r, axis="y")
        assert surface.energy[index] == pytest.approx(
            calc.get_potential_energy(atoms), abs=1e-12
        )
        for name in ("forces", "magnetic_forces", "torques"):
            np.testing.assert_allclose(
                getattr(surface, name)[index],
                calc.get_property(name, atoms),
                atol=1e-12,
            )


def test_known_surfaces(chromium):
    """Nearest-neighbour exchange ~ -cos(C); uniaxial anisotropy ~ sin^2(R)."""
    angles = np.linspace(0, 180, 7)
    c = RelativeRotation.of_sublattices(chromium, axis="x")
    exchange = Heisenberg(CubicCut(-0.05, 2.8))
    surface = scan_landscape(chromium, coordinates=[c], grids=[angles], model=exchange)
    coupling = CubicCut(-0.05, 2.8)(_tensor(2.88 * np.sqrt(3) / 2)).item()
    expected = -1000 * 4 * coupling * (1 - np.cos(np.radians(angles)))
    np.testing.assert_allclose(surface.relative_meV_per_atom(), expected, atol=1e-9)

    anisotropy = UniaxialAnisotropy(K, (0, 0, 1))
    r = CollectiveRotation("x")
    surface = scan_landscape(
        chromium, coordinates=[r], grids=[angles], model=anisotropy
    )
    expected = 1000 * K * np.sin(np.radians(angles)) ** 2
    np.testing.assert_allclose(surface.relative_meV_per_atom(), expected, atol=1e-9)
    flat = scan_landscape(chromium, coordinates=[r], grids=[angles], model=exchange)
    np.testing.assert_allclose(flat.relative_meV_per_atom(), 0, atol=1e-9)


def _tensor(x: float):
    import torch

    return torch.tensor([x], dtype=torch.float64)


def test_chunks_do_not_change_the_result(chromium):
    coordinates = [optical(chromium), CollectiveRotation("x")]
    grids = [np.linspace(-0.2, 0.2, 5), np.linspace(0, 90, 4)]
    together, apart = (
        scan_landscape(
            chromium,
            coordinates=coordinates,
            grids=grids,
            max_atoms=max_atoms,
            model=hamiltonian(),
        ).energy
        for max_atoms in (10**6, 1)
    )
    np.testing.assert_allclose(together, apart, atol=1e-12)


def test_a_calculator_brings_its_field(chromium):
    set_spins(chromium, {"Cr": 1.5})
    calc = DeepSpinCalculator(hamiltonian(), external_field_T=(0, 0, 50))
    r = CollectiveRotation("x")
    with_field = scan_landscape(chromium, coordinates=[r], grids=[[0, 180]], model=calc)
    difference = with_field.energy[1] - with_field.energy[0]
    assert difference == pytest.approx(2 * MU_B * 1.5 * 50 * len(chromium))


def test_references(chromium):
    r = CollectiveRotation("x")
    surface = scan_landscape(
        chromium, coordinates=[r], grids=[[90, 45, 0.0]], model=hamiltonian()
    )
    assert surface.minimum == (0.0,)
    np.testing.assert_allclose(
        surface.relative_meV_per_atom("start"), [1000 * K, 500 * K, 0], atol=1e-9
    )
    with pytest.raises(ValueError, match="reference must be one of"):
        surface.relative_meV_per_atom("mean")


@pytest.mark.parametrize("derivatives", [False, True])
def test_save_and_load(chromium, tmp_path, derivatives):
    surface = scan_landscape(
        chromium,
        coordinates=[optical(chromium), CollectiveRotation("x")],
        grids=[[0, 0.1], [0, 20, 40]],
        derivatives=derivatives,
        model=hamiltonian(),
    )
    surface.save(tmp_path / "surface.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["surface.npz"]
    loaded = Landscape.load(tmp_path / "surface.npz")
    assert vars(loaded).keys() == vars(surface).keys()
    for name, value in vars(surface).items():
        if name == "grids":
            assert all(map(np.array_equal, loaded.grids, value))
        else:
            np.testing.assert_array_equal(getattr(loaded, name), value)


class TestBadInput:
    @pytest.mark.parametrize(
        ("grids", "message"),
        [
            ([], "one grid for each coordinate"),
            ([[0], [1]], "one grid for each coordinate"),
            ([[]], "grid of R"),
            ([[0, np.nan]], "grid of R"),
            ([3.0], "grid of R"),
        ],
    )
    def test_grids(self, chromium, grids, message):
        with pytest.raises(ValueError, match=message):
            scan_landscape(
                chromium,
                coordinates=[CollectiveRotation("x")],
                grids=grids,
                model=hamiltonian(),
            )

    @pytest.mark.parametrize(
        ("coordinate", "message"),
        [
            (Displacement(np.zeros((3, 3))), "vectors of D"),
            (Displacement(np.full((8, 3), np.nan)), "vectors of D"),
            (RelativeRotation("x", [1, -1]), "weights of C"),
            (CollectiveRotation((0, 0, 0)), "length > 0"),
        ],
    )
    def test_coordinates(self, chromium, coordinate, message):
        with pytest.raises(ValueError, match=message):
            scan_landscape(
                chromium, coordinates=[coordinate], grids=[[0, 1]], model=hamiltonian()
            )

    def test_sublattices_that_are_none(self, chromium):
        set_spins(chromium, {"Cr": 1.0})
        with pytest.raises(ValueError, match="two opposite sublattices"):
            RelativeRotation.of_sublattices(chromium, axis="x")

    def test_missing_moments(self, chromium):
        chromium.set_initial_magnetic_moments(None)
        with pytest.raises(ValueError, match="carry no magnetic moments"):
            scan_landscape(
                chromium,
                coordinates=[CollectiveRotation("x")],
                grids=[[0, 1]],
                model=hamiltonian(),
            )

    def test_an_energy_that_is_not_finite(self, chromium):
        class Broken(Potential):
            def forward(self, system, pairs):
                return 1.0 / (system.positions[:, 0] - system.positions[:, 0])

        with pytest.raises(CalculationFailed, match=r"at amplitudes \[0"):
            scan_landscape(
                chromium,
                coordinates=[CollectiveRotation("x")],
                grids=[[0, 1]],
                model=Broken(),
            )


class TestPlot:
    def surface(self, atoms: Atoms, n: int) -> Landscape:
        coordinates = [
            optical(atoms),
            RelativeRotation.of_sublattices(atoms, axis="x"),
            CollectiveRotation("y"),
        ]
        grids = [np.linspace(-0.2, 0.2, 5), np.linspace(0, 90, 4), [0, 45, 90]]
        return scan_landscape(
            atoms, coordinates=coordinates[:n], grids=grids[:n], model=hamiltonian()
        )

    def test_curve_and_map_and_slices(self, chromium):
        import matplotlib.pyplot as plt

        ax = plot_landscape(self.surface(chromium, 1))
        assert ax.get_xlabel() == "D (Å)"
        assert "meV/atom" in ax.get_ylabel()
        _, given = plt.subplots()
        assert plot_landscape(self.surface(chromium, 2), given) is given
        assert (given.get_xlabel(), given.get_ylabel()) == ("D (Å)", "C (deg)")
        row = plot_landscape(self.surface(chromium, 3), max_meV=50)
        assert [a.get_title() for a in row] == ["R = 0 deg", "R = 45 deg", "R = 90 deg"]
        plt.close("all")

    def test_too_many_coordinates(self, chromium):
        r = CollectiveRotation("x")
        surface = scan_landscape(
            chromium, coordinates=[r] * 4, grids=[[0, 1]] * 4, model=hamiltonian()
        )
        with pytest.raises(ValueError, match="reduce to three"):
            plot_landscape(surface)
