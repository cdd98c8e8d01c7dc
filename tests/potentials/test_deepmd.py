"""DeePMD-kit's models: the same numbers as DeePMD-kit, from every kind of file."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.cli import main
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    DeepSpinConfig,
    DeepSpinNetwork,
    Potential,
    Sum,
    load_card,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.deepmd import (
    DeepmdScript,
    load_deepmd,
    recognises,
    write_deepmd,
)
from deepspin_ase.potentials.deepmd import (
    _extended as extended,
)
from deepspin_ase.potentials.deepmd import (
    _frozen as frozen,
)
from deepspin_ase.potentials.deepmd import _script as script_module
from deepspin_ase.potentials.deepmd._frozen import open_script
from deepspin_ase.potentials.deepmd._ops import declared_operators
from deepspin_ase.system import System

DATA = Path(__file__).parents[1] / "data" / "deepmd"
NIO = DATA / "nio_early.pth"
SE_ATTEN = (
    Path(__file__).parents[3] / "shared" / "data" / "deepmd_parity" / "se_atten.pth"
)
Change = Callable[[Any], None]
DP = os.environ.get("DEEPMD_DP")

#: TorchScript is deprecated in PyTorch, but is what DeePMD-kit writes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


class Reference:
    """Structures and what DeePMD-kit says about them."""

    def __init__(self, path: Path) -> None:
        self.arrays = dict(np.load(path))
        self.cases = sorted({key.split("/")[0] for key in self.arrays})

    def atoms(self, case: str) -> Atoms:
        cell = self.arrays[f"{case}/cell"]
        return Atoms(
            self.arrays[f"{case}/symbols"].tolist(),
            self.arrays[f"{case}/positions"],
            cell=cell,
            pbc=bool(cell.any()),
            magmoms=self.arrays[f"{case}/spins"],
        )

    def system(self, case: str) -> System:
        return System.from_atoms(self.atoms(case))

    def compare(self, potential: Potential, tolerance: float = 1e-9) -> None:
        for case in self.cases:
            found = potential.evaluate(self.system(case))
            for name, values in (
                ("energy", found.energy[0]),
                ("forces", found.forces),
                ("magnetic_forces", found.magnetic_forces),
                ("virial", found.virial),
            ):
                assert values is not None
                expected = self.arrays[f"{case}/{name}"]
                error = np.abs(values.numpy() - expected).max()
                assert error < tolerance, f"{name} of {case}: {error}"


REFERENCE = Reference(DATA / "reference.npz")


@pytest.fixture(scope="module")
def nio() -> DeepSpinNetwork:
    potential = load_potential(NIO)
    assert isinstance(potential, DeepSpinNetwork)
    return potential


@pytest.fixture(scope="module")
def script() -> DeepmdScript:
    return DeepmdScript(NIO)


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], Path]:
    """Give a function that changes the program of the NiO model as it is opened."""

    def change_program(change: Change) -> Path:
        program = open_script(NIO)
        with torch.no_grad():
            change(program.backbone_model.atomic_model)
        monkeypatch.setattr(frozen, "open_script", lambda path: program)
        monkeypatch.setattr(script_module, "open_script", lambda path: program)
        return NIO

    return change_program


def same(first: Potential, second: Potential, system: System) -> bool:
    a, b = first.evaluate(system), second.evaluate(system)
    return all(
        torch.allclose(getattr(a, name), getattr(b, name), rtol=0.0, atol=1e-11)
        for name in ("energies", "forces", "magnetic_forces", "virial")
    )


# Pseudo-atom networks


def test_frozen_model_has_deepmd_numbers(nio: DeepSpinNetwork) -> None:
    REFERENCE.compare(nio)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".dp"])
def test_export_and_reimport(nio: DeepSpinNetwork, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    write_deepmd(path, nio)
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written beside it
    back = load_potential(path)
    REFERENCE.compare(back)
    state = back.state_dict()
    for name, values in nio.state_dict().items():
        assert torch.equal(values, state[name]), name


@pytest.mark.parametrize("name", ["three_elements.yaml", "iron.dp"])
def test_files_written_by_deepmd(name: str) -> None:
    path = DATA / name
    potential = load_potential(path)
    assert isinstance(potential, DeepSpinNetwork)
    Reference(DATA / f"{path.stem}_reference.npz").compare(potential)


ATOM_ENER = json.loads((DATA / "atom_ener_reference.json").read_text())


def _iron_oxide() -> System:
    atoms = Atoms(
        ATOM_ENER["symbols"],
        ATOM_ENER["positions"],
        cell=ATOM_ENER["cell"],
        pbc=True,
        magmoms=ATOM_ENER["spins"],
    )
    return System.from_atoms(atoms)


@pytest.mark.parametrize("suffix", [".yaml", ".pth"])
def test_given_energies_of_free_atoms(suffix: str) -> None:
    """Their energies without neighbours are subtracted by DeePMD-kit."""
    potential = load_potential(DATA / f"atom_ener{suffix}")
    assert isinstance(potential, DeepSpinNetwork)
    found = potential.evaluate(_iron_oxide())
    energies = {str(given): energy for given, energy in ATOM_ENER["energies"]}
    assert float(found.energy[0]) == pytest.approx(energies["[-3.0, -5.0]"], abs=1e-10)
    for name in ("forces", "magnetic_forces", "virial"):
        values = getattr(found, name).reshape(-1, 3)
        np.testing.assert_allclose(values, ATOM_ENER[name], rtol=0.0, atol=1e-10)


@pytest.mark.parametrize(("given", "energy"), ATOM_ENER["energies"])
def test_any_given_energies_of_free_atoms(
    tmp_path: Path, given: list[float | None], energy: float
) -> None:
    text = (DATA / "atom_ener.yaml").read_text()
    old = "      atom_ener:\n      - -3.0\n      - -5.0\n"
    assert old in text
    path = tmp_path / "model.yaml"
    path.write_text(text.replace(old, f"      atom_ener: {json.dumps(given)}\n"))
    found = load_potential(path).evaluate(_iron_oxide())
    assert float(found.energy[0]) == pytest.approx(energy, abs=1e-10)


def test_fewer_slots_than_neighbours() -> None:
    potential = load_potential(DATA / "crowded.pth")
    assert isinstance(potential, DeepSpinNetwork)
    Reference(DATA / "crowded_reference.npz").compare(potential)


def test_single_precision_model(changed: Callable[[Change], Path]) -> None:
    path = changed(lambda model: model.descriptor.float())
    potential = load_deepmd(path)
    assert {x.dtype for x in potential.state_dict().values()} == {torch.float64}
    REFERENCE.compare(potential, tolerance=1e-4)
    with pytest.raises(AssertionError):
        REFERENCE.compare(potential)


def test_calculator_and_batch(nio: DeepSpinNetwork) -> None:
    calculator = DeepSpinCalculator(NIO, device="cpu")
    batch = nio.evaluate(System.cat([REFERENCE.system(c) for c in REFERENCE.cases]))
    start = 0
    for b, case in enumerate(REFERENCE.cases):
        atoms = REFERENCE.atoms(case)
        atoms.calc = calculator
        part = slice(start, start := start + len(atoms))
        for name, found, alone in (
            ("energy", batch.energy[b], atoms.get_potential_energy()),
            ("forces", batch.forces[part], atoms.get_forces()),
            (
                "magnetic_forces",
                batch.magnetic_forces[part],
                calculator.get_magnetic_forces(atoms),
            ),
            ("virial", batch.virial[b], calculator.get_property("virial", atoms)),
        ):
            np.testing.assert_allclose(found, alone, rtol=0.0, atol=1e-11)
            expected = REFERENCE.arrays[f"{case}/{name}"]
            np.testing.assert_allclose(alone, expected, rtol=0.0, atol=1e-9)


def test_dropped_neighbours_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    potential = load_potential(DATA / "three_elements.yaml")
    system = Reference(DATA / "three_elements_reference.npz").system("triclinic")
    with caplog.at_level(logging.WARNING):
        potential.evaluate(system)
        potential.evaluate(system)
    assert len(caplog.records) == 1
    assert "more neighbours than the model has slots" in caplog.text


@pytest.mark.parametrize("one_side", [False, True])
def test_export_of_an_own_network(tmp_path: Path, one_side: bool) -> None:
    config = DeepSpinConfig.from_dict(
        {
            "type_map": ["Ni", "O", "Fe"],
            "spin": {"use_spin": [True, False, True], "virtual_scale": [0.3]},
            "descriptor": {
                "rcut": 4.0,
                "rcut_smth": 3.0,
                "sel": [20, 30, 10],
                "neuron": [3, 6],
                "axis_neuron": 2,
                "resnet_dt": True,
                "type_one_side": one_side,
                "activation_function": "linear",
            },
            "fitting_net": {"neuron": [5, 5], "activation_function": "softplus"},
        }
    )
    network = DeepSpinNetwork(config, seed=3)
    generator = torch.Generator().manual_seed(1)
    for values in (network.mean, network.std, network.energy_bias):
        values += torch.rand(values.shape, generator=generator, dtype=values.dtype)
    write_deepmd(tmp_path / "a.yaml", network)
    back = load_potential(tmp_path / "a.yaml")
    assert same(network, back, REFERENCE.system("small"))
    assert not same(DeepSpinNetwork(config, seed=4), back, REFERENCE.system("small"))


def test_compressed_model_uses_its_networks(changed: Callable[[Change], Path]) -> None:
    def compress(model: Any) -> None:
        model.descriptor.sea.compress = True

    path = changed(compress)
    REFERENCE.compare(load_deepmd(path))
    with pytest.raises(ValueError, match="deepmd::tabulate_fusion_se_a of deepmd-kit"):
        DeepmdScript(path)


def test_converted_by_dp(nio: DeepSpinNetwork, tmp_path: Path) -> None:
    if DP is None:
        pytest.skip("needs deepmd-kit: set DEEPMD_DP to the path of dp")
    write_deepmd(tmp_path / "model.yaml", nio)
    subprocess.run(
        [DP, "convert-backend", "model.yaml", "model.pth"], cwd=tmp_path, check=True
    )
    REFERENCE.compare(load_potential(tmp_path / "model.pth"))
    # The program itself, as DeePMD-kit and LAMMPS run it.
    REFERENCE.compare(DeepmdScript(tmp_path / "model.pth"))


#: What DeepSpinNetwork cannot be: runs as a program, or not at all.
PROGRAMS = {"relu6", "pairs", "atoms", "none", "default", "tasks", "attention"}
IMPOSSIBLE = {"frames"}


@pytest.mark.slow
@pytest.mark.skipif(DP is None, reason="needs deepmd-kit: set DEEPMD_DP to dp's path")
def test_variants_of_models(tmp_path: Path) -> None:
    """The numbers of DeePMD-kit to 1e-10, or a refusal, for models of many kinds."""
    assert DP is not None
    writer = Path(__file__).with_name("deepmd_variants.py")
    python = Path(DP).with_name("python")
    subprocess.run([python, "-W", "ignore", writer, tmp_path], check=True)
    names = sorted(path.stem for path in tmp_path.glob("*.npz"))
    assert len(names) >= 17
    for name in names:
        numbers = np.load(tmp_path / f"{name}.npz")
        atoms = Atoms(
            numbers["symbols"].tolist(),
            numbers["positions"],
            cell=numbers["cell"],
            pbc=True,
            magmoms=numbers["spins"],
        )
        for suffix in (".yaml", ".pth"):
            path = tmp_path / f"{name}{suffix}"
            if name in IMPOSSIBLE or (name in PROGRAMS and suffix == ".yaml"):
                with pytest.raises(ValueError, match=re.escape(str(path))):
                    load_potential(path)
                continue
            potential = load_potential(path)
            assert isinstance(potential, DeepmdScript) == (name in PROGRAMS), name
            found = potential.evaluate(System.from_atoms(atoms))
            for quantity in ("energy", "forces", "magnetic_forces", "virial"):
                error = np.abs(getattr(found, quantity).numpy() - numbers[quantity])
                assert error.max() < 1e-10, f"{quantity} of {path.name}: {error.max()}"


# Programs


def test_program_has_deepmd_numbers(script: DeepmdScript) -> None:
    REFERENCE.compare(script)


def test_message_passing_model() -> None:
    potential = load_potential(DATA / "dpa3.pth")
    assert isinstance(potential, DeepmdScript)
    Reference(DATA / "dpa3_reference.npz").compare(potential)


def test_attention_model() -> None:
    if not SE_ATTEN.exists():
        pytest.skip(f"{SE_ATTEN} is not there")
    Reference(DATA / "se_atten_reference.npz").compare(load_potential(SE_ATTEN))


@pytest.mark.parametrize("searchable", [0, extended.SEARCHABLE])
def test_program_keeps_the_nearest(
    monkeypatch: pytest.MonkeyPatch, searchable: int
) -> None:
    """Large structures get pairs, small ones the program's own search."""
    monkeypatch.setattr(extended, "SEARCHABLE", searchable)
    reference = Reference(DATA / "crowded_reference.npz")
    potential = DeepmdScript(DATA / "crowded.pth")
    system = reference.system("triclinic")
    pairs = build_pairs(system, potential.pair_cutoff(system))
    structure = next(potential._split(system, pairs))
    assert potential._truncation.happens(structure)
    assert structure.can_be_searched(potential.cutoff) == (searchable > 0)
    reference.compare(potential)


@pytest.mark.parametrize("kind", ["slots", "pairs", "atoms"])
def test_what_is_no_network_runs_as_program(
    changed: Callable[[Change], Path],
    caplog: pytest.LogCaptureFixture,
    nio: DeepSpinNetwork,
    kind: str,
) -> None:
    def change(model: Any) -> None:
        if kind == "slots":
            model.descriptor.sea.stddev[0, 3] *= 2.0
        elif kind == "pairs":
            model.pair_excl.type_mask.view(5, 5)[0, 1] = 0
        else:
            model.atom_exclude_types = [1, 2, 3]

    path = changed(change)
    with caplog.at_level(logging.WARNING):
        potential = load_deepmd(path)
    assert isinstance(potential, DeepmdScript)
    assert "TorchScript, which is slower" in caplog.text
    if kind != "atoms":  # a list that the program does not read by itself
        assert not same(potential, nio, REFERENCE.system("small"))


@pytest.mark.parametrize("part", ["bias", "davg", "dstd"])
def test_programs_are_asked_whether_the_network_is_right(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    """What the reader of a program does not know of shows in the numbers."""
    read = frozen.read

    def read_wrongly(script: Any) -> Any:
        parameters = read(script)
        wrong = 1.01 * getattr(parameters, part) + 1e-3
        return dataclasses.replace(parameters, **{part: wrong})

    monkeypatch.setattr(frozen, "read", read_wrongly)
    potential = load_deepmd(DATA / "atom_ener.pth")
    assert isinstance(potential, DeepmdScript)
    assert "numbers are not those of the networks" in caplog.text
    found = potential.evaluate(_iron_oxide()).forces
    assert found is not None
    np.testing.assert_allclose(found, ATOM_ENER["forces"], rtol=0.0, atol=1e-10)


def test_program_on_a_batch(script: DeepmdScript) -> None:
    systems = [REFERENCE.system(case) for case in ("small", "cluster", "frame")]
    batch = script.evaluate(System.cat(systems))
    singles = [script.evaluate(system) for system in systems]
    for name in ("energy", "energies", "forces", "magnetic_forces", "virial"):
        joined = torch.cat([getattr(single, name) for single in singles])
        torch.testing.assert_close(getattr(batch, name), joined, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)])
def test_program_in_any_periodicity(
    script: DeepmdScript, nio: DeepSpinNetwork, pbc: tuple[bool, bool, bool]
) -> None:
    atoms = REFERENCE.atoms("small")
    atoms.pbc = pbc
    assert same(script, nio, System.from_atoms(atoms))


def test_program_takes_pairs_with_a_skin(
    script: DeepmdScript, nio: DeepSpinNetwork
) -> None:
    system = REFERENCE.system("small")
    pairs = build_pairs(system, script.pair_cutoff(system) + 1.0)
    found = script.evaluate(system, pairs)
    expected = nio.evaluate(system)
    torch.testing.assert_close(found.energies, expected.energies, rtol=0.0, atol=1e-11)
    torch.testing.assert_close(found.forces, expected.forces, rtol=0.0, atol=1e-11)


def test_program_is_differentiable(script: DeepmdScript, nio: DeepSpinNetwork) -> None:
    system = REFERENCE.system("small")

    def curvature(potential: Potential) -> Tensor:
        positions = system.positions.clone().requires_grad_()
        moved = system.replace(positions=positions)
        pairs = build_pairs(system, potential.pair_cutoff(system))
        energy = potential(moved, pairs).sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        (second,) = torch.autograd.grad(gradient[0, 0], positions)
        return second

    torch.testing.assert_close(curvature(script), curvature(nio), rtol=0.0, atol=1e-10)
    kept = script.evaluate(system, create_graph=True)
    plain = script.evaluate(system)
    for name in ("energies", "forces", "magnetic_forces", "virial"):
        torch.testing.assert_close(
            getattr(kept, name).detach(), getattr(plain, name), rtol=0.0, atol=1e-11
        )


def test_precision_of_a_program_stays(script: DeepmdScript) -> None:
    system = REFERENCE.system("small")
    found = DeepmdScript(NIO).float().evaluate(system.to(dtype=torch.float32))
    assert found.forces is not None and found.forces.dtype == torch.float32
    expected = script.evaluate(system).forces
    torch.testing.assert_close(found.forces.double(), expected, rtol=0.0, atol=1e-6)


def test_program_checks_the_structure(script: DeepmdScript) -> None:
    with pytest.raises(ValueError, match="does not know the element Fe"):
        script.evaluate(System.from_atoms(Atoms("Fe", magmoms=[[0.0, 0.0, 2.0]])))
    with pytest.raises(ValueError, match="O carries a moment but is non-magnetic"):
        script.evaluate(System.from_atoms(Atoms("O", magmoms=[[0.0, 0.0, 2.0]])))


def test_operators_do_not_stay_declared() -> None:
    for _ in range(2):
        with declared_operators(), declared_operators():
            pass
    # deepmd-kit can be imported afterwards, and programs opened after it.
    library = torch.library.Library("deepmd", "FRAGMENT")
    library.define("border_op(Tensor a) -> Tensor")
    load_deepmd(NIO)
    del library


# Bad files


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    bomb, path = tmp_path / "executed", tmp_path / "model.pth"
    if zipped:
        torch.save({"model": Bomb(bomb)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(bomb)))
    assert not recognises(path)
    with pytest.raises(ValueError, match=r"expected a model\.pt"):
        load_potential(path)
    with pytest.raises(ValueError, match=r"expected a frozen \.pth"):
        load_deepmd(path)
    assert not bomb.exists()
    pickle.loads(pickle.dumps(Bomb(bomb)))
    assert bomb.exists()


def _truncated(path: Path) -> None:
    path.write_bytes(NIO.read_bytes()[:100_000])


def _damaged(path: Path) -> None:
    with zipfile.ZipFile(NIO) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if not name.endswith("data/7"):
                target.writestr(name, source.read(name))


def _foreign_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not a model")


def _text(path: Path) -> None:
    path.write_text("not a model\n")


def _foreign_program(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def _dipoles(path: Path) -> None:
    """A program as DeePMD-kit has it for dipoles."""

    class Dipoles(torch.nn.Module):
        @torch.jit.export
        def get_type_map(self) -> list[str]:
            return ["O"]

        @torch.jit.export
        def model_output_type(self) -> list[str]:
            return ["dipole", "mask"]

        @torch.jit.export
        def forward_lower(self, x: Tensor) -> Tensor:
            return x

        def forward(self, x: Tensor) -> Tensor:
            return x

    torch.jit.save(torch.jit.script(Dipoles()), path)


def _unknown_operator(path: Path) -> None:
    library = torch.library.Library("foreign", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")

    class Foreign(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.foreign.twice(x)

    torch.jit.save(torch.jit.script(Foreign()), path)
    del library


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_truncated, "truncated"),
        (_damaged, "damaged TorchScript"),
        (_foreign_zip, "cannot be read as a model.pt"),
        (_text, "expected a model.pt"),
        (_foreign_program, "no energy model of DeePMD-kit"),
        (_dipoles, "gives dipole, no energy; only models of energies"),
        (_unknown_operator, "needs the operator foreign::twice"),
    ],
)
def test_bad_frozen_files(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "model.pth"
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        load_potential(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "rcut_smth: 2.5\n      resnet_dt",
            "resnet_dt",
            "not a complete .*'rcut_smth'",
        ),
        ("type: se_e2_a", "type: se_atten", "'se_atten', not 'se_e2_a'; convert it"),
        ("type: spin_ener", "type: standard", "'standard' model, not 'spin_ener'"),
        ("numb_fparam: 0", "numb_fparam: 1", "it needs frame or atomic parameters"),
        ("numb_aparam: 0", "numb_aparam: 1", "it needs frame or atomic parameters"),
        ("dim_case_embd: 0", "dim_case_embd: 1", "dim_case_embd = 1; convert it"),
        ("type: spin_ener", "type: sezm_native_spin", "cannot be used: its spins"),
        ("type: ener\n", "type: dipole\n", "type 'dipole', which gives no energy"),
        ("mixed_types: false", "mixed_types: true", "mixed_types = True"),
        ("tot_ener_zero: false", "tot_ener_zero: true", "tot_ener_zero = True"),
        ("var_name: energy", "new_entry: 2", "new_entry = 2"),
        ("'@version': 4", "'@version': 5", "fitting is of version 5; known .* 4;"),
        ("\n      '@version': 2", "\n      '@version': 3", r"descriptor .* version 3"),
        ("resnet: true", "resnet: false", "layer has resnet = False"),
        (
            "tanh\n            bias: true",
            "gelu\n            bias: true",
            "gelu and tanh",
        ),
        ("- true\n", "- false\n", "none of its elements is magnetic"),
        ("activation_function: tanh", "activation_function: cosine", "'cosine'"),
        ("dtype: float64", "dtype: nonsense", "malformed array"),
        ("dtype: float64", "dtype: [", "not valid YAML at line"),
        ("model:\n", "modell:\n", "KeyError: 'model'"),
        ("- - - ", "- - 1.0\n          - - ", "."),
    ],
)
def test_bad_neutral_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (DATA / "three_elements.yaml").read_text()
    assert old in text
    path = tmp_path / "model.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        load_potential(path)
    assert str(path) in str(caught.value)


def _checkpoint(path: Path) -> None:
    torch.save({"model": {"_extra_state": {}}, "optimizer": {}}, path)


def _compiled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/aotinductor/model/model.so", "")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("model.ckpt.pt", _checkpoint, "checkpoint .*'dp --pt freeze' makes"),
        ("frozen.pb", _text, "TensorFlow .*PyTorch back end"),
        ("frozen.pt2", _compiled, "needs deepmd-kit; 'dp convert-backend'"),
    ],
)
def test_files_of_other_back_ends(
    tmp_path: Path, name: str, make: Any, message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        load_potential(tmp_path / name)


def test_weights_of_wrong_shape(tmp_path: Path, nio: DeepSpinNetwork) -> None:
    write_deepmd(tmp_path / "a.yaml", nio)
    text = (tmp_path / "a.yaml").read_text()
    text = text.replace("type_one_side: false", "type_one_side: true")
    text = text.replace("neuron: [64, 64, 64]", "neuron: [64, 64]")
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"b\.yaml.*layers"):
        load_potential(tmp_path / "b.yaml")


def test_yaml_is_not_run(tmp_path: Path) -> None:
    bomb, path = tmp_path / "executed", tmp_path / "model.yaml"
    path.write_text(f"model: !!python/object/apply:os.mkdir [{bomb}]\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_potential(path)
    assert not bomb.exists()


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\nrest"])
def test_bad_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.dp"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_potential(path)


def test_what_cannot_be_written(
    tmp_path: Path, nio: DeepSpinNetwork, script: DeepmdScript
) -> None:
    with pytest.raises(ValueError, match="not Sum; of a sum or a committee, write"):
        write_deepmd(tmp_path / "model.yaml", Sum([nio, nio]))
    config = nio.config.to_dict()
    config["spin"]["use_spin"] = [False, False]
    alone = DeepSpinNetwork(DeepSpinConfig.from_dict(config))
    with pytest.raises(ValueError, match="need a magnetic element; this network"):
        write_deepmd(tmp_path / "model.yaml", alone)
    with pytest.raises(ValueError, match=r"must end in \.yaml"):
        write_deepmd(tmp_path / "model.pth", nio)
    with pytest.raises(ValueError, match="not the TorchScript of"):
        save_potential(tmp_path / "model.pt", Sum([nio, script]))
    assert not list(tmp_path.iterdir())


# The command


def test_convert(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for source, target in ((NIO, "a.pt"), ("a.pt", "b.yaml"), ("b.yaml", "c.pt")):
        assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 0
        assert target in capsys.readouterr().out
    REFERENCE.compare(load_potential(tmp_path / "c.pt"))
    assert load_card(tmp_path / "a.pt") == {"source": "nio_early.pth"}
    assert main(["convert", str(NIO), str(tmp_path / "model.txt")]) == 2
    assert "must end in one of .safetensors, .pt, .pth" in capsys.readouterr().err
    monkeypatch.delenv("DEEPSPIN_LAMMPS_PYTHON", raising=False)
    assert main(["convert", str(NIO), str(tmp_path / "model.pth")]) == 2
    assert "the variable DEEPSPIN_LAMMPS_PYTHON" in capsys.readouterr().err
