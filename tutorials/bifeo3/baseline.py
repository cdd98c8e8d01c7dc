"""Fit the analytic baseline of the BiFeO3 model to its training frames.

python tutorials/bifeo3/baseline.py DATA... --output baseline.pt

Pair potentials (Born-Mayer and near Coulomb) by linear least squares, and the spin
term of the reference itself. An exchange between Fe and its dependence on distance are
fitted along, so that pair potentials are not asked to stand in for them, and then
replaced by the spin term. A network trained on top learns the lattice that is left.
"""

from __future__ import annotations

import argparse

from deepspin_ase.data import Dataset, read_dataset
from deepspin_ase.potentials import (
    BismuthFerriteSpins,
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
COULOMB = Switched(DampedCoulomb(0.25, CUTOFF), SWITCH_FROM)


def repulsion(rho: float, distance: float) -> Radial:
    """Return exp(-(r - distance)/rho), switched off."""
    return Switched(Exponential(rho, distance, CUTOFF), SWITCH_FROM)


def charges(bond: tuple[str, str]) -> float:
    """Return the product of the formal charges."""
    return CHARGES[bond[0]] * CHARGES[bond[1]]


def exchange(rows: list[tuple[float, float, float]]) -> Heisenberg:
    """Return the exchange of shells (distance, J, dJ/dr)."""
    shells = SmoothShells(tuple(rows), 0.8)
    return Heisenberg(shells, elements=("Fe", "Fe"))


def fit_baseline(frames: Dataset) -> tuple[Potential, LinearFit]:
    """Return the fitted baseline and the fit."""
    shapes = [(bond, shape) for bond, some in REPULSION.items() for shape in some]
    terms: list[Potential] = [
        Sum(
            [
                PairPotential(Mixture([(charges(bond), COULOMB)]), elements=bond)
                for bond in REPULSION
            ]
        )
    ]
    terms += [PairPotential(repulsion(*shape), elements=b) for b, shape in shapes]
    terms += [
        exchange([(d, j, s)]) for d in SHELLS for j, s in ((1.0, 0.0), (0.0, 1.0))
    ]
    fit = fit_linear(terms, frames, weights={"energy": 0.2}, ridge=1e-4)
    coulomb, *near = fit.coefficients[:-4].tolist()
    lattice: list[Potential] = []
    for bond in REPULSION:
        mixture = [(coulomb * charges(bond), COULOMB)]
        mixture += [
            (weight, repulsion(*shape))
            for weight, (other, shape) in zip(near, shapes, strict=True)
            if other == bond
        ]
        lattice.append(PairPotential(Mixture(mixture), elements=bond))
    return Sum([*lattice, BismuthFerriteSpins()]), fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="training folders")
    parser.add_argument("--output", default="baseline.pt")
    arguments = parser.parse_args()
    baseline, fit = fit_baseline(read_dataset(arguments.data))
    save_potential(arguments.output, baseline)
    for name, (before, after) in fit.rmse.items():
        print(
            f"{name:16s} rms of labels {1e3 * before:7.3f} m, left {1e3 * after:7.3f} m"
        )
    j1, dj1, j2, dj2 = 1e3 * fit.coefficients[-4:]
    print(f"J1 {j1:.2f} meV (slope {dj1:.1f} meV/A), J2 {j2:.2f} meV ({dj2:.1f} meV/A)")


if __name__ == "__main__":
    main()
