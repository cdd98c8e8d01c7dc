"""Networks estimate their errors from how far structures are from their data."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from scipy.stats import spearmanr

from deepspin_ase import DeepSpinCalculator, load_potential, set_spins
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame, write_dataset
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    LennardJones,
    OutOfRangeWarning,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    Sum,
    TimeReversal,
    TrainingRange,
    choose_backend,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.training import (
    collect,
    compare,
    fit_error_model,
    fit_linear_term,
    load_batches,
    plot_reliability,
)
from deepspin_ase.training._report import reliability

TEACHER = Sum([LennardJones(0.3, 2.3, cutoff=4.0), Heisenberg(CubicCut(0.05, 4.0))])
WEIGHTS = {"energy": 10.0, "forces": 1.0, "magnetic_forces": 50.0}
NAMES = ("energy", "forces", "magnetic_forces")


def shaken(size: float, *, seed: int) -> Atoms:
    """Return an alloy with displaced atoms and random moments on Fe."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Fe", "bcc", 2.9, cubic=True).repeat(2)
    atoms.symbols[rng.permutation(16)[:4]] = "Al"
    atoms.positions += rng.normal(0, size, atoms.positions.shape)
    moments = rng.normal(0, 1, (16, 3))
    moments[atoms.symbols == "Al"] = 0.0
    set_spins(atoms, moments)
    return atoms


def labelled(size: float, count: int, *, seed: int) -> Dataset:
    calculator = DeepSpinCalculator(TEACHER)
    frames = []
    for k in range(count):
        atoms = shaken(size, seed=seed + k)
        atoms.calc = calculator
        atoms.get_potential_energy()
        frames.append(Frame.from_atoms(atoms))
    return Dataset(frames)


@pytest.fixture(scope="module")
def network() -> SpinMomentNetwork:
    """Return a network that was fitted to small displacements, with an error model."""
    config = SpinMomentConfig.from_dict(
        {
            "elements": ["Fe", "Al"],
            "magnetic": ["Fe"],
            "cutoff": 4.0,
            "basis": 5,
            "channels": 4,
            "spin_channels": 3,
            "degree": 1,
            "spin_degree": 0,
            "four_body": 0,
            "neuron": [4],
        }
    )
    made = SpinMomentNetwork(config)
    training = load_batches(labelled(0.08, 8, seed=0), made)
    made.fit_statistics((b.system, b.pairs) for b in training)
    made.start_from_zero()
    found = fit_linear_term(made, training, WEIGHTS)
    made.element_energies = found.references.elements
    made.requires_grad_(False)
    fit_error_model(made, training, load_batches(labelled(0.08, 24, seed=100), made))
    return made


def estimates(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    system = System.from_atoms(atoms)
    found = potential.evaluate(system, deviations=True).deviations
    return {name: values.numpy() for name, values in found.items()}


def test_estimates_are_as_large_as_errors(network: SpinMomentNetwork) -> None:
    """On frames that neither the fit nor the calibration has seen."""
    others = load_batches(labelled(0.08, 16, seed=200), network)
    (batch,) = collect(others)
    found = network.evaluate(batch.system, batch.pairs, deviations=True)
    for name in NAMES:
        error = getattr(found, name) - getattr(batch, name)
        known = torch.isfinite(error)
        observed = float(error[known].square().mean().sqrt())
        estimated = float(found.deviations[name][known].square().mean().sqrt())
        assert 0.5 < observed / estimated < 2.0, name
    with pytest.raises(ValueError, match="no estimates"):
        plot_reliability(compare(network, others[:1]))


def test_far_structures_are_told_from_near_ones(network: SpinMomentNetwork) -> None:
    near, far = (
        compare(
            network, load_batches(labelled(size, 4, seed=300), network), deviations=True
        )
        for size in (0.08, 0.2)
    )
    for name in ("energy", "forces", "magnetic_forces_transverse"):
        a, b = near[name], far[name]
        assert a.deviation is not None
        assert b.deviation is not None
        assert np.median(b.deviation) > 2.0 * np.median(a.deviation), name
        deviations = np.concatenate([a.deviation, b.deviation])
        errors = np.abs(
            np.concatenate([a.prediction - a.label, b.prediction - b.label])
        )
        assert spearmanr(deviations, errors)[0] > 0.4, name
    estimated, observed = reliability(far["forces"])
    assert estimated[-1] > 3.0 * estimated[0]
    assert observed[-1] > observed[0]


def test_all_ways_to_ask_agree(network: SpinMomentNetwork) -> None:
    """Kernels, torch, float32, batches and parts of sums; in shapes of quantities."""
    images = [shaken(0.1, seed=k) for k in range(3)]
    systems = [System.from_atoms(atoms) for atoms in images]
    expected = [estimates(network, atoms) for atoms in images]
    shapes = {"energy": (1,), "forces": (16, 3), "magnetic_forces": (16, 3)}
    assert {name: x.shape for name, x in expected[0].items()} == shapes
    assert (expected[0]["magnetic_forces"][images[0].symbols == "Al"] == 0).all()
    plain = copy.deepcopy(network)
    choose_backend(plain, "reference")
    single = copy.deepcopy(network)
    choose_backend(single, mixed=True)
    for own, tolerance in (
        (plain, 1e-9),
        (single, 1e-4),
        (Sum([TEACHER, network]), 1e-12),
        (TimeReversal(network), 1e-9),
    ):
        for name, values in estimates(own, images[0]).items():
            np.testing.assert_allclose(values, expected[0][name], rtol=tolerance)
    together = network.evaluate(System.cat(systems), deviations=True).deviations
    for name in NAMES:
        parts = np.concatenate([own[name] for own in expected])
        np.testing.assert_allclose(together[name].numpy(), parts, rtol=1e-10)
    assert network.evaluate(systems[0]).deviations == {}
    assert TEACHER.evaluate(systems[0], deviations=True).deviations == {}


def test_features_far_from_those_of_the_data_are_told(
    network: SpinMomentNetwork, tmp_path: Path
) -> None:
    own = copy.deepcopy(network)
    batches = load_batches(labelled(0.08, 8, seed=0), own)
    own.training_range = TrainingRange.of(
        ((b.system, b.pairs) for b in batches), magnetic=own.magnetic_species, labels=[]
    )
    fit_error_model(own, batches, [])
    assert own.training_range.bounds["features Al"][1] > 1.0
    save_potential(tmp_path / "model.pt", own)
    loaded = load_potential(tmp_path / "model.pt")
    assert loaded.training_range == own.training_range
    DeepSpinCalculator(loaded).get_potential_energy(shaken(0.08, seed=0))
    with pytest.warns(OutOfRangeWarning) as caught:
        DeepSpinCalculator(loaded).get_potential_energy(shaken(0.5, seed=0))
    assert any(
        re.match("features of Fe .* standard deviations: the model", str(w.message))
        for w in caught
    )


def test_energies_of_copies_err_together(network: SpinMomentNetwork) -> None:
    atoms = shaken(0.1, seed=1)
    one, eight = (estimates(network, x)["energy"] for x in (atoms, atoms.repeat(2)))
    np.testing.assert_allclose(eight, 8.0 * one, rtol=1e-9)


def test_calculators_estimate_where_asked(
    network: SpinMomentNetwork, tmp_path: Path
) -> None:
    save_potential(tmp_path / "model.pt", network)
    atoms = shaken(0.1, seed=2)
    expected = estimates(network, atoms)
    calculator = DeepSpinCalculator(tmp_path / "model.pt")
    atoms.calc = calculator
    atoms.get_forces()
    assert not any(name.endswith("_deviation") for name in calculator.results)
    found = calculator.get_property("forces_deviation", atoms)
    np.testing.assert_allclose(found, expected["forces"], rtol=1e-12)
    assert calculator.results["energy_deviation"] == pytest.approx(
        expected["energy"][0]
    )
    results = calculator.evaluate([atoms, atoms], deviations=True)
    for own in results:
        np.testing.assert_allclose(
            own["magnetic_forces_deviation"], expected["magnetic_forces"], rtol=1e-10
        )
    atoms.calc = DeepSpinCalculator(TEACHER)
    with pytest.raises(PropertyNotImplementedError, match="no forces_deviation"):
        atoms.calc.get_property("forces_deviation", atoms)


def test_what_cannot_be_estimated(network: SpinMomentNetwork) -> None:
    batches = load_batches(labelled(0.08, 1, seed=0), TEACHER)
    with pytest.raises(ValueError, match="no network"):
        fit_error_model(TEACHER, batches, batches)
    own = copy.deepcopy(network)
    fit_error_model(own, load_batches(labelled(0.08, 1, seed=0), own), [])
    assert estimates(own, shaken(0.08, seed=0)) == {}


def test_errors_across_and_along_moments_differ(network: SpinMomentNetwork) -> None:
    """As those of the labels do; where there are none along, as those across."""
    batches = load_batches(labelled(0.08, 8, seed=100), network)
    atoms = shaken(0.08, seed=5)
    set_spins(atoms, [[0, 0, 1.2] if s == "Fe" else [0, 0, 0] for s in atoms.symbols])
    own = estimates(network, atoms)["magnetic_forces"][atoms.symbols == "Fe"]
    found = compare(network, batches)
    along, across = (
        found[f"magnetic_forces_{x}"].rmse for x in ("longitudinal", "transverse")
    )
    ratio = np.mean(own[:, 2]) / np.mean(own[:, :2])
    assert 0.5 < ratio / (along / across) < 2.0
    blind = copy.deepcopy(network)
    unknown = [
        b.replace(longitudinal=torch.zeros_like(b.longitudinal)) for b in batches
    ]
    fit_error_model(blind, batches, unknown)
    own = estimates(blind, atoms)["magnetic_forces"][atoms.symbols == "Fe"]
    np.testing.assert_allclose(own[:, 2], own[:, 0], rtol=1e-12)


def test_trained_with_validation_frames(tmp_path: Path) -> None:
    """The trainer calibrates, and the command shows errors over estimates."""
    write_dataset(tmp_path / "train.extxyz", labelled(0.08, 4, seed=0))
    write_dataset(tmp_path / "valid.extxyz", labelled(0.08, 3, seed=100))
    lines = (
        f"data: {{training: [{tmp_path}/train.extxyz], "
        f"validation: [{tmp_path}/valid.extxyz]}}",
        "model: {cutoff: 4.0, basis: 4, channels: 3, spin_channels: 3, degree: 1, "
        "spin_degree: 0, four_body: 0, neuron: [4]}",
        "training: {numb_steps: 2}",
        f"output: {tmp_path}/run",
    )
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    assert main(["train", str(tmp_path / "config.yaml")]) == 0
    assert (tmp_path / "run" / "reliability.png").exists()
    model = tmp_path / "run" / "model.pt"
    found = estimates(load_potential(model), shaken(0.08, seed=7))
    assert all(np.isfinite(found[name]).all() for name in NAMES)
    figure = str(tmp_path / "parity.png")
    command = ["test", str(model), f"{tmp_path}/valid.extxyz", "--rotations", "1"]
    assert main([*command, "--plot", figure]) == 0
    assert (tmp_path / "parity_reliability.png").exists()
    with np.load(tmp_path / "parity.npz") as numbers:
        assert "forces_deviation" in numbers
