"""Training of the network on moments: closed form, known Hamiltonians, short files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame, write_dataset
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    CubicAnisotropy,
    CubicCut,
    Heisenberg,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    UniaxialAnisotropy,
    load_card,
    load_potential,
)
from deepspin_ase.system import System
from deepspin_ase.training import compare, fit_linear_term, load_batches

SMALL = {"channels": 2, "spin_channels": 2, "basis": 3, "degree": 2, "four_body": 1}
EVERYTHING = dict.fromkeys(("energy", "forces", "magnetic_forces", "virial"), 1.0)


def shaken(crystal: Atoms, rng: np.random.Generator, size: float = 0.05) -> Atoms:
    """Return a copy with displaced atoms and random moments of 0.8 to 1.2 mu_B."""
    atoms = crystal.copy()
    strain = np.eye(3) + rng.normal(0, 0.01, (3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.normal(0, size, atoms.positions.shape)
    moments = rng.normal(size=(len(atoms), 3))
    moments *= (rng.uniform(0.8, 1.2, len(atoms)) / np.linalg.norm(moments, axis=1))[
        :, None
    ]
    moments[~np.isin(atoms.numbers, [26])] = 0.0
    set_spins(atoms, moments)
    return atoms


def labelled(structures: list[Atoms], potential: Potential) -> Dataset:
    calculator = DeepSpinCalculator(potential)
    frames = []
    for atoms in structures:
        atoms.calc = calculator
        atoms.get_potential_energy()
        frames.append(Frame.from_atoms(atoms))
    return Dataset(frames, name="labelled")


def fitted(
    dataset: Dataset, weights: dict[str, float] | None = None, **changes: object
) -> SpinMomentNetwork:
    """Return a network with nothing but the linear term."""
    config = SpinMomentConfig.from_dict(
        {
            "elements": list(dataset.elements),
            "magnetic": list(dataset.magnetic_elements),
            **SMALL,
            **changes,
        }
    )
    network = SpinMomentNetwork(config).requires_grad_(False)
    batches = load_batches(dataset, network)
    network.fit_statistics((b.system, b.pairs) for b in batches)
    network.start_from_zero()
    found = fit_linear_term(network, batches, weights or EVERYTHING)
    network.element_energies = found.references.elements
    return network


def test_closed_form_recovers_a_teacher():
    """Of the same features: from a few frames, nearly exactly."""
    rng = np.random.default_rng(0)
    iron = bulk("Fe", "bcc", 2.87, cubic=True).repeat((2, 1, 1))
    iron.symbols[0] = "O"
    structures = [shaken(iron, rng) for _ in range(14)]
    config = {"elements": ["O", "Fe"], "magnetic": ["Fe"], "cutoff": 3.5, **SMALL}
    teacher = SpinMomentNetwork(SpinMomentConfig.from_dict(config))
    teacher.requires_grad_(False)
    batches = load_batches(
        labelled(structures, Heisenberg(CubicCut(0.1, 3.0))), teacher
    )
    teacher.fit_statistics((b.system, b.pairs) for b in batches[:12])
    teacher.start_from_zero()
    teacher.linear.normal_(generator=torch.Generator().manual_seed(1))
    student = fitted(labelled(structures[:12], teacher), cutoff=3.5)
    left = compare(student, load_batches(labelled(structures[12:], teacher), student))
    for name, found in left.items():
        assert found.rmse < 1e-3 * np.std(found.label), name


#: Labels at fixed positions: of energies and magnetic forces.
RIGID = {"energy": 1.0, "magnetic_forces": 1.0}


def turned(crystal: Atoms, rng: np.random.Generator) -> Atoms:
    """Return a copy with moments of 1 mu_B on iron, in random directions."""
    atoms = crystal.copy()
    moments = rng.normal(size=(len(atoms), 3))
    moments /= np.linalg.norm(moments, axis=1, keepdims=True)
    moments[atoms.numbers != 26] = 0.0
    set_spins(atoms, moments)
    return atoms


def energy_of(potential: Potential, crystal: Atoms, moments: np.ndarray) -> float:
    atoms = crystal.copy()
    set_spins(atoms, moments)
    atoms.calc = DeepSpinCalculator(potential)
    return float(atoms.get_potential_energy())


class BentBonds(Potential):
    """E = -sum_{i<j} D (z x r^_ij).(m_i x m_j) + J m_i.m_j over bonds up to 3.2 A."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    @property
    def cutoff(self) -> float:
        return 3.2

    def forward(self, system: System, pairs: PairList) -> torch.Tensor:
        vectors = pairs.vectors(system)
        near = (vectors.norm(dim=1) < self.cutoff).double()
        a, b = system.spins[pairs.i], system.spins[pairs.j]
        z = torch.tensor([0.0, 0.0, 1.0]).double().expand_as(vectors)
        axial = torch.linalg.cross(z, vectors / vectors.norm(dim=1, keepdim=True))
        energy = self.strength * (axial * torch.linalg.cross(a, b)).sum(1)
        energy = -0.5 * near * (energy + 0.02 * (a * b).sum(1))
        return torch.zeros_like(system.spins[:, 0]).index_add(0, pairs.i, energy)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_dzyaloshinskii_moriya_with_its_sign(sign):
    """Of a film: right- and left-handed cycloids differ by the vector's strength."""
    rng = np.random.default_rng(1)
    crystal = Atoms("FeO", [[0, 0, 0], [0, 0, -1.8]], cell=[2.6, 2.6, 12], pbc=True)
    crystal = crystal.repeat((4, 2, 1))
    magnet = BentBonds(sign * 5e-3)
    structures = [turned(crystal, rng) for _ in range(12)]
    network = fitted(
        labelled(structures, magnet), RIGID, spin_orbit=True, cutoff=3.5, channels=3
    )
    angles = 0.5 * np.pi * np.round(crystal.positions[:, 0] / 2.6)
    differences = []
    for potential in (magnet, network):
        each = []
        for hand in (1.0, -1.0):
            moments = np.stack(
                [np.sin(hand * angles), 0.0 * angles, np.cos(angles)], axis=1
            )
            moments[crystal.numbers != 26] = 0.0
            each.append(energy_of(potential, crystal, moments))
        differences.append(each[0] - each[1])
    assert abs(differences[0]) > 0.005
    assert differences[1] == pytest.approx(differences[0], rel=0.02)
    # Without spin-orbit terms, both hands are the same.
    blind = fitted(labelled(structures, magnet), RIGID, cutoff=3.5, channels=3)
    left, right = (
        energy_of(
            blind,
            crystal,
            np.stack([h * np.sin(angles), 0 * angles, np.cos(angles)], 1)
            * (crystal.numbers == 26)[:, None],
        )
        for h in (1.0, -1.0)
    )
    assert abs(left - right) < 1e-10


@pytest.mark.parametrize("K", [2e-3, -2e-3])
def test_uniaxial_anisotropy(K):
    """Of a tetragonal crystal, with its sign."""
    rng = np.random.default_rng(2)
    crystal = bulk("Fe", "bct", a=2.8, c=3.3).repeat((2, 2, 2))
    structures = [turned(crystal, rng) for _ in range(12)]
    network = fitted(
        labelled(structures, UniaxialAnisotropy(K, (0, 0, 1))),
        RIGID,
        spin_orbit=True,
        cutoff=4.0,
    )
    x, y, z = (
        energy_of(network, crystal, np.tile(axis, (len(crystal), 1))) / len(crystal)
        for axis in np.eye(3)
    )
    assert x - z == pytest.approx(K, rel=0.02)
    assert y - z == pytest.approx(K, rel=0.02)


@pytest.mark.parametrize("K1", [1e-3, -1e-3])
def test_cubic_anisotropy(K1):
    """Of a cubic crystal: K1/4 between the edge and the diagonal of a face."""
    rng = np.random.default_rng(3)
    crystal = bulk("Fe", "bcc", a=2.87, cubic=True).repeat((2, 2, 1))
    structures = [turned(crystal, rng) for _ in range(12)]
    network = fitted(
        labelled(structures, CubicAnisotropy(K1)), RIGID, spin_orbit=True, cutoff=4.0
    )
    edge, diagonal = (
        energy_of(network, crystal, np.tile(axis, (len(crystal), 1))) / len(crystal)
        for axis in (np.array([0, 0, 1.0]), np.array([1.0, 1.0, 0]) / np.sqrt(2))
    )
    assert diagonal - edge == pytest.approx(0.25 * K1, rel=0.05)


def test_few_labels_are_told(caplog):
    rng = np.random.default_rng(4)
    crystal = bulk("Fe", "bcc", a=2.87, cubic=True)
    structures = [shaken(crystal, rng) for _ in range(2)]
    with caplog.at_level("WARNING"):
        fitted(labelled(structures, Heisenberg(CubicCut(0.1, 3.0))), channels=3)
    assert "labels do not determine" in caplog.text


def test_short_training_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Elements, channels and schedule come from the data; the best weights are kept."""
    rng = np.random.default_rng(5)
    crystal = bulk("Fe", "bcc", a=2.87, cubic=True).repeat((2, 1, 1))
    magnet = Heisenberg(CubicCut(0.05, 3.2))
    for name, count in (("train", 14), ("valid", 4)):
        structures = [shaken(crystal, rng) for _ in range(count)]
        write_dataset(tmp_path / f"{name}.extxyz", labelled(structures, magnet))
    file = tmp_path / "fe.yaml"
    file.write_text(
        "data: {training: [train.extxyz], validation: [valid.extxyz]}\n"
        "output: fe\n"
        "model: {type: moments, channels: 3, spin_channels: 3, basis: 4}\n"
        "training: {numb_steps: 6, disp_freq: 2}\n"
    )
    main(["train", str(file)])
    model = load_potential(tmp_path / "fe" / "model.pt")
    assert isinstance(model, SpinMomentNetwork)
    assert model.config.elements == model.config.magnetic == ["Fe"]
    rows = (tmp_path / "fe" / "lcurve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["0.0", "2.0", "4.0", "6.0"]
    column = rows[0].split(",").index("validation_rmse_magnetic_forces_transverse")
    best = min(float(row.split(",")[column]) for row in rows[1:])
    card = load_card(tmp_path / "fe" / "model.pt")
    kept = card["errors"]["magnetic_forces_transverse"]["rmse"]
    assert kept <= 1.5 * best
    written = yaml.safe_load((tmp_path / "fe" / "config.yaml").read_text())
    assert written["model"]["type"] == "moments"
    assert written["model"]["elements"] == ["Fe"]
    assert written["training"]["precision"] == "mixed"
