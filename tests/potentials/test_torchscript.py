"""Exported programs give what their potentials give, without this package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from networks import config

from deepspin_ase import load_potential, set_spins
from deepspin_ase.cli import main
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    ZBL,
    CubicCut,
    DeepSpinNetwork,
    Heisenberg,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    Sum,
    choose_backend,
    export_torchscript,
    reference,
    save_potential,
)
from deepspin_ase.potentials.deepmd._extended import Structure
from deepspin_ase.potentials.terms import DipoleDipole
from deepspin_ase.system import System

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

NAMES = ("energy", "energies", "forces", "magnetic_forces", "virial")

#: Runs in a process that cannot import this package.
CHILD = """
import sys
sys.modules["deepspin_ase"] = None
import numpy as np, torch
inputs, *programs = sys.argv[1:]
given = {k: torch.from_numpy(v) for k, v in np.load(inputs).items()}
edges = given.pop("edges"), given.pop("shifts")
batch = torch.zeros_like(given["numbers"])
rest = given["positions"], given["moments"], given["numbers"], *edges
for program in programs:
    script = torch.jit.load(program)
    with torch.jit.optimized_execution(False):
        own = script.evaluate(**given)
        listed = script(*rest, given["cell"][None], batch)
    found = {f"own_{k}": v.numpy() for k, v in own.items()}
    found |= {f"listed_{k}": v.numpy() for k, v in listed.items()}
    np.savez(program.replace(".pth", ".npz"), **found)
"""


def network(*, spin_orbit: bool, lengths: bool = True) -> SpinMomentNetwork:
    config = SpinMomentConfig.from_dict(
        {
            "elements": ["Fe", "Ni", "O"],
            "magnetic": ["Fe", "Ni"],
            "spin_orbit": spin_orbit,
            "lengths": lengths,
            "cutoff": 4.0,
            "channels": 3,
            "spin_channels": 3,
            "degree": 2,
            "four_body": 1,
            "neuron": [6, 6],
        }
    )
    made = SpinMomentNetwork(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        made.linear.normal_(generator=generator).mul_(0.1)
        made.energy_bias.normal_(generator=generator)
    return made.eval().requires_grad_(False)


def structure(pbc: tuple[bool, bool, bool], *, seed: int = 0) -> Atoms:
    """Return atoms in a skew cell shorter than the cutoff, some outside of it."""
    rng = np.random.default_rng(seed)
    cell = np.diag([3.2, 4.9, 5.3]) + rng.normal(0, 0.4, (3, 3))
    atoms = Atoms("FeNiOFeO", cell=cell, pbc=pbc)
    atoms.set_scaled_positions(
        [[0, 0, 0], [0.5, 0.4, 0], [0.4, 0, 0.5], [0, 0.5, 0.5], [0.6, 0.6, 0.6]]
    )
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.positions[1] += 2.0 * cell[0] - 3.0 * cell[2]
    moments = rng.normal(0, 1, (5, 3))
    moments[[2, 4]] = 0.0
    set_spins(atoms, moments)
    return atoms


@pytest.fixture(autouse=True)
def _as_they_are():
    """Run programs as they are: to specialize them takes seconds."""
    with torch.jit.optimized_execution(False):
        yield


def in_torch(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    choose_backend(potential, "reference")
    found = potential.evaluate(System.from_atoms(atoms))
    return {name: getattr(found, name).numpy() for name in NAMES}


def test_programs_run_without_the_package(tmp_path: Path) -> None:
    """A network, and one on a baseline; with the program's pairs and with ASE's."""
    terms = [ZBL(0.8, 2.5), Heisenberg(CubicCut(0.02, 3.5)), network(spin_orbit=False)]
    potentials = {"network": network(spin_orbit=True), "sum": Sum(terms)}
    for name, potential in potentials.items():
        save_potential(tmp_path / f"{name}.pt", potential)
        model, output = (
            str(tmp_path / f"{name}{suffix}") for suffix in (".pt", ".pth")
        )
        assert main(["export", model, output]) == 0
    atoms = structure((True, True, False))
    i, j, shifts = neighbor_list("ijS", atoms, 4.4)
    np.savez(
        tmp_path / "inputs.npz",
        positions=atoms.positions,
        moments=atoms.get_initial_magnetic_moments(),
        numbers=atoms.numbers.astype(np.int64),
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        edges=np.stack([i, j]),
        shifts=shifts,
    )
    files = ["inputs.npz", *(f"{name}.pth" for name in potentials)]
    subprocess.run([sys.executable, "-c", CHILD, *files], check=True, cwd=tmp_path)
    for name, potential in potentials.items():
        with np.load(tmp_path / f"{name}.npz") as found:
            for quantity, values in in_torch(potential, atoms).items():
                size = max(1.0, np.abs(values).max())
                for way in ("own", "listed"):
                    np.testing.assert_allclose(
                        found[f"{way}_{quantity}"], values, rtol=0, atol=1e-12 * size
                    )


def test_batches_and_any_periodicity(tmp_path: Path) -> None:
    potential = network(spin_orbit=True)
    export_torchscript(tmp_path / "out.pth", potential)
    script = torch.jit.load(tmp_path / "out.pth")
    images = [
        structure(pbc, seed=k)
        for k, pbc in enumerate(
            [(True, True, True), (False, True, False), (False, False, False)]
        )
    ]
    alone = []
    for atoms in images:
        expected, system = in_torch(potential, atoms), System.from_atoms(atoms)
        inputs = (system.positions, system.spins, system.species)
        found = script.evaluate(*inputs, system.cell[0], system.pbc[0])
        for name in NAMES:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-12)
        alone.append(
            (found, *script.neighbors(inputs[0], system.cell[0], system.pbc[0]))
        )
    system = System.cat([System.from_atoms(atoms) for atoms in images])
    together = script(
        system.positions,
        system.spins,
        system.species,
        torch.cat([e + 5 * k for k, (_, e, _) in enumerate(alone)], dim=1),
        torch.cat([s for _, _, s in alone]),
        system.cell,
        system.index,
    )
    for name in NAMES:
        expected_values = torch.cat([found[name] for found, _, _ in alone])
        torch.testing.assert_close(together[name], expected_values, rtol=0, atol=1e-12)


def test_programs_are_tied_to_no_device(tmp_path: Path) -> None:
    terms = [ZBL(0.8, 2.5), Heisenberg(CubicCut(0.02, 3.5)), network(spin_orbit=True)]
    export_torchscript(tmp_path / "out.pth", Sum(terms))
    with torch.jit.optimized_execution(True):
        graph = str(torch.jit.load(tmp_path / "out.pth").atomic.inlined_graph)
    assert "aten::index_add" in graph
    assert "Device" not in graph


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    path = tmp_path / "out.pth"
    pseudo_atoms = DeepSpinNetwork(config())
    for potential in (pseudo_atoms, Sum([ZBL(0.8, 2.5), pseudo_atoms])):
        with pytest.raises(ValueError, match="energies of DeepSpinNetwork depend on"):
            export_torchscript(path, potential)
    with pytest.raises(ValueError, match=r"ZBL .* it is for any element; name them"):
        export_torchscript(path, ZBL(0.8, 2.5))
    with pytest.raises(ValueError, match="and does not in DipoleDipole"):
        export_torchscript(path, Sum([network(spin_orbit=False), DipoleDipole()]))
    export_torchscript(path, Sum([ZBL(0.8, 2.5)], elements=["Fe", "O"]))
    path.unlink()
    with pytest.raises(ValueError, match=r"must end in \.pth"):
        export_torchscript(tmp_path / "out.pt", network(spin_orbit=False))
    assert not path.exists()
    export_torchscript(path, network(spin_orbit=False))
    with pytest.raises(ValueError, match="load the model that it was made from"):
        load_potential(path)


def test_programs_refuse_foreign_atoms(tmp_path: Path) -> None:
    export_torchscript(tmp_path / "out.pth", network(spin_orbit=False))
    script = torch.jit.load(tmp_path / "out.pth")
    system = System.from_atoms(structure((True, True, True)))
    rest = (system.cell[0], system.pbc[0])
    with pytest.raises(torch.jit.Error, match="does not know the element"):
        script.evaluate(system.positions, system.spins, system.species + 1, *rest)
    with pytest.raises(torch.jit.Error, match="whose element carries none"):
        script.evaluate(system.positions, system.spins + 1.0, system.species, *rest)


@pytest.mark.parametrize("name", ["network", "directions", "sum", "embedded atoms"])
def test_programs_take_the_place_of_a_model_of_deepmd(
    tmp_path: Path, name: str
) -> None:
    """With ghosts, and neighbors beyond the cutoff, as LAMMPS lists them."""
    terms = [ZBL(0.8, 2.5), Heisenberg(CubicCut(0.02, 3.5)), network(spin_orbit=False)]
    potential = {
        "network": network(spin_orbit=True),
        "directions": network(spin_orbit=True, lengths=False),
        "sum": Sum(terms),
        "embedded atoms": reference.fe(),
    }[name]
    atoms = structure((True, True, False))
    if name == "embedded atoms":
        atoms.symbols[:] = "Fe"
    export_torchscript(tmp_path / "out.pth", potential)
    script = torch.jit.load(tmp_path / "out.pth")
    system, n = System.from_atoms(atoms), len(atoms)
    types = torch.searchsorted(script.elements, system.species)
    assert [script.get_type_map()[t] for t in types] == atoms.get_chemical_symbols()
    assert script.get_rcut() == potential.cutoff
    given = Structure(
        system.positions,
        system.spins,
        torch.zeros_like(system.spins),
        types,
        system.cell[0],
        system.pbc[0],
        build_pairs(system, potential.cutoff + 0.8),
    ).extended(0)
    found = script.forward_lower(**given.inputs(True), do_atomic_virial=True)
    expected = in_torch(potential, atoms)
    results = {
        "energy": found["energy"],
        "energies": found["atom_energy"],
        "forces": given.gather(found["extended_force"]),
        "magnetic_forces": given.gather(found["extended_force_mag"]),
        "virial": found["virial"],
    }
    for key, values in results.items():
        np.testing.assert_allclose(
            values.numpy().ravel(), expected[key].ravel(), rtol=0, atol=1e-11
        )
    assert all(values.is_contiguous() for values in found.values())
    shares = found["extended_virial"]
    assert shares.shape == (1, len(given.types), 1, 9)
    torch.testing.assert_close(shares.sum(1)[0], found["virial"], rtol=0, atol=1e-11)
    assert len(given.types) > n and (given.neighbours < 0).any()


def test_the_program_is_the_same_by_both_commands(tmp_path: Path) -> None:
    save_potential(tmp_path / "fe.pt", reference.fe())
    model, first, second = (str(tmp_path / x) for x in ("fe.pt", "a.pth", "b.pth"))
    assert main(["export", model, first]) == 0
    assert main(["convert", model, second]) == 0
    one, two = (torch.jit.load(x) for x in (first, second))
    codes = [re.sub(r"___torch_mangle_\d+\.", "", x.code) for x in (one, two)]
    assert codes[0] == codes[1]
