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
    Heisenberg,
    Mixture,
    PairPotential,
    Potential,
    Radial,
    SmoothShells,
    Sum,
    Switched,
    save_potential,
)
from deepspin_ase.training import LinearFit, fit_linear

CUTOFF, SWITCH_FROM = 7.0, 5.0
BONDS = {("Ni", "O"): -1.0, ("O", "O"): 1.0, ("Ni", "Ni"): 1.0}
REPULSION = {
    ("Ni", "O"): [(0.2, 2.1), (0.4, 2.1)],
    ("O", "O"): [(0.35, 2.98)],
    ("Ni", "Ni"): [(0.35, 2.98)],
}
SHELLS = (2.9815, 4.2166)


def basis() -> list[tuple[tuple[str, str], Radial]]:
    """Return bond type and radial function of every repulsive term."""
    return [
        (bond, Switched(Exponential(rho, r0, CUTOFF), SWITCH_FROM))
        for bond, shapes in REPULSION.items()
        for rho, r0 in shapes
    ]


COULOMB = Switched(DampedCoulomb(0.2, CUTOFF), SWITCH_FROM)


def exchange(rows: list[tuple[float, float, float]]) -> Heisenberg:
    """Return the exchange of shells (distance, J, dJ/dr)."""
    return Heisenberg(SmoothShells(tuple(rows), 0.6), elements=("Ni", "Ni"))


def fit_baseline(frames: Dataset) -> tuple[Potential, LinearFit]:
    """Return the fitted baseline and the fit."""
    terms: list[Potential] = [
        Sum(
            [
                PairPotential(Mixture([(sign, COULOMB)]), elements=bond)
                for bond, sign in BONDS.items()
            ]
        )
    ]
    terms += [PairPotential(radial, elements=bond) for bond, radial in basis()]
    terms += [exchange([(d, j, s)]) for d in SHELLS for j, s in ((1.0, 0.0), (0.0, 1.0))]
    fit = fit_linear(
        terms, frames, weights={"energy": 0.2}, ridge=1e-4, zero_pressure=10.0
    )
    c = fit.coefficients.tolist()
    lattice: list[Potential] = []
    for bond, sign in BONDS.items():
        mixture = [(sign * c[0], COULOMB)] + [
            (weight, radial)
            for weight, (other, radial) in zip(c[1:-4], basis(), strict=True)
            if other == bond
        ]
        lattice.append(PairPotential(Mixture(mixture), elements=bond))
    spins = exchange([(SHELLS[0], c[-4], c[-3]), (SHELLS[1], c[-2], c[-1])])
    return Sum([*lattice, spins]), fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="training folders")
    parser.add_argument("--output", default="baseline.pt")
    arguments = parser.parse_args()
    baseline, fit = fit_baseline(read_dataset(arguments.data))
    save_potential(arguments.output, baseline)
    for name, (before, after) in fit.rmse.items():
        print(f"{name:16s} rms of labels {1e3 * before:7.3f} m, left {1e3 * after:7.3f} m")
    j1, dj1, j2, dj2 = 1e3 * fit.coefficients[-4:]
    print(f"J1 {j1:.2f} meV (slope {dj1:.1f} meV/A), J2 {j2:.2f} meV ({dj2:.1f} meV/A)")


if __name__ == "__main__":
    main()
