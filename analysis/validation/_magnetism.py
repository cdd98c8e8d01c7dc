"""Properties of the moments: exchange, anisotropy, magnons, lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from ..._figures import figure_axes
from ...spins import get_spins, set_spins
from ...units import G_FACTOR
from .._kpath import k_path
from ..exchange import exchange_tensors, strain_derivative
from ..magnons import SpinWaves, group_velocities, spin_stiffness
from ._figures import STYLES, numbers
from ._lattice import lengths, lowest, relaxed, scaled
from ._property import Findings, Known, Subject, Value, drawn, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Exchange below this, meV, is not listed.
_SMALL = 0.02


# --- exchange --------------------------------------------------------------------


@measured("exchange", "Exchange")
def exchange(
    subject: Subject, *, strain: float = 0.02, cutoff: float = 8.0, shells: int = 4
) -> Findings:
    """Exchange of pairs about the order, at three volumes, and its slope in volume.

    E = -sum over pairs J e_i.e_j, pairs counted once, unit vectors e: positive is
    ferromagnetic.
    """
    crystal, repeat = subject.crystal(), subject.material.exchange_repeat
    cells = [scaled(crystal, 1.0 - strain), crystal, scaled(crystal, 1.0 + strain)]
    relaxed(subject, [cells[0], cells[2]])
    tensors = [exchange_tensors(subject.given(c), repeat=repeat) for c in cells]
    middle = tensors[1].within(cutoff)
    slopes = strain_derivative(subject.given(crystal), np.eye(3) / 3.0, repeat=repeat)
    change = {round(s.distance, 2): s.isotropic for s in slopes.shells()}
    values = {}
    listed = [s for s in middle.shells() if abs(s.isotropic) > 1e-3 * _SMALL]
    for k, shell in enumerate(listed[:shells], start=1):
        label = f"J{k} at {shell.distance:.2f} Å, {shell.pairs:.0f} neighbors"
        values[f"J{k}"] = Value(label, 1e3 * shell.isotropic, "meV", 1e3 * shell.spread)
        slope = 1e3 * change.get(round(shell.distance, 2), 0.0)
        values[f"dJ{k}/dlnV"] = Value(f"dJ{k} / d ln V", slope, "meV")
    field = float(tensors[1].field_within([np.inf])[0])
    values["field"] = Value("exchange field of the order", 1e3 * field, "meV")
    curves = {
        name: {
            "distances": [s.distance for s in found.within(cutoff).shells()],
            "J": [1e3 * s.isotropic for s in found.within(cutoff).shells()],
            "spread": [1e3 * s.spread for s in found.within(cutoff).shells()],
        }
        for name, found in zip(
            ("compressed", "relaxed", "expanded"), tensors, strict=True
        )
    }
    notes = [
        f"Lengths change by {100 * strain:.0f} % between volumes. Errors of J are the "
        "spread among pairs of one distance."
    ]
    if tensors[1].aliasing > 0.05:
        notes.append(
            f"{100 * tensors[1].aliasing:.0f} % of the largest exchange is left at the "
            "edge of the supercell."
        )
    return Findings(values, curves, notes)


@drawn("exchange")
def draw_exchange(findings: Findings, known: Known) -> Axes:
    """Draw J against distance at three volumes, and known values."""
    ax = figure_axes(figsize=(5.4, 3.6))
    ax.axhline(0.0, color="0.6", lw=0.8)
    styles = {
        "compressed": ("v", "C2"),
        "relaxed": ("o", "C0"),
        "expanded": ("^", "C1"),
    }
    for name, (marker, color) in styles.items():
        curve = findings.curves[name]
        ax.errorbar(
            curve["distances"],
            numbers(curve["J"]),
            numbers(curve["spread"]),
            fmt=marker,
            color=color,
            ms=4,
            capsize=2,
            label=name,
        )
    distances = findings.curves["relaxed"]["distances"]
    strong = np.abs(numbers(findings.curves["relaxed"]["J"])) > _SMALL
    handles = {}
    for k, distance in enumerate(numbers(distances)[strong], start=1):
        for reference in known.get(f"J{k}", ()):
            _, color = STYLES[reference.kind]
            handles[reference.kind] = ax.plot(
                distance, reference.value, "_", color=color, ms=18, mew=1.5
            )[0]
    for kind, handle in handles.items():
        handle.set_label(kind)
    ax.set(xlabel="distance (Å)", ylabel="exchange J (meV)")
    ax.legend(frameon=False, fontsize="small")
    return ax


# --- anisotropy --------------------------------------------------------------------


@measured("anisotropy", "Magnetic anisotropy")
def anisotropy(subject: Subject, *, points: int = 37) -> Findings:
    """Energy of the order turned as a whole, at a fixed lattice.

    Along three great circles through the axes of the energy's second-order part. The
    order is taken as collinear where it is nearly so.
    """
    crystal = subject.crystal()
    spins = get_spins(crystal)
    count = int(np.any(spins, axis=1).sum())
    first = spins[np.flatnonzero(np.any(spins, axis=1))[0]]
    start = first / np.linalg.norm(first)
    along = np.sign(spins @ start) * np.linalg.norm(spins, axis=1)
    collinear = np.linalg.norm(spins - np.outer(along, start)) < 0.2 * np.linalg.norm(
        spins
    )

    def turned(direction: np.ndarray) -> np.ndarray:
        if collinear:
            return np.outer(along, direction)
        return np.asarray(spins @ _turning(start, direction).T)

    def energies(directions: np.ndarray) -> np.ndarray:
        images = []
        for direction in directions:
            image = crystal.copy()
            set_spins(image, turned(direction))
            images.append(image)
        found = subject.calculator.evaluate(
            images, forces=False, magnetic_forces=False, virial=False
        )
        return np.array([own["energy"] for own in found]) * 1e6 / count

    directions = np.concatenate([_sphere(48), _SYMMETRIC])
    quadratic = np.einsum("na,nb->nab", directions, directions).reshape(-1, 9)
    found = energies(directions)
    tensor = np.linalg.lstsq(quadratic, found, rcond=None)[0]
    axes = np.linalg.eigh(tensor.reshape(3, 3))[1].T
    angles = np.linspace(0.0, np.pi, points)
    circles = {}
    for a, b, name in (
        (0, 1, "easy-middle"),
        (1, 2, "middle-hard"),
        (0, 2, "easy-hard"),
    ):
        around = np.cos(angles)[:, None] * axes[a] + np.sin(angles)[:, None] * axes[b]
        circles[name] = energies(around)
    every = np.concatenate([found, *circles.values()])
    circles = {name: energy - every.min() for name, energy in circles.items()}
    middle = float(circles["middle-hard"][0] - circles["easy-middle"][0])
    unit = "μeV per moment"
    values = {
        "range": Value(
            "largest difference between directions", float(np.ptp(every)), unit
        ),
        "middle": Value("second axis above the first", middle, unit),
    }
    notes = [
        "Axes: "
        + "; ".join(f"({', '.join(f'{x:.2f}' for x in axis)})" for axis in axes)
        + "."
    ]
    if values["range"].value < 1e-3:
        notes = ["The model knows no anisotropy: directions of moments are free."]
    curves = {"angles": np.degrees(angles), "circles": circles}
    return Findings(values, curves, notes)


#: Directions of high symmetry in cubic crystals.
_SYMMETRIC = np.array(
    [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)]
) / np.sqrt([[1], [1], [1], [2], [2], [2], [3]])


def _turning(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return a rotation (3, 3) that takes one unit vector to another."""
    normal = np.cross(start, end)
    sine, cosine = np.linalg.norm(normal), float(start @ end)
    if sine < 1e-12:
        helper = np.eye(3)[np.argmin(np.abs(start))]
        normal = np.cross(start, helper)
    normal = normal / np.linalg.norm(normal)
    return Rotation.from_rotvec(np.arctan2(sine, cosine) * normal).as_matrix()


def _sphere(count: int) -> np.ndarray:
    """Return directions (count, 3) spread over the sphere (Fibonacci's lattice)."""
    k = np.arange(count) + 0.5
    z = 1.0 - 2.0 * k / count
    angle = np.pi * (1.0 + 5.0**0.5) * k
    ring = np.sqrt(1.0 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


@drawn("anisotropy")
def draw_anisotropy(findings: Findings, known: Known) -> Axes:
    """Draw the energy along three great circles."""
    ax = figure_axes(figsize=(4.8, 3.4))
    for name, energy in findings.curves["circles"].items():
        ax.plot(
            findings.curves["angles"], numbers(energy), label=name.replace("-", " to ")
        )
    for reference in known.get("range", ()):
        color = STYLES[reference.kind][1]
        ax.axhline(reference.value, color=color, ls="--", lw=1, label=reference.kind)
    ax.set(xlabel="angle (degrees)", ylabel="energy (μeV per moment)")
    ax.legend(frameon=False, fontsize="small")
    return ax


# --- magnons -----------------------------------------------------------------------


@measured("magnons", "Magnons")
def magnons(subject: Subject, *, npoints: int = 120) -> Findings:
    """Linear spin waves on the frozen lattice."""
    crystal, material = subject.crystal(), subject.material
    g = G_FACTOR
    if material.spin is not None:
        g = float(np.mean([*lengths(crystal).values()])) / material.spin
    waves = SpinWaves.from_atoms(
        crystal, repeat=material.exchange_repeat, g_factor=g, check=False
    )
    cell = None if material.path_cell is None else material.path_cell(crystal)
    path = k_path(crystal, material.path, npoints=npoints, cell=cell)
    bands = waves.bands(path)
    energies = 1e3 * bands.energies
    values = {"highest": Value("highest magnon", float(energies.max()), "meV")}
    spins = get_spins(crystal)
    notes = (
        []
        if material.spin is None
        else [f"g = |m|/S = {g:.3g} with S = {material.spin:g}."]
    )
    try:
        if np.linalg.norm(spins.sum(axis=0)) > 0.1 * np.abs(spins).sum():
            D = 1e3 * np.trace(spin_stiffness(waves)) / 3.0
            values["stiffness"] = Value("spin stiffness", float(D), "meV Å²")
        else:
            direction = np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0)
            k = 0.08 * direction @ crystal.cell.array.T / (2.0 * np.pi)
            slope = 1e3 * np.linalg.norm(group_velocities(waves, k)[0], axis=1).max()
            values["slope"] = Value("slope along [111]", float(slope), "meV Å")
    except ValueError as error:
        notes.append(f"No stiffness: {error}.")
    if not bands.stable:
        assert bands.instability is not None
        notes.append(
            "UNSTABLE: a deviation lowers the energy at k = "
            f"{np.round(bands.instability.k, 3).tolist()}, curvature "
            f"{1e3 * bands.instability.curvature:.2f} meV."
        )
    curves = {
        "distances": path.distances,
        "energies": energies,
        "growth": 1e3 * bands.growth,
        "ticks": path.ticks,
        "labels": path.labels,
    }
    return Findings(values, curves, notes)


@drawn("magnons")
def draw_magnons(findings: Findings, known: Known) -> Axes:
    """Draw the bands, the known highest energy, and parabolas of known stiffness."""
    ax = figure_axes(figsize=(5.6, 3.6))
    curves = findings.curves
    x, energies = numbers(curves["distances"]), numbers(curves["energies"])
    ax.plot(x, energies, "C0", lw=1.3)
    ax.lines[0].set_label("model")
    growth = numbers(curves["growth"])
    if growth.any():
        ax.plot(x, np.where(growth > 0, -growth, np.nan), "C3--", lw=1.2)
        ax.lines[-1].set_label("minus growth rate")
    top = float(energies.max())
    for reference in known.get("highest", ()):
        color = STYLES[reference.kind][1]
        ax.axhline(
            reference.value, color=color, ls=":", label=f"highest, {reference.kind}"
        )
    shown = [top, *(r.value for r in known.get("highest", ()))]
    ax.set_ylim(top=1.25 * max(shown))
    gamma = [
        t for t, s in zip(curves["ticks"], curves["labels"], strict=True) if s == "G"
    ]
    for reference in known.get("stiffness", ())[:1]:
        for center in gamma:
            parabola = reference.value * (x - center) ** 2
            near = parabola < 0.4 * top
            ax.plot(x[near], parabola[near], "C3--", lw=1)
        ax.lines[-1].set_label(f"stiffness, {reference.kind}")
    ax.set_xticks(curves["ticks"], [s.replace("G", "Γ") for s in curves["labels"]])
    for tick in curves["ticks"]:
        ax.axvline(tick, color="0.85", lw=0.8, zorder=0)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylabel("magnon energy (meV)")
    ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=3)
    return ax


# --- lengths of moments ------------------------------------------------------------


@measured("moments", "Length of the moments")
def moments(
    subject: Subject, *, points: int = 13, spread: float = 0.3, strain: float = 0.02
) -> Findings:
    """Energy of the length of all moments, in the order, at three volumes."""
    crystal = subject.crystal()
    start = float(np.mean([*lengths(crystal).values()]))
    factors = np.linspace(1.0 - spread, 1.0 + spread, points)
    count = int(np.any(get_spins(crystal), axis=1).sum())
    curves, places, curvatures = {}, [], []
    scales = {"compressed": 1.0 - strain, "relaxed": 1.0, "expanded": 1.0 + strain}
    for name, scale in scales.items():
        cell = scaled(crystal, scale)
        images = []
        for factor in factors:
            image = cell.copy()
            set_spins(image, factor * get_spins(crystal))
            images.append(subject.given(image))
        energy = np.array([i.get_potential_energy() for i in images]) / count
        place, _ = lowest(factors * start, energy)
        inside = factors[0] * start < place < factors[-1] * start
        places.append(place if inside else np.nan)
        middle = slice(points // 2 - 1, points // 2 + 2)
        step = (factors[1] - factors[0]) * start
        curvatures.append(float(np.diff(energy[middle], 2)[0] / step**2))
        curves[name] = 1e3 * (energy - energy.min())
    values = {
        "length": Value("length of the least energy", places[1], "μB"),
        "curvature": Value("curvature there", curvatures[1], "eV/μB²"),
    }
    change = 3.0 * np.log((1.0 + strain) / (1.0 - strain))
    slope = float(np.log(places[2] / places[0]) / change)
    values["dlnm/dlnV"] = Value("d ln m / d ln V", slope, "1")
    notes = []
    if abs(curvatures[1]) < 1e-9:
        notes = ["The energy does not depend on the length of moments."]
        values = {}
    elif not np.isfinite(places).all():
        notes = ["The energy has no minimum among these lengths, at all three volumes."]
        values = {"curvature": Value("curvature", curvatures[1], "eV/μB²")}
    return Findings(values, {"lengths": factors * start, "energies": curves}, notes)


@drawn("moments")
def draw_moments(findings: Findings, known: Known) -> Axes:
    """Draw the energy against the length of the moments."""
    ax = figure_axes(figsize=(4.8, 3.4))
    for name, energy in findings.curves["energies"].items():
        ax.plot(findings.curves["lengths"], numbers(energy), "o-", ms=3, label=name)
    for reference in known.get("length", ()):
        color = STYLES[reference.kind][1]
        ax.axvline(reference.value, color=color, ls="--", lw=1, label=reference.kind)
    ax.set(xlabel="length of the moments (μB)", ylabel="energy per moment (meV)")
    ax.legend(frameon=False, fontsize="small")
    return ax
