"""Properties of ferroelectrics: polarization, tilts, barriers of switching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from ..._figures import figure_axes
from ...optimize import relax
from ...potentials import bismuth_ferrite
from ..ferroic import octahedral_tilts, polarization
from ..paths import SpinLatticeNEB, interpolate
from ._figures import STYLES, compared, numbers
from ._materials import Material
from ._property import Findings, Known, Subject, Value, drawn, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Polar vector, tilts and axis of the spins of the end of each path.
_ENDS = {
    "71": ((1, 1, -1), (1, 1, -1), (1, 1, -1)),
    "109": ((-1, -1, 1), (1, 1, -1), (1, 1, -1)),
    "180": ((-1, -1, -1), (1, 1, 1), (1, 1, 1)),
}


def _not_polar(material: Material) -> str | None:
    return None if material.born_charges else "it is not ferroelectric"


def _order(atoms: Atoms, material: Material) -> tuple[float, float]:
    """Return |P| (uC/cm^2) and the antiphase tilt about an axis (degrees)."""
    ideal = bismuth_ferrite((0, 0, 0))
    found = polarization(atoms, material.born_charges, reference=ideal)
    tilts = octahedral_tilts(atoms, b="Fe", axes=np.eye(3)).mode()
    return float(100.0 * found.magnitudes[0]), float(np.abs(tilts).mean())


@measured("polarization", "Polarization and tilts", missing=_not_polar)
def polar_order(subject: Subject) -> Findings:
    """Polarization by Born charges, and tilts of octahedra about each axis."""
    charges = subject.material.born_charges
    p, tilt = _order(subject.crystal(), subject.material)
    shown = ", ".join(f"{name} {charge:g}" for name, charge in charges.items())
    return Findings(
        {
            "P": Value("polarization", p, "μC/cm²"),
            "tilt": Value("tilt about an axis", tilt, "degrees"),
        },
        {},
        [f"Born charges {shown}."],
    )


@measured("switching", "Barriers of switching", missing=_not_polar)
def switching(
    subject: Subject, *, images: int = 7, fmax: float = 0.02, steps: int = 150
) -> Findings:
    """Barriers of homogeneous switching at a fixed pseudo-cubic cell.

    Bands of ten atoms from straight lines, atoms and spins moving together; barriers
    are per formula unit.
    """

    def variant(polar: tuple, tilt: tuple, axis: tuple) -> Atoms:
        atoms = subject.given(bismuth_ferrite(polar, tilt, spin_axis=axis))
        relax(atoms, fmax=0.003, torque_max=1e-6)
        return atoms

    start = variant((1, 1, 1), (1, 1, 1), (1, 1, 1))
    values, curves, notes = {}, {}, []
    for name, end in _ENDS.items():
        band = interpolate(start, variant(*end), images)
        neb = SpinLatticeNEB(band, torque_max=2e-5)
        neb.run(fmax=5.0 * fmax, steps=steps)
        neb.climb = True
        if not neb.run(fmax=fmax, steps=steps):
            notes.append(f"{name} degrees: the band did not converge.")
        path = neb.path()
        barrier = 1e3 * path.barrier_forward / 2.0
        values[name] = Value(f"barrier, {name} degrees", barrier, "meV/f.u.")
        fine = np.linspace(0.0, path.length, 100)
        curves[name] = {
            "coordinate": path.coordinate,
            "energies": 500.0 * (path.energies - path.energies[0]),
            "fine": fine,
            "fit": 500.0 * (path.fit(fine) - path.energies[0]),
        }
    return Findings(values, curves, notes)


@drawn("polarization")
def draw_polar_order(findings: Findings, known: Known) -> Axes:
    """Draw the polarization beside the references."""
    return compared(findings, known, ["P"], "μC/cm²", label="polarization")


@drawn("switching")
def draw_switching(findings: Findings, known: Known) -> Axes:
    """Draw the energies along the paths; known barriers as levels."""
    ax = figure_axes(figsize=(5.0, 3.6))
    handles = {}
    for k, (name, curve) in enumerate(findings.curves.items()):
        ax.plot(
            curve["coordinate"], numbers(curve["energies"]), "o", color=f"C{k}", ms=4
        )
        ax.plot(curve["fine"], numbers(curve["fit"]), color=f"C{k}", lw=1)
        ax.lines[-1].set_label(f"{name} degrees")
        top = curve["fine"][int(np.argmax(numbers(curve["fit"])))]
        for reference in known.get(name, ()):
            marker = STYLES[reference.kind][0]
            label = "reference" if reference.kind == "model" else reference.kind
            handles[label] = ax.plot(
                top, reference.value, marker, color=f"C{k}", ms=7, mfc="none"
            )[0]
    for label, handle in handles.items():
        handle.set_label(label)
    ax.set(xlabel="path (Å)", ylabel="energy per formula unit (meV)")
    ax.legend(frameon=False, fontsize="small")
    return ax
