"""Properties of the lattice: structure, energies of volume and strain, phonons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState, birchmurnaghan
from phonopy import Phonopy

from ..._figures import figure_axes
from ...optimize import relax, relax_batch
from ...spins import get_spins
from .._kpath import k_path
from ..phonons import (
    ThermalPhonons,
    calculate_phonons,
    phonon_bands,
    thermal_phonons,
    thermal_properties,
)
from ._figures import STYLES, compared, numbers
from ._materials import Material
from ._property import (
    Findings,
    Known,
    Subject,
    Value,
    drawn,
    measured,
    plain_atoms,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def relaxed(
    subject: Subject, images: list[Atoms], *, fmax: float = 1e-3, steps: int = 300
) -> list[bool]:
    """Relax positions, and lengths of moments where they are free, at fixed cells.

    Directions of moments are kept. Returns which of the structures converged.
    """
    for atoms in images:
        subject.given(atoms)
    found = relax_batch(
        images,
        fmax=fmax,
        steps=steps,
        spins=False,
        magnitudes=subject.material.free_lengths,
        progress=False,
    )
    return [own.converged for own in found]


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """Return a copy with all lengths multiplied."""
    image = atoms.copy()
    image.set_cell(factor * atoms.cell.array, scale_atoms=True)
    return image


def lengths(atoms: Atoms) -> dict[str, float]:
    """Return the mean length of the moments of each magnetic element, mu_B."""
    norms = np.linalg.norm(get_spins(atoms), axis=1)
    symbols = np.array(atoms.get_chemical_symbols())
    return {
        str(symbol): float(norms[(symbols == symbol) & (norms > 0.0)].mean())
        for symbol in np.unique(symbols[norms > 0.0])
    }


# --- structure -------------------------------------------------------------------


@measured("structure", "Structure")
def structure(
    subject: Subject, *, fmax: float = 1e-3, stress_max: float = 1e-5, steps: int = 500
) -> Findings:
    """Relax the crystal: positions, cell and moments."""
    atoms = subject.given(subject.material.build())
    free = subject.material.free_lengths
    done = relax(
        atoms,
        fmax=fmax,
        torque_max=1e-6,
        stress_max=stress_max,
        steps=steps,
        cell=True,
        magnitudes=free,
    )
    values = {
        key: Value(*entry) for key, entry in subject.material.lattice(atoms).items()
    }
    per_atom = atoms.get_volume() / len(atoms)
    values["volume"] = Value("volume per atom", per_atom, "Å³")
    notes = []
    if free:
        for symbol, length in lengths(atoms).items():
            values[f"moment {symbol}"] = Value(f"moment of {symbol}", length, "μB")
    else:
        kept = ", ".join(f"{x:.3g} μB ({s})" for s, x in lengths(atoms).items())
        notes.append(f"Lengths of moments are kept at {kept}.")
    if not done.converged:
        notes.append(f"The relaxation did not converge: {done.residuals}.")
    return Findings(values, {"atoms": plain_atoms(atoms)}, notes)


# --- equation of state ---------------------------------------------------------------


@measured("eos", "Equation of state")
def equation_of_state(
    subject: Subject, *, points: int = 9, largest: float = 0.02
) -> Findings:
    """Fit E(V) of the crystal by Birch and Murnaghan, at fixed shape of the cell.

    ``largest`` is the strain of lengths at the ends.
    """
    crystal = subject.crystal()
    images = [scaled(crystal, 1.0 + e) for e in np.linspace(-largest, largest, points)]
    converged = relaxed(subject, images)
    n = len(crystal)
    volumes = np.array([image.get_volume() / n for image in images])
    energies = np.array([image.get_potential_energy() / n for image in images])
    fit = EquationOfState(volumes, energies, eos="birchmurnaghan")
    v0, e0, bulk_modulus = fit.fit()
    parameters = fit.eos_parameters
    fine = np.linspace(volumes[0], volumes[-1], 100)
    notes = [] if all(converged) else ["Not all volumes relaxed."]
    return Findings(
        {
            "V0": Value("volume per atom", v0, "Å³"),
            "B0": Value("bulk modulus", bulk_modulus / units.GPa, "GPa"),
            "B0'": Value("its pressure derivative", parameters[2], "1"),
        },
        {
            "volumes": volumes,
            "energies": energies - e0,
            "fine": fine,
            "fit": birchmurnaghan(fine, *parameters) - e0,
        },
        notes,
    )


@drawn("eos")
def draw_equation_of_state(findings: Findings, known: Known) -> Axes:
    """Draw energy against volume, and known volumes."""
    ax = figure_axes(figsize=(4.8, 3.4))
    curves = findings.curves
    ax.plot(curves["volumes"], 1e3 * numbers(curves["energies"]), "o", ms=4)
    ax.plot(curves["fine"], 1e3 * numbers(curves["fit"]), "C0-", lw=1, label="model")
    for reference in known.get("V0", ()):
        color = STYLES[reference.kind][1]
        ax.axvline(reference.value, color=color, ls="--", lw=1, label=reference.kind)
    ax.set(xlabel="volume per atom (Å³)", ylabel="energy per atom (meV)")
    ax.legend(frameon=False)
    return ax


# --- elastic constants ---------------------------------------------------------------

#: Axes of Voigt's components.
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@measured("elastic", "Elastic constants")
def elastic_constants(subject: Subject, *, strain: float = 0.002) -> Findings:
    """Differentiate the stress by finite strains; atoms and lengths relax."""
    crystal = subject.crystal()
    images = []
    for a, b in _VOIGT:
        for sign in (1.0, -1.0):
            deformation = np.eye(3)
            deformation[a, b] += 0.5 * sign * strain
            deformation[b, a] += 0.5 * sign * strain
            image = crystal.copy()
            image.set_cell(crystal.cell.array @ deformation.T, scale_atoms=True)
            images.append(image)
    converged = relaxed(subject, images, fmax=1e-5)
    stress = np.array([image.get_stress() for image in images]).reshape(6, 2, 6)
    raw = (stress[:, 0] - stress[:, 1]) / (2.0 * strain) / units.GPa
    tensor = rotated_elastic(0.5 * (raw + raw.T), subject.material.frame)
    values = {
        name: Value(name, float(np.mean([s * tensor[a, b] for a, b, s in same])), "GPa")
        for name, same in subject.material.elastic.items()
    }
    bulk, shear = hill_moduli(tensor)
    values["B"] = Value("bulk modulus (Hill)", bulk, "GPa")
    values["G"] = Value("shear modulus (Hill)", shear, "GPa")
    least = float(np.linalg.eigvalsh(tensor)[0])
    notes = [f"The least eigenvalue of the tensor is {least:.1f} GPa"]
    notes[0] += ": stable." if least > 0 else ": UNSTABLE."
    if not all(converged):
        notes.append("Not all strained cells relaxed.")
    return Findings(values, {"tensor": tensor}, notes)


def rotated_elastic(tensor: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return a (6, 6) elastic tensor in the axes that are the rows of ``frame``."""
    full = np.zeros((3, 3, 3, 3))
    for i, (a, b) in enumerate(_VOIGT):
        for j, (c, d) in enumerate(_VOIGT):
            for p, q in ((a, b), (b, a)):
                full[p, q, c, d] = full[p, q, d, c] = tensor[i, j]
    full = np.einsum("ia,jb,kc,ld,abcd->ijkl", *[frame] * 4, full)
    return np.array([[full[a, b, c, d] for c, d in _VOIGT] for a, b in _VOIGT])


def hill_moduli(tensor: np.ndarray) -> tuple[float, float]:
    """Return bulk and shear modulus of a polycrystal, means of Voigt's and Reuss's.

    R. Hill, Proc. Phys. Soc. A 65, 349 (1952), doi:10.1088/0370-1298/65/5/307.
    """
    compliance = np.linalg.inv(tensor)

    def sums(c: np.ndarray) -> tuple[float, float, float]:
        return np.trace(c[:3, :3]), c[:3, :3].sum(), np.trace(c[3:, 3:])

    along, whole, shear = sums(tensor)
    voigt = whole / 9.0, (3.0 * along - whole + 6.0 * shear) / 30.0
    along, whole, shear = sums(compliance)
    reuss = 1.0 / whole, 15.0 / (6.0 * along - 2.0 * whole + 3.0 * shear)
    return 0.5 * (voigt[0] + reuss[0]), 0.5 * (voigt[1] + reuss[1])


@drawn("elastic")
def draw_elastic_constants(findings: Findings, known: Known) -> Axes:
    """Draw the constants beside the references."""
    return compared(findings, known, [*findings.values], "GPa", label="modulus")


# --- phonons -------------------------------------------------------------------------

#: Frequencies that differ by less are one level, THz.
_LEVEL = 0.15

#: Wave vectors of thermal properties; even numbers leave out Gamma.
_MESH = (12, 12, 12)


@measured("phonons", "Phonons")
def phonons(
    subject: Subject,
    *,
    strain: float = 0.01,
    samples: int = 12,
    npoints: int = 90,
    temperature_K: float = 300.0,
) -> Findings:
    """Phonons of the crystal, at smaller and larger volume, and without order.

    Without order: force constants averaged over ``samples`` random directions of the
    moments, at the volume of the ordered crystal. Thermal expansion is quasi-harmonic,
    alpha = (dS/dV)_T/3B, from the entropies at both strained volumes, in the order.
    """
    crystal, material = subject.crystal(), subject.material
    cells = [scaled(crystal, 1.0 - strain), crystal, scaled(crystal, 1.0 + strain)]
    relaxed(subject, [cells[0], cells[2]])
    found = [
        calculate_phonons(subject.given(cell), material.phonon_supercell)
        for cell in cells
    ]
    random = thermal_phonons(
        crystal,
        material.phonon_supercell,
        temperature_K=np.inf,
        samples=samples,
        symmetry="collinear",
    )
    cell = None if material.path_cell is None else material.path_cell(crystal)
    path = k_path(crystal, material.path, npoints=npoints, cell=cell)
    names = ("compressed", "ordered", "expanded", "random spins")
    bands = {
        name: phonon_bands(phonon, path).frequencies_THz
        for name, phonon in zip(names, (*found, random.phonon), strict=True)
    }
    values = _levels(found[1], random, crystal, material)
    values["highest"] = Value("highest", float(np.max(bands["ordered"])), "THz")
    values |= _volume_effects(subject, found, strain, temperature_K)
    notes = []
    if len(material.elements) > 1:
        notes.append("Longitudinal polar modes lack the field of their charges.")
    for name in ("ordered", "random spins"):
        lowest = float(np.min(bands[name]))
        if lowest < -_LEVEL:
            notes.append(f"UNSTABLE, {name}: {-lowest:.2f}i THz is the lowest.")
    curves = {
        "bands": bands,
        "distances": path.distances,
        "ticks": path.ticks,
        "labels": path.labels,
    }
    return Findings(values, curves, notes)


def _levels(
    ordered: Phonopy, random: ThermalPhonons, crystal: Atoms, material: Material
) -> dict[str, Value]:
    """Return frequencies at the points of a material, in order and without."""
    values = {}
    for point, q in material.points.items():
        wave = np.asarray(q, dtype=float)
        if material.path_cell is not None:
            cell = np.asarray(material.path_cell(crystal))
            wave = np.rint(crystal.cell.array @ np.linalg.inv(cell)) @ wave
        modes = _modes(ordered, wave, material)
        levels = np.split(
            np.arange(len(modes)), np.flatnonzero(np.diff(modes) > _LEVEL) + 1
        )
        average = _modes(random.phonon, wave, material)
        errors = _jackknife(random, wave, material)
        for k, level in enumerate(levels):
            key = point if len(levels) == 1 else f"{point}{k + 1}"
            label = f"{point}, {len(level)} mode{'s' * (len(level) > 1)}"
            frequency, other = float(modes[level].mean()), float(average[level].mean())
            error = float(np.sqrt(np.mean(errors[level] ** 2)))
            values[key] = Value(label, frequency, "THz")
            values[f"{key} random"] = Value(
                f"{label}, random spins", other, "THz", error
            )
    return values


def _modes(phonon: Phonopy, q: np.ndarray, material: Material) -> np.ndarray:
    """Return the frequencies, THz, at q, ascending, without acoustic ones at zero.

    Where the path belongs to a smaller cell, in which every element has one site: those
    whose displacements repeat with it.
    """
    phonon.run_qpoints([q.tolist()], with_eigenvectors=True)
    assert phonon.qpoints is not None and phonon.qpoints.eigenvectors is not None
    frequencies = phonon.qpoints.frequencies[0]
    if material.path_cell is not None:
        vectors = phonon.qpoints.eigenvectors[0].reshape(len(frequencies) // 3, 3, -1)
        symbols = np.array(phonon.primitive.symbols)
        weight = sum(
            np.sum(np.abs(vectors[symbols == s].sum(axis=0)) ** 2, axis=0)
            / np.sum(symbols == s)
            for s in material.elements
        )
        kept = np.argsort(-np.asarray(weight))[: 3 * len(material.elements)]
        frequencies = frequencies[kept]
    if not q.any():
        frequencies = frequencies[np.argsort(np.abs(frequencies))[3:]]
    return np.sort(frequencies)


def _jackknife(random: ThermalPhonons, q: np.ndarray, material: Material) -> np.ndarray:
    """Return standard errors of the averaged frequencies at q, THz."""
    phonon, found = random.phonon, []
    whole, n = phonon.forces, len(random.forces)
    for k in range(n):
        phonon.forces = np.delete(random.forces, k, axis=0).mean(axis=0)
        phonon.produce_force_constants()
        found.append(_modes(phonon, q, material))
    phonon.forces = whole
    phonon.produce_force_constants()
    return np.sqrt((n - 1) * np.var(found, axis=0))


def _volume_effects(
    subject: Subject, found: list[Phonopy], strain: float, temperature_K: float
) -> dict[str, Value]:
    """Return thermal expansion and Grueneisen parameter from entropies of volumes."""
    small, middle, large = (
        thermal_properties(phonon, [temperature_K], mesh=_MESH) for phonon in found
    )
    change = 3.0 * np.log((1.0 + strain) / (1.0 - strain))
    slope = float((large.entropy[0] - small.entropy[0]) / change)
    modulus = subject.findings("eos").values["B0"].value * units.GPa
    volume = found[1].primitive.volume
    expansion = 1e6 * slope / (3.0 * modulus * volume)
    ratio = slope / float(middle.heat_capacity[0])
    at = f"{temperature_K:.0f} K"
    return {
        "expansion": Value(f"linear thermal expansion, {at}", expansion, "1e-6/K"),
        "Grueneisen": Value(f"Grüneisen parameter, {at}", ratio, "1"),
    }


#: Color, width and style of the lines of a state.
_STATES = {
    "compressed": ("0.75", 0.8, "-"),
    "expanded": ("0.75", 0.8, "-"),
    "random spins": ("C1", 1.0, "--"),
    "ordered": ("C0", 1.3, "-"),
}


@drawn("phonons")
def draw_phonons(findings: Findings, known: Known) -> Axes:
    """Draw the bands of all states, and known frequencies at named points."""
    ax = figure_axes(figsize=(6.0, 3.8))
    curves = findings.curves
    for name, (color, width, style) in _STATES.items():
        lines = ax.plot(
            curves["distances"],
            numbers(curves["bands"][name]),
            style,
            color=color,
            lw=width,
        )
        if name != "expanded":
            lines[0].set_label(name if name != "compressed" else "strained")
    labels = curves["labels"]
    ax.set_xticks(curves["ticks"], [label.replace("G", "Γ") for label in labels])
    ax.set_xlim(curves["distances"][0], curves["distances"][-1])
    handles = {}
    for key, references in known.items():
        for tick, label in zip(curves["ticks"], labels, strict=True):
            if key.rstrip("123456789") == label.replace("G", "Γ"):
                for reference in references:
                    marker, color = STYLES[reference.kind]
                    handles[reference.kind] = ax.plot(
                        tick, reference.value, marker, color=color, ms=4, zorder=5
                    )[0]
    for kind, handle in handles.items():
        handle.set_label(kind)
    for tick in curves["ticks"]:
        ax.axvline(tick, color="0.85", lw=0.8, zorder=0)
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.set_ylabel("frequency (THz)")
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=5,
        columnspacing=1.0,
    )
    return ax


# --- vacancy -------------------------------------------------------------------------


def _not_an_element(material: Material) -> str | None:
    if len(material.elements) == 1:
        return None
    return "vacancies of compounds need chemical potentials and charges"


@measured("vacancy", "Vacancy", missing=_not_an_element)
def vacancy(subject: Subject, *, repeat: int = 3) -> Findings:
    """Find the formation energy E(N - 1) - (N - 1)/N E(N) at constant volume."""
    large = subject.material.thermal(subject.crystal()).repeat(repeat)
    perfect = subject.given(large).get_potential_energy()
    hole = large.copy()
    del hole[0]
    share = (len(large) - 1) / len(large) * perfect
    bare = subject.given(hole.copy()).get_potential_energy() - share
    values = {"unrelaxed": Value("before atoms relax", bare, "eV")}
    notes = [f"In {len(large)} atoms, at constant volume."]
    if all(relaxed(subject, [hole], fmax=5e-3)):
        formation = hole.get_potential_energy() - share
        values = {"formation": Value("formation energy", formation, "eV"), **values}
    else:
        notes.append("UNSTABLE: the atoms around it find no minimum.")
    return Findings(values, {}, notes)


@drawn("vacancy")
def draw_vacancy(findings: Findings, known: Known) -> Axes:
    """Draw the formation energy beside the references."""
    return compared(findings, known, [*findings.values], "eV", label="energy")


# --- phases --------------------------------------------------------------------------


def _no_phases(material: Material) -> str | None:
    return None if material.phases else "no other phases are known to this book"


@measured("phases", "Phases and orders", missing=_no_phases)
def phases(subject: Subject, *, points: int = 9) -> Findings:
    """Energies of structures and orders against volume, atoms and lengths relaxed.

    Shapes of cells and directions of moments are kept.
    """
    material = subject.material
    volume = subject.findings("structure").values["volume"].value
    volumes = volume * np.linspace(*material.volumes, points)
    curves: dict[str, Any] = {"volumes": volumes, "energies": {}, "moments": {}}
    values: dict[str, Value] = {}
    notes, ground = [], 0.0
    for name, build in material.phases.items():
        images = [build(float(v)) for v in volumes]
        magnetic = bool(get_spins(images[0]).any())
        if magnetic:
            converged = relaxed(subject, images, fmax=5e-3)
        else:
            converged = [True] * len(images)
            for image in images:
                subject.given(image)
        energies = np.array([i.get_potential_energy() / len(i) for i in images])
        moments = [np.linalg.norm(get_spins(i), axis=1).max() for i in images]
        place, least = lowest(volumes, energies)
        if not values and not curves["energies"]:
            ground = least
        else:
            label = f"{name} above {next(iter(material.phases))}"
            values[name] = Value(label, 1e3 * (least - ground), "meV/atom")
        curves["energies"][name] = energies - ground
        curves["moments"][name] = moments
        if not all(converged):
            notes.append(f"{name} did not relax at {converged.count(False)} volumes.")
        if place in (volumes[0], volumes[-1]):
            notes.append(f"{name} has its minimum at the end of the volumes.")
    return Findings(values, curves, notes)


def lowest(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return place and value of the minimum of a curve, by a parabola about it."""
    k = int(np.argmin(y))
    if k in (0, len(y) - 1):
        return float(x[k]), float(y[k])
    a, b, c = np.polyfit(x[k - 1 : k + 2] - x[k], y[k - 1 : k + 2], 2)
    return float(x[k] - 0.5 * b / a), float(c - 0.25 * b * b / a)


@drawn("phases")
def draw_phases(findings: Findings, known: Known) -> Axes:
    """Draw energies against volume; known differences at the right."""
    ax = figure_axes(figsize=(5.4, 4.0))
    volumes = findings.curves["volumes"]
    handles = {}
    for k, (name, energies) in enumerate(findings.curves["energies"].items()):
        ax.plot(volumes, 1e3 * numbers(energies), "o-", color=f"C{k}", ms=3, lw=1)
        ax.lines[-1].set_label(name)
        for reference in known.get(name, ()):
            marker = STYLES[reference.kind][0]
            handles[reference.kind] = ax.plot(
                volumes[-1] * 1.01, reference.value, marker, color=f"C{k}", ms=5
            )[0]
    for kind, handle in handles.items():
        handle.set_label("another model" if kind == "model" else kind)
    ax.legend(
        frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    ax.set(xlabel="volume per atom (Å³)", ylabel="energy per atom (meV)")
    return ax
