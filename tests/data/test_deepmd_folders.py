"""DeePMD folders in all their forms: types, padding, pseudo-atoms, damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame, conjugacy, read_dataset, write_dataset
from deepspin_ase.potentials import DeepSpinConfig, DeepSpinNetwork, save_potential
from deepspin_ase.training import read_config, read_sets

SCALE = 0.4 / 1.2737
NI, OX, FE = 28, 8, 26


def frame(numbers: list[int], seed: int, magnetic: tuple[int, ...] = (NI, FE)) -> Frame:
    """Return a frame with random labels, moments on some elements."""
    rng = np.random.default_rng(seed)
    n = len(numbers)
    carries = np.isin(numbers, magnetic)[:, None]
    return Frame(
        numbers=numbers,
        positions=4.0 * rng.random((n, 3)),
        cell=4.0 * np.eye(3) + 0.1 * rng.random((3, 3)),
        pbc=[True] * 3,
        spins=np.where(carries, rng.normal(size=(n, 3)), 0.0),
        energy=rng.normal(),
        forces=rng.normal(size=(n, 3)),
        magnetic_forces=np.where(carries, rng.normal(size=(n, 3)), 0.0),
        virial=rng.normal(size=(3, 3)),
    )


def same(found: Dataset, expected: list[Frame]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.numbers, b.numbers)
        for name in ("positions", "cell", "spins"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-12)
        for name, value in b.quantities().items():
            np.testing.assert_allclose(getattr(a, name), value, atol=1e-12)


# --- Mixed type -----------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 9])
def test_padding_of_any_number_of_atoms(tmp_path: Path, slots: int) -> None:
    """Arrays of three slots are not taken for tensors, nor those of nine."""
    counts = range(1, slots + 1)
    frames = [frame([NI, OX, FE, OX, NI, OX, FE, FE, NI][:n], n) for n in counts]
    folder = tmp_path / "set.000"
    folder.mkdir()
    (tmp_path / "type.raw").write_text("0\n" * slots)
    (tmp_path / "type_map.raw").write_text("Ni O Fe")

    def padded(name: str) -> np.ndarray:
        rows = np.zeros((len(frames), slots, 3))
        for k, one in enumerate(frames):
            rows[k, : one.n_atoms] = getattr(one, name)
        return rows.reshape(len(frames), -1)

    types = np.full((len(frames), slots), -1)
    for k, one in enumerate(frames):
        types[k, : one.n_atoms] = [[NI, OX, FE].index(z) for z in one.numbers]
    np.save(folder / "real_atom_types.npy", types)
    for stem, name in (
        ("coord", "positions"),
        ("spin", "spins"),
        ("force", "forces"),
        ("force_mag", "magnetic_forces"),
    ):
        np.save(folder / f"{stem}.npy", padded(name))
    for stem, name in (("box", "cell"), ("energy", "energy"), ("virial", "virial")):
        values = np.array([getattr(one, name) for one in frames])
        np.save(folder / f"{stem}.npy", values.reshape(len(frames), -1))
    same(read_dataset(tmp_path), frames)


# --- Types ----------------------------------------------------------------------------


@pytest.fixture
def network() -> DeepSpinNetwork:
    """A small pseudo-atom network whose type map is not in the order of numbers."""
    return DeepSpinNetwork(
        DeepSpinConfig.from_dict(
            {
                "type_map": ["Ni", "O", "Fe"],
                "spin": {
                    "use_spin": [True, False, True],
                    "virtual_scale": [SCALE, 0.2],
                },
                "descriptor": {
                    "rcut": 3.0,
                    "rcut_smth": 2.0,
                    "sel": [9, 9, 9],
                    "neuron": [2, 4],
                    "axis_neuron": 2,
                },
                "fitting_net": {"neuron": [4]},
            }
        )
    )


def test_types_that_only_the_model_knows(
    tmp_path: Path, network: DeepSpinNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [frame([NI, OX, FE], k) for k in range(2)]
    write_dataset(tmp_path / "a", Dataset(frames), type_map=["Ni", "O", "Fe"])
    (tmp_path / "a" / "type_map.raw").unlink()
    with pytest.raises(ValueError, match=r"type_map\.raw is missing: write .* or give"):
        read_dataset(tmp_path / "a")
    options = network.config.data_options
    same(read_dataset(tmp_path / "a", **options), frames)
    save_potential(tmp_path / "model.pt", network)
    assert main(["test", str(tmp_path / "model.pt"), str(tmp_path / "a")]) == 0
    assert "2 frames" in capsys.readouterr().out


def test_the_type_map_of_a_file_goes_before_that_of_the_model(tmp_path: Path) -> None:
    frames = [frame([NI, OX, FE], 0)]
    write_dataset(tmp_path / "a", Dataset(frames), type_map=["Fe", "O", "Ni"])
    same(read_dataset(tmp_path / "a", default_type_map=["Ni", "O", "Fe"]), frames)
    (tmp_path / "a" / "type_map.raw").write_text("A B C")
    same(read_dataset(tmp_path / "a", default_type_map=["Fe", "O", "Ni"]), frames)


# --- Pseudo-atoms ---------------------------------------------------------------------


def write_tensorflow(
    folder: Path,
    frames: list[Frame],
    scales: dict[int, float],
    order: list[int],
    elements: tuple[int, ...] = (NI, OX, FE),
) -> None:
    """Write frames as DeePMD-kit's TensorFlow back end has them.

    Rows of atoms, then those of the pseudo-atoms of every magnetic element; ``order``
    permutes them all.
    """
    numbers = frames[0].numbers
    magnetic = [z for z in elements if scales.get(z)]
    owners = [k for z in magnetic for k in np.flatnonzero(numbers == z)]
    types = [elements.index(z) for z in numbers]
    types += [len(elements) + magnetic.index(numbers[k]) for k in owners]
    chunk = folder / "set.000"
    chunk.mkdir(parents=True)
    (folder / "type_map.raw").write_text("Ni O Fe")
    np.savetxt(folder / "type.raw", np.array(types)[order], fmt="%d")
    coordinates, forces = [], []
    for one in frames:
        arms = one.spins * np.array([scales.get(z, 0.0) for z in numbers])[:, None]
        rows = np.concatenate([one.positions, (one.positions + arms)[owners]])
        coordinates.append(rows[order].ravel())
        assert one.forces is not None and one.magnetic_forces is not None
        rows = np.concatenate([one.forces, one.magnetic_forces[owners]])
        forces.append(rows[order].ravel())
    np.save(chunk / "coord.npy", coordinates)
    np.save(chunk / "force.npy", forces)
    np.save(chunk / "box.npy", [one.cell.ravel() for one in frames])
    np.save(chunk / "energy.npy", [one.energy for one in frames])
    np.save(chunk / "virial.npy", [np.ravel(one.virial) for one in frames])


@pytest.mark.parametrize(
    ("numbers", "scales", "order"),
    [
        ([NI, OX], {NI: SCALE}, [0, 1, 2]),
        ([NI, NI, OX, OX], {NI: SCALE}, [0, 1, 2, 3, 4, 5]),
        ([NI, OX, FE, FE], {NI: SCALE, FE: 0.2}, [0, 1, 2, 3, 4, 5, 6]),
        ([OX, FE, NI, FE], {FE: 0.2, NI: SCALE}, [4, 0, 1, 5, 2, 6, 3]),
        ([FE, OX, OX], {FE: 0.25}, [3, 0, 1, 2]),
    ],
)
def test_pseudo_atoms_are_moments(
    tmp_path: Path, numbers: list[int], scales: dict[int, float], order: list[int]
) -> None:
    frames = [frame(numbers, k, magnetic=tuple(scales)) for k in range(3)]
    write_tensorflow(tmp_path / "a", frames, scales, order)
    names = {NI: "Ni", FE: "Fe"}
    given = {names[z]: scale for z, scale in scales.items()} | {"O": 0.0}
    same(read_dataset(tmp_path / "a", virtual_scale=given), frames)


def test_pseudo_atoms_that_were_wrapped_into_the_cell(tmp_path: Path) -> None:
    frames = [frame([NI, OX], 1)]
    write_tensorflow(tmp_path / "a", frames, {NI: SCALE}, [0, 1, 2])
    path = tmp_path / "a" / "set.000" / "coord.npy"
    rows = np.load(path).reshape(1, 3, 3)
    rows[0, 2] += frames[0].cell[0] - frames[0].cell[2]
    np.save(path, rows.reshape(1, 9))
    same(read_dataset(tmp_path / "a", virtual_scale={"Ni": SCALE}), frames)


def test_labels_of_pseudo_atoms_are_conjugate(
    tmp_path: Path, network: DeepSpinNetwork
) -> None:
    """Energies of a network that has pseudo-atoms itself tell sign and scale."""
    rng = np.random.default_rng(0)
    start = Atoms(
        "NiOFe", [[0, 0, 0], [1.9, 0, 0.1], [0, 2.0, 0]], cell=[4] * 3, pbc=True
    )
    frames = []
    for _ in range(12):
        atoms = start.copy()
        atoms.positions += 0.02 * rng.normal(size=(3, 3))
        moments = np.array([[0, 0, 1.2], [0, 0, 0], [1.5, 0, 0]])
        noise = 0.05 * rng.normal(size=(3, 3))
        atoms.set_initial_magnetic_moments(moments + noise * [[1], [0], [1]])
        atoms.calc = DeepSpinCalculator(network)
        atoms.calc.calculate(atoms, ["energy", "forces", "magnetic_forces"])
        frames.append(Frame.from_atoms(atoms))
    write_tensorflow(tmp_path / "a", frames, {NI: SCALE, FE: 0.2}, [0, 1, 2, 3, 4])
    found = conjugacy(read_dataset(tmp_path / "a", **network.config.data_options))
    assert found.conclusive
    assert found.slope == pytest.approx(1.0, abs=0.02)


def test_pseudo_atoms_in_a_training(tmp_path: Path) -> None:
    """The input's virtual_len and spin_norm tell what they are."""
    frames = [frame([NI, OX], k) for k in range(2)]
    write_tensorflow(tmp_path / "a", frames, {NI: SCALE}, [0, 1, 2], (NI, OX))
    (tmp_path / "a" / "type_map.raw").unlink()
    values = {
        "model": {
            "type_map": ["Ni", "O"],
            "descriptor": {"type": "se_e2_a", "sel": [9, 9]},
            "spin": {
                "use_spin": [True, False],
                "virtual_len": [0.4],
                "spin_norm": [1.2737],
            },
        },
        "learning_rate": {"start_lr": 1e-3},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": ["a"], "batch_size": 1},
            "numb_steps": 1,
        },
    }
    (tmp_path / "input.json").write_text(json.dumps(values))
    config = read_config(tmp_path / "input.json")
    (own,) = read_sets(config.data, config.model)
    same(own.training, frames)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (None, r"give virtual_scale, which is virtual_len / spin_norm"),
        ({"Ni": 0.01}, r"moments of .* mu_B"),
        ({"Ni": SCALE, "O": SCALE}, "1 atoms of O and 0 pseudo-atoms"),
        ({"Fe": SCALE}, "0 atoms of Fe and 1 pseudo-atoms"),
        ({"X": SCALE}, "0 of them with a virtual_scale .none."),
    ],
)
def test_pseudo_atoms_that_cannot_be(
    tmp_path: Path, scales: dict[str, float] | None, message: str
) -> None:
    frames = [frame([NI, OX], 0)]
    write_tensorflow(tmp_path / "a", frames, {NI: SCALE}, [0, 1, 2])
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(tmp_path / "a", virtual_scale=scales)
    assert str(tmp_path / "a") in str(caught.value)


def test_pseudo_atoms_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [frame([NI, OX], k) for k in range(2)]
    write_tensorflow(tmp_path / "a", frames, {NI: SCALE}, [0, 1, 2])
    source, target = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["data", "convert", source, target]) == 2
    assert "--virtual-scale Ni=0.314" in capsys.readouterr().err
    for wrong in ("Ni", "Ni=x", "Ni=-1"):
        assert main(["data", "convert", source, target, "--virtual-scale", wrong]) == 2
        assert "ELEMENT=SCALE" in capsys.readouterr().err
    scale = f"Ni={SCALE!r}"
    assert main(["data", "convert", source, target, "--virtual-scale", scale]) == 0
    same(read_dataset(target), frames)


# --- Damaged and foreign files --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format", "text"),
    [
        ("a.log", "abacus/scf", "nothing"),
        ("OUTCAR_old", "vasp/outcar", "nothing\n" * 30),
        ("a.xml", "vasp/xml", "<modeling>"),
        ("a.dump", "lammps/dump", "ITEM: TIMESTEP\n"),
        ("a.cfg", None, "BEGIN_CFG\n Size\n x\n"),
        ("a.traj", None, "nothing"),
    ],
)
def test_damaged_files_are_named_with_their_parser(
    tmp_path: Path, name: str, format: str | None, text: str
) -> None:
    """Whatever a parser raises, the message has path and format."""
    if format is not None:
        pytest.importorskip("dpdata")
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises((ValueError, OSError), match=name) as caught:
        read_dataset(path, format=format)
    expected = format or {"a.cfg": "cfg", "a.traj": "traj"}[name]
    assert expected in str(caught.value)


# --- HDF5 -----------------------------------------------------------------------------


def pack(folder: Path, file: Path, group: str = "/") -> None:
    """Write a folder as DeePMD-kit has it in HDF5: a dataset for every file."""
    with h5py.File(file, "a") as stored:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = f"{group}/{path.relative_to(folder)}"
            if path.suffix == ".npy":
                stored[name] = np.load(path)
                continue
            words = path.read_text().split()
            texts = [int(w) if w.isdigit() else w.encode() for w in words]
            stored[name] = texts or True  # nopbc


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("periodic", [True, False])
def test_hdf5_files(tmp_path: Path, mixed: bool, periodic: bool) -> None:
    """All systems of a file, those of a group, and one of them."""
    frames = [frame([NI, OX, FE][: 2 + k % 2], k) for k in range(4)]
    if not periodic:
        frames = [
            f.replace(pbc=np.zeros(3, bool), cell=np.zeros((3, 3)), virial=None)
            for f in frames
        ]
    kind = "deepmd/npy/mixed" if mixed else "deepmd/npy"
    file = tmp_path / "data.hdf5"
    for name, chosen in (("a", frames[:1]), ("b/c", frames[1:2]), ("b/d", frames[2:])):
        folder = tmp_path / name
        folder.parent.mkdir(exist_ok=True)
        data = Dataset(chosen)
        write_dataset(folder, data, format=kind, type_map=["Ni", "O", "Fe"])
        pack(folder, file, name)
    for group, path in (("", "a b"), ("#/b", "b"), ("#/b/c/", "b/c"), ("#b/d", "b/d")):
        expected = read_dataset([tmp_path / one for one in path.split()])
        same(read_dataset(f"{file}{group}"), list(expected))
        same(read_dataset(f"{file}{group}", format="deepmd/hdf5"), list(expected))


def test_hdf5_in_an_input_of_deepmd(tmp_path: Path) -> None:
    frames = [frame([NI, OX, OX, NI], k, (NI,)) for k in range(2)]
    write_dataset(tmp_path / "npy", Dataset(frames), type_map=["Ni", "O"])
    pack(tmp_path / "npy", tmp_path / "data.hdf5", "nio")
    network = {"neuron": [2, 4], "rcut": 3.0, "rcut_smth": 2.0, "sel": [20, 20]}
    values = {
        "model": {
            "type_map": ["Ni", "O"],
            "descriptor": {"type": "se_e2_a", "axis_neuron": 2, **network},
            "fitting_net": {"neuron": [4]},
            "spin": {"use_spin": [True, False], "virtual_scale": [0.3]},
        },
        "learning_rate": {"start_lr": 1e-3},
        "loss": {"type": "ener_spin"},
        "training": {
            "numb_steps": 1,
            "training_data": {"systems": ["data.hdf5#/nio"], "batch_size": 1},
        },
    }
    (tmp_path / "input.json").write_text(json.dumps(values))
    config = read_config(tmp_path / "input.json")
    (found,) = read_sets(config.data, config.model)
    same(found.training, frames)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data.hdf5#/c", r"data\.hdf5 has no group /c; those at its top are a"),
        ("data.hdf5#/a/type.raw", "has no group /a/type.raw"),
        ("data.hdf5#/empty", r"data\.hdf5#/empty holds no data"),
        ("data.hdf5#/short", r"data\.hdf5#/short/set\.000/spin\.npy is missing"),
        ("none.hdf5", r"no file .*none\.hdf5"),
        ("text.hdf5", r"text\.hdf5 cannot be read"),
        ("data.lmdb", r"data\.lmdb: LMDB data of DeePMD-kit are not read here"),
    ],
)
def test_hdf5_files_that_cannot_be_read(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "text.hdf5").write_text("text")
    (tmp_path / "data.lmdb").mkdir()
    write_dataset(tmp_path / "a", Dataset([frame([NI, OX], 1)]))
    pack(tmp_path / "a", tmp_path / "data.hdf5", "a")
    (tmp_path / "a" / "set.000" / "spin.npy").unlink()
    pack(tmp_path / "a", tmp_path / "data.hdf5", "short")
    with h5py.File(tmp_path / "data.hdf5", "a") as stored:
        stored.create_group("empty")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_dataset(tmp_path / name)
