"""Data of the shipped Fe model: python collect.py FOLDER [OUTPUT].

FOLDER has a folder of each data set below, with train.extxyz and valid.extxyz (energies
in eV, forces in eV/A, moments in mu_B, magnetic forces = -dE/dm in eV/mu_B):

- bcc_fe_lattice: github.com/FitSNAP/FitSNAP, Fe_Linear_NPJ2021 (arXiv 2101.07332)
- bcc_fe_random, bcc_fe_tilted: github.com/Tomonori-Tanaka/Magesty.jl
- fcc_fe, fcc_fe_interstitial: github.com/hztttt/Synergistic_Optimization
- fe2_lda: deepspin_ase/data/examples

Sets of one origin become one file with the weights of their kinds of frames: by what is
expected of their errors, whatever their number. Kinds of many similar frames are thinned.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.io import iread

from deepspin_ase import get_spins, set_spins
from deepspin_ase.data import Dataset, Frame, read_dataset, write_dataset
from deepspin_ase.potentials import (
    CubicCut,
    Exponential,
    Heisenberg,
    Landau,
    MomentExchange,
    PairPotential,
    Sum,
    Switched,
    save_potential,
)
from deepspin_ase.system import System


class Kind(NamedTuple):
    """Frames whose ``config_type`` ends with one of the texts, and how they count.

    Each label of all frames of a kind adds ``share`` to the loss where its errors are
    those expected: ``energy`` and ``virial`` eV/atom, ``forces`` eV/A, ``magnetic``
    eV/mu_B. Every ``every``-th frame whose energy, eV/atom, is within ``limits`` is
    taken for training.
    """

    texts: tuple[str, ...]
    share: float = 1.0
    energy: float = 0.001
    forces: float = 0.04
    magnetic: float = 0.012
    virial: float = 0.01
    limits: tuple[float, float] = (-np.inf, np.inf)
    every: int = 1


EVERYTHING = ("",)

#: Volumes of the frames that are trained on, A^3 an atom.
VOLUMES = 9.3, 14.0

#: Energy of crystals with small strains, eV/atom.
NEAR = -8.24

#: Kinds by data set, by output. Liquids and atoms that collide (iterations 5 and 6 of
#: fcc_fe) are left out: errors of solids would be larger.
OUTPUTS: dict[str, dict[str, tuple[Kind, ...]]] = {
    "lattice": {
        "bcc_fe_lattice": (
            Kind(("MD-bcc_Te300K",), 1.5, forces=0.03),
            Kind(("EOS_100",), forces=0.04, every=2),
            Kind(("EOS_001_Jun2020",), forces=0.045, every=2),
            Kind(("point_def",), 0.3, energy=0.005, forces=0.03),
            # Small strains of the ferromagnet: elastic constants.
            Kind(
                ("CCMC-bcc-hcp-elastic_Jun2020",),
                6.0,
                energy=0.0003,
                forces=0.02,
                virial=0.004,
                limits=(-np.inf, NEAR),
            ),
            Kind(
                ("CCMC-bcc-hcp-elastic_Jun2020",),
                0.5,
                energy=0.01,
                forces=0.1,
                virial=0.05,
                limits=(NEAR, np.inf),
                every=2,
            ),
            Kind(
                ("BCC-HCP-transition",),
                0.3,
                energy=0.01,
                forces=0.1,
                virial=0.05,
                every=2,
            ),
        )
    },
    "torques": {
        "bcc_fe_random": (Kind(EVERYTHING, 2.0, magnetic=0.003),),
        "bcc_fe_tilted": (Kind(EVERYTHING, 46.0, energy=0.0003, magnetic=0.0012),),
    },
    "fcc": {
        "fcc_fe": (
            Kind(("1", "2", "3", "7"), 2.0, energy=0.0004, forces=0.02, magnetic=0.003),
            Kind(("4",), 0.1, energy=0.002, forces=0.1, magnetic=0.02),
        ),
        "fcc_fe_interstitial": (
            Kind(EVERYTHING, 0.2, energy=0.003, forces=0.1, magnetic=0.02),
        ),
    },
    "lda": {
        "fe2_lda": (Kind(EVERYTHING, 0.03, energy=0.02, forces=0.1, magnetic=0.04),)
    },
}

#: Landau expansion about the ferromagnet: DEPTH (eV) below moments of zero, at MOMENT.
DEPTH, MOMENT = 0.45, 2.2

#: Of the crystal at rest, moments (mu_B) as in bcc_fe_lattice, and what was measured:
#: C44 at 4 K (eV/A^3; Rayne and Chandrasekhar, Phys. Rev. 122, 1714 (1961)) and phonons
#: (THz; Minkiewicz, Shirane and Nathans, Phys. Rev. 162, 528 (1967)), for the small
#: strains of bcc_fe_lattice have neither shears of this kind nor phonons.
AT_REST = 2.154
SHEAR = 121.9 * units.GPa
PHONONS = {"N": (4.53, 6.45, 9.26), "H": (8.56, 8.56, 8.56)}
SHEARED = Kind(EVERYTHING, 0.5, energy=0.0003, magnetic=0.012, virial=0.004)
VIBRATING = Kind(EVERYTHING, 1.0, energy=0.001, forces=0.01)
DISORDERED = Kind(EVERYTHING, 1.0, energy=0.004, forces=0.03, magnetic=0.02)

#: Energy of a vacancy (eV; De Schepper et al., Phys. Rev. B 27, 5257 (1983)), and of
#: atoms that move beside it (eV/A^2), an Einstein crystal.
VACANCY, SPRING = 2.0, 9.6
VACANT = Kind(EVERYTHING, 3.0, energy=0.02, magnetic=0.1)

#: Energy of the ferromagnet (eV/atom).
REST = -8.2562

#: Volumes at rest (A^3 an atom), bulk moduli (eV/A^3), and energies above the ferromagnet
#: (eV/atom): of bcc; of close-packed crystals without moments (PBE: 10.2 to 10.3 A^3, 290
#: GPa; Steinle-Neumann, Stixrude and Cohen, Phys. Rev. B 60, 791 (1999)), and of those with
#: moments of FULL (mu_B) or more in any order (PBE: 80 to 160 meV).
VOLUME, BULK = 11.288, 1.06
EMPTY = {"fcc": (10.25, 1.82, 0.16), "hcp": (10.2, 1.82, 0.075)}
MAGNETIC = {"fcc": (11.2, 1.06, 0.11), "hcp": (11.2, 1.06, 0.13)}
FULL = 2.0

#: Derivative of bulk moduli by the pressure.
DERIVATIVE = 4.6

#: Volumes of such crystals, A^3 an atom.
BELIEVED = 8.5, 13.0

#: Where there are no data, energies that are believed as far as said here: of crystals
#: with larger moments, of close-packed ones (PBE: 50 to 160 meV in different orders), and
#: of the ferromagnet with smaller moments (PBE: 0.45 to 0.55 eV at zero) or uneven ones.
LARGE = Kind(EVERYTHING, 3.0, energy=0.2, magnetic=0.2)
CLOSE = Kind(EVERYTHING, 4.0, energy=0.025)
SMALL = Kind(EVERYTHING, 4.0, energy=0.04, magnetic=0.1)

#: Exchange at other distances than those of the crystal at rest, where no data hold it
#: (eV; A). Values and ratio of the two nearest shells are those of bcc_fe_tilted. J of
#: equal moments then falls as V^-1.2, which is what fe2_lda has (-1.2 +- 0.5 at angles
#: above 30 degrees), and it grows as |m|: between lengths that do not matter and the
#: square, as there (0.8 +- 0.4). With d ln m / d ln V of about one the transition of the
#: whole hardly depends on pressure, as measured: moments and coupling compensate each
#: other (Koermann et al., Phys. Rev. B 79, 184406 (2009)).
STRENGTH, REACH = 0.33, 4.7
SLOPE = -1.2
EXCHANGE = Sum(
    [
        Heisenberg(CubicCut(0.5 * STRENGTH, REACH)),
        MomentExchange(CubicCut(0.5 * STRENGTH / MOMENT**2, REACH)),
    ]
)

#: Factor of the moments of sets whose moments are integrals with VASP's weight.
SPHERES = 1.405

#: Torques of strained crystals, and hot crystals with turned moments, none of them
#: shorter than SHORTEST (mu_B): the exchange of unit vectors is no guide there.
STRAINED = Kind(EVERYTHING, 5.0, magnetic=0.004)
TURNED = Kind(EVERYTHING, 0.6, energy=0.004, forces=0.06, magnetic=0.01, virial=0.02)
SHORTEST = 1.5

#: Of whose moments, by every so many frames.
HOT = {"MD-bcc_Te300K": 3, "EOS_100": 6, "EOS_001_Jun2020": 8}

#: Brings the weights of forces to about one.
LOSS_SCALE = 1e-3

#: What the network corrects: repulsion of atoms, 1 eV at 1.6 A, and the expansion.
BASELINE = Sum(
    [
        PairPotential(Switched(Exponential(0.1, 1.6, 2.2), 1.7)),
        Landau([-2.0 * DEPTH / MOMENT**2, DEPTH / MOMENT**4]),
    ]
)


def collected(path: Path, kinds: tuple[Kind, ...]) -> list[Frame]:
    """Return the frames of a file that are taken, with their weights per frame."""
    frames = list(read_dataset(path))
    labels = [str(atoms.info.get("config_type", "")) for atoms in iread(path, ":")]
    found = []
    for kind in kinds:
        own = [
            frame
            for frame, label in zip(frames, labels, strict=True)
            if label.endswith(kind.texts)
            and kind.limits[0] < frame.energy / frame.n_atoms < kind.limits[1]
            and VOLUMES[0] < frame.volume / frame.n_atoms < VOLUMES[1]
        ]
        found += weighted(own[:: kind.every], kind)
    return found


def weighted(frames: list[Frame], kind: Kind) -> list[Frame]:
    """Return frames with their weights in a loss that sums over frames."""
    share = LOSS_SCALE * kind.share / max(1, len(frames))
    found = []
    for frame in frames:
        per_atom = share / frame.n_atoms
        weights = {
            "energy": per_atom / kind.energy**2,
            "forces": share / kind.forces**2,
            "magnetic_forces": share / kind.magnetic**2,
            "virial": per_atom / kind.virial**2,
        }
        found.append(frame.replace(weights=weights))
    return found


def compressed(volume: float, rest: float, bulk: float) -> float:
    """Return the energy of a change of volume, eV/atom (Vinet et al., 1987)."""
    stiffness = 1.5 * (DERIVATIVE - 1.0)
    x = stiffness * (1.0 - (volume / rest) ** (1 / 3))
    return 9.0 * bulk * rest / stiffness**2 * (1.0 - (1.0 - x) * np.exp(x))


def packed(structure: str, volume: float, length: float) -> float:
    """Return what is believed of a close-packed crystal with such moments, eV/atom."""
    empty, magnetic = (
        energy + compressed(volume, rest, bulk)
        for rest, bulk, energy in (EMPTY[structure], MAGNETIC[structure])
    )
    return empty + min(1.0, (length / FULL) ** 2) * (magnetic - empty)


def crystal(k: int, volume: float, structure: str, rattle: float = 0.05) -> Atoms:
    """Return four atoms, with unit moments in one of three or four orders."""
    signs = [1, -1, -1, 1] if structure == "fcc" else [1, -1, 1, -1]
    width = (2.0 * volume / (1.6 * 0.75**0.5)) ** (1 / 3)
    if structure == "bcc":
        atoms = bulk("Fe", "bcc", (2 * volume) ** (1 / 3), cubic=True) * (2, 1, 1)
    elif structure == "fcc" and k // 6 % 2:  # four layers, up, up, down, down
        a, signs = (4 * volume) ** (1 / 3), [1, 1, -1, -1]
        cell = np.diag([a / 2**0.5, a / 2**0.5, 2 * a])
        places = [[0.5 * (n % 2), 0.5 * (n % 2), 0.25 * n] for n in range(4)]
        atoms = Atoms("Fe4", scaled_positions=places, cell=cell, pbc=True)
    elif structure == "fcc":
        atoms = bulk("Fe", "fcc", (4 * volume) ** (1 / 3), cubic=True)
    else:
        atoms = bulk("Fe", "hcp", width, c=1.6 * width) * (2, 1, 1)
    rng = np.random.default_rng(k)
    random = rng.normal(size=(4, 3))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    along = np.outer(signs if k % 3 == 0 else np.ones(4), [0.0, 0.0, 1.0])
    set_spins(atoms, random if k % 3 == 2 else along)
    atoms.positions += rng.normal(0.0, rattle, (4, 3))
    return atoms


def guard(atoms: Atoms, lengths: np.ndarray, energy: float, *, landau: bool) -> Frame:
    """Return a crystal with moments of given lengths and what is believed of it."""
    moments = lengths[:, None] * get_spins(atoms)
    depth = lengths**2 / MOMENT**2 - 1.0
    slope = 4.0 * DEPTH / MOMENT**2 * depth[:, None] * moments
    return Frame(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        moments,
        energy=len(atoms) * energy + (DEPTH * (depth**2).sum() if landau else 0.0),
        magnetic_forces=-slope if landau else None,
    )


def sheared(rng: np.random.Generator) -> Frame:
    """Return the crystal at rest with a small shear, and its measured energy."""
    strain = np.zeros((3, 3))
    strain[np.triu_indices(3, 1)] = rng.uniform(-0.012, 0.012, 3)
    strain += strain.T
    atoms = bulk("Fe", "bcc", (2.0 * VOLUME) ** (1 / 3), cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return Frame(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        np.tile([0.0, 0.0, AT_REST], (2, 1)),
        energy=2.0 * (REST + VOLUME * SHEAR * (strain**2).sum()),
        virial=-4.0 * VOLUME * SHEAR * strain,
        magnetic_forces=np.zeros((2, 3)),
    )


def vibrating(rng: np.random.Generator, point: str) -> Frame:
    """Return the crystal at rest with atoms displaced by phonons, and the forces."""
    a = (2.0 * VOLUME) ** (1 / 3)
    if point == "H":
        atoms, axes = bulk("Fe", "bcc", a, cubic=True), np.eye(3)
    else:  # two primitive cells, q along a diagonal of a face
        atoms = bulk("Fe", "bcc", a) * (2, 1, 1)
        along = np.linalg.inv(atoms.cell.array)[:, 0]
        along /= np.linalg.norm(along)
        edge = np.eye(3)[np.argmin(abs(along))]
        axes = np.array([np.cross(edge, along), edge, along])
    rates = 2e-3 * np.pi * np.array(PHONONS[point]) / units.fs
    amplitudes = rng.normal(0.0, 0.03, 3)
    curvature = atoms.get_masses()[0] * rates**2
    signs = np.array([[1.0], [-1.0]])
    atoms.positions += signs * (amplitudes @ axes)
    return Frame(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        np.tile([0.0, 0.0, AT_REST], (2, 1)),
        energy=2.0 * REST + float((curvature * amplitudes**2).sum()),
        forces=-signs * ((curvature * amplitudes) @ axes),
    )


def repeated(frame: Frame, times: int) -> Frame:
    """Return a cell repeated along its second and third vector."""
    assert frame.energy is not None and frame.forces is not None
    atoms, n = frame.to_atoms().repeat((1, times, times)), times**2
    return Frame(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        np.tile(frame.spins, (n, 1)),
        energy=n * frame.energy,
        forces=np.tile(frame.forces, (n, 1)),
    )


def vacant(rng: np.random.Generator) -> Frame:
    """Return bcc with a vacancy, its atoms displaced and moments of any length."""
    atoms = bulk("Fe", "bcc", (2.0 * VOLUME) ** (1 / 3), cubic=True).repeat(2)
    del atoms[0]
    moves = rng.normal(0.0, rng.uniform(0.0, 0.12), (15, 3))
    atoms.positions += moves
    set_spins(atoms, np.tile([0.0, 0.0, 1.0], (15, 1)))
    lengths = rng.uniform(1.4, 3.0) + rng.normal(0.0, 0.5, 15)
    energy = VACANCY + 0.5 * SPRING * float((moves**2).sum())
    return guard(atoms, lengths, REST + energy / 15.0, landau=True)


def guards(count: int, seed: int) -> list[Frame]:
    """Return frames with weights of all kinds, ``count`` of each that is believed."""
    rng = np.random.default_rng(seed)
    large, close, small = [], [], []
    for k in range(count):
        volume = rng.uniform(*BELIEVED)
        structure = ("bcc", "fcc", "hcp")[k // 3 % 3]
        lengths = rng.uniform(2.7, 3.6) + rng.normal(0.0, 0.3, 4)
        rest = REST + compressed(volume, VOLUME, BULK)
        large.append(guard(crystal(k, volume, structure), lengths, rest, landau=True))
        structure = ("fcc", "hcp")[k // 3 % 2]
        volume, length = rng.uniform(*BELIEVED), rng.uniform(0.0, 2.8)
        rest = REST + packed(structure, volume, length)
        atoms = crystal(k, volume, structure, rattle=0.0)
        close.append(guard(atoms, np.full(4, length), rest, landau=False))
        even = np.full(4, rng.uniform(0.0, 1.7))
        lengths = even if k % 2 else rng.uniform(0.8, 3.4, 4)
        atoms = crystal(1, rng.uniform(11.0, 11.7), "bcc")
        small.append(guard(atoms, lengths, REST, landau=True))
    shears = [sheared(rng) for _ in range(count // 5)]
    phonons = [vibrating(rng, point) for point in PHONONS for _ in range(count // 10)]
    kinds = (
        (large, LARGE),
        (close, CLOSE),
        (small, SMALL),
        (shears, SHEARED),
        (phonons, VIBRATING),
        ([vacant(rng) for _ in range(count // 5)], VACANT),
    )
    return [f for frames, kind in kinds for f in weighted(frames, kind)]


def strained(frame: Frame, scale: float) -> Frame:
    """Return a perfect crystal with another volume, and torques that follow it."""
    assert frame.magnetic_forces is not None
    factor = scale ** (3.0 * SLOPE) / SPHERES
    return Frame(
        frame.numbers,
        scale * frame.positions,
        scale * frame.cell,
        frame.pbc,
        SPHERES * frame.spins,
        magnetic_forces=factor * frame.magnetic_forces,
        longitudinal=False,
    )


def turned(frame: Frame, rng: np.random.Generator) -> Frame:
    """Return a frame with moments in other directions: labels change by the exchange."""
    assert frame.forces is not None
    lengths = np.linalg.norm(frame.spins, axis=1, keepdims=True)
    spins = frame.spins / lengths.clip(1e-9) + rng.choice([0.3, 0.6, 1.5, 9.0]) * (
        rng.normal(size=frame.spins.shape)
    )
    spins *= lengths / np.linalg.norm(spins, axis=1, keepdims=True)
    new = frame.replace(spins=spins)
    after, before = (
        EXCHANGE.evaluate(System.from_atoms(f.to_atoms())) for f in (new, frame)
    )
    if frame.virial is not None:
        change = (after.virial - before.virial)[0].numpy()
        new = new.replace(virial=frame.virial + change)
    return new.replace(
        energy=frame.energy + float(after.energy - before.energy),
        forces=frame.forces + (after.forces - before.forces).numpy(),
        magnetic_forces=after.magnetic_forces.numpy(),
        longitudinal=False,
    )


def anchors(folder: Path, part: str, seed: int) -> list[Frame]:
    """Return frames that hold the exchange at other volumes and in hot crystals."""
    rng = np.random.default_rng(seed)
    perfect = [
        strained(frame, scale)
        for name in OUTPUTS["torques"]
        for frame in read_dataset(folder / name / f"{part}.extxyz")
        for scale in (rng.uniform(0.97, 1.0), rng.uniform(1.0, 1.035))
    ]
    hot = [
        turned(frame, rng)
        for text, every in HOT.items()
        for frame in collected(
            folder / "bcc_fe_lattice" / f"{part}.extxyz",
            (Kind((text,), every=every),),
        )
        if np.linalg.norm(frame.spins, axis=1).min() > SHORTEST
    ]
    disordered = [
        turned(repeated(vibrating(rng, point), 2), rng)
        for point in PHONONS
        for _ in range(20 if part == "train" else 4)
    ]
    kinds = ((perfect, STRAINED), (hot, TURNED), (disordered, DISORDERED))
    return [f for frames, kind in kinds for f in weighted(frames, kind)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path, nargs="?", default=Path())
    options = parser.parse_args()
    for part in ("train", "valid"):
        found = {
            output: [
                frame
                for name, kinds in sets.items()
                for frame in collected(options.folder / name / f"{part}.extxyz", kinds)
            ]
            for output, sets in OUTPUTS.items()
        }
        training = part == "train"
        found["anchors"] = anchors(options.folder, part, 0 if training else 1)
        found["guards"] = guards(120, 0) if training else guards(12, 1)
        # The loss is a mean over frames, and their weights sum up to the shares.
        total = sum(map(len, found.values()))
        for output, frames in found.items():
            scaled = [
                f.replace(weights={n: total * w for n, w in f.weights.items()})
                for f in frames
            ]
            path = options.output / f"{output}_{part}.extxyz"
            write_dataset(path, Dataset(scaled))
            print(f"{path}: {len(scaled)} frames")
    save_potential(options.output / "baseline.pt", BASELINE)


if __name__ == "__main__":
    main()
