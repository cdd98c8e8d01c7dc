"""Values that are possible but far from usual are said, once each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase._plausible import warn_of_short_time, warn_of_unusual
from deepspin_ase.analysis import hysteresis
from deepspin_ase.dynamics import (
    TSPIN,
    LongitudinalSpinLangevin,
    MonteCarlo,
    SpinDynamics,
    SpinLatticeLangevin,
    SpinLatticeNPT,
    SpinLatticeNVE,
    ThreeTemperature,
)
from deepspin_ase.optimize import SpinLatticeFilter, relax, relax_batch
from deepspin_ase.potentials import (
    SpinMomentConfig,
    Sum,
    UniaxialAnisotropy,
    dudarev_derlet_fe,
)
from deepspin_ase.training._config import LearningRateConfig

FS = units.fs


def iron(field: Any = None) -> Atoms:
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    model = Sum([dudarev_derlet_fe(), UniaxialAnisotropy(1e-5, (0, 0, 1))])
    atoms.calc = DeepSpinCalculator(model, external_field_T=field)
    return atoms


def langevin(**changes: Any) -> None:
    options = {"friction": 0.01 / FS, "damping": 0.1, "temperature_K": 300.0}
    SpinLatticeLangevin(iron(), FS, **options | changes)


def npt(**changes: Any) -> None:
    SpinLatticeNPT(iron(), FS, temperature_K=300.0, damping=0.01, **changes)


def electrons(**changes: Any) -> None:
    options = {
        "electron_temperature_K": 300.0,
        "heat_capacity": 5e-8,
        "friction": 0.01 / FS,
        "damping": 0.01,
        "pulse_center_fs": 100.0,
        "pulse_width_fs": 50.0,
    }
    ThreeTemperature(iron(), FS, **options | changes)


def longitudinal(gamma: float) -> None:
    LongitudinalSpinLangevin(
        iron(), FS, temperature_K=300.0, friction=None, gamma_L=gamma / FS
    )


def heavy() -> None:
    atoms = iron()
    atoms.set_masses([55.8, 55.8e3])
    SpinLatticeNVE(atoms, FS)


def moments(length: float) -> Atoms:
    atoms = iron()
    set_spins(atoms, {"Fe": length})
    return atoms


def relaxed_to(**limits: float) -> None:
    relax(iron(), **limits)


UNUSUAL: dict[str, tuple[Callable[[], Any], str]] = {
    "friction": (lambda: langevin(friction=10.0 / FS), "friction of 10 1/fs"),
    "damping": (lambda: langevin(damping=5.0), "damping of 5 "),
    "temperature": (lambda: langevin(temperature_K=1e5), "temperature_K of 1e"),
    "spin temperature": (
        lambda: langevin(spin_temperature_K=1e5, damping=1e-6),
        "spin_temperature_K of 1e",
    ),
    "field": (
        lambda: langevin(external_field_T=(0, 0, 5e4)),
        "external_field_T of 5e",
    ),
    "field of a calculator": (lambda: iron((0, 0, 5e4)), "external_field_T of 5e"),
    "long step": (lambda: SpinLatticeNVE(iron(), 50 * FS), "long for atoms"),
    "short step": (lambda: SpinLatticeNVE(iron(), 1e-5 * FS), "timestep of 1e-05 fs"),
    "masses": (heavy, "masses of 5.58e"),
    "g factor": (lambda: langevin(g_factor=1.76e11), "g_factor of 1.76e"),
    "pressure in Pa": (lambda: npt(pressure_GPa=101325.0), "pressure_GPa of 1.013e"),
    "stress": (lambda: npt(stress_GPa=[1e6] * 3 + [0] * 3), "stress_GPa of 1e"),
    "thermostat": (lambda: npt(tdamp=2.0 * FS), "tdamp of 2 fs is less than 10 time"),
    "barostat": (lambda: npt(pdamp=0.5 * FS), "pdamp of 0.5 fs is less than 10"),
    "slow barostat": (lambda: npt(pdamp=1e9 * FS), "pdamp of 1e"),
    "collisions": (
        lambda: TSPIN(iron(), FS, temperature_K=300, collision_time=FS),
        "collision_time of 1 fs",
    ),
    "spin mass": (
        lambda: TSPIN(iron(), FS, temperature_K=300, spin_mass=1e4 * FS**2),
        "spin_mass of 1e",
    ),
    "electrons": (
        lambda: electrons(electron_temperature_K=1e6),
        "electron_temperature_K of 1e",
    ),
    "heat capacity": (lambda: electrons(heat_capacity=5.2), "heat_capacity of 5.2"),
    "pulse": (lambda: electrons(pulse_energy=500.0), "pulse_energy of 500 eV"),
    "gamma_L": (lambda: longitudinal(100.0), "gamma_L of 100 "),
    "Monte Carlo": (
        lambda: MonteCarlo(iron(), temperature_K=[300.0, 1e5]),
        "temperature_K of 1e",
    ),
    "spins": (
        lambda: SpinDynamics(iron(), FS, temperature_K=0.0, damping=50.0),
        "damping of 50",
    ),
    "pressure of a relaxation": (
        lambda: SpinLatticeFilter(iron(), cell=True, pressure_GPa=1e5),
        "pressure_GPa of 1e",
    ),
    "weak friction": (lambda: langevin(friction=1e-9 / FS), "friction of 1e-09 1/fs"),
    "weak damping": (lambda: langevin(damping=1e-9), "damping of 1e-09 "),
    "degrees for moments": (
        lambda: moments(220.0).get_potential_energy(),
        "moments of 220 mu_B",
    ),
    "moments of a driver": (
        lambda: SpinLatticeNVE(moments(180.0), 0.01 * FS),
        "moments of 180 mu_B",
    ),
    "cutoff": (
        lambda: SpinMomentConfig(elements=["Fe"], magnetic=["Fe"], cutoff=50.0),
        "cutoff of 50 A",
    ),
    "learning rate": (
        lambda: LearningRateConfig(start_lr=10.0),
        "start_lr of 10 is far from what is usual (1e-4 to 0.02): check it",
    ),
    "fmax": (lambda: relaxed_to(fmax=50.0), "fmax of 50 eV/A"),
    "torque_max": (lambda: relaxed_to(torque_max=10.0), "torque_max of 10 eV"),
    "fmax of a batch": (
        lambda: relax_batch([iron()], fmax=50.0, progress=False),
        "fmax of 50 eV/A",
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_values_are_said_once(name: str) -> None:
    make, message = UNUSUAL[name]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        make()
    said = [str(w.message) for w in found]
    # Consequences, such as large rotations in one step, have warnings of their own.
    own = [text for text in said if "usual" in text or "long for atoms" in text]
    assert len(own) == 1 and message in own[0]


def test_a_sweep_of_large_fields_is_said_once() -> None:
    fields = np.array([3e4, 2e4, 4e4])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        hysteresis(iron(), fields, progress=False)
    assert len(found) == 1


def test_usual_values_are_not() -> None:
    langevin()
    npt(pressure_GPa=[0.0, 10.0])
    electrons(pulse_energy=0.1)
    longitudinal(0.2)
    iron((0.0, 0.0, 50.0))


@pytest.mark.parametrize("value", ["300", None, True, -300.0, np.inf, [[1.0], 2.0]])
def test_what_others_refuse_is_left_to_them(value: Any) -> None:
    assert not warn_of_unusual("damping", value)
    assert not warn_of_short_time("tdamp", value, FS)


def test_signs_count_where_they_have_a_meaning() -> None:
    with pytest.warns(UserWarning, match="pressure_GPa of 1e"):
        assert warn_of_unusual("pressure_GPa", -1e5)
