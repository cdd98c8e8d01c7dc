"""Heat currents and thermal conductivity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.constraints import FixCartesian
from torch import Tensor

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis.responses import heat_current, thermal_conductivity
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics.integrators._precession import Precession
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    CubicCut,
    DipoleDipole,
    Heisenberg,
    Landau,
    Potential,
    UniaxialAnisotropy,
    finnis_sinclair_fe,
    register,
)
from deepspin_ase.potentials.terms import find_bonds
from deepspin_ase.system import System


def model() -> Potential:
    """Many-body forces, exchange that depends on distance, and on-site terms."""
    sites = UniaxialAnisotropy(0.05, (0, 1, 1)) + Landau([-0.1, 0.01])
    return finnis_sinclair_fe() + Heisenberg(CubicCut(0.5, 3.6)) + sites


def crystal(seed: int = 0) -> tuple[Atoms, np.ndarray]:
    """A rattled cell of iron with moments all over, and velocities."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("Fe2", [(0, 0, 0), (1.4, 1.5, 1.4)], cell=[2.9] * 3, pbc=True)
    atoms = atoms.repeat(2)
    atoms.positions += 0.1 * rng.normal(size=(16, 3))
    set_spins(atoms, 2.0 * rng.normal(size=(16, 3)))
    return atoms, 0.1 * rng.normal(size=(16, 3))


def motion(potential: Potential, system: System) -> tuple[Tensor, Tensor]:
    """Return forces and dm/dt."""
    found = potential.evaluate(system)
    rate = Precession().rate(system.spins, found.magnetic_forces)
    return found.forces, torch.linalg.cross(rate, system.spins)


def test_current_is_the_motion_of_the_energy() -> None:
    """Of a cluster: d/dt sum r_i e_i by differences along the motion."""
    atoms, v = crystal()
    atoms.pbc = False
    potential, system = model(), System.from_atoms(atoms)
    velocities, mass = torch.from_numpy(v), torch.tensor([[55.8]] * 16)
    forces, rates = motion(potential, system)

    def moment_of_energy(t: float) -> Tensor:
        positions = system.positions + t * velocities
        moved = system.replace(positions=positions, spins=system.spins + t * rates)
        speed = velocities + t * forces / mass
        energies = potential.evaluate(moved).energies
        energies = energies + 0.5 * (mass * speed**2).sum(dim=1)
        return (energies[:, None] * positions).sum(dim=0)

    t = 1e-3
    expected = (moment_of_energy(t) - moment_of_energy(-t)) / (2 * t)
    found = heat_current(potential, system, velocities, mass, rates)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    lattice = heat_current(potential, system, velocities, mass, 0.0 * rates)[0]
    assert float((found - lattice).norm()) > 0.01 * float(found.norm())


def test_current_of_periodic_crystals_in_a_batch() -> None:
    """Twice that of the cell for two cells, wherever atoms are wrapped."""
    atoms, v = crystal()
    double = atoms.repeat((1, 2, 1))
    double.positions += [0.3, 1.1, -0.7]
    double.wrap()
    potential = model()
    system = System.from_atoms([atoms, double])
    velocities = torch.from_numpy(np.concatenate([v, v, v]))
    mass = torch.full((48, 1), 55.8, dtype=torch.float64)
    _, rates = motion(potential, system)
    one, two = heat_current(potential, system, velocities, mass, rates)
    torch.testing.assert_close(two, 2.0 * one, rtol=1e-8, atol=1e-8)


@register
class QuarticChain(Potential):
    """1/2 (y_j - y_i)^2 of neighbors along x and y^4/4 of each, A, times 0.5 eV."""

    uses_spins = False
    is_local = True
    cutoff = 14.0

    def forward(self, system: System, pairs: PairList) -> Tensor:
        bonds = find_bonds(system, pairs, 14.0)
        springs = bonds.share(0.5 * bonds.vectors[:, 1] ** 2)
        return 0.5 * (springs + 0.25 * system.positions[:, 1] ** 4)


def carried_by_the_quartic_chain(n: int = 56, replicas: int = 128) -> np.ndarray:
    """Return kappa at T = 1, and its error, of chains between ends at 1.2 and 0.8.

    H = sum p^2/2 + (y_j - y_i)^2/2 + y^4/4, with Langevin baths of four sites each, by
    the flow and the slope of the temperature away from them.
    """
    rng = np.random.default_rng(0)
    y, p = np.zeros((n, replicas)), rng.normal(size=(n, replicas))
    ends, bath = np.r_[0:4, n - 4 : n], np.repeat([1.2, 0.8], 4)[:, None]
    dt, steps, keep = 0.05, 30000, np.exp(-0.3 * 0.05)
    kick = np.sqrt(bath * (1.0 - keep**2))

    def forces() -> np.ndarray:
        found, tension = -(y**3), np.diff(y, axis=0)
        found[:-1] += tension
        found[1:] -= tension
        return found

    force = forces()
    temperatures, flows = [], []
    for step in range(steps):
        p += 0.5 * dt * force
        y += dt * p
        force = forces()
        p += 0.5 * dt * force
        p[ends] = keep * p[ends] + kick * rng.normal(size=(8, replicas))
        if step > steps // 5 and step % 4 == 0:
            temperatures.append((p * p).mean(axis=1))
            flow = -0.5 * (p[1:] + p[:-1]) * np.diff(y, axis=0)
            flows.append(flow[12:-12].mean(axis=0))
    inner = np.arange(12, n - 12)
    slope = -np.polyfit(inner, np.mean(temperatures, axis=0)[inner], 1)[0]
    each = np.mean(flows, axis=0) / slope
    return np.array([each.mean(), each.std(ddof=1) / np.sqrt(replicas)])


@pytest.mark.slow
def test_conductivity_of_the_quartic_chain() -> None:
    """That of a chain between two heat baths, in its units at T = 1.

    K. Aoki and D. Kusnezov, Phys. Lett. A 265, 250 (2000),
    doi:10.1016/S0375-9601(99)00899-3, have 2.83 T^-1.35.
    """
    between, its_error = carried_by_the_quartic_chain()
    print(between, its_error)
    assert abs(between - 2.83) < 3.0 * its_error
    a, n = 10.0, 32
    atoms = Atoms(f"Fe{n}", [(a * k, 0, 0) for k in range(n)], cell=(a * n, 1, 1))
    atoms.pbc = (True, False, False)
    atoms.set_masses(np.full(n, 0.5))
    set_spins(atoms, [(0, 0, 5.0)] + [(0, 0, 0)] * (n - 1))
    along_y = FixCartesian(range(n), (True, False, True))
    atoms.set_constraint([along_y, FixSpins([0])])
    found = thermal_conductivity(
        atoms,
        0.5 / units.kB,
        model=QuarticChain() + UniaxialAnisotropy(0.0, (0, 0, 1)),
        timestep_fs=0.1 / units.fs,
        steps=3000,
        equilibration=600,
        interval=4,
        replicas=48,
        progress=False,
        seed=1,
    )
    # J = 0.5 eV a J*, k T = 0.5 eV, V = n a (1 A)^2.
    kappa, error = (
        x[0] * units.J / (units.s * units.m) / (units.kB * a)
        for x in (found.conductivity, found.error)
    )
    print(kappa, error)
    assert error < 0.2 * between
    assert abs(kappa - between) < 3.0 * np.hypot(error, its_error)


def test_bad_input() -> None:
    atoms, v = crystal()
    atoms.calc = DeepSpinCalculator(DipoleDipole(cutoff=5.0))
    system = System.from_atoms(atoms)
    velocities, mass = torch.from_numpy(v), torch.ones(16, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"DipoleDipole is not local \(is_local\)"):
        heat_current(DipoleDipole(cutoff=5.0), system, velocities, mass, velocities)
    with pytest.raises(ValueError, match="give the structure a cell"):
        flat = atoms.copy()
        flat.pbc = False
        flat.cell = None
        thermal_conductivity(flat, 100.0, model=model())
