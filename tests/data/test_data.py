from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import dpdata
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation

from deepspin_ase import cli
from deepspin_ase.data import (
    Dataset,
    Frame,
    check_dataset,
    conjugacy,
    example_path,
    load_example,
    read_dataset,
    write_dataset,
)
from deepspin_ase.data._pairwork import Pairs, fully_labelled_groups
from deepspin_ase.quantities import label_table

NIO = Path(__file__).parents[3] / "shared" / "data" / "nio_dft"
needs_nio = pytest.mark.skipif(not NIO.is_dir(), reason="the NiO data are not here")

LABELS = tuple(label_table())
STRUCTURE = ("numbers", "positions", "cell", "pbc", "spins")


def make_frame(symbols="Ni2O2", seed=0, pbc=True, labels=LABELS):
    rng = np.random.default_rng(seed)
    numbers = Atoms(symbols).numbers
    n = len(numbers)
    values = {
        "energy": rng.normal(),
        "forces": rng.normal(size=(n, 3)),
        "magnetic_forces": rng.normal(size=(n, 3)),
        "virial": rng.normal(size=(3, 3)),
    }
    return Frame(
        numbers=numbers,
        positions=rng.uniform(size=(n, 3)) * 4.0,
        cell=np.diag([4.0, 5.0, 6.0]) + 0.1 * rng.normal(size=(3, 3)),
        pbc=np.full(3, pbc),
        spins=rng.normal(size=(n, 3)) * (numbers != 8)[:, None],
        **{label: values[label] for label in labels},
    )


def with_labels(frame, **labels):
    return frame.replace(**labels)


def assert_same(found, expected, *, atol=0.0):
    """Compare two sets of frames in any order."""
    assert len(found) == len(expected)
    rest = list(expected)
    for frame in found:
        match = next(
            other
            for other in rest
            if other.n_atoms == frame.n_atoms
            and np.allclose(other.positions, frame.positions, rtol=0, atol=1e-7)
        )
        rest.remove(match)
        for name in (*STRUCTURE, *LABELS):
            a, b = getattr(frame, name), getattr(match, name)
            assert (a is None) == (b is None), name
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)


MIXTURE = Dataset(
    [
        make_frame("Ni2O2", 0),
        make_frame("NiO3", 1),
        make_frame("Ni2O2", 2, labels=("energy", "forces")),
        make_frame("Ni2O2", 3, pbc=False),
        make_frame("Fe2", 4, labels=()),
        make_frame("Ni2O2", 5),
        make_frame("O2Ni2", 6),
    ],
    name="mixture",
)


# --- frames and datasets ---------------------------------------------------------


def test_frame_is_immutable_and_keeps_a_copy():
    spins = np.ones((1, 3))
    frame = Frame(
        numbers=[26],
        positions=np.zeros((1, 3)),
        cell=np.eye(3),
        pbc=[True] * 3,
        spins=spins,
    )
    spins[0] = 5.0
    assert frame.spins[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        frame.spins[0] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.energy = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spins": np.zeros((3, 3))}, r"spins have shape \(3, 3\)"),
        ({"forces": np.zeros(12)}, "forces have shape"),
        ({"positions": np.full((4, 3), np.nan)}, "positions are not finite"),
        ({"energy": np.inf}, "energy are not finite"),
        ({"numbers": [0, 1, 1, 1]}, "unknown atomic numbers"),
        ({"cell": np.zeros((3, 3))}, "zero lattice vector"),
        ({"magnetic_forces": [[np.inf, 0, 0]] * 4}, "magnetic_forces are not finite"),
        ({"weights": {"energies": 1.0}}, "weights of energies: there are no such"),
        ({"weights": {"energy": -1.0}}, "weight of energy is -1"),
        ({"cell": np.ones((3, 3))}, "no volume"),
        ({"virial": np.zeros(6)}, "virial have shape"),
    ],
)
def test_frame_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        make_frame().replace(**change)


def test_atoms_round_trip_with_antisymmetric_virial():
    frame = make_frame()
    atoms = frame.to_atoms()
    stress = atoms.get_stress(voigt=False)
    expected = -0.5 * (frame.virial + frame.virial.T) / atoms.get_volume()
    np.testing.assert_allclose(stress, expected, atol=1e-14)
    np.testing.assert_array_equal(
        atoms.arrays["magnetic_forces"], frame.magnetic_forces
    )
    assert_same([Frame.from_atoms(atoms)], [frame])


def test_virial_comes_from_stress_with_its_sign():
    atoms = bulk("Fe", cubic=True)
    stress = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    atoms.calc = SinglePointCalculator(atoms, stress=stress)
    virial = Frame.from_atoms(atoms).virial
    assert virial[0, 0] == pytest.approx(-atoms.get_volume())
    assert virial[1, 2] == pytest.approx(-4.0 * atoms.get_volume())
    atoms.info["virial"] = -virial
    with pytest.raises(ValueError, match="contradict"):
        Frame.from_atoms(atoms)


def test_from_atoms_wants_moments_and_current_results():
    with pytest.raises(ValueError, match="no magnetic moments"):
        Frame.from_atoms(Atoms("O", cell=[3, 3, 3], pbc=True))
    atoms = make_frame().to_atoms()
    atoms.set_initial_magnetic_moments(np.ones((4, 3)))
    with pytest.raises(ValueError, match="before initial_magmoms"):
        Frame.from_atoms(atoms)


def test_force_consistent_energy_is_taken():
    atoms = bulk("Fe")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.5)
    assert Frame.from_atoms(atoms).energy == -1.5


def test_dataset_indexing():
    assert isinstance(MIXTURE[1], Frame) and MIXTURE[-1] is MIXTURE[6]
    assert [f.n_atoms for f in MIXTURE[3:5]] == [4, 2]
    assert list(MIXTURE[[4, 0]]) == [MIXTURE[4], MIXTURE[0]]
    mask = np.array([f.n_atoms == 2 for f in MIXTURE])
    assert list(MIXTURE[mask]) == [MIXTURE[4]]
    both = MIXTURE[:2] + load_example("fe2_lda", split="valid")
    assert len(both) == 19 and both.elements == ("O", "Fe", "Ni")
    with pytest.raises(IndexError):
        MIXTURE[[99]]


def test_dataset_contents():
    assert MIXTURE.elements == ("O", "Fe", "Ni")
    assert MIXTURE.magnetic_elements == ("Fe", "Ni")
    assert MIXTURE.count("energy") == 6 and MIXTURE.count("virial") == 5
    assert not MIXTURE[4:5].has("energy")
    with pytest.raises(ValueError, match="unknown label"):
        MIXTURE.has("force")


# --- reading and writing ---------------------------------------------------------


@pytest.mark.parametrize("format", ["deepmd/npy", "deepmd/npy/mixed", "extxyz"])
def test_round_trip(tmp_path, format):
    path = tmp_path / ("a.xyz" if format == "extxyz" else "a")
    write_dataset(path, MIXTURE, format=format)
    found = read_dataset(path)
    assert_same(found, MIXTURE, atol=1e-8 if format == "extxyz" else 0.0)
    assert_same(read_dataset(path, format=format), found)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_single_system_has_no_subfolder_and_a_chosen_type_map(tmp_path):
    data = Dataset([make_frame("Ni2O2", k) for k in range(3)])
    write_dataset(tmp_path / "a", data, type_map=["Ni", "Fe", "O"])
    assert (tmp_path / "a" / "type_map.raw").read_text().split() == ["Ni", "Fe", "O"]
    assert (tmp_path / "a" / "type.raw").read_text().split() == ["0", "0", "2", "2"]
    assert_same(read_dataset(tmp_path / "a"), data)


def test_unlabelled_atoms_stay_unlabelled(tmp_path, caplog):
    labels = make_frame().magnetic_forces.copy()
    labels[1] = np.nan
    data = Dataset([with_labels(make_frame(), magnetic_forces=labels)])
    for name in ("a.xyz", "b"):
        write_dataset(tmp_path / name, data)
        found = read_dataset(tmp_path / name)[0].magnetic_forces
        np.testing.assert_array_equal(np.isnan(found[:, 0]), [0, 1, 0, 0])
    assert "cannot train on it" in caplog.text


def test_numbers_that_are_nan_are_no_labels(tmp_path):
    forces = make_frame().forces.copy()
    forces[2, 1] = np.nan
    frame = make_frame().replace(
        energy=np.nan, forces=forces, virial=np.full((3, 3), np.nan)
    )
    assert np.isnan(frame.forces).all(axis=1).tolist() == [False, False, True, False]
    data = Dataset([frame])
    assert [data.count(name) for name in LABELS] == [0, 1, 1, 0]
    for name in ("a.xyz", "b"):
        write_dataset(tmp_path / name, data)
        again = read_dataset(tmp_path / name)
        assert [again.count(label) for label in LABELS] == [0, 1, 1, 0]
        np.testing.assert_allclose(again[0].forces, forces * [[1], [1], [np.nan], [1]])
    assert check_dataset(data).labels["energy"] == 0


def test_torques_and_weights_in_files(tmp_path):
    """Torques alone are magnetic forces across the moments; MACE's keys are weights."""
    whole = make_frame()
    frame = whole.replace(longitudinal=False, weights={"energy": 0.5, "virial": 1.0})
    write_dataset(tmp_path / "a.xyz", Dataset([frame, whole]))
    found, other = read_dataset(tmp_path / "a.xyz")
    assert other.longitudinal and not found.longitudinal
    assert found.weights == {"energy": 0.5} and other.weights == {}
    torques = np.cross(whole.spins, whole.magnetic_forces)
    magnetic = whole.spins.any(axis=1)
    np.testing.assert_allclose(
        np.cross(found.spins, found.magnetic_forces)[magnetic],
        torques[magnetic],
        atol=1e-7,
    )
    along = np.sum(found.magnetic_forces * found.spins, axis=1)[magnetic]
    np.testing.assert_allclose(along, 0.0, atol=1e-7)
    atoms = whole.to_atoms()
    atoms.info |= {"config_weight": 2.0, "config_forces_weight": 0.5}
    expected = {name: 2.0 for name in LABELS if name != "forces"}
    assert Frame.from_atoms(atoms).weights == expected
    with pytest.raises(ValueError, match="no torques without magnetic forces"):
        write_dataset(tmp_path / "b", Dataset([frame]))


def test_several_paths_are_read_in_order(tmp_path):
    for k in range(2):
        write_dataset(tmp_path / f"{k}.xyz", MIXTURE[k : k + 1])
    found = read_dataset([tmp_path / "1.xyz", tmp_path / "0.xyz"])
    assert [f.n_atoms for f in found] == [4, 4]
    assert found[0].energy == MIXTURE[1].energy
    assert "1.xyz, " in found.name


def test_sets_with_different_labels_keep_them_apart(tmp_path):
    data = Dataset([make_frame("Ni2O2", k) for k in range(4)])
    write_dataset(tmp_path / "a", data[:2])
    write_dataset(tmp_path / "b", data[2:])
    (tmp_path / "a" / "set.000" / "force.npy").unlink()
    shutil.move(tmp_path / "b" / "set.000", tmp_path / "a" / "set.001")
    expected = [with_labels(f, forces=None) for f in data[:2]] + list(data[2:])
    assert_same(read_dataset(tmp_path / "a"), expected)


def test_padding_of_mixed_type_is_stripped(tmp_path):
    data = Dataset([make_frame("Ni2O2", 0), make_frame("Ni2O2", 1)])
    write_dataset(tmp_path / "a", data, format="deepmd/npy/mixed")
    for path in (tmp_path / "a" / "set.000").iterdir():
        array = np.load(path)
        if path.stem == "real_atom_types":
            array[:, 3] = -1
            np.save(path, array)
    found = read_dataset(tmp_path / "a")
    assert [f.symbols for f in found] == [["Ni", "Ni", "O"]] * 2
    np.testing.assert_array_equal(found[1].forces, data[1].forces[:3])


def test_dpdata_reads_what_is_written(tmp_path):
    data = Dataset([make_frame("Ni2O2", k) for k in range(3)])
    write_dataset(tmp_path / "a", data)
    found = dpdata.LabeledSystem(str(tmp_path / "a"), fmt="deepmd/npy").data
    keys = {
        "coords": "positions",
        "spins": "spins",
        "force_mags": "magnetic_forces",
        "virials": "virial",
        "energies": "energy",
    }
    for theirs, ours in keys.items():
        np.testing.assert_array_equal(found[theirs], [getattr(f, ours) for f in data])
    as_dpdata = read_dataset(tmp_path / "a", format="deepmd/comp")
    assert_same(as_dpdata, data)


def test_what_dpdata_writes_is_read(tmp_path):
    data = Dataset([make_frame(s, k) for k, s in enumerate(["Ni2O2", "NiO3"])])
    write_dataset(tmp_path / "a", data)
    systems = dpdata.MultiSystems()
    for folder in sorted((tmp_path / "a").iterdir()):
        systems.append(dpdata.LabeledSystem(str(folder), fmt="deepmd/npy"))
    systems.to("deepmd/npy/mixed", str(tmp_path / "b"))
    assert_same(read_dataset(tmp_path / "b"), data)


# --- bad input -------------------------------------------------------------------


@pytest.fixture
def system(tmp_path):
    """A written system of 3 frames; the folder of its set."""
    data = Dataset([make_frame("Ni2O2", k) for k in range(3)])
    write_dataset(tmp_path / "a", data)
    return tmp_path / "a" / "set.000"


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def change(path, function):
    np.save(path, function(np.load(path)))


DAMAGES = {
    r"force.npy cannot be read as an array": lambda s: cut(s / "force.npy"),
    r"energy.npy cannot be read": lambda s: (s / "energy.npy").write_text("-1.0"),
    r"spin.npy holds 2 frames but coord.npy .* 3": lambda s: change(
        s / "spin.npy", lambda x: x[:2]
    ),
    r"force_mag.npy has 9 numbers per frame; expected 12": lambda s: change(
        s / "force_mag.npy", lambda x: x[:, :9]
    ),
    r"set.000, frame 0: forces are not finite": lambda s: change(
        s / "force.npy", lambda x: x * np.inf
    ),
    r"coord.npy has 12 numbers per frame; expected 9.*type.raw": lambda s: (
        s.parent / "type.raw"
    ).write_text("0 0 1"),
    r"type.raw must hold one type index": lambda s: (s.parent / "type.raw").write_text(
        "Ni Ni O O"
    ),
    r"type.raw is empty": lambda s: (s.parent / "type.raw").write_text(""),
    r"type 7 is not among the 2": lambda s: (s.parent / "type.raw").write_text(
        "0 0 7 1"
    ),
    r"type_map.raw is missing: write the elements": lambda s: (
        s.parent / "type_map.raw"
    ).unlink(),
    r"type 0 names no element": lambda s: (s.parent / "type_map.raw").write_text("A B"),
    r"spin.npy is missing": lambda s: (s / "spin.npy").unlink(),
    r"coord.npy is missing": lambda s: (s / "coord.npy").unlink(),
    r"box.npy is missing.*nopbc": lambda s: (s / "box.npy").unlink(),
    r"zero lattice vector.*nopbc": lambda s: change(s / "box.npy", lambda x: 0 * x),
    r"no folder 'set.\*'": shutil.rmtree,
    r"must hold an array of numbers": lambda s: np.save(s / "energy.npy", ["a"] * 3),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_folder_is_rejected(system, message):
    DAMAGES[message](system)
    with pytest.raises(ValueError, match=message):
        read_dataset(system.parent)


def test_type_map_fills_in_and_must_not_contradict(system):
    expected = read_dataset(system.parent)
    with pytest.raises(ValueError, match=r"types are O, Ni, but type_map is Ni, O"):
        read_dataset(system.parent, type_map=["Ni", "O"])
    with pytest.raises(ValueError, match="names no elements: Xy"):
        read_dataset(system.parent, type_map=["O", "Xy"])
    with pytest.raises(ValueError, match="must be a list"):
        read_dataset(system.parent, type_map="Ni")
    (system.parent / "type_map.raw").unlink()
    assert_same(read_dataset(system.parent, type_map=["O", "Ni"]), expected)


def test_unknown_files_are_named(system, caplog):
    np.save(system / "dipole.npy", np.zeros((3, 3)))
    read_dataset(system.parent)
    assert "ignored dipole.npy" in caplog.text


def test_mixed_type_is_not_read_as_standard(tmp_path):
    write_dataset(tmp_path / "a", MIXTURE[:1], format="deepmd/npy/mixed")
    with pytest.raises(ValueError, match="is of format deepmd/npy/mixed"):
        read_dataset(tmp_path / "a", format="deepmd/npy")


def test_paths_and_formats_that_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_dataset(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no data: no DeePMD system"):
        read_dataset(tmp_path)
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(ValueError, match="not of a known kind"):
        read_dataset(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="unknown format 'nonsense'"):
        read_dataset(tmp_path / "a.txt", format="nonsense")
    with pytest.raises(ValueError, match="cannot write 'nonsense'"):
        write_dataset(tmp_path / "b", MIXTURE, format="nonsense")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_extxyz(tmp_path, keep):
    text = (example_path("fe2_lda") / "valid.extxyz").read_text()
    (tmp_path / "a.xyz").write_text(text[: int(keep * len(text))])
    with pytest.raises(ValueError, match=r"a\.xyz"):
        read_dataset(tmp_path / "a.xyz")


def test_extxyz_without_moments_names_file_and_frame(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nProperties=species:S:1:pos:R:3\nFe 0 0 0\n")
    with pytest.raises(ValueError, match=r"a\.xyz, frame 0: .* no magnetic moments"):
        read_dataset(tmp_path / "a.xyz")


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    partial = make_frame().replace(pbc=[True, True, False])
    with pytest.raises(ValueError, match="partial periodicity"):
        write_dataset(tmp_path / "a", Dataset([partial]))
    with pytest.raises(ValueError, match="no frames"):
        write_dataset(tmp_path / "a", Dataset([]))
    with pytest.raises(ValueError, match="lacks Fe"):
        write_dataset(tmp_path / "a", MIXTURE, type_map=["Ni", "O"])
    with pytest.raises(ValueError, match="twice"):
        write_dataset(tmp_path / "a", MIXTURE, type_map=["Ni", "O", "Fe", "O"])
    saved = []

    def fail_late(path, array):
        saved.append(path)
        if len(saved) > 5:
            raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail_late)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path / "a", MIXTURE)
    assert len(saved) > 5 and not list(tmp_path.iterdir())


def test_existing_folder_is_not_touched(system):
    before = sorted(system.parent.rglob("*"))
    with pytest.raises(FileExistsError, match="remove it or choose another"):
        write_dataset(system.parent, MIXTURE)
    assert sorted(system.parent.rglob("*")) == before


# --- checks ----------------------------------------------------------------------


def kinds(dataset, **options):
    return {p.kind: p.frames for p in check_dataset(dataset, **options).problems}


@pytest.fixture(scope="module")
def conjugate():
    return model_frames(60, seed=1)


def test_sound_data_have_no_problems(conjugate):
    report = check_dataset(conjugate, magnetic_elements=["Fe"])
    assert report.ok and report.n_frames == 60
    assert report.compositions == {"Fe16": 60}
    assert report.labels == dict.fromkeys(LABELS, 60)
    assert 2.2 < report.ranges["least distance, A"].minimum < 2.5


def test_problems_are_found_where_they_are(conjugate):
    frames = list(conjugate)
    frames[3] = with_labels(frames[3], energy=frames[3].energy + 100.0)
    frames[5] = with_labels(frames[5], forces=200.0 * frames[5].forces)
    frames[7] = with_labels(frames[7], magnetic_forces=50 * frames[7].magnetic_forces)
    frames[9] = frames[8]
    close = frames[11].positions.copy()
    close[0] = close[1] + [0.3, 0.0, 0.0]
    frames[11] = with_labels(frames[11], positions=close)
    frames[13] = with_labels(frames[13], forces=frames[13].forces + 0.05)
    spins = frames[15].spins.copy()
    spins[2] = 0.0
    frames[15] = with_labels(frames[15], spins=spins)
    found = check_dataset(Dataset(frames)).problems
    where = {p.kind: p.frames for p in found if p.kind != "outlier"}
    where.pop("conjugacy", None)
    assert where == {
        "duplicate": (9,),
        "too close": (11,),
        "net force": (13,),
        "zero moment": (15,),
    }
    assert [p.frames for p in found if p.kind == "outlier"] == [(3,), (5,), (7,)]


def test_moments_on_elements_declared_non_magnetic():
    data = MIXTURE[:2]
    assert "non-magnetic moment" not in kinds(data)
    found = check_dataset(data, magnetic_elements=[]).problems
    assert any("moments on Ni" in str(p) and p.frames == (0, 1) for p in found)
    with pytest.raises(ValueError, match="Xx"):
        check_dataset(data, magnetic_elements=["Xx"])


def test_duplicates_do_not_depend_on_the_sign_of_zero():
    frame = make_frame("NiO")
    again = with_labels(frame, spins=np.where(frame.spins == 0, -0.0, frame.spins))
    assert kinds(Dataset([frame, again]))["duplicate"] == (1,)


def test_coincident_atoms_are_reported_and_do_not_stop_the_check():
    frame = make_frame()
    positions = frame.positions.copy()
    positions[0] = positions[1]
    data = Dataset([with_labels(frame, positions=positions)])
    assert kinds(data)["too close"] == (0,)


# --- conjugacy -------------------------------------------------------------------


def model_energy(positions, spins, strain, bonds):
    """Springs, exchange J(r) and a Landau term; bonds are (i, j, offset)."""
    i, j, offset = bonds
    deform = torch.eye(3, dtype=torch.float64) + strain
    vector = (positions[j] - positions[i] + offset) @ deform.T
    r = vector.norm(dim=1)
    exchange = -0.02 * torch.exp(-(r - 2.48)) * (spins[i] * spins[j]).sum(dim=1)
    springs = 0.5 * 3.0 * (r - 2.5) ** 2
    landau = 0.1 * ((spins**2).sum(dim=1) - 4.8) ** 2
    return 0.5 * (exchange + springs).sum() + landau.sum()


def model_frames(n, seed, *, strain=0.0, field=0.0, canting=6.0, displacement=0.02):
    """Frames near a ferromagnet, as a whole turned at random, with exact labels."""
    rng = np.random.default_rng(seed)
    ideal = bulk("Fe", cubic=True).repeat(2)
    count = len(ideal)
    i, j, shift = neighbor_list("ijS", ideal, 2.6)
    frames = []
    for _ in range(n):
        deform = np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))
        cell = ideal.cell.array @ deform.T
        moved = ideal.positions + displacement * rng.normal(size=(count, 3))
        spins = np.array([0.0, 0.0, 2.2]) * rng.normal(1.0, 0.01, (count, 1))
        axes = np.radians(canting) * rng.normal(size=(count, 3))
        spins = Rotation.from_rotvec(axes).apply(spins)
        if not field:
            spins = Rotation.random(rng=rng).apply(spins)
        inputs = [
            torch.tensor(x, requires_grad=True)
            for x in (moved @ deform.T, spins, np.zeros((3, 3)))
        ]
        bonds = (torch.tensor(i), torch.tensor(j), torch.tensor(shift @ cell))
        energy = model_energy(*inputs, bonds) - field * inputs[1][:, 2].sum()
        forces, magnetic_forces, virial = (
            -x.numpy() for x in torch.autograd.grad(energy, inputs)
        )
        frames.append(
            Frame(
                numbers=ideal.numbers,
                # Wrapping must not matter.
                positions=inputs[0].detach().numpy()
                + rng.integers(-1, 2, (count, 3)) @ cell,
                cell=cell,
                pbc=ideal.pbc,
                spins=spins,
                energy=energy.item(),
                forces=forces,
                magnetic_forces=magnetic_forces,
                virial=virial,
            )
        )
    return Dataset(frames)


def relabelled(dataset, **functions):
    """Replace labels by functions of them."""
    return Dataset(
        with_labels(
            f, **{k: function(getattr(f, k)) for k, function in functions.items()}
        )
        for f in dataset
    )


def test_conjugate_labels_have_slope_one(conjugate):
    report = conjugacy(conjugate)
    assert report.n_pairs > 500 and report.aligned and report.cells == "compared"
    assert set(report.slopes) == {"forces", "torques", "longitudinal"}
    assert report.slope == pytest.approx(1.0, abs=0.02)
    for slope in report.slopes.values():
        assert slope == pytest.approx(1.0, abs=0.03)
    assert report.correlation > 0.999
    assert report.residual < 0.05 * report.spread
    assert not report.problems()


@pytest.mark.parametrize(
    ("label", "factor", "term"),
    [
        ("forces", 0.8, "forces"),
        ("magnetic_forces", 0.8, "torques"),
        ("magnetic_forces", -1.0, "torques"),
    ],
)
def test_scaled_labels_are_found_and_named(conjugate, label, factor, term):
    report = conjugacy(relabelled(conjugate, **{label: lambda x: factor * x}))
    assert report.slopes[term] == pytest.approx(1.0 / factor, rel=0.03)
    assert any(text.startswith(term) for text in report.problems())
    intact = "torques" if term == "forces" else "forces"
    assert report.slopes[intact] == pytest.approx(1.0, abs=0.03)


def test_virials_do_the_work_of_changing_cells():
    data = model_frames(60, seed=2, strain=0.004)
    report = conjugacy(data)
    assert report.cells == "compared"
    assert report.slopes["virial"] == pytest.approx(1.0, abs=0.03)
    wrong = conjugacy(relabelled(data, virial=lambda v: -v))
    assert wrong.slopes["virial"] == pytest.approx(-1.0, abs=0.05)
    fitted = conjugacy(relabelled(data, virial=lambda v: None))
    assert fitted.cells == "fitted"
    assert fitted.slopes["torques"] == pytest.approx(1.0, abs=0.05)


def test_virial_and_strain_have_the_same_order_of_indices():
    """x -> x + strain y, and virial[x, y] = sum of F_x r_y."""
    frame = make_frame(labels=("energy", "forces", "magnetic_forces"))
    virial = np.zeros((3, 3))
    virial[0, 1] = 5.0
    deform = np.eye(3)
    deform[0, 1] = 1e-3
    before = with_labels(frame, virial=virial, forces=0.0 * frame.forces)
    after = before.replace(
        positions=frame.positions @ deform.T, cell=frame.cell @ deform.T
    )
    (group,) = fully_labelled_groups(Dataset([before, after]), 10)
    work = Pairs.of(group, aligned=False).work[0]
    np.testing.assert_allclose(4.0 * work, [0.0, 0.0, 0.0, -5e-3], atol=1e-12)


def test_groups_of_different_atoms_are_kept_apart(conjugate):
    other = [with_labels(f, numbers=np.full(f.n_atoms, 27)) for f in conjugate]
    report = conjugacy(conjugate + Dataset(other))
    alone = conjugacy(conjugate)
    assert report.n_frames == 2 * alone.n_frames
    assert report.n_pairs == 2 * alone.n_pairs
    assert report.slope == pytest.approx(alone.slope)


def test_error_of_the_slope_is_its_scatter(conjugate):
    rng = np.random.default_rng(0)
    reports = [
        conjugacy(relabelled(conjugate[:30], energy=lambda e: e + rng.normal(0, 0.02)))
        for _ in range(25)
    ]
    scatter = np.std([r.slope for r in reports])
    assert 0.5 < np.mean([r.slope_error for r in reports]) / scatter < 2.0


def test_orientation_counts_in_a_field():
    """With a net torque spins are compared as they stand."""
    report = conjugacy(model_frames(40, seed=3, field=0.05))
    assert not report.aligned and report.net_torque > 0.01
    assert report.slopes["torques"] == pytest.approx(1.0, abs=0.03)


def test_frames_far_apart_are_not_compared():
    data = model_frames(20, seed=4, displacement=0.2)
    report = conjugacy(data)
    assert not report.conclusive and report.n_pairs == 0
    assert np.isnan(report.slope) and not report.problems()
    assert not conjugacy(Dataset([])).conclusive
    unlabelled = relabelled(data, magnetic_forces=lambda m: None)
    assert not conjugacy(unlabelled, max_displacement=9.0).conclusive


def test_fe_example_is_conjugate_within_what_its_cells_allow():
    data = load_example("fe2_lda")
    report = conjugacy(data)
    assert report.cells == "fitted" and report.aligned and report.n_pairs > 1000
    assert report.slopes["forces"] == pytest.approx(1.0, abs=0.1)
    assert report.slopes["torques"] == pytest.approx(1.0, abs=0.1)
    assert not report.problems()
    wrong = conjugacy(relabelled(data, magnetic_forces=lambda m: -m))
    assert any(text.startswith("torques") for text in wrong.problems())


@needs_nio
def test_nio_energies_exceed_the_work_of_the_torques():
    """Known of these data: J2 is 18.4 meV by energies, 14.8 by torques: 1.24."""
    data = read_dataset(NIO)
    assert len(data) == 151 and data.magnetic_elements == ("Ni",)
    report = conjugacy(data)
    assert report.aligned and report.n_pairs > 500
    assert report.slopes["torques"] == pytest.approx(18.4 / 14.8, abs=0.05)
    assert report.slopes["forces"] == pytest.approx(1.0, abs=0.15)
    assert [text.split()[0] for text in report.problems()] == ["torques"]


def curved_path(decay: float, factor: float = 1.0) -> Dataset:
    """Atoms moved apart on an energy exp(-x/decay), with forces times a factor."""
    frames = []
    for x in np.linspace(0.0, 0.2, 11):
        energy = 0.5 * np.exp(-x / decay)
        force = factor * energy / decay
        frames.append(
            Frame(
                [26, 26],
                [[0, 0, 0], [2.4 + x, 0, 0]],
                12.0 * np.eye(3),
                [False] * 3,
                [[0, 0, 2.2], [0, 0, 2.2]],
                energy=energy,
                forces=[[-force, 0, 0], [force, 0, 0]],
                magnetic_forces=np.zeros((2, 3)),
            )
        )
    return Dataset(frames)


@pytest.mark.parametrize("decay", [0.12, 0.2, 0.3])
def test_curved_paths_are_extrapolated_to_near_pairs(decay):
    """The trapezoid rule reads 0.91, 0.97 and 0.98; labels are exact."""
    report = conjugacy(curved_path(decay))
    assert report.extrapolated and report.slope == pytest.approx(1.0, abs=0.01)
    wrong = conjugacy(curved_path(decay, factor=0.8))
    assert wrong.slopes["forces"] == pytest.approx(1.25, abs=0.01)
    assert wrong.problems()


def test_points_of_dft_near_a_reference():
    """With atoms moved up to 0.1 A the trapezoid rule reads 1.056; work by five points
    on a path, Richardson-extrapolated, is 1.0208."""
    path = Path(__file__).parent / "abacus" / "fe_fd_pw.extxyz"
    report = conjugacy(read_dataset(path))
    assert report.extrapolated
    assert report.slope == pytest.approx(1.0208, abs=0.002)
    assert not report.problems()


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        ({"magnetic_forces": lambda m: -m}, "the magnetic forces had the other sign"),
        ({"magnetic_forces": lambda m: m / 13.605693}, "were in Ry/mu_B"),
        ({"energy": lambda e: e / 13.605693}, "the energies were in Ry"),
        ({"forces": lambda f: f / 25.711}, "the forces were in Ry and bohr"),
    ],
)
def test_faults_are_named(fault, meaning):
    frames = model_frames(25, seed=6, canting=2.0)
    named = problems(relabelled(frames, **fault))["fault"].message
    assert named.startswith("it would agree if ") and meaning in named


def test_labels_that_are_far_too_small_are_found(conjugate):
    """Forces in Ry/bohr do less than 2 % of the work here, and energies need more."""
    wrong = relabelled(conjugate, forces=lambda f: f / 25.711)
    assert conjugacy(wrong).slopes["forces"] == pytest.approx(25.711, rel=0.02)
    assert "forces were in Ry and bohr" in problems(wrong)["fault"].message


def test_energy_with_the_constraint_is_named(conjugate):
    wrong = Dataset(
        with_labels(f, energy=f.energy + (f.magnetic_forces * f.spins).sum())
        for f in conjugate[:25]
    )
    named = problems(wrong)["fault"].message
    assert "did not contain the energy of the constraining field" in named
    assert "fault" not in problems(conjugate)


def problems(dataset, **options):
    return {p.kind: p for p in check_dataset(dataset, **options).problems}


def test_magnetic_forces_that_were_not_computed(conjugate):
    first = with_labels(conjugate[3], magnetic_forces=np.zeros((16, 3)))
    found = problems(Dataset([*conjugate[:3], first, *conjugate[4:]]))
    assert found["zero magnetic forces"].frames == (3,)
    assert "first ionic step" in found["zero magnetic forces"].message
    all_of_them = relabelled(conjugate, magnetic_forces=np.zeros_like)
    assert len(problems(all_of_them)["zero magnetic forces"].frames) == len(conjugate)
    # Where moments are self-consistent, zeros are the right label.
    assert "zero magnetic forces" not in problems(curved_path(0.3))


def test_moments_that_calculations_leave_on_other_elements():
    atoms = bulk("NiO", "rocksalt", a=4.17)
    frames = []
    for k in range(3):
        moments = np.array([[0, 0, 1.6], [0, 0.02 * k, 0.0]])
        frame = Frame(
            atoms.numbers, atoms.positions + 0.01 * k, atoms.cell, [1] * 3, moments
        )
        frames.append(frame)
    found = problems(Dataset(frames))
    assert found["non-magnetic moment"].frames == (1, 2)
    message = found["non-magnetic moment"].message
    assert "moments on O, up to 0.04 mu_B" in message and "--magnetic Ni" in message
    assert "non-magnetic moment" not in problems(
        Dataset(frames), magnetic_elements=["Ni", "O"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"energy": f.energy - 16 * 3.2}, "eV/atom apart: two codes"),
        (lambda f: {"spins": 1.2 * f.spins}, "moments of Fe fall into two groups"),
        (lambda f: {}, None),
    ],
)
def test_two_sources_in_one_set(conjugate, change, message):
    half = 12
    other = [f.replace(**change(f)) for f in conjugate[half : 2 * half]]
    found = problems(Dataset([*conjugate[:half], *other]))
    if message is None:
        assert "two groups" not in found
    else:
        assert message in found["two groups"].message
        assert len(found["two groups"].frames) == half


def test_directions_for_moments(conjugate):
    unit = Dataset(
        f.replace(spins=f.spins / np.linalg.norm(f.spins, axis=1, keepdims=True))
        for f in conjugate[:3]
    )
    assert "all moments are 1 mu_B long" in problems(unit)["unit moments"].message
    assert "unit moments" not in problems(conjugate[:3])


@pytest.mark.parametrize("label", ["energy", "forces", "magnetic_forces"])
def test_what_is_missing_for_the_test_is_named(conjugate, label, tmp_path, capsys):
    lacking = relabelled(conjugate[:12], **{label: lambda x: None})
    assert conjugacy(lacking).untested == f"missing are {label} of all frames"
    write_dataset(tmp_path / "a.extxyz", lacking)
    assert cli.main(["data", "info", str(tmp_path / "a.extxyz")]) == 0
    assert f"not tested: missing are {label}" in capsys.readouterr().out
    mixed = Dataset([*lacking, conjugate[12]])
    assert conjugacy(mixed).untested == f"missing are {label} of 12 frames"


# --- examples and the command ----------------------------------------------------


def test_examples():
    assert len(load_example("fe2_lda", split="train")) == 72
    assert len(load_example("fe2_lda", split="valid")) == 17
    data = load_example("fe2_lda")
    assert len(data) == 89 and all(
        data.count(k) == 89 for k in ("energy", "forces", "magnetic_forces")
    )
    assert (example_path("fe2_lda") / "SOURCE.md").is_file()
    with pytest.raises(ValueError, match="there are: fe2_lda"):
        load_example("gold")
    with pytest.raises(ValueError, match="unknown split"):
        load_example("fe2_lda", split="test")


def test_command_info(capsys):
    assert (
        cli.main(["data", "info", str(example_path("fe2_lda") / "valid.extxyz")]) == 0
    )
    out = capsys.readouterr().out
    assert "frames        17" in out and "Fe2 (17)" in out
    assert "missing       virial" in out and "not tested" in out
    path = str(example_path("fe2_lda") / "train.extxyz")
    assert cli.main(["data", "info", path, "--magnetic", "Ni"]) == 0
    out = capsys.readouterr().out
    assert "torques" in out and "moments on Fe" in out and "(72 in all)" in out


def test_command_convert(tmp_path, capsys):
    source = str(example_path("fe2_lda") / "valid.extxyz")
    folder, back = str(tmp_path / "a"), str(tmp_path / "a.xyz")
    options = ["--format", "deepmd/npy/mixed", "--type-map", "Ni", "Fe"]
    assert cli.main(["data", "convert", source, folder, *options]) == 0
    assert cli.main(["data", "convert", folder, back]) == 0
    assert "17 frames" in capsys.readouterr().out
    assert_same(read_dataset(back), read_dataset(source), atol=1e-8)


def test_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    (tmp_path / "a.xyz").write_text("nonsense")
    for path in (tmp_path / "none", tmp_path / "a.xyz"):
        assert cli.main(["data", "info", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("deepspin: error: ")
        assert captured.err.count("\n") == 1 and not captured.out
        assert str(path) in captured.err
