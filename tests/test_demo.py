"""``deepspin demo`` as a user runs it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from deepspin_ase import get_spins, read_extxyz
from deepspin_ase.analysis.landscape import Landscape
from deepspin_ase.cli import main
from deepspin_ase.potentials import shipped_models

pytestmark = pytest.mark.skipif(
    "NiO" not in shipped_models(), reason="the NiO model is missing"
)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Run the demo once and return its folder."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    assert main(["demo", "--output", str(folder)]) == 0
    return folder


def test_structures_carry_everything(output):
    canted, relaxed = read_extxyz(output / "nio.extxyz")
    assert canted.get_chemical_formula() == "Ni32O32"
    for atoms in (canted, relaxed):
        results = atoms.calc.results
        assert {"energy", "forces", "stress", "magnetic_forces", "torques"} <= set(results)
    np.testing.assert_array_equal(canted.positions, relaxed.positions)
    np.testing.assert_allclose(
        *(np.linalg.norm(get_spins(a), axis=1) for a in (canted, relaxed)), atol=2e-8
    )
    drop = canted.get_potential_energy() - relaxed.get_potential_energy()
    assert 0.05 < drop < 2.0
    assert np.abs(canted.calc.results["torques"]).max() > 1e-2
    assert np.abs(relaxed.calc.results["torques"]).max() < 1e-4


def test_surface_has_its_minimum_at_the_ordered_state(output):
    surface = Landscape.load(output / "nio_landscape.npz")
    assert surface.labels == ("D", "C")
    assert np.abs(surface.minimum).max() < 1e-9
    energy = surface.relative_meV_per_atom()
    assert 0.5 < energy[0, 6] < 20.0
    assert 0.5 < energy[6, 0] < 20.0
    assert (output / "nio_landscape.png").read_bytes().startswith(b"\x89PNG")


def test_summary_states_units_and_files(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for unit in ("eV", "eV/A", "eV/mu_B", "meV/atom", "mu_B"):
        assert re.search(rf"\b{unit}\b", text), unit
    for path in tmp_path.iterdir():
        assert path.name in text


def test_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--output", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err
