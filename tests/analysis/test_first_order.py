"""Transitions of first order that are sampled, against mean field, which is exact.

N moments, each coupled to all others, E = -J/N sum [e.e' + 2 (e.e')^2]: dipole and
quadrupole appear together, by a jump (H. H. Chen and P. M. Levy, Phys. Rev. B 7, 4267
(1973), doi:10.1103/PhysRevB.7.4267).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from ase import Atoms, units
from scipy.optimize import brentq, minimize

from deepspin_ase import set_spins
from deepspin_ase.analysis import phase_diagram
from deepspin_ase.analysis.transitions import PhaseDiagram
from deepspin_ase.potentials import BondHamiltonian
from deepspin_ase.units import MU_B

M, J, B = 2.0, 0.01, 2.0
KELVIN = J / units.kB
TESLA = J / (M * MU_B)

_C, _W = np.polynomial.legendre.leggauss(64)
_P2 = 1.5 * _C**2 - 0.5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*not in equilibrium:UserWarning"),
]


def free_energy(x: np.ndarray, t: float, h: float) -> float:
    """Return f/J of dipole m and quadrupole S at kT/J = t in a field h M/J."""
    m, S = x
    exponent = ((m + h) * _C + 2 / 3 * B * S * _P2) / t
    return m**2 / 2 + B * S**2 / 3 - t * float(np.log(_W @ np.exp(exponent) / 2))


def phases(t: float, h: float) -> list[tuple[float, float, float]]:
    """Return f, m and energy (with that of the field) of the two phases."""
    found = []
    for start in ((0.05, 0.0), (0.8, 0.6)):
        best = minimize(free_energy, start, (t, h), tol=1e-12)
        m, S = best.x
        # Each pair of phases counts once: half of the mean fields' energies.
        found.append((best.fun, m, -(m**2) / 2 - B * S**2 / 3 - h * m))
    return found


def coexistence(h: float) -> tuple[float, float, float]:
    """Return kT/J, and the jumps of m and of the energy over J."""

    def difference(t: float) -> float:
        low, high = phases(t, h)
        return high[0] - low[0]

    # Between the temperatures at which one of the two is no minimum.
    t = brentq(difference, 0.398 + 0.5 * h, 0.411 + 0.45 * h)
    (_, m0, e0), (_, m1, e1) = phases(t, h)
    return t, m1 - m0, e0 - e1


def magnet(count: int) -> tuple[Atoms, BondHamiltonian]:
    atoms = Atoms(f"Mn{count}", np.outer(np.arange(count), (3.0, 0.0, 0.0)))
    set_spins(atoms, {"Mn": M})
    i, j = np.array([*combinations(range(count), 2)]).T
    strength = np.full(len(i), J / count)
    shifts = np.zeros((len(i), 3), dtype=int)
    return atoms, BondHamiltonian(
        atoms, i, j, shifts, strength, biquadratic=B * strength
    )


@pytest.fixture(scope="module")
def diagram() -> PhaseDiagram:
    atoms, model = magnet(120)
    return phase_diagram(
        atoms,
        np.linspace(0.385, 0.429, 9) * KELVIN,
        fields_T=np.array([0.003, 0.013]) * TESLA,
        q=(0, 0, 0),
        model=model,
        tempering="field",
        options={"overrelaxation": 0},
        steps=5000,
        equilibration=500,
    )


def test_two_phases_and_their_latent_heat(diagram: PhaseDiagram) -> None:
    for field in diagram.axes["field_T"]:
        t, _, heat = coexistence(field / TESLA)
        found = diagram.transition_order({"field_T": field})
        print(found, t * KELVIN, heat * J)
        assert found.first_order
        assert found.temperature_K.value == pytest.approx(t * KELVIN, rel=0.03)
        # The peaks are blunt, those of N moments displaced by some 1/N.
        assert found.latent_heat.value == pytest.approx(heat * J, rel=0.15)


def gain(h: float) -> float:
    """Return what a field gains with 120 moments in order, over J and each.

    Their sum turns freely: kT ln (sinh x / x), x = N h m / kT.
    """
    t, m, _ = coexistence(0.0)
    x = 120 * h * m / t
    return t / 120 * float(np.log(np.sinh(x) / x))


def test_clausius_and_clapeyron(diagram: PhaseDiagram) -> None:
    """dT/dB = T dM/(latent heat) along the line, from all samples together."""
    fields = diagram.axes["field_T"]
    grid = np.linspace(*diagram.axes["temperature_K"][[0, -1]], 89)
    line = diagram.reweighted(grid, fields).line("heat_capacity")
    # In mean field, where the moments follow the field.
    low, high = (coexistence(field / TESLA)[0] for field in fields)
    t, jump, heat = coexistence(fields.mean() / TESLA)
    assert (high - low) * heat / t == pytest.approx(
        jump * np.ptp(fields) / TESLA, rel=1e-2
    )
    # So few moments as there are here turn.
    t, _, heat = coexistence(0.0)
    expected = KELVIN * t / heat * (gain(fields[1] / TESLA) - gain(fields[0] / TESLA))
    print(line, expected)
    assert np.ptp(line[:, 0]) == pytest.approx(expected, rel=0.3)


def test_hysteresis_of_a_first_order_transition() -> None:
    """Heating and cooling find different phases between the limits of stability."""
    atoms, model = magnet(240)
    t = coexistence(0.0)[0]
    found = phase_diagram(
        atoms,
        t * np.array([0.75, 0.97, 1.0, 1.015, 1.2]) * KELVIN,
        q=(0, 0, 0),
        model=model,
        sweep="temperature_K",
        options={"overrelaxation": 0},
        steps=150,
        interval=1,
    )
    difference, error = np.moveaxis(found.hysteresis("energy"), -1, 0)
    print(difference / J, error / J)
    widest = int(np.argmax(difference))
    assert widest in (1, 2, 3)
    # Most of the latent heat, 0.42 J.
    assert difference[widest] > 5.0 * error[widest] + 0.2 * J
    assert abs(difference[[0, 4]]).max() < 0.05 * J
