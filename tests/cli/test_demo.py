"""``deepspin demo`` as a user runs it."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout

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
    """Run the demo once and return its folder, which then holds what it said too."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    with redirect_stdout(io.StringIO()) as text:
        assert main(["demo", "--output", str(folder)]) == 0
    (folder / "said").write_text(text.getvalue())
    return folder


def test_structures_carry_everything(output):
    canted, relaxed = read_extxyz(output / "nio.extxyz")
    assert canted.get_chemical_formula() == "Ni32O32"
    for atoms in (canted, relaxed):
        expected = {"energy", "forces", "stress", "magnetic_forces", "torques"}
        assert expected <= set(atoms.calc.results)
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
    assert 0.5 < energy[0, 12] < 5.0
    assert 0.5 < energy[12, 0] < 20.0
    assert (output / "nio_landscape.png").read_bytes().startswith(b"\x89PNG")


def test_spins_turn_together_more_easily_than_apart(output):
    apart = Landscape.load(output / "nio_landscape.npz").relative_meV_per_atom()[12, 0]
    within, out = (
        Landscape.load(output / f"nio_{name}.npz").relative_meV_per_atom()
        for name in ("R_in", "R_out")
    )
    assert within.max() < out.max() < 0.2 * apart
    # Half a turn reverses all moments: time reversal, exact in this model or not,
    # is within the error of its energies.
    assert abs(out[-1] - out[0]) < 0.01


def test_summary_states_units_and_files(output):
    text = (output / "said").read_text()
    for unit in ("eV", "eV/A", "eV/mu_B", "meV/atom", "mu_B"):
        assert re.search(rf"\b{unit}\b", text), unit
    assert str(output) in text
    for path in output.iterdir():
        assert path.name in text or path.name == "said"


def test_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--output", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err
