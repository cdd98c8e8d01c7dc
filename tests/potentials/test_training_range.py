"""What models were trained on is kept, and warned of where structures leave it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.units import Bohr

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    load_potential,
    set_spins,
)
from deepspin_ase.analysis import SpinLatticeNEB
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.dynamics import MonteCarlo, SpinLatticeNPT
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.optimize import SpinLatticeFilter
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    OutOfRangeWarning,
    PairPotential,
    Potential,
    Sum,
    TrainingRange,
    Zeeman,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.training import Trainer, TrainingConfig

MAGNET = Sum([PairPotential(CubicCut(0.1, 4.0)), Heisenberg(CubicCut(0.02, 4.0))])


def iron(a: float = 2.87, moment: float = 2.2) -> Atoms:
    atoms = bulk("Fe", cubic=True, a=a)
    set_spins(atoms, [[0, 0, moment], [0, 0, -moment]])
    return atoms


def trained(potential: Potential, structures: list[Atoms]) -> Potential:
    """Return a copy of a potential that says it was trained on structures."""
    potential = copy.deepcopy(potential)
    systems = [System.from_atoms(atoms) for atoms in structures]
    potential.training_range = TrainingRange.of(
        [(s, build_pairs(s, potential.cutoff)) for s in systems],
        magnetic=None,
        labels=["energy", "forces"],
    )
    return potential


def told(potential: Potential, *structures: Atoms) -> list[str]:
    """Return the warnings of a calculator about structures, one after the other."""
    calculator = DeepSpinCalculator(potential)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for atoms in structures:
            calculator.get_potential_energy(atoms)
    assert all(w.category is OutOfRangeWarning for w in caught)
    return [str(w.message) for w in caught]


def test_bounds_are_those_of_the_structures() -> None:
    potential = trained(MAGNET, [iron(2.80, 2.0), iron(2.90, 2.4)])
    known = potential.training_range
    assert known is not None
    assert known.n_frames == 2
    expected = {
        "volume": (2.8**3 / 2, 2.9**3 / 2),
        "distance Fe-Fe": (2.8 * 3**0.5 / 2, np.inf),
        "moment Fe": (2.0, 2.4),
    }
    assert known.bounds.keys() == expected.keys()
    for name, values in expected.items():
        assert known.bounds[name] == pytest.approx(values)
    assert "length of the moments Fe    2 to 2.4 mu_B" in str(known)


def test_each_quantity_is_told_once() -> None:
    potential = trained(MAGNET, [iron(2.80, 2.0), iron(2.90, 2.4)])
    assert told(potential, iron()) == []
    messages = told(
        potential, iron(), iron(3.1), iron(3.2), iron(moment=3.0), iron(3.1)
    )
    assert messages == [
        "volume per atom 14.9 A^3: the model was trained on 10.98 to 12.19 A^3 and has "
        "seen no stress; results are extrapolated",
        "length of the moments Fe 3 mu_B: the model was trained on 2 to 2.4 mu_B; "
        "results are extrapolated",
    ]
    short = iron()
    short.positions[1] -= 0.4
    assert [x[:34] for x in told(potential, short)] == [
        "shortest distance Fe-Fe 1.793 A: t"
    ]


def test_atoms_that_had_no_neighbors_of_a_kind() -> None:
    alloy = iron()
    alloy.symbols[1] = "Ni"
    potential = trained(MAGNET, [iron()])
    assert sorted(told(potential, alloy)) == [
        "length of the moments Ni: the model was trained on none; results are "
        "extrapolated",
        "shortest distance Fe-Ni: the model was trained on none; results are "
        "extrapolated",
        "shortest distance Ni-Ni: the model was trained on none; results are "
        "extrapolated",
    ]


def test_clusters_have_no_volume() -> None:
    potential = trained(MAGNET, [iron()])
    cluster = iron()
    cluster.pbc = False
    assert told(potential, cluster) == []


def test_ranges_of_parts_are_kept_in_files(tmp_path: Path) -> None:
    """A field on top of a model does not hide what the model was trained on."""
    potential = Sum([trained(MAGNET, [iron()]), Zeeman((0, 0, 1.0))])
    save_potential(tmp_path / "model.pt", potential)
    loaded = load_potential(tmp_path / "model.pt")
    assert loaded.training_range is None
    first = next(loaded.members.children())
    assert first.training_range == next(potential.members.children()).training_range
    assert len(told(loaded, iron(3.3))) == 1
    calculator = DeepSpinCalculator(potential, external_field_T=(0, 0, 1))
    with pytest.warns(OutOfRangeWarning, match="volume per atom"):
        calculator.get_potential_energy(iron(3.3))


def test_monte_carlo_looks_at_what_it_samples() -> None:
    """Also where it reads couplings off the model, and asks it nothing more."""
    atoms = iron(3.1)
    atoms.calc = DeepSpinCalculator(trained(MAGNET, [iron()]))
    with pytest.warns(OutOfRangeWarning, match=r"volume per atom 14\.9"):
        MonteCarlo(atoms, temperature_K=300.0)
    atoms = iron()
    atoms.calc = DeepSpinCalculator(trained(MAGNET, [iron()]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MonteCarlo(atoms, temperature_K=300.0)


def test_cells_that_move_by_stress_never_seen() -> None:
    """Told once, before anything moves: by relaxation, bands and the barostat."""

    def told_by(move: Callable[[Atoms], object], labels: list[str]) -> list[str]:
        atoms = iron()
        potential = copy.deepcopy(MAGNET)
        potential.training_range = TrainingRange.of([], magnetic=None, labels=labels)
        atoms.calc = DeepSpinCalculator(potential)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            move(atoms)
            move(atoms)
        return [str(w.message) for w in caught if "stress: " in str(w.message)]

    def band(atoms: Atoms) -> object:
        images = [atoms.copy() for _ in range(3)]
        for k, image in enumerate(images):
            image.positions[0] += 0.1 * k
            image.calc = atoms.calc
        return SpinLatticeNEB(images, cell=True)

    def barostat(atoms: Atoms) -> object:
        return SpinLatticeNPT(atoms, units.fs, temperature_K=10.0, damping=0.1)

    def filters(atoms: Atoms) -> object:
        return SpinLatticeFilter(atoms, cell=True)

    for move in (band, barostat, filters):
        assert told_by(move, ["energy", "virial"]) == []
        (message,) = told_by(move, ["energy"])
        assert message.startswith("stress: the model was trained on none; the cells")
    assert told_by(SpinLatticeFilter, ["energy"]) == []


def test_long_runs_are_looked_at_now_and_then() -> None:
    calculator = DeepSpinCalculator(trained(MAGNET, [iron()]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in range(1, 200):
            calculator.get_potential_energy(
                iron(moment=(2.2 if call < 100 else 1.5) + call / 1e6)
            )
            if caught:
                break
    assert call == 128


def test_trained_models_carry_their_range(tmp_path: Path) -> None:
    frames = []
    for a in (2.8, 2.9):
        atoms = iron(a)
        atoms.calc = DeepSpinCalculator(MAGNET)
        atoms.get_potential_energy()
        frames.append(Frame.from_atoms(atoms))
    config = TrainingConfig.from_dict(
        {
            "model": {"elements": ["Fe"], "magnetic": ["Fe"], "cutoff": 4.0},
            "training": {"numb_steps": 1, "keep_best": False},
            "data": {"training": ["given"]},
        }
    )
    Trainer(config, Dataset(frames), output=tmp_path).run(progress=False)
    known = load_potential(tmp_path / "model.pt").training_range
    assert known is not None
    assert known.bounds["volume"] == pytest.approx((2.8**3 / 2, 2.9**3 / 2))
    assert known.bounds["features Fe"][1] > 0.0
    assert known.labels == ("energy", "forces", "magnetic_forces", "virial")


def test_shipped_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Strain, lengths of moments and lattices in bohr are noticed."""
    potential = load_potential("NiO")

    def oxide(a: float, moment: float) -> Atoms:
        atoms = bulk("NiO", "rocksalt", a, cubic=True).repeat(2)
        order = antiferromagnetic((0.5, 0.5, 0.5), cell=a)
        set_spins(atoms, {"Ni": moment}, pattern=order)
        return atoms

    assert told(potential, oxide(4.186, 1.277)) == []
    assert told(potential, oxide(4.186 * 1.03, 1.277)) == []
    assert told(potential, oxide(4.186, 1.4)) == []
    (message,) = (m for m in told(potential, oxide(4.35, 1.277)) if "volume" in m)
    assert message.startswith("volume per atom 10.29 A^3: the model was trained on 8.")
    messages = told(potential, oxide(4.186, 1.9))
    assert any(m.startswith("length of the moments Ni 1.9 mu_B") for m in messages)
    assert any("volume" in m for m in told(potential, oxide(4.186 / Bohr, 1.277)))
    atoms = oxide(4.4, 1.277)
    atoms.write(tmp_path / "nio.extxyz")
    command = ["relax", str(tmp_path / "nio.extxyz"), "--model", "NiO", "--cell"]
    with pytest.warns(OutOfRangeWarning, match=r"volume per atom 10\.\d+ A\^3"):
        main([*command, "--steps", "1", "-o", str(tmp_path / "relaxed.extxyz")])
    assert main(["info", "BiFeO3"]) == 0
    assert "shortest distance Bi-O" in capsys.readouterr().out
