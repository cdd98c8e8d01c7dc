"""Structures with moments from files of other programs."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

from deepspin_ase import (
    DeepSpinCalculator,
    cant_spins,
    get_spins,
    read_extxyz,
    set_spins,
    write_extxyz,
)
from deepspin_ase.analysis import frames_of
from deepspin_ase.cli import main
from deepspin_ase.io import read_structure, write_lammps_data, write_vasp
from deepspin_ase.potentials import Heisenberg, save_potential
from deepspin_ase.potentials.radial import CubicCut
from deepspin_ase.symmetry import magnetic_space_group


def iron() -> Atoms:
    atoms = bulk("Fe", cubic=True).repeat((1, 1, 2))
    rng = np.random.default_rng(2)
    atoms.positions += rng.normal(0.0, 0.03, (4, 3))
    set_spins(atoms, rng.normal(0.0, 1.5, (4, 3)))
    return atoms


# Magnetic CIF

MNF2 = """\
data_MnF2
_cell_length_a 4.8734(1)
_cell_length_b 4.8734
_cell_length_c 3.3099
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,-y,z,+1
3 -y+1/2,x+1/2,z+1/2,-1
4 y+1/2,-x+1/2,z+1/2,-1
5 -x,-y,-z,+1
6 x,y,-z,+1
7 y+1/2,-x+1/2,-z+1/2,-1
8 -y+1/2,x+1/2,-z+1/2,-1
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Mn1 Mn2+ 0 0 0 1
F1 F1- 0.305 0.305 0 1
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Mn1 0 0 4.6(1)
"""

#: Three spins at 120 degrees about the axis of a hexagonal cell, doubled along c.
TRIANGLES = """\
data_triangles
_cell_length_a 5.9
_cell_length_b 5.9
_cell_length_c 14.4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
loop_
_space_group_symop.magn_id
_space_group_symop.magn_operation_xyz
1 x,y,z,+1
2 -y,x-y,z,+1
3 -x+y,-x,z,+1
loop_
_space_group_symop.magn_centering_id
_space_group_symop.magn_centering_xyz
1 x,y,z,+1
2 x,y,z+1/2,-1
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mn1 0.5 0 0
O1 0 0 0.1
loop_
_atom_site_moment_label
_atom_site_moment_crystalaxis_x
_atom_site_moment_crystalaxis_y
_atom_site_moment_crystalaxis_z
Mn1 2.0 0 1.0
"""


#: What files of MAGNDATA have before.
HEADER = """\
#\\#CIF_2.0
data_5yOhtAoR
_audit_creation_method          "Bilbao Crystallographic Server"
_citation_title
;Neutron study of
MnF2
;
loop_
_citation_author_name
'Yamani, Z.'
"Tun, Z."
loop_
_parent_propagation_vector.id
_parent_propagation_vector.kxkykz
k1 [0 0 0]
_parent_space_group.child_transform_Pp_abc  'a,b,c;0,0,0'
_space_group_magn.number_BNS  136.499
_active_magnetic_irreps_details
 ?
"""


@pytest.mark.parametrize("name", ["a.mcif", "a.cif"])
def test_magnetic_cif_is_read_whole(name, tmp_path):
    """MnF2: two Mn against each other, with the group that the file was made of."""
    path = tmp_path / name
    path.write_text(HEADER + MNF2.removeprefix("data_MnF2"))
    atoms = read_structure(path)
    assert atoms.get_chemical_formula() == "F4Mn2"
    moments = get_spins(atoms)[atoms.symbols == "Mn"]
    assert moments == pytest.approx(np.array([[0, 0, 4.6], [0, 0, -4.6]]))
    places = atoms.get_scaled_positions()[atoms.symbols == "Mn"]
    assert places[1] == pytest.approx(0.5)
    # With the operations that the list above leaves out, since they are of its cell.
    group = magnetic_space_group(atoms)
    assert group.bns_number == "136.499"


def test_moments_along_oblique_axes(tmp_path):
    (tmp_path / "a.mcif").write_text(TRIANGLES)
    atoms = read_structure(tmp_path / "a.mcif")
    assert atoms.get_chemical_formula() == "Mn6O2"
    manganese = atoms[atoms.symbols == "Mn"]
    moments = get_spins(manganese)
    assert np.linalg.norm(moments, axis=1) == pytest.approx(5**0.5)
    low = manganese.get_scaled_positions()[:, 2] < 0.25
    # Three at 120 degrees with a common part along c, reversed by the centering.
    expected = [(2, 0, 1), (-1, 3**0.5, 1), (-1, -(3**0.5), 1)]
    assert moments[low] == pytest.approx(np.array(expected))
    assert moments[~low] == pytest.approx(-np.array(expected))


MONOCLINIC = """\
data_monoclinic
_cell_length_a 5.1
_cell_length_b 8.3
_cell_length_c 6.7
_cell_angle_alpha 90
_cell_angle_beta 107.3
_cell_angle_gamma 90
loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,y+1/2,-z+1/2,-1
3 -x,-y,-z,+1
4 x,-y+1/2,z+1/2,-1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y,z,-1
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Co1 Co 0.13 0.21 0.34
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Co1 1.1 -2.3 0.7
"""


def test_moments_in_a_monoclinic_cell(tmp_path):
    """Places and moments are those of pymatgen 2026.10.24."""
    (tmp_path / "a.mcif").write_text(MONOCLINIC)
    atoms = read_structure(tmp_path / "a.mcif")
    found = {
        tuple(place.round(3).tolist()): moment
        for place, moment in zip(
            atoms.get_scaled_positions(), get_spins(atoms), strict=True
        )
    }
    assert len(found) == 8
    for place, moment in (
        ((0.13, 0.21, 0.34), (0.8918, -2.3, 0.6683)),
        ((0.63, 0.21, 0.34), (-0.8918, 2.3, -0.6683)),
        ((0.87, 0.71, 0.16), (0.8918, 2.3, 0.6683)),
        ((0.37, 0.79, 0.66), (-0.8918, 2.3, -0.6683)),
        ((0.13, 0.29, 0.84), (0.8918, 2.3, 0.6683)),
    ):
        assert found[place] == pytest.approx(moment, abs=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Mn1 Mn2+ 0 0 0 1", "Mn1 Mn2+ 0 0 0 0.8", "site Mn1 is occupied by 0.8"),
        ("-x,-y,-z,+1", "-x,-y,-z,-1", "operations give Mn .* two moments"),
        ("_magn_operation.xyz", "_other.xyz", "without magnetic symmetry operations"),
        ("data_MnF2", "data_MnF2\n_cell_modulation_dimension 1", "modulated structure"),
        ("Mn1 0 0 4.6(1)", "Mn7 0 0 4.6", "Mn7, which is no site"),
        ("3 -y+1/2,x+1/2", "3 -y+1/2,w+1/2", "no magnetic operation"),
        ("crystalaxis", "Cartn", "not given along the crystal axes"),
        ("F1 F1- 0.305 0.305 0 1", "F1 F1- 0.305 0.305", "incomplete row"),
    ],
)
def test_cif_files_that_cannot_be_read_whole(old, new, message, tmp_path):
    path = tmp_path / "a.cif"
    path.write_text(MNF2.replace(old, new))
    with pytest.raises(ValueError, match=rf"a\.cif.*{message}"):
        read_structure(path)


def test_plain_cif_files(tmp_path):
    bulk("NiO", "rocksalt", a=4.17).write(tmp_path / "a.cif")
    assert not read_structure(tmp_path / "a.cif").has("initial_magmoms")
    text = (tmp_path / "a.cif").read_text()
    half = text.replace("1.0000\n", "0.5000\n")
    assert half != text
    (tmp_path / "a.cif").write_text(half)
    with pytest.raises(ValueError, match="partly occupied"):
        read_structure(tmp_path / "a.cif")


# VASP


@pytest.mark.parametrize("saxis", [(0, 0, 1), (1, 1, 0), (-0.3, 2.0, -0.7)])
def test_poscar_and_incar(saxis, tmp_path):
    atoms = iron()
    atoms.symbols[1] = "O"
    (tmp_path / "INCAR").write_text(
        "ENCUT = 500 # eV\nMAGMOM = 4*0 \\\n 8*0\nSIGMA = 1"
    )
    write_vasp(tmp_path, atoms, saxis=saxis)
    incar = (tmp_path / "INCAR").read_text()
    assert incar.startswith("ENCUT = 500 # eV\nSIGMA = 1\nLNONCOLLINEAR = .TRUE.\n")
    found = read_structure(tmp_path / "POSCAR")
    order = [0, 2, 3, 1]
    assert found.get_chemical_symbols() == ["Fe", "Fe", "Fe", "O"]
    assert found.positions == pytest.approx(atoms.positions[order], abs=1e-9)
    assert get_spins(found) == pytest.approx(get_spins(atoms)[order], abs=1e-5)


def test_axes_of_magmom(tmp_path):
    """Along SAXIS is the third number; the rotation is that of VASP's manual."""
    bulk("Fe").write(tmp_path / "POSCAR", format="vasp")
    axis = np.array([1.0, 2.0, -0.5])

    def moment(text: str) -> np.ndarray:
        (tmp_path / "INCAR").write_text(text + "; SAXIS = 1.0 2.0 -0.5 ! axis\n")
        return get_spins(read_structure(tmp_path / "POSCAR"))[0]

    along = 2.2 * axis / np.linalg.norm(axis)
    flag = "LNONCOLLINEAR = .TRUE.\n"
    assert moment(flag + "MAGMOM = 0 0 2.2") == pytest.approx(along)
    assert moment("magmom = 2.2") == pytest.approx(along)
    a, b = np.arctan2(2.0, 1.0), np.arctan2(5**0.5, -0.5)
    first = [np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), -np.sin(b)]
    assert moment(flag + "MAGMOM = 1 0 0") == pytest.approx(first)
    second = [-np.sin(a), np.cos(a), 0.0]
    assert moment("LSORBIT=T;MAGMOM = 0 1 0") == pytest.approx(second)
    with pytest.raises(ValueError, match="MAGMOM has 2 entries; 1 atoms take 1, or 3"):
        moment("MAGMOM = 2*2.2")
    with pytest.raises(ValueError, match=r"MAGMOM has 3 entries.* it is not here"):
        moment("MAGMOM = 0 0 2.2; LNONCOLLINEAR = .FALSE.")
    with pytest.raises(ValueError, match=r"MAGMOM has 1 entries.* it is true here"):
        moment(flag + "MAGMOM = 2.2")


def test_magmom_without_spin_polarization(tmp_path, caplog):
    bulk("Fe").write(tmp_path / "POSCAR", format="vasp")
    for tags, moment in (("", None), ("LSORBIT = T\n", [0, 0, 2])):
        values = "2" if moment is None else "0 0 2"
        (tmp_path / "INCAR").write_text(f"ISPIN = 1\n{tags}MAGMOM = {values}\n")
        found = read_structure(tmp_path / "POSCAR")
        assert found.has("initial_magmoms") == (moment is not None)
        assert moment is None or get_spins(found)[0] == pytest.approx(moment)
    assert caplog.text.count("MAGMOM is not read") == 1


# LAMMPS


def dump(path: Path, atoms: Atoms, columns: str, values: np.ndarray) -> None:
    """Write a dump of one frame in a tilted box, atoms in another order."""
    cell = atoms.cell.array
    xy, xz, yz = cell[1, 0], cell[2, 0], cell[2, 1]
    rows = [
        f"{min(0.0, xy, xz, xy + xz)} {cell[0, 0] + max(0.0, xy, xz, xy + xz)} {xy}",
        f"{min(0.0, yz)} {cell[1, 1] + max(0.0, yz)} {xz}",
        f"0.0 {cell[2, 2]} {yz}",
    ]
    lines = ["ITEM: TIMESTEP", "0", "ITEM: NUMBER OF ATOMS", str(len(atoms))]
    lines += ["ITEM: BOX BOUNDS xy xz yz pp pp ff", *rows]
    lines.append(f"ITEM: ATOMS id type element x y z {columns}")
    for k in reversed(range(len(atoms))):
        numbers = " ".join(f"{x:.9f}" for x in (*atoms.positions[k], *values[k]))
        lines.append(f"{k + 1} 1 {atoms.symbols[k]} {numbers}")
    text = "\n".join(lines) + "\n"
    # An earlier frame, which is not the one to read.
    path.write_text(text.replace(" 1 Fe ", " 1 Co ") + text)


@pytest.mark.parametrize("columns", ["spx spy spz sp", "c_s[1] c_s[2] c_s[3] c_s[4]"])
def test_lammps_dumps(columns, tmp_path):
    atoms = iron()
    atoms.set_cell([[4, 0, 0], [-1.2, 4, 0], [0.7, 0.9, 6]], scale_atoms=True)
    moments = get_spins(atoms)
    lengths = np.linalg.norm(moments, axis=1, keepdims=True)
    polar = np.hstack([moments / lengths, lengths])
    dump(tmp_path / "dump.spins", atoms, columns, polar)
    found = read_structure(tmp_path / "dump.spins")
    assert found.get_chemical_symbols() == ["Fe"] * 4
    assert found.pbc.tolist() == [True, True, False]
    assert found.cell.array == pytest.approx(atoms.cell.array)
    assert found.positions == pytest.approx(atoms.positions, abs=1e-8)
    assert get_spins(found) == pytest.approx(moments, abs=1e-8)


def test_columns_of_dumps_that_may_be_moments(tmp_path):
    atoms = iron()
    dump(tmp_path / "a", atoms, "c_s[1] c_s[2] c_s[3] c_s[4]", np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"c_s\[1\].* may be moments: name them"):
        read_structure(tmp_path / "a")
    dump(tmp_path / "b", atoms, "vx vy vz", np.ones((4, 3)))
    assert not read_structure(tmp_path / "b").has("initial_magmoms")


def test_lammps_data_files_are_structures(tmp_path):
    atoms = iron()
    write_lammps_data(tmp_path / "data.iron", atoms)
    found = read_structure(tmp_path / "data.iron")
    assert get_spins(found) == pytest.approx(get_spins(atoms))


@pytest.mark.parametrize(
    ("name", "format", "options"),
    [
        ("a.pwi", "espresso-in", {"pseudopotentials": {"Fe": "Fe.upf"}}),
        ("a.in", "abinit-in", {"pseudos": ["Fe.psp8"]}),
        ("GEOMETRY.OUT", "elk-in", {"parameters": {"spinpol": True}}),
    ],
)
def test_what_are_no_moments(name, format, options, tmp_path):
    """Fractions of valence electrons, and z components of vectors."""
    atoms = bulk("Fe", cubic=True)
    atoms.set_initial_magnetic_moments([2.0, -2.0])
    ase.io.write(tmp_path / name, atoms, format=format, **options)
    with pytest.raises(ValueError, match="have for moments are"):
        read_structure(tmp_path / name)
    atoms.set_initial_magnetic_moments(None)
    ase.io.write(tmp_path / name, atoms, format=format, **options)
    assert len(read_structure(tmp_path / name)) == 2


# Computed moments, and those that a calculation started from


def with_results(moments: np.ndarray | None, computed: np.ndarray) -> Atoms:
    atoms = iron()
    set_spins(atoms, np.zeros(4) if moments is None else moments)
    if moments is None:
        del atoms.arrays["initial_magmoms"]
    results = {"energy": -1.0, "forces": np.ones((4, 3)), "magmoms": computed}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj"])
@pytest.mark.parametrize("kind", ["vectors", "numbers", "only computed"])
def test_computed_moments_are_those_of_a_structure(name, kind, tmp_path):
    vectors = np.random.default_rng(1).normal(size=(4, 3))
    computed = vectors if kind == "vectors" else np.array([2.1, -2.2, 2.1, -2.0])
    start = None if kind == "only computed" else np.full(4, 3.0)
    ase.io.write(tmp_path / name, with_results(start, computed))
    found = get_spins(read_structure(tmp_path / name))
    along_z = np.outer(np.ravel(computed)[:4], (0, 0, 1))
    expected = vectors if kind == "vectors" else along_z
    assert found == pytest.approx(expected, abs=1e-7)


def test_numbers_do_not_replace_vectors(tmp_path):
    atoms = with_results(np.ones((4, 3)), np.full(4, 2.0))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    with pytest.raises(ValueError, match="nothing says which are the moments"):
        read_structure(tmp_path / "a.extxyz")
    columns = {"moments": "initial_magmoms"}
    found = read_structure(tmp_path / "a.extxyz", columns=columns)
    assert get_spins(found).tolist() == np.ones((4, 3)).tolist()


# Columns of other programs


@pytest.mark.parametrize(
    ("moments", "magnetic", "forces", "energy"),
    [
        ("spin", "mforce", "force", "energy"),
        ("REF_magmom", "REF_magforces", "REF_forces", "REF_energy"),
        ("dft_magmom", "magnetic_forces", "forces", "energy"),
        ("initial_noncollinear_magmoms", "forces_mag", "forces", "energy"),
        ("magmoms", "mag_forces", "forces", "energy"),
    ],
)
def test_names_of_other_programs(moments, magnetic, forces, energy, tmp_path):
    atoms, rng = iron(), np.random.default_rng(0)
    values = {name: rng.normal(size=(4, 3)) for name in (moments, magnetic, forces)}
    del atoms.arrays["initial_magmoms"]
    atoms.arrays.update(values)
    atoms.info[energy] = -3.5
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (found,) = read_extxyz(tmp_path / "a.extxyz")
    assert get_spins(found) == pytest.approx(values[moments], abs=1e-7)
    results = found.calc.results
    assert results["magnetic_forces"] == pytest.approx(values[magnetic], abs=1e-7)
    assert found.get_forces() == pytest.approx(values[forces], abs=1e-7)
    assert found.get_potential_energy() == -3.5
    write_extxyz(tmp_path / "b.extxyz", found)
    (again,) = read_extxyz(tmp_path / "b.extxyz")
    assert get_spins(again) == pytest.approx(values[moments], abs=1e-7)


@pytest.mark.parametrize(
    "column", ["spin:R:4", "magmoms:R:2", "moments:R:9", "magmom:S:1"]
)
def test_columns_of_moments_in_another_form(column, tmp_path):
    """They were left out, and the atoms had no moments."""
    kind, count = column.split(":")[1:]
    values = " ".join(["up" if kind == "S" else "0.5"] * int(count))
    path = tmp_path / "a.extxyz"
    head = f'1\nProperties=species:S:1:pos:R:3:{column} pbc="F F F"\n'
    path.write_text(f"{head}Fe 0 0 0 {values}\n")
    with pytest.raises(ValueError, match=r"a\.extxyz.* (three numbers|'up')"):
        read_structure(path)


def test_names_that_are_given_and_names_that_disagree(tmp_path):
    atoms = iron()
    atoms.arrays["spin"] = 2.0 * get_spins(atoms)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    with pytest.raises(
        ValueError, match=r"a\.extxyz, frame 0: initial_magmoms and spin"
    ):
        read_extxyz(tmp_path / "a.extxyz")
    chosen = read_extxyz(tmp_path / "a.extxyz", 0, columns={"moments": "spin"})
    assert get_spins(chosen) == pytest.approx(2.0 * get_spins(atoms), abs=1e-7)
    with pytest.raises(ValueError, match="no 'spins' to take moments from; there are"):
        read_extxyz(tmp_path / "a.extxyz", 0, columns={"moments": "spins"})
    with pytest.raises(ValueError, match="columns name no momentum"):
        read_extxyz(tmp_path / "a.extxyz", 0, columns={"momentum": "spins"})


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_stress_and_virial_of_others(sign, tmp_path):
    """Nine numbers are taken, six only where their order does not matter."""
    atoms = iron()
    tensor = np.arange(9.0).reshape(3, 3)
    tensor = sign * (tensor + tensor.T)
    atoms.info["virials"] = tensor
    ase.io.write(tmp_path / "a.extxyz", atoms)
    found = read_extxyz(tmp_path / "a.extxyz", 0)
    assert found.calc.results["virial"] == pytest.approx(tensor)
    atoms.info["virials"] = np.arange(6.0)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    with pytest.raises(ValueError, match="six numbers, whose order programs differ"):
        read_extxyz(tmp_path / "a.extxyz", 0)


# What uses them


def test_moments_of_a_calculator_and_names_of_orders():
    atoms = iron()
    atoms.calc = DeepSpinCalculator(Heisenberg(CubicCut(0.1, 3.5)))
    atoms.get_potential_energy()
    assert atoms.get_magnetic_moments() == pytest.approx(get_spins(atoms))
    assert atoms.get_magnetic_moment() == pytest.approx(get_spins(atoms).sum(axis=0))
    assert "magmoms" not in atoms.calc.results
    cant_spins(atoms, 0.1, seed=1)
    assert atoms.get_magnetic_moments() == pytest.approx(get_spins(atoms))
    for name in ("afm", "ferromagnetic", "G"):
        with pytest.raises(TypeError, match=r"not '\w+': give an order such as antif"):
            set_spins(atoms, {"Fe": 2.2}, pattern=name)


@pytest.mark.filterwarnings("ignore:torque_max of")
def test_commands_read_structures_of_others(tmp_path, capsys):
    """Relaxation of moments starts from the structure, whatever its format is."""
    atoms = iron()
    write_vasp(tmp_path / "vasp", atoms)
    write_lammps_data(tmp_path / "data.spins", atoms)
    moments = get_spins(atoms)
    turn = Rotation.from_rotvec([0.1, 0.2, 0.3])
    ase.io.write(tmp_path / "a.traj", with_results(turn.apply(moments), moments))
    save_potential(tmp_path / "model.pt", Heisenberg(CubicCut(0.1, 3.5)))
    for k, name in enumerate(["vasp/POSCAR", "data.spins", "a.traj"]):
        output = tmp_path / f"{k}.extxyz"
        files = [str(tmp_path / name), "-m", str(tmp_path / "model.pt")]
        ends = ["-o", str(output), "--fix-positions", "--torque-max", "1e3"]
        code = main(["relax", *files, *ends])
        assert code == 0, capsys.readouterr().err
        found = read_extxyz(output, 0)
        assert get_spins(found) == pytest.approx(moments, abs=1e-5)


def test_trajectories_of_others(tmp_path):
    """What goes over frames reads moments of the same files."""
    atoms = iron()
    moments = get_spins(atoms)
    lengths = np.linalg.norm(moments, axis=1, keepdims=True)
    dump(
        tmp_path / "d", atoms, "spx spy spz sp", np.hstack([moments / lengths, lengths])
    )
    text = (tmp_path / "d").read_text().replace(" 1 Co ", " 1 Fe ")
    (tmp_path / "d").write_text(text)
    frames = list(frames_of(tmp_path / "d"))
    assert len(frames) == 2
    assert get_spins(frames[0]) == pytest.approx(moments, abs=1e-8)
    write_vasp(tmp_path / "vasp", atoms)
    write_lammps_data(tmp_path / "data", atoms)
    ase.io.write(tmp_path / "a.traj", [with_results(None, moments)] * 3)
    for name, count in (("vasp/POSCAR", 1), ("data", 1), ("a.traj", 3)):
        frames = list(frames_of(tmp_path / name))
        assert len(frames) == count
        assert get_spins(frames[-1]) == pytest.approx(moments, abs=1e-5)
    (tmp_path / "a.mcif").write_text(MNF2)
    assert main(["view", str(tmp_path / "a.mcif"), "-o", str(tmp_path / "a.html")]) == 0
