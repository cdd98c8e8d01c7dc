"""Models of other programs: with these, where they are installed, and without."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units

from deepspin_ase import DeepSpinCalculator, set_spins, write_extxyz
from deepspin_ase.cli import main
from deepspin_ase.dynamics import SpinLatticeNVE
from deepspin_ase.dynamics.observables import kinetic_energy
from deepspin_ase.potentials import load_card, load_potential, save_potential
from deepspin_ase.potentials.adapters import ADAPTERS, beside, split
from deepspin_ase.testing import check_potential

#: A model of DeePMD-kit with spins (of Fe, and O without), frozen or a checkpoint.
DEEPMD_MODEL = os.environ.get("DEEPMD_SPIN_MODEL")


def needs(module: str) -> pytest.MarkDecorator:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    return pytest.mark.skipif(not found, reason=f"needs {module}")


def structures() -> list[Atoms]:
    cell = [[4.1, 0.2, 0.0], [-0.3, 3.9, 0.4], [0.5, 0.1, 4.4]]
    places = [[0, 0, 0], [0.5, 0.45, 0.55], [0.1, 0.5, 0.9], [0.5, 0, 0.2]]
    atoms = Atoms("Fe3O", scaled_positions=places, cell=cell, pbc=True)
    set_spins(atoms, [[1, 2, 0.5], [-0.3, 0.2, -0.9], [2, 0, -1], [0, 0, 0]])
    pair = Atoms("Fe2", [[0, 0, 0], [1.4, 1.5, 1.3]], cell=np.diag([2.8, 2.9, 3]))
    pair.pbc = True
    set_spins(pair, [[1, 0.3, 2.0], [-0.4, 1.1, 0.6]])
    return [atoms, pair]


def nep(path: Path, *, kind: str = "nep4_spin2") -> Path:
    """Write a model of random numbers; more than it has are not read."""
    head = [
        f"{kind} 2 Fe O",
        "spin_mode 2 11",
        "spin_baseline 0 0",
        "spin_basis_size 8",
        "spin_l_max 2",
        "spin_compress 2",
        "spin_cutoff 4.5",
        "spin_order 3",
        "spin_soc 1",
        "spin_projection_size 16",
        "spin_scaler 1",
        "spin_dof_type Fe",
        "spin_env_type Fe",
        "cutoff 4.5 4.0 64 64",
        "n_max 3 2",
        "basis_size 6 6",
        "l_max 4 2 0",
        "ANN 8 0",
    ]
    values = 0.1 * np.random.default_rng(0).normal(size=2000)
    path.write_text("\n".join([*head, *(f"{x:.10e}" for x in values)]) + "\n")
    return path


def check_copies(name: str, folder: Path) -> None:
    """Copies, pickles and calculators give the same; model files refuse."""
    potential = load_potential(name)
    (expected,) = DeepSpinCalculator(name).evaluate(structures()[:1])
    for twin in (copy.deepcopy(potential), pickle.loads(pickle.dumps(potential))):
        (found,) = DeepSpinCalculator(twin).evaluate(structures()[:1])
        np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-9)
        np.testing.assert_allclose(found["stress"], expected["stress"], atol=1e-9)
    with pytest.raises(ValueError, match="not the model of"):
        save_potential(folder / "model.pt", potential)
    assert load_card(name) == {}
    assert main(["info", name]) == 0


@needs("nep_adapters")
def test_nep(tmp_path: Path) -> None:
    path = nep(tmp_path / "nep.txt")
    potential = load_potential(f"nep:{path}")
    symmetries = ("time_reversal", "rotation", "inversion")
    check_potential(potential, structures(), symmetries=symmetries, tolerance=1e-5)
    with pytest.raises(AssertionError, match="moments rotated"):
        check_potential(potential, structures(), symmetries=("spin_rotation",))
    check_copies(f"nep:{path}", tmp_path)
    iron = structures()[1].repeat(2)
    iron.calc = DeepSpinCalculator(f"nep:{path}")
    driver = SpinLatticeNVE(iron, 0.5 * units.fs, logfile=tmp_path / "log")
    before = float(driver.prediction.energy)
    driver.run(5)
    kept = kinetic_energy(driver.state.system, driver.state.momenta, driver.mass)
    assert float(driver.prediction.energy + kept) == pytest.approx(before, abs=1e-6)
    write_extxyz(tmp_path / "iron.extxyz", [iron])
    command = ["relax", str(tmp_path / "iron.extxyz"), "--model", f"nep:{path}"]
    output = tmp_path / "relaxed.extxyz"
    assert main([*command, "--output", str(output), "--steps", "3"]) in (0, 3)
    assert output.is_file()
    slab, oxide = structures()[0], structures()[0]
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="add vacuum"):
        DeepSpinCalculator(potential).get_property("energy", slab)
    set_spins(oxide, np.ones((4, 3)))
    with pytest.raises(ValueError, match="O carries a moment but is non-magnetic"):
        DeepSpinCalculator(potential).get_property("energy", oxide)
    path.write_text("\n".join(path.read_text().splitlines()[:100]))
    with pytest.raises(ValueError, match=r"nep-adapters cannot read .*truncated"):
        load_potential(f"nep:{path}")
    path.write_text("nothing")
    with pytest.raises(ValueError, match="nep-adapters cannot read"):
        load_potential(f"nep:{path}")


@needs("deepmd.infer")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not DEEPMD_MODEL, reason="needs a model: set DEEPMD_SPIN_MODEL")
def test_deepmd(tmp_path: Path) -> None:
    name = f"deepmd:{DEEPMD_MODEL}"
    potential = load_potential(name)
    symmetries = ("time_reversal", "rotation", "inversion")
    check_potential(potential, structures(), symmetries=symmetries, tolerance=1e-5)
    check_copies(name, tmp_path)
    slab = structures()[0]
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="add vacuum"):
        DeepSpinCalculator(potential).get_property("energy", slab)
    broken = tmp_path / f"broken{Path(DEEPMD_MODEL or '').suffix}"
    broken.write_bytes(Path(DEEPMD_MODEL or "").read_bytes()[:1000])
    with pytest.raises(ValueError, match="deepmd-kit cannot read"):
        load_potential(f"deepmd:{broken}")


@needs("deepmd.infer")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["dpa3", "crowded"])
def test_frozen_models_of_deepmd(name: str) -> None:
    """By DeePMD-kit and as they are read here."""
    path = Path(__file__).parents[1] / "data" / "deepmd" / f"{name}.pth"
    theirs, ours = load_potential(f"deepmd:{path}"), load_potential(path)
    assert theirs.magnetic_species == ours.magnetic_species
    atoms = structures()[0].repeat(2)
    old = sorted({*atoms.numbers})
    new = sorted(theirs.species)
    atoms.numbers = np.array(new)[np.searchsorted(old, atoms.numbers)]
    carries = np.isin(atoms.numbers, [*theirs.magnetic_species])
    spins = np.random.default_rng(0).normal(size=(len(atoms), 3))
    set_spins(atoms, spins * carries[:, None])
    (found,), (expected,) = (
        DeepSpinCalculator(p).evaluate([atoms]) for p in (theirs, ours)
    )
    for key in ("energy", "forces", "magnetic_forces", "stress"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-9)


def tace(path: Path) -> Path:
    """Write a model with random weights."""
    from tace.lightning import create_model, export_tace
    from tace.models._e3nn.default import DEFAULT_MODEL_CONFIG

    config = copy.deepcopy(DEFAULT_MODEL_CONFIG)
    del config["target_property"], config["embedding_property"]
    config |= {"cutoff": 4.0, "num_channel": 4, "num_layers": 1, "max_neighbors": None}
    config |= {"mmax": 1, "Lmax": 1, "lmax": 2}
    config["atomic_basis"]["type"] = "o2_mag"
    config["angular_basis"]["magnetic_Lmax"] = 1
    config["radial_basis"]["apply_cutoff"] = False
    config["fidelity"]["magnetic_scale"] = 3.0
    ones = {8: 1.0, 26: 1.0}
    statistics = {"atomic_numbers": [8, 26], "avg_num_neighbors": 20.0}
    statistics |= {"atomic_energy": ones, "rms_forces": ones, "magnetic_scale": 3.0}
    targets = ["energy", "forces", "stress", "noncollinear_magnetic_forces"]
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = create_model(
            config, [statistics], targets, ["initial_noncollinear_magmoms"]
        )
    finally:
        torch.set_default_dtype(before)
    export_tace(model, str(path))
    return path


@needs("tace")
@pytest.mark.filterwarnings("ignore")
def test_tace(tmp_path: Path) -> None:
    path = tace(tmp_path / "tace.pt")
    with pytest.raises(ValueError, match=rf"is a pickle.*tace\+trust:{path}"):
        load_potential(f"tace:{path}")
    name = f"tace+trust:{path}"
    check_potential(
        load_potential(name), structures(), symmetries=("rotation",), tolerance=1e-5
    )
    check_copies(name, tmp_path)
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match="TACE"):
        load_potential(name)


class MagneticMACE(torch.nn.Module):
    """Terms of pairs and moments with the interface of the models of MACE."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("atomic_numbers", torch.tensor([8, 26]))
        self.register_buffer("r_max", torch.tensor(4.0))
        self.register_buffer("m_max", torch.tensor([1.0, 3.0]))
        self.register_buffer("num_interactions", torch.tensor(1))

    def forward(self, data, *, training, compute_force, **wanted):
        positions = data["positions"].requires_grad_()
        moments = data["magmom"].requires_grad_()
        strain = torch.zeros(len(data["ptr"]) - 1, 3, 3, dtype=positions.dtype)
        strain.requires_grad_()
        symmetric = 0.5 * (strain + strain.transpose(1, 2))
        batch, (i, j) = data["batch"], data["edge_index"]
        moved = positions + torch.einsum("na,nab->nb", positions, symmetric[batch])
        cell = data["cell"].view(-1, 3, 3)
        cells = (cell + cell @ symmetric)[batch[i]]
        shifts = torch.einsum("pa,pab->pb", data["unit_shifts"], cells)
        if not wanted["compute_virials"]:
            shifts = data["shifts"]
        r = moved[j] - moved[i] + shifts
        d = r.norm(dim=1)
        switch = (1.0 - (d / self.r_max) ** 2).clamp_min(0.0) ** 3
        kind = data["node_attrs"] @ torch.tensor([0.3, 1.0], dtype=positions.dtype)
        u = r / d[:, None]
        coupling = (moments[i] * moments[j]).sum(1) + 0.4 * (moments[i] * u).sum(1) * (
            moments[j] * u
        ).sum(1)
        pair = switch * (kind[i] * kind[j] + 0.1 * coupling)
        energies = torch.zeros_like(kind).index_add(0, i, pair)
        energies = energies + 0.01 * (moments**2).sum(1) ** 2
        f, m, v = torch.autograd.grad(energies.sum(), [positions, moments, strain])
        energy = torch.zeros(len(strain), dtype=f.dtype).index_add(0, batch, energies)
        found = {"energy": energy, "node_energy": energies, "forces": -f}
        return found | {"magforces": -m, "virials": -v}


class MagneticSCFMACE(torch.nn.Module):
    pass


class TimeReversalSymmetrizedMACE(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, data, **wanted):
        found = self.model(dict(data), **wanted)
        other = self.model({**data, "magmom": -data["magmom"].detach()}, **wanted)
        signs = {"magforces": -1.0}
        return {k: 0.5 * (v + signs.get(k, 1.0) * other[k]) for k, v in found.items()}


def test_mace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface; no release of mace-torch has magnetic models."""
    monkeypatch.setitem(sys.modules, "mace", types.ModuleType("mace"))
    path = tmp_path / "magnetic.model"
    torch.save(MagneticMACE(), path)
    with pytest.raises(ValueError, match=rf"is a pickle.*mace\+trust:{path}"):
        load_potential(f"mace:{path}")
    name = f"mace+trust:{path}"
    potential = load_potential(name)
    symmetries = ("time_reversal", "rotation", "inversion")
    check_potential(potential, structures(), symmetries=symmetries)
    check_copies(name, tmp_path)
    long = structures()[0]
    set_spins(long, [[0, 0, 3.1], [0, 0, 1], [0, 0, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match="longer than the longest"):
        DeepSpinCalculator(potential).get_property("energy", long)
    (expected,) = DeepSpinCalculator(potential).evaluate(structures()[:1])
    torch.save(TimeReversalSymmetrizedMACE(MagneticMACE()), path)
    reversed_too = load_potential(name)
    check_potential(reversed_too, structures(), symmetries=symmetries)
    (found,) = DeepSpinCalculator(reversed_too).evaluate(structures()[:1])
    np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-12)
    assert reversed_too.cutoff == 4.0
    for wrong in (MagneticSCFMACE(), TimeReversalSymmetrizedMACE(MagneticSCFMACE())):
        torch.save(wrong, path)
        with pytest.raises(ValueError, match="AdiabaticMoments"):
            load_potential(name)
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(ValueError, match="is a Linear, not a MagneticMACE"):
        load_potential(name)
    path.write_bytes(b"PK broken")
    with pytest.raises(ValueError, match="mace-torch cannot read"):
        load_potential(name)
    gone = types.ModuleType("mace.models")
    gone.Gone = type("Gone", (), {"__module__": "mace.models"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mace.models", gone)
    torch.save(gone.Gone(), path)
    del gone.Gone
    with pytest.raises(ImportError, match=r"does not go with .*Gone.*git\+https"):
        load_potential(name)


class Backbone(torch.nn.Module):
    """Exchange of pairs with the interface of the network in a model of Prophet."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.1))

    def forward_features(
        self, species, positions, edge_attr, edge_index, cell, n_graph, magmoms=None
    ):
        sender, receiver = edge_index
        r = positions[sender] - positions[receiver]
        r = r + torch.einsum("pa,pab->pb", edge_attr, cell[n_graph[sender]])
        switch = (1.0 - (r.norm(dim=1) / 4.0) ** 2).clamp_min(0.0) ** 3
        product = (magmoms[sender] * magmoms[receiver]).sum(1)
        pair = self.scale * switch * (1.0 + species[sender] + product)
        return torch.zeros(len(species)).index_add(0, receiver, pair), None


class ProphetSpin(torch.nn.Module):
    graph_cutoff = 4.0

    def __init__(self, config: dict) -> None:
        super().__init__()
        assert config["kernel"] is False
        self.model = Backbone()
        kinds = torch.zeros(119, dtype=torch.long)
        kinds[config["atomic_numbers"]] = torch.arange(len(config["atomic_numbers"]))
        self.register_buffer("z2idx", kinds)


def test_prophet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface; no registry has prophet-mlip."""
    module = types.ModuleType("prophet_spin.adapter")
    module.ProphetSpin = ProphetSpin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "prophet_spin", types.ModuleType("prophet_spin"))
    monkeypatch.setitem(sys.modules, "prophet_spin.adapter", module)
    config = {"atomic_numbers": [8, 26], "kernel": True, "magmom_conditioning": True}
    path = tmp_path / "prophet.pt"

    def write(config: dict) -> None:
        with path.open("wb") as stream:
            stream.write(json.dumps(config).encode() + b"\n")
            torch.save(ProphetSpin(config | {"kernel": False}).state_dict(), stream)

    write(config)
    name = f"prophet:{path}"
    # Differences of energies in float32 are no better.
    check_potential(load_potential(name), structures(), tolerance=0.03)
    check_copies(name, tmp_path)
    write({k: v for k, v in config.items() if k != "magmom_conditioning"})
    with pytest.raises(ValueError, match="without moments"):
        load_potential(name)
    path.write_bytes(b"\x00\xff")
    with pytest.raises(ValueError, match="no file of Prophet"):
        load_potential(name)


def test_names(tmp_path: Path) -> None:
    assert split("NiO") is None
    assert split("other:model.pt") is None
    assert split("mace+trust:a.model") == ("mace+trust", Path("a.model"))
    (tmp_path / "nep.txt").touch()
    assert beside(tmp_path, "nep:nep.txt") == f"nep:{tmp_path / 'nep.txt'}"
    assert beside(tmp_path, "nep:other.txt") == "nep:other.txt"
    assert beside(tmp_path, "nep.txt") == str(tmp_path / "nep.txt")
    assert beside(tmp_path, "NiO") == "NiO"
    with pytest.raises(FileNotFoundError, match=r"no file gone.txt, which nep: names"):
        load_potential("nep:gone.txt")


@pytest.mark.parametrize("prefix", sorted(ADAPTERS))
def test_what_is_missing_is_named(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    adapter = ADAPTERS[prefix]
    path = tmp_path / "model"
    path.touch()
    monkeypatch.setitem(sys.modules, adapter.module, None)
    name = f"{prefix}+trust:{path}"
    with pytest.raises(ImportError, match=f"need {adapter.package}: pip install"):
        load_potential(name)
    assert main(["info", name]) == 2
    assert adapter.package in capsys.readouterr().err


def test_other_releases_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nep.txt").touch()
    monkeypatch.setitem(sys.modules, "nep_adapters", types.ModuleType("nep_adapters"))
    monkeypatch.setattr(ADAPTERS["nep"], "_release", lambda self: "2.0")
    with pytest.raises(ImportError, match=r"2.0 does not go with .*adapters==1.0.3"):
        load_potential(f"nep:{tmp_path / 'nep.txt'}")
    monkeypatch.setattr(ADAPTERS["nep"], "_release", lambda self: "1.0.3")
    with pytest.raises(ValueError, match=r"nep-adapters cannot read .*nep\.txt: "):
        load_potential(f"nep:{tmp_path / 'nep.txt'}")
