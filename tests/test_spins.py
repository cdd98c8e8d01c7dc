from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from deepspin_ase import (
    antiferromagnetic,
    cant_spins,
    collinear,
    get_spins,
    random_directions,
    rotate_spins,
    set_spins,
    spiral,
)

A_NIO = 4.17
A_BFO = 4.0147


def rock_salt() -> Atoms:
    return bulk("NiO", "rocksalt", a=A_NIO, cubic=True) * (2, 2, 2)


def bismuth_ferrite() -> Atoms:
    """Return the polar R3c cell, in which Fe is off its ideal site."""
    return crystal(
        ["Bi", "Fe", "O"],
        [(0, 0, 0), (0, 0, 0.22021), (0.4469, 0.0181, 0.95183)],
        spacegroup=161,
        cellpar=[5.57882, 5.57882, 13.86932, 90, 90, 120],
    )


def neighbour_signs(atoms: Atoms, element: str, low: float, high: float):
    """Return cos of the angles between neighbours low to high A apart, by atom."""
    i, j, d = neighbor_list("ijd", atoms, {(element, element): high})
    spins = get_spins(atoms)
    spins /= np.maximum(np.linalg.norm(spins, axis=1, keepdims=True), 1e-12)
    keep = d > low
    return i[keep], (spins[i] * spins[j]).sum(1)[keep]


class TestSetSpins:
    def test_replaces_the_scalar_moments_of_bulk_iron(self):
        iron = bulk("Fe", cubic=True)
        assert iron.arrays["initial_magmoms"].shape == (2,)
        set_spins(iron, [[1.0, 0.0, 2.0], [0.0, -1.0, 0.0]])
        np.testing.assert_array_equal(get_spins(iron), [[1, 0, 2], [0, -1, 0]])

    def test_scalars_point_along_z(self):
        iron = bulk("Fe", cubic=True)
        set_spins(iron, [2.0, -2.0])
        np.testing.assert_array_equal(get_spins(iron), [[0, 0, 2], [0, 0, -2]])

    def test_elements_without_entry_carry_zero(self):
        nio = rock_salt()
        set_spins(nio, {"Ni": 1.9})
        spins = get_spins(nio)
        assert (spins[nio.symbols == "Ni"] == [0, 0, 1.9]).all()
        assert (spins[nio.symbols == "O"] == 0).all()

    def test_patterns_of_signs_and_directions(self):
        nio = bulk("NiO", "rocksalt", a=A_NIO) * (2, 1, 1)
        set_spins(nio, {"Ni": 2.0}, pattern=[1, 0, -1, 0])
        np.testing.assert_array_equal(get_spins(nio)[:, 2], [2, 0, -2, 0])
        directions = [(3, 0, 4), (0, 0, 0), (0, -2, 0), (0, 0, 0)]
        set_spins(nio, [2.0, 0.0, 1.0, 0.0], pattern=directions)
        np.testing.assert_allclose(
            get_spins(nio), [[1.2, 0, 1.6], [0, 0, 0], [0, -1, 0], [0, 0, 0]]
        )

    def test_magnitudes_of_either_sign_make_a_ferrimagnet(self):
        atoms = Atoms("FeGd", [(0, 0, 0), (0, 0, 3)])
        set_spins(atoms, {"Fe": 2.0, "Gd": -7.0}, pattern=collinear("x"))
        np.testing.assert_array_equal(get_spins(atoms), [[2, 0, 0], [-7, 0, 0]])

    def test_no_magnetic_atom_is_fine(self):
        nio = rock_salt()
        set_spins(nio, {"Ni": 0.0}, pattern=antiferromagnetic((0, 0, 1)))
        assert not get_spins(nio).any()

    @pytest.mark.parametrize(
        ("moments", "pattern", "message"),
        [
            ({"Fe": 2.0}, None, "no 'Fe' in these Atoms; the elements are Ni, O"),
            ({"Ni": [0, 0, 1]}, None, "must be one magnitude"),
            ({"Ni": np.nan}, None, "moment of atom 0 is not finite"),
            ([1.0, 2.0, 3.0], None, r"shape \(3,\); expected \(4,\)"),
            (np.zeros((4, 6)), None, r"shape \(4, 6\)"),
            (np.full((4, 3), np.inf), None, "moment of atom 0 is not finite"),
            (np.ones((4, 3)), [1, 1, 1, 1], "a pattern needs magnitudes"),
            ({"Ni": 1.0}, [1, 0, 0.5, 0], r"\+1 or -1"),
            ({"Ni": 1.0}, [1, -1], r"pattern has shape \(2,\)"),
            ({"Ni": 1.0}, np.zeros((4, 3)), "gives atom 0.*no direction"),
            ({"Ni": 1.0}, collinear(signs=[1, -1, 1]), "2 atoms carry a moment"),
        ],
    )
    def test_bad_input_leaves_the_atoms_alone(self, moments, pattern, message):
        nio = bulk("NiO", "rocksalt", a=A_NIO) * (2, 1, 1)
        set_spins(nio, np.arange(12.0).reshape(4, 3))
        with pytest.raises(ValueError, match=message):
            set_spins(nio, moments, pattern=pattern)
        np.testing.assert_array_equal(get_spins(nio).ravel(), np.arange(12.0))

    @pytest.mark.parametrize(
        "moments",
        [
            "up",
            ["up", "down"],
            [True, False],
            [1 + 1j, 2.0],
            None,
            [[1.0, 2.0], 3.0],
            {"Fe": True},
            {"Fe": "2.2"},
        ],
    )
    def test_what_is_no_number(self, moments):
        iron = bulk("Fe", cubic=True)
        with pytest.raises(
            TypeError, match=r"must be (a number|numbers), in mu_B, got"
        ):
            set_spins(iron, moments)
        np.testing.assert_array_equal(get_spins(iron)[:, 2], [2.3, 2.3])

    def test_missing_moments_raise(self):
        with pytest.raises(ValueError, match=r"set_spins\(atoms, moments\)"):
            get_spins(Atoms("Ni"))


class TestAntiferromagnetic:
    @pytest.mark.parametrize("shape", ["cubic", "primitive", "skewed"])
    def test_type_ii_of_nickel_oxide(self, shape):
        if shape == "cubic":
            nio = rock_salt()
        else:
            skew = {
                "primitive": 2 * np.eye(3),
                "skewed": [[1, 1, 0], [0, 2, 0], [2, 0, 2]],
            }
            nio = make_supercell(bulk("NiO", "rocksalt", a=A_NIO), skew[shape])
        nio.rattle(0.05, seed=0)
        set_spins(nio, {"Ni": 1.9}, pattern=antiferromagnetic((0.5,) * 3, cell=A_NIO))
        i, nearest = neighbour_signs(nio, "Ni", 2.0, 3.5)
        for atom in np.flatnonzero(nio.symbols == "Ni"):
            assert sorted(nearest[i == atom]) == pytest.approx([-1] * 6 + [1] * 6)
        _, second = neighbour_signs(nio, "Ni", 3.6, 4.7)
        assert len(second) == 6 * sum(nio.symbols == "Ni")
        np.testing.assert_allclose(second, -1)

    def test_q_refers_to_the_cell_of_the_atoms_by_default(self):
        cubic, own = rock_salt(), rock_salt()
        set_spins(cubic, {"Ni": 1.9}, pattern=antiferromagnetic((0.5,) * 3, cell=A_NIO))
        set_spins(own, {"Ni": 1.9}, pattern=antiferromagnetic((1, 1, 1)))
        np.testing.assert_array_equal(get_spins(cubic), get_spins(own))
        unit = bulk("NiO", "rocksalt", a=A_NIO).cell
        set_spins(own, {"Ni": 1.9}, pattern=antiferromagnetic((0.5,) * 3, cell=unit))
        np.testing.assert_array_equal(get_spins(cubic), get_spins(own))

    def test_g_type_of_polar_bismuth_ferrite(self):
        bfo = bismuth_ferrite()
        set_spins(bfo, {"Fe": 4.1}, pattern=antiferromagnetic((0, 0, 3)))
        i, signs = neighbour_signs(bfo, "Fe", 3.0, 4.5)
        assert len(i) == 6 * 6
        np.testing.assert_allclose(signs, -1)

    def test_g_type_of_the_ten_atom_cell(self):
        cell = A_BFO * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
        shift = 0.00573 * cell.sum(0)  # Fe moves against the oxygen as one
        iron = Atoms(
            "Fe2", [shift, shift + np.array([A_BFO, 0, 0])], cell=cell, pbc=True
        )
        iron *= (2, 2, 2)
        set_spins(iron, {"Fe": 4.1}, pattern=antiferromagnetic((0.5,) * 3, cell=A_BFO))
        np.testing.assert_allclose(neighbour_signs(iron, "Fe", 3.0, 4.5)[1], -1)

    def test_two_sublattices_of_bcc(self):
        iron = bulk("Fe", cubic=True)
        order = antiferromagnetic((0, 0, 1), direction=(1, 1, 0))
        set_spins(iron, {"Fe": 2.0}, pattern=order)
        np.testing.assert_allclose(
            get_spins(iron), np.sqrt(2) * np.array([[1, 1, 0], [-1, -1, 0]])
        )

    def test_up_up_down_down_needs_a_phase(self):
        chain = Atoms("Fe4", [(2.0 * k, 0, 0) for k in range(4)], cell=(8, 9, 9))
        chain.pbc = True
        with pytest.raises(ValueError, match=r"2 of 4 magnetic sites.*nodes"):
            set_spins(chain, {"Fe": 1.0}, pattern=antiferromagnetic((1, 0, 0)))
        order = antiferromagnetic((1, 0, 0), phase=-0.125)
        set_spins(chain, {"Fe": 1.0}, pattern=order)
        np.testing.assert_array_equal(get_spins(chain)[:, 2], [1, 1, -1, -1])

    def test_orders_that_do_not_repeat_are_refused(self):
        with pytest.raises(ValueError, match=r"does not repeat.*0\.5 0\.5 0\.5"):
            set_spins(rock_salt(), {"Ni": 1}, pattern=antiferromagnetic((0.5,) * 3))
        odd = bulk("NiO", "rocksalt", a=A_NIO, cubic=True) * (3, 2, 2)
        order = antiferromagnetic((0.5,) * 3, cell=A_NIO)
        with pytest.raises(ValueError, match="repeat the cell"):
            set_spins(odd, {"Ni": 1}, pattern=order)
        odd.pbc = (False, True, True)  # an open direction need not repeat
        set_spins(odd, {"Ni": 1}, pattern=order)

    def test_a_slightly_different_cell_is_still_meant(self):
        strained = bulk("NiO", "rocksalt", a=1.002 * A_NIO, cubic=True) * (6, 6, 6)
        set_spins(
            strained, {"Ni": 1}, pattern=antiferromagnetic((0.5,) * 3, cell=A_NIO)
        )
        np.testing.assert_allclose(neighbour_signs(strained, "Ni", 3.6, 4.7)[1], -1)

    def test_the_origin_does_not_matter(self):
        nio, shifted = rock_salt(), rock_salt()
        shifted.translate((A_NIO / 2, 0, 0))  # Ni to where the nodes would be
        for atoms in (nio, shifted):
            order = antiferromagnetic((0.5,) * 3, cell=A_NIO)
            set_spins(atoms, {"Ni": 1}, pattern=order)
        np.testing.assert_array_equal(get_spins(nio), get_spins(shifted))

    @pytest.mark.parametrize("q", [(0, 1), (0, 0, np.nan), 1.0])
    def test_malformed_q(self, q):
        with pytest.raises(ValueError, match="three finite numbers"):
            set_spins(rock_salt(), {"Ni": 1}, pattern=antiferromagnetic(q))

    def test_no_cell_to_refer_to(self):
        dimer = Atoms("Fe2", [(0, 0, 0), (0, 0, 2)])
        with pytest.raises(ValueError, match="say which cell"):
            set_spins(dimer, {"Fe": 1}, pattern=antiferromagnetic((0, 0, 0.5)))
        set_spins(dimer, {"Fe": 1}, pattern=antiferromagnetic((0, 0, 0.5), cell=2.0))
        np.testing.assert_array_equal(get_spins(dimer)[:, 2], [1, -1])


class TestOtherOrders:
    def test_a_spiral_turns_by_q_r(self):
        chain = bulk("Fe", "sc", a=2.5) * (8, 1, 1)
        set_spins(chain, {"Fe": 2.0}, pattern=spiral((1 / 8, 0, 0), cell=2.5))
        spins = get_spins(chain)
        np.testing.assert_allclose(np.linalg.norm(spins, axis=1), 2.0)
        np.testing.assert_allclose(spins[:, 2], 0, atol=1e-15)
        angle = np.unwrap(np.arctan2(spins[:, 1], spins[:, 0]))
        np.testing.assert_allclose(np.diff(angle), 2 * np.pi / 8)

    def test_a_spiral_closes_exactly_in_a_strained_cell(self):
        chain = bulk("Fe", "sc", a=2.505) * (8, 1, 1)
        set_spins(chain, {"Fe": 2.0}, pattern=spiral((1 / 8, 0, 0), cell=2.5))
        np.testing.assert_allclose(get_spins(chain).sum(0), 0, atol=1e-14)

    def test_a_conical_spiral_keeps_its_cone(self):
        chain = bulk("Fe", "sc", a=2.5) * (6, 1, 1)
        order = spiral((1, 0, 0), normal=(1, 1, 0), cone_angle_deg=30)
        set_spins(chain, {"Fe": 1.0}, pattern=order)
        along = get_spins(chain) @ np.array([1, 1, 0]) / np.sqrt(2)
        np.testing.assert_allclose(along, np.cos(np.radians(30)))
        across = get_spins(chain).sum(0) - along.sum() * np.array([1, 1, 0]) / np.sqrt(
            2
        )
        np.testing.assert_allclose(across, 0, atol=1e-14)

    def test_a_spiral_that_does_not_close_is_refused(self):
        with pytest.raises(ValueError, match="does not repeat"):
            set_spins(
                bulk("Fe", "sc", a=2.5) * (8, 1, 1),
                {"Fe": 2.0},
                pattern=spiral((1 / 6, 0, 0), cell=2.5),
            )

    def test_random_directions_are_isotropic_and_seeded(self):
        atoms = Atoms("Fe4000", np.zeros((4000, 3)))
        set_spins(atoms, {"Fe": 1.0}, pattern=random_directions(7))
        spins = get_spins(atoms)
        np.testing.assert_allclose(np.linalg.norm(spins, axis=1), 1)
        np.testing.assert_allclose(spins.T @ spins / 4000, np.eye(3) / 3, atol=0.02)
        np.testing.assert_allclose(spins.mean(0), 0, atol=0.03)
        again = atoms.copy()
        set_spins(again, {"Fe": 1.0}, pattern=random_directions(7))
        np.testing.assert_array_equal(get_spins(again), spins)

    @pytest.mark.parametrize("axis", ["w", (0, 0, 0), (1, 2), (np.nan, 0, 1)])
    def test_malformed_directions(self, axis):
        with pytest.raises(ValueError, match=r"axis|vector"):
            collinear(axis)


class TestCanting:
    @pytest.mark.parametrize("t", [1e-3, 0.05, 0.5, 5.0, 1e6])
    def test_follows_langevin_about_the_old_directions(self, t):
        rng = np.random.default_rng(1)
        atoms = Atoms("Fe40000", np.zeros((40000, 3)))
        before = rng.normal(size=(40000, 3))
        set_spins(atoms, before)
        cant_spins(atoms, t, seed=rng)
        after = get_spins(atoms)
        length = np.linalg.norm(before, axis=1)
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), length, rtol=1e-12)
        cosine = (before * after).sum(1) / length**2
        assert cosine.mean() == pytest.approx(
            1 / np.tanh(1 / t) - t, abs=0.01 * min(t, 1)
        )
        # The tilt has no preferred side.
        side = after - cosine[:, None] * before
        np.testing.assert_allclose(side.mean(0), 0, atol=0.02)

    def test_zero_temperature_and_zero_moments_stay(self):
        nio = rock_salt()
        set_spins(nio, {"Ni": 1.9})
        cant_spins(nio, 0.0)
        assert (get_spins(nio)[nio.symbols == "Ni"] == [0, 0, 1.9]).all()
        cant_spins(nio, 0.1, seed=0)
        assert (get_spins(nio)[nio.symbols == "O"] == 0).all()
        with pytest.raises(ValueError, match="reduced_temperature"):
            cant_spins(nio, -1.0)


class TestRotation:
    def test_spins_turn_alone(self):
        iron = bulk("Fe", cubic=True)
        set_spins(iron, [[1.0, 0, 0], [0, 0, 2.0]])
        positions = iron.positions.copy()
        rotate_spins(iron, 90, axis="z")
        np.testing.assert_allclose(get_spins(iron), [[0, 1, 0], [0, 0, 2]], atol=1e-15)
        np.testing.assert_array_equal(iron.positions, positions)

    def test_chosen_spins_turn(self):
        iron = bulk("Fe", cubic=True)
        set_spins(iron, [[1.0, 0, 0], [1.0, 0, 0]])
        rotate_spins(iron, 180, axis=(0, 1, 0), indices=[False, True])
        np.testing.assert_allclose(get_spins(iron), [[1, 0, 0], [-1, 0, 0]], atol=1e-15)
        rotate_spins(iron, 180, axis="-y", indices=[1])
        np.testing.assert_allclose(get_spins(iron), [[1, 0, 0], [1, 0, 0]], atol=1e-15)

    def test_the_crystal_turns_as_a_whole(self):
        rng = np.random.default_rng(3)
        atoms = rock_salt()
        atoms.rattle(0.1, seed=2)
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)))
        set_spins(atoms, rng.normal(size=(len(atoms), 3)))
        turned = atoms.copy()
        rotate_spins(turned, 37.0, axis=(1, -2, 0.5), lattice=True)
        expected = atoms.copy()
        expected.rotate(37.0, (1, -2, 0.5), rotate_cell=True)
        np.testing.assert_allclose(turned.positions, expected.positions, atol=1e-12)
        np.testing.assert_allclose(turned.cell.array, expected.cell.array, atol=1e-12)

        def relative(x: Atoms) -> np.ndarray:
            return np.einsum("nk,nk->n", get_spins(x), x.positions)

        np.testing.assert_allclose(relative(turned), relative(atoms), atol=1e-12)
        np.testing.assert_allclose(
            np.einsum("nk,nk->n", turned.get_momenta(), turned.positions),
            np.einsum("nk,nk->n", atoms.get_momenta(), atoms.positions),
            atol=1e-12,
        )
        rotate_spins(turned, -37.0, axis=(1, -2, 0.5), lattice=True)
        np.testing.assert_allclose(get_spins(turned), get_spins(atoms), atol=1e-12)

    def test_lattice_and_indices_exclude_each_other(self):
        with pytest.raises(ValueError, match="rotates as a whole"):
            rotate_spins(bulk("Fe"), 10, axis="x", lattice=True, indices=[0])
