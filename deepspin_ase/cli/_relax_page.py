"""Page of a relaxation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from .._report import Report
from ..optimize import Relaxation, plot_relaxation
from ..spins import get_spins
from ._reports import RESIDUALS, add_moments


def relaxation_page(
    found: Relaxation,
    before: Atoms,
    after: Atoms,
    thresholds: Mapping[str, float | None],
) -> Report:
    """Return the page of a relaxation.

    Parameters
    ----------
    found : Relaxation
    before, after : Atoms
    thresholds : dict
        Of the residuals, by their names; None for moments that settle.
    """
    report = Report(f"Relaxation of {after.get_chemical_formula()}")
    state = "Converged" if found.converged else "Not converged"
    gain = 1e3 * (found.history["energy"][0] - found.energy) / len(after)
    report.text(
        f"{state} after {found.n_calls} model calls: {found.energy:.6f} eV, "
        f"{gain:.4f} meV/atom below the start."
    )
    rows = []
    for name, left in found.residuals.items():
        limit = thresholds[name]
        below = "moments settled" if limit is None else f"{limit:.1e}"
        start = f"{found.history[name][0]:.1e}"
        rows.append([f"largest {name}", RESIDUALS[name], start, f"{left:.1e}", below])
    report.table(["", "unit", "start", "end", "converged below"], rows)
    report.figure(plot_relaxation(found), "What is left, step by step.")
    report.heading("Structure")
    old, new = _structure(before), _structure(after)
    report.table(
        ["", "unit", "start", "end"], [[*key, old[key], new[key]] for key in new]
    )
    report.text(_moved(before, after))
    add_moments(report, {"start": before, "end": after})
    return report


def _structure(atoms: Atoms) -> dict[tuple[str, str], str]:
    """Return characteristics of a structure by name and unit."""
    found = {}
    if atoms.cell.rank == 3:
        found["volume", "Å³/atom"] = f"{atoms.get_volume() / len(atoms):.4f}"
        edges, angles = np.split(atoms.cell.cellpar(), 2)
        for name, edge in zip("abc", edges, strict=True):
            found[f"edge {name}", "Å"] = f"{edge:.4f}"
        for name, angle in zip("αβγ", angles, strict=True):
            found[f"angle {name}", "°"] = f"{angle:.3f}"
    spins = get_spins(atoms)
    lengths = np.linalg.norm(spins, axis=1)
    symbols = np.array(atoms.get_chemical_symbols())
    for element in dict.fromkeys(symbols[lengths > 0.0]):
        mean = lengths[symbols == element].mean()
        found[f"mean length of the moments of {element}", "μB"] = f"{mean:.4f}"
    net = float(np.linalg.norm(spins.mean(axis=0)))
    found["net moment", "μB/atom"] = f"{net:.5f}"
    return found


def _moved(before: Atoms, after: Atoms) -> str:
    """Say how far atoms and moments moved."""
    fractional = after.get_scaled_positions(False) - before.get_scaled_positions(False)
    cell = after.cell.complete().array
    steps = find_mic(fractional @ cell, cell, after.pbc)[0]
    farthest = np.linalg.norm(steps - steps.mean(axis=0), axis=1).max()
    old, new = get_spins(before), get_spins(after)
    lengths = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    both = lengths > 0.0
    cosines = np.sum(old[both] * new[both], axis=1) / lengths[both]
    turned = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).max(initial=0.0)
    return (
        f"Atoms moved by up to {farthest:.4f} Å, besides a common translation and the "
        f"strain of the cell; moments rotated by up to {turned:.2f}°."
    )
