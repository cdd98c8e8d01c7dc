"""Fit the analytic baseline of the NiO model to the DFT training frames.

python tutorials/nio/baseline.py DATA... --output baseline.pt

Pair potentials (Born-Mayer and near Coulomb) and an exchange with its
dependence on distance: 9 coefficients by linear least squares. The data are
taken at one cell and carry no stress, so the condition that this cell has no
pressure is added. A network trained on top corrects what this form misses.
"""

from __future__ import annotations

import argparse

from deepspin_ase.data import Dataset, read_dataset
from deepspin_ase.potentials import (
    DampedCoulomb,
    Exponential,
    Potential,
    Radial,
    Sum,
    Switched,
    save_potential,
)
from deepspin_ase.training import LinearFit, fit_baseline

CUTOFF, SWITCH_FROM = 7.0, 5.0
CHARGES = {("Ni", "O"): -1.0, ("O", "O"): 1.0, ("Ni", "Ni"): 1.0}
REPULSION = {
    ("Ni", "O"): [(0.2, 2.1), (0.4, 2.1)],
    ("O", "O"): [(0.35, 2.98)],
    ("Ni", "Ni"): [(0.35, 2.98)],
}
SHELLS = (2.9815, 4.2166)


def repulsion(rho: float, distance: float) -> Radial:
    """Return exp(-(r - distance)/rho), switched off."""
    return Switched(Exponential(rho, distance, CUTOFF), SWITCH_FROM)


def fitted(frames: Dataset) -> tuple[Potential, LinearFit]:
    """Return the fitted baseline and the fit."""
    found = fit_baseline(
        frames,
        near={bond: [repulsion(*s) for s in some] for bond, some in REPULSION.items()},
        coulomb=Switched(DampedCoulomb(0.2, CUTOFF), SWITCH_FROM),
        charges=CHARGES,
        magnetic=("Ni", "Ni"),
        shells=SHELLS,
        width=0.6,
        weights={"energy": 0.2},
        ridge=1e-4,
        zero_pressure=10.0,
    )
    return Sum([*found.lattice, found.exchange]), found.fit


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
