"""Fit the analytic baseline of the BiFeO3 model to its training frames.

python tutorials/bifeo3/baseline.py DATA... --output baseline.pt

Pair potentials (Born-Mayer and near Coulomb) by linear least squares, and the spin
term of the reference itself, in whose place finish.py puts networks. An exchange
between Fe and its dependence on distance are fitted along, so that pair potentials are
not asked to stand in for them, and then replaced by the spin term. A network trained on
top learns the lattice that is left.
"""

from __future__ import annotations

import argparse

from deepspin_ase.data import Dataset, read_dataset
from deepspin_ase.potentials import (
    BismuthFerriteSpins,
    DampedCoulomb,
    Exponential,
    Potential,
    Radial,
    Sum,
    Switched,
    save_potential,
)
from deepspin_ase.training import LinearFit, fit_baseline

CUTOFF, SWITCH_FROM = 6.0, 4.5
CHARGES = {"Bi": 3.0, "Fe": 3.0, "O": -2.0}
REPULSION = {
    ("Bi", "O"): [(0.2, 2.4), (0.4, 2.4)],
    ("Fe", "O"): [(0.2, 2.0), (0.4, 2.0)],
    ("O", "O"): [(0.35, 2.8)],
    ("Bi", "Fe"): [(0.35, 3.4)],
    ("Bi", "Bi"): [(0.35, 4.0)],
    ("Fe", "Fe"): [(0.35, 4.0)],
}
SHELLS = (4.015, 5.678)


def repulsion(rho: float, distance: float) -> Radial:
    """Return exp(-(r - distance)/rho), switched off."""
    return Switched(Exponential(rho, distance, CUTOFF), SWITCH_FROM)


def fitted(frames: Dataset) -> tuple[Potential, LinearFit]:
    """Return the fitted baseline and the fit."""
    found = fit_baseline(
        frames,
        near={bond: [repulsion(*s) for s in some] for bond, some in REPULSION.items()},
        coulomb=Switched(DampedCoulomb(0.25, CUTOFF), SWITCH_FROM),
        charges={(a, b): CHARGES[a] * CHARGES[b] for a, b in REPULSION},
        magnetic=("Fe", "Fe"),
        shells=SHELLS,
        width=0.8,
        weights={"energy": 0.2},
        ridge=1e-4,
    )
    return Sum([*found.lattice, BismuthFerriteSpins()]), found.fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="training folders")
    parser.add_argument("--output", default="baseline.pt")
    arguments = parser.parse_args()
    baseline, fit = fitted(read_dataset(arguments.data))
    save_potential(arguments.output, baseline)
    print(fit)
    j1, dj1, j2, dj2 = 1e3 * fit.coefficients[-4:]
    print(f"J1 {j1:.2f} meV (slope {dj1:.1f} meV/A), J2 {j2:.2f} meV ({dj2:.1f} meV/A)")


if __name__ == "__main__":
    main()
