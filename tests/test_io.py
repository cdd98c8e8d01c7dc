from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from deepspin_ase import (
    DeepSpinCalculator,
    get_spins,
    random_directions,
    read_extxyz,
    set_spins,
    write_extxyz,
)
from deepspin_ase.potentials import (
    Committee,
    DzyaloshinskiiMoriya,
    Heisenberg,
    LennardJones,
    Potential,
)
from deepspin_ase.potentials.radial import CubicCut


def hamiltonian(coupling: float = 0.05) -> Potential:
    chiral = DzyaloshinskiiMoriya(CubicCut(0.02, 3.75))
    return LennardJones(0.3, 2.25) + Heisenberg(CubicCut(coupling, 3.75)) + chiral


@pytest.fixture
def iron() -> Atoms:
    atoms = bulk("Fe", cubic=True)
    atoms.rattle(0.05, seed=1)
    set_spins(atoms, {"Fe": 2.2}, pattern=random_directions(2))
    return atoms


@pytest.fixture
def computed(iron) -> Atoms:
    iron.calc = DeepSpinCalculator(hamiltonian())
    iron.get_potential_energy()
    return iron


def test_round_trip(computed, tmp_path):
    computed.info["source"] = "a test"
    other = computed.copy()
    other.rattle(0.1, seed=3)
    other.calc = DeepSpinCalculator(hamiltonian(0.1))
    other.get_forces()
    write_extxyz(tmp_path / "two.xyz", [computed, other])
    images = read_extxyz(tmp_path / "two.xyz")
    assert len(images) == 2
    for image, original in zip(images, [computed, other], strict=True):
        np.testing.assert_allclose(image.positions, original.positions, atol=1e-8)
        np.testing.assert_allclose(get_spins(image), get_spins(original), atol=1e-8)
        assert image.get_potential_energy() == original.get_potential_energy()
        np.testing.assert_allclose(image.get_forces(), original.get_forces(), atol=1e-8)
        assert image.get_stress() == pytest.approx(original.get_stress())
        for name in ("magnetic_forces", "torques", "virial", "energies"):
            np.testing.assert_allclose(
                image.calc.results[name], original.calc.results[name], atol=1e-8
            )
        np.testing.assert_array_equal(
            image.arrays["magnetic_forces"],
            image.calc.get_property("magnetic_forces", image),
        )
        assert image.info == original.info | {"source": "a test"}


def test_reading_and_writing_again_changes_nothing(computed, tmp_path):
    write_extxyz(tmp_path / "a.xyz", computed)
    write_extxyz(tmp_path / "b.xyz", read_extxyz(tmp_path / "a.xyz"))
    first, second = ((tmp_path / name).read_text() for name in ("a.xyz", "b.xyz"))
    assert sorted(first.split()) == sorted(second.split())


def test_the_file_is_plain_extxyz(computed, tmp_path):
    write_extxyz(tmp_path / "a.xyz", computed)
    atoms = ase.io.read(tmp_path / "a.xyz")
    np.testing.assert_allclose(
        atoms.arrays["magnetic_forces"],
        computed.calc.get_magnetic_forces(computed),
        atol=1e-8,
    )
    assert atoms.get_potential_energy() == computed.get_potential_energy()


def test_index_selects_frames(computed, tmp_path):
    write_extxyz(tmp_path / "a.xyz", [computed] * 5)
    assert isinstance(read_extxyz(tmp_path / "a.xyz", 0), Atoms)
    assert isinstance(read_extxyz(tmp_path / "a.xyz", index=-1), Atoms)
    assert len(read_extxyz(tmp_path / "a.xyz", "1:4")) == 3
    assert len(read_extxyz(tmp_path / "a.xyz", slice(None, None, 2))) == 3


def test_one_atom_one_scalar_moment(tmp_path):
    atom = Atoms("Fe", magmoms=[2.0])
    write_extxyz(tmp_path / "a.xyz", atom)
    np.testing.assert_array_equal(
        get_spins(read_extxyz(tmp_path / "a.xyz", 0)), [[0, 0, 2]]
    )
    assert atom.arrays["initial_magmoms"].shape == (1,)  # the input is as it was


def test_committee_deviations_are_kept(iron, tmp_path):
    iron.calc = DeepSpinCalculator(Committee([hamiltonian(0.04), hamiltonian(0.06)]))
    iron.get_forces()
    write_extxyz(tmp_path / "a.xyz", iron)
    results = read_extxyz(tmp_path / "a.xyz", 0).calc.results
    for name in ("energy_deviation", "forces_deviation", "magnetic_forces_deviation"):
        np.testing.assert_allclose(results[name], iron.calc.results[name], atol=1e-8)


def test_arrays_without_calculator_are_written(iron, tmp_path):
    labels = np.arange(6.0).reshape(2, 3)
    iron.set_array("magnetic_forces", labels)
    write_extxyz(tmp_path / "a.xyz", iron)
    image = read_extxyz(tmp_path / "a.xyz", 0)
    np.testing.assert_array_equal(image.calc.results["magnetic_forces"], labels)


def test_outdated_results_are_not_written(computed, tmp_path):
    write_extxyz(tmp_path / "a.xyz", computed)
    image = read_extxyz(tmp_path / "a.xyz", 0)
    image.positions[0] += 0.1
    write_extxyz(tmp_path / "b.xyz", image)
    again = read_extxyz(tmp_path / "b.xyz", 0)
    assert again.calc is None
    assert "magnetic_forces" not in again.arrays
    assert not again.info


def test_new_results_replace_those_read(computed, tmp_path):
    write_extxyz(tmp_path / "a.xyz", computed)
    image = read_extxyz(tmp_path / "a.xyz", 0)
    image.calc = DeepSpinCalculator(hamiltonian(0.5))
    expected = image.calc.get_magnetic_forces(image)
    write_extxyz(tmp_path / "b.xyz", image)
    again = read_extxyz(tmp_path / "b.xyz", 0)
    np.testing.assert_allclose(again.arrays["magnetic_forces"], expected, atol=1e-8)


def test_other_calculators_are_written_too(tmp_path):
    copper = bulk("Cu", cubic=True)
    copper.calc = EMT()
    copper.get_forces()
    write_extxyz(tmp_path / "a.xyz", copper)
    image = read_extxyz(tmp_path / "a.xyz", 0)
    assert image.get_potential_energy() == copper.get_potential_energy()
    assert not image.has("initial_magmoms")


class TestBadInput:
    def test_nothing_to_write(self, tmp_path):
        with pytest.raises(ValueError, match="no structures"):
            write_extxyz(tmp_path / "a.xyz", [])

    def test_a_failure_leaves_the_old_file(self, computed, tmp_path):
        path = tmp_path / "a.xyz"
        write_extxyz(path, computed)
        before = path.read_text()
        broken = computed.copy()
        broken.arrays["initial_magmoms"] = np.zeros((2, 6))
        with pytest.raises(ValueError, match=r"shape \(2, 6\)"):
            write_extxyz(path, [computed, broken])
        unwritable = computed.copy()
        unwritable.arrays["what"] = np.zeros((2, 3, 3))
        with pytest.raises(Exception):  # noqa: B017 - whatever ASE raises
            write_extxyz(path, [computed, unwritable])
        assert path.read_text() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.xyz"]

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_extxyz(tmp_path / "none.xyz")

    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_truncated_file(self, computed, tmp_path, keep):
        path = tmp_path / "a.xyz"
        write_extxyz(path, computed)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:keep]))
        with pytest.raises(ValueError, match=r"a\.xyz cannot be read as an extxyz"):
            read_extxyz(path)

    def test_empty_file(self, tmp_path):
        (tmp_path / "a.xyz").touch()
        with pytest.raises(ValueError, match=r"a\.xyz holds no structure"):
            read_extxyz(tmp_path / "a.xyz")

    @pytest.mark.parametrize("content", ["hello\n", "2\n\nFe 0 0 x\nFe 0 0 0\n"])
    def test_foreign_file(self, tmp_path, content):
        (tmp_path / "a.xyz").write_text(content)
        with pytest.raises(ValueError, match=r"a\.xyz cannot be read as an extxyz"):
            read_extxyz(tmp_path / "a.xyz")
