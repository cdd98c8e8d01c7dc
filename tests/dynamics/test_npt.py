"""Spin-lattice dynamics at constant pressure and stress."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import thermalize_momenta
from scipy.optimize import minimize_scalar

from deepspin_ase import DeepSpinCalculator, get_spins, random_directions, set_spins
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import SpinLatticeLangevin, SpinLatticeNPT
from deepspin_ase.dynamics.observables import kinetic_energy
from deepspin_ase.potentials import Harmonic, Heisenberg, SmoothShells

FS = units.fs
#: Springs between the nearest neighbours of an fcc crystal: eV/A^2 and A.
K, R0 = 3.0, 2.5
A0 = R0 * np.sqrt(2)
#: Its elastic constants at rest, eV/A^3: C11 = 2 C12 = 2 C44 = sqrt(2) K/R0.
C11 = np.sqrt(2) * K / R0
BULK = 2 * C11 / 3


def crystal(
    *,
    seed: int = 0,
    temperature_K: float = 300.0,
    exchange: tuple[float, float] | None = None,
    disordered: bool = False,
) -> Atoms:
    """Return 32 atoms on springs, with exchange (value, slope) if asked for."""
    atoms = bulk("Fe", "fcc", a=A0, cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(seed)
    pattern = random_directions(rng) if disordered else np.tile([0, 0, 1.0], (32, 1))
    set_spins(atoms, np.full(len(atoms), 2.0), pattern=pattern)
    potential = Harmonic(K, R0, cutoff=3.05)
    if exchange is not None:
        potential = potential + Heisenberg(SmoothShells([(R0, *exchange)], 0.8))
    atoms.calc = DeepSpinCalculator(potential)
    # Springs of 12 neighbours bind an atom with 4 K in every direction.
    atoms.rattle(np.sqrt(units.kB * temperature_K / (4 * K)), rng=rng)
    thermalize_momenta(atoms, temperature_K=temperature_K, rng=rng)
    return atoms


def averages(
    dyn: SpinLatticeNPT,
    observe: Callable[[SpinLatticeNPT], torch.Tensor],
    steps: int,
    every: int = 10,
) -> np.ndarray:
    """Return values (steps / every, ...) along a run."""
    values = []
    for _ in range(steps // every):
        dyn.run(every)
        values.append(observe(dyn).numpy().copy())
    return np.array(values)


def stress_GPa(dyn: SpinLatticeNPT) -> torch.Tensor:
    """Return the stress, kinetic part included, (B, 3, 3), tensile positive."""
    state = dyn.state
    flow = state.momenta[:, :, None] * state.momenta[:, None, :] / dyn.mass[..., None]
    total = state.system.sum(flow) + dyn.prediction.virial
    return -total / state.system.volume[:, None, None] / units.GPa


def pressure_GPa(dyn: SpinLatticeNPT) -> torch.Tensor:
    return -stress_GPa(dyn).diagonal(dim1=1, dim2=2).mean(1)


class TestMechanics:
    @pytest.mark.parametrize(
        "settings",
        [
            {"pressure_GPa": 5.0},
            {"cell": "anisotropic", "pressure_GPa": -5.0},
            {"cell": "flexible", "stress_GPa": (2.0, 0, -1, 0.5, 0, 1.0)},
        ],
    )
    def test_extended_energy_is_conserved_to_second_order(self, settings):
        spread = []
        for dt in (1.0, 0.5):
            atoms = crystal(exchange=(0.02, -0.1), disordered=True)
            dyn = SpinLatticeNPT(
                atoms,
                dt * FS,
                temperature_K=300,
                damping=0.0,
                tdamp=30 * FS,
                pdamp=200 * FS,
                **settings,
            )
            steps = round(80 / dt)
            energy = averages(dyn, lambda d: d.conserved_energy(), steps, 1)
            assert abs(atoms.get_volume() / (8 * A0**3) - 1) > 3e-4
            spread.append(energy.std())
        assert spread[0] < 2e-3
        assert spread[0] / spread[1] == pytest.approx(4.0, abs=0.5)

    def test_reversible_without_damping(self):
        atoms = crystal(exchange=(0.02, -0.1), disordered=True)
        dyn = SpinLatticeNPT(
            atoms,
            FS,
            temperature_K=300,
            damping=0.0,
            cell="flexible",
            stress_GPa=(1, 0, 0, 0, 0.5, 0),
        )
        first = atoms.copy()
        dyn.run(50)
        assert np.abs(atoms.cell.array - first.cell.array).max() > 1e-5
        dyn.dt = -dyn.dt
        dyn.run(50)
        assert atoms.positions == pytest.approx(first.positions, abs=1e-8)
        assert atoms.cell.array == pytest.approx(first.cell.array, abs=1e-8)
        assert get_spins(atoms) == pytest.approx(get_spins(first), abs=1e-8)

    def test_cells_change_only_as_asked(self):
        def strain(**settings):
            atoms = crystal(temperature_K=600)
            first = atoms.cell.array.copy()
            dyn = SpinLatticeNPT(
                atoms,
                FS,
                temperature_K=600,
                damping=0.0,
                pdamp=100 * FS,
                stress_GPa=(3, 2, 1, 1, 1, 1),
                **settings,
            )
            dyn.run(50)
            return np.linalg.solve(first, atoms.cell.array) - np.eye(3)

        size = strain(cell="isotropic")
        assert size == pytest.approx(size[0, 0] * np.eye(3), abs=1e-12)
        assert abs(size[0, 0]) > 1e-3
        lengths = strain(cell="anisotropic")
        assert lengths == pytest.approx(np.diag(np.diag(lengths)), abs=1e-12)
        assert np.ptp(np.diag(lengths)) > 1e-3
        film = strain(cell="flexible", mask=[False, False, True, False, False, False])
        assert abs(film[2, 2]) > 1e-3
        film[2, 2] = 0.0
        assert film == pytest.approx(0.0, abs=1e-12)
        full = strain(cell="flexible")
        assert np.abs(full[np.triu_indices(3, 1)]).min() > 1e-4
        # Without rotation the deformation is symmetric, up to second order.
        assert full == pytest.approx(full.T, abs=0.05 * np.abs(full).max())

    def test_a_failed_step_leaves_everything_as_it_was(self, monkeypatch):
        dyn = SpinLatticeNPT(
            crystal(exchange=(0.02, -0.1)), FS, temperature_K=300, damping=0.0
        )
        dyn.run(3)
        before = dyn.conserved_energy()

        def fail(*args, **kwargs):
            raise CalculationFailed("not finite")

        with monkeypatch.context() as patch:
            patch.setattr(dyn.engine, "evaluate", fail)
            with pytest.raises(CalculationFailed):
                dyn.run(1)
        assert torch.equal(dyn.conserved_energy(), before)


class TestEnsemble:
    @pytest.mark.parametrize(
        ("count", "settle", "steps", "tight"),
        [
            (6, 500, 1500, 0.3),
            pytest.param(24, 3000, 15000, 0.05, marks=[pytest.mark.slow]),
        ],
    )
    def test_pressure_and_bulk_modulus(self, count, settle, steps, tight):
        # Var V = kT V/B; anharmonicity changes B by kT/(K R0^2), a part in 1000.
        kT = 300 * units.kB
        images = [crystal(seed=k) for k in range(count)]
        # Vibrations of these crystals take picoseconds to share their heat.
        SpinLatticeLangevin(
            images,
            2 * FS,
            temperature_K=300,
            friction=0.01 / FS,
            damping=0.0,
            rng=1,
        ).run(settle)
        dyn = SpinLatticeNPT(
            images,
            2 * FS,
            temperature_K=300,
            damping=0.0,
            pdamp=600 * FS,  # the cell breathes in 50 steps: (pi/50)^2 too wide
            pressure_GPa=1.0,
        )
        dyn.run(settle)

        def both(d: SpinLatticeNPT) -> torch.Tensor:
            return torch.stack([d.state.system.volume, pressure_GPa(d)])

        volume, pressure = averages(dyn, both, steps).transpose(1, 0, 2)
        mean = pressure.mean(axis=0)
        error = mean.std() / np.sqrt(count)
        assert mean.mean() == pytest.approx(1.0, abs=3 * error + 0.01)
        assert error < 0.05
        variance = ((volume - volume.mean()) ** 2).mean(axis=0)
        error = variance.std() / np.sqrt(count)
        # dB/dP = 1 for springs on this lattice: E'' is constant in r.
        exact = kT * volume.mean() / BULK
        assert error < tight * exact
        assert variance.mean() == pytest.approx(exact, abs=3 * error)

    def test_flexible_cell_reaches_the_stress(self):
        # Starting from the wrong shape; strains by Hooke's law.
        target = np.array([2.0, -1.0, 0.0, 1.5, 0.0, 0.0])
        count = 4
        images = [crystal(seed=k, temperature_K=50) for k in range(count)]
        for image in images:
            strain = np.eye(3)
            strain[0, 0], strain[0, 1] = 1.02, 0.02
            image.set_cell(image.cell.array @ strain, scale_atoms=True)
        dyn = SpinLatticeNPT(
            images,
            2 * FS,
            temperature_K=50,
            damping=0.0,
            cell="flexible",
            stress_GPa=target,
            pdamp=1000 * FS,
        )
        dyn.run(600)

        def both(d: SpinLatticeNPT) -> torch.Tensor:
            cell = d.state.system.cell
            # Free of a rotation of the cell: h h^T.
            return torch.stack([stress_GPa(d), cell.transpose(1, 2) @ cell])

        found = averages(dyn, both, 1200).mean(axis=0)
        stress, metric = found.mean(axis=1)
        error = found[0].std(axis=0) / np.sqrt(count)
        full = np.array([[2.0, 0, 0], [0, -1.0, 1.5], [0, 1.5, 0]])
        assert error.max() < 0.1
        assert np.abs(stress - full).max() < 3 * error.max() + 0.05
        strain = (metric / (2 * A0) ** 2 - np.eye(3)) / 2
        compliance = np.linalg.inv(C11 / 2 * (np.eye(3) + np.ones((3, 3))))
        diagonal = compliance @ target[:3] * units.GPa
        assert np.diag(strain) == pytest.approx(diagonal, abs=1.5e-3)
        shear = target[3] * units.GPa / (2 * C11 / 2)
        assert strain[1, 2] == pytest.approx(shear, abs=1e-3)
        assert strain[0, 1] == pytest.approx(0.0, abs=1e-3)

    def test_magnetovolume_effect(self):
        # J falls with distance, so that aligned spins draw the atoms together.
        value, slope = 0.01, -0.2
        images = [
            crystal(
                seed=k, temperature_K=20, exchange=(value, slope), disordered=k == 1
            )
            for k in range(2)
        ]
        images[1].set_constraint(FixSpins(range(32)))
        dyn = SpinLatticeNPT(
            images,
            FS,
            temperature_K=20,
            spin_temperature_K=0.1,
            damping=0.5,
            pdamp=300 * FS,
        )
        dyn.run(300)
        edge = averages(dyn, lambda d: d.state.system.volume, 600).mean(axis=0)
        edge = (edge / 32 * np.sqrt(2)) ** (1 / 3)
        aligned = minimize_scalar(
            lambda r: K / 2 * (r - R0) ** 2 - value - slope * (r - R0),
            bounds=(2.3, 2.6),
        ).x
        assert aligned < R0 - 0.05
        assert edge[0] == pytest.approx(aligned, abs=2e-3)
        assert edge[1] > aligned + 0.04

    @pytest.mark.slow
    def test_spins_at_temperature_expand_the_crystal(self):
        # Baths of 10 K and 3000 K: order, and with it the contraction, is lost.
        images = [
            crystal(seed=k, temperature_K=100, exchange=(0.02, -0.1)) for k in range(4)
        ]
        dyn = SpinLatticeNPT(
            images,
            FS,
            temperature_K=100,
            spin_temperature_K=[10, 10, 3000, 3000],
            damping=0.3,
            pdamp=300 * FS,
            rng=1,
        )
        dyn.run(500)
        volume = averages(dyn, lambda d: d.state.system.volume, 3000).mean(axis=0)
        order = dyn.state.system.spins.reshape(4, 32, 3).mean(1).norm(dim=1) / 2.0
        assert order[:2].min() > 0.95 and order[2:].max() < 0.6
        assert volume[2:].min() > 1.01 * volume[:2].max()


class TestDriver:
    def test_replicas_equal_single_runs(self):
        pressures = [0.0, 2.0, -1.0]
        temperatures = [200.0, 300.0, 400.0]

        def images():
            return [
                crystal(seed=k, exchange=(0.02, -0.1), disordered=True)
                for k in range(3)
            ]

        settings = {"damping": 0.0, "cell": "flexible", "spin_integrator": "sib"}
        batch, singles = images(), images()
        SpinLatticeNPT(
            batch, FS, temperature_K=temperatures, pressure_GPa=pressures, **settings
        ).run(30)
        for k, image in enumerate(singles):
            SpinLatticeNPT(
                image,
                FS,
                temperature_K=temperatures[k],
                pressure_GPa=pressures[k],
                **settings,
            ).run(30)
            assert image.positions == pytest.approx(batch[k].positions, abs=1e-9)
            assert image.cell.array == pytest.approx(batch[k].cell.array, abs=1e-9)
            assert get_spins(image) == pytest.approx(get_spins(batch[k]), abs=1e-9)

    def test_pressures_make_replicas(self):
        dyn = SpinLatticeNPT(
            crystal(), FS, temperature_K=300, damping=0.0, pressure_GPa=[0, 5, 10]
        )
        assert dyn.n_replicas == 3
        dyn.run(50)
        volume = dyn.state.system.volume
        assert volume[0] > volume[1] > volume[2]

    @pytest.mark.parametrize("damping", [0.0, 0.1])
    def test_restart_is_exact(self, tmp_path, damping):
        atoms = crystal(exchange=(0.02, -0.1), disordered=True)
        dyn = SpinLatticeNPT(
            atoms,
            FS,
            temperature_K=300,
            damping=damping,
            cell="flexible",
            stress_GPa=(1, 0, 0, 0, 0.5, 0),
            rng=1,
        )
        dyn.run(15)
        dyn.set_temperature(400.0, 200.0)
        dyn.save(tmp_path / "run.ckpt")
        dyn.run(20)
        again = SpinLatticeNPT.restore(tmp_path / "run.ckpt")
        again.run(20)
        other = again.images[0]
        assert np.array_equal(other.positions, atoms.positions)
        assert np.array_equal(other.cell.array, atoms.cell.array)
        assert np.array_equal(other.get_momenta(), atoms.get_momenta())
        assert np.array_equal(get_spins(other), get_spins(atoms))
        assert torch.equal(again.barostat.momenta, dyn.barostat.momenta)
        assert torch.equal(again.barostat.work, dyn.barostat.work)

    def test_model_calls(self):
        dyn = SpinLatticeNPT(
            crystal(exchange=(0.02, -0.1)), FS, temperature_K=300, damping=0.1, rng=1
        )
        dyn.run(1)
        calls = dyn.engine.n_calls
        dyn.run(10)
        assert dyn.engine.n_calls == calls + 20
        assert dyn.conserved_energy() is None

    def test_lattice_temperature(self):
        images = [crystal(seed=k) for k in range(6)]
        dyn = SpinLatticeNPT(
            images, 2 * FS, temperature_K=300, damping=0.0, pdamp=300 * FS
        )
        dyn.run(200)
        assert np.allclose(dyn.degrees_of_freedom, 93)
        kinetic = averages(
            dyn,
            lambda d: kinetic_energy(d.state.system, d.state.momenta, d.mass),
            400,
        )
        found = kinetic.mean() * 2 / 93 / units.kB
        assert found == pytest.approx(300.0, rel=0.03)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"temperature_K": 0.0}, "temperature_K must be"),
            ({"damping": -0.1}, "damping must be"),
            ({"pdamp": 0.0}, "pdamp must be"),
            ({"pressure_GPa": 1.0, "stress_GPa": [0] * 6}, "not both"),
            ({"pressure_GPa": np.nan}, "pressure_GPa must be"),
            ({"stress_GPa": [1.0, 2.0]}, "six finite numbers"),
            ({"cell": "cubic"}, "cell must be one of"),
            ({"mask": [True] * 6}, "takes no mask"),
            ({"cell": "flexible", "mask": [True] * 3}, "six booleans"),
            ({"cell": "anisotropic", "mask": [0, 0, 0, 1, 1, 1]}, "leaves nothing"),
        ],
    )
    def test_bad_input(self, settings, message):
        settings = {"temperature_K": 300, "damping": 0.0} | settings
        with pytest.raises(ValueError, match=message):
            SpinLatticeNPT(crystal(), FS, **settings)

    def test_cells_that_cannot_change(self):
        atoms = crystal()
        atoms.set_constraint(FixAtoms([0]))
        with pytest.raises(ValueError, match="constrained"):
            SpinLatticeNPT(atoms, FS, temperature_K=300, damping=0.0)
        atoms = crystal()
        atoms.pbc = (True, True, False)
        with pytest.raises(ValueError, match="not periodic in all directions"):
            SpinLatticeNPT(atoms, FS, temperature_K=300, damping=0.0)
