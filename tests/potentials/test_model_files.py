"""Model files: the same potential again, readable by others, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from deepspin_ase import cant_spins, set_spins
from deepspin_ase._safetensors import read_safetensors, write_safetensors
from deepspin_ase.cli import main
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    ARCHITECTURES,
    Committee,
    CubicCut,
    DeepSpinConfig,
    DeepSpinNetwork,
    Heisenberg,
    PairPotential,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    Sum,
    TimeReversal,
    TrainingRange,
    UniaxialAnisotropy,
    Zeeman,
    choose_backend,
    load_card,
    load_potential,
    reference,
    save_potential,
    shipped_models,
)
from deepspin_ase.potentials._files import SUFFIXES, resolve
from deepspin_ase.potentials.networks._error_model import ErrorModel
from deepspin_ase.system import System

DOCS = Path(__file__).parents[2] / "docs" / "model_files.md"

EXCHANGE = Heisenberg(CubicCut(0.05, 3.5))


def iron() -> Atoms:
    atoms = bulk("Fe", a=2.87, cubic=True)
    set_spins(atoms, [[0.0, 0.0, 2.2], [0.3, 0.0, 2.1]])
    atoms.rattle(0.05, seed=1)
    cant_spins(atoms, 0.1, seed=2)
    return atoms


def pseudo_atoms(seed: int = 0) -> DeepSpinNetwork:
    config = {
        "type_map": ["Fe"],
        "spin": {"use_spin": [True], "virtual_scale": 0.2},
        "descriptor": {
            "rcut": 4.0,
            "rcut_smth": 2.0,
            "sel": [30],
            "neuron": [4],
            "axis_neuron": 2,
        },
        "fitting_net": {"neuron": [6]},
    }
    return DeepSpinNetwork(DeepSpinConfig.from_dict(config), seed=seed)


def moments() -> SpinMomentNetwork:
    """A network that knows what it was trained on, and how wrong it may be."""
    config = SpinMomentConfig(
        elements=["Fe"],
        magnetic=["Fe"],
        channels=3,
        spin_channels=3,
        basis=4,
        neuron=[3],
        cutoff=4.0,
    )
    network = SpinMomentNetwork(config, seed=3)
    system = System.from_atoms(iron())
    pairs = build_pairs(system, network.cutoff)
    network.training_range = TrainingRange.of(
        [(system, pairs)], magnetic=network.magnetic_species, labels=["energy"]
    )
    features = network.features(system, pairs).detach()
    network.error_model = ErrorModel.of(
        [(features, network.types(system))], network.mean, network.deviation
    )
    return network


KINDS: dict[str, Callable[[], Potential]] = {
    "pseudo-atoms": pseudo_atoms,
    "moments": moments,
    "terms": lambda: reference.fe(),
    "sum": lambda: Sum([Sum([PairPotential(CubicCut(0.1, 3.0)), EXCHANGE]), moments()]),
    "committee": lambda: Committee([pseudo_atoms(0), pseudo_atoms(1)]),
    "reversal": lambda: TimeReversal(Sum([pseudo_atoms(), EXCHANGE])),
    "field": lambda: (
        EXCHANGE + Zeeman((0.0, 0.0, 3.0)) + UniaxialAnisotropy(1e-3, (0, 0, 1))
    ),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_potential_again(tmp_path: Path, kind: str, suffix: str) -> None:
    potential = KINDS[kind]()
    card = {"name": "Fe", "errors": {"energy": 0.1, "nothing": float("nan")}}
    path = tmp_path / f"model{suffix}"
    save_potential(path, potential, card=card)
    loaded = load_potential(path)
    for own in (potential, loaded):
        choose_backend(own, "reference")
    system = System.from_atoms(iron())
    expected, found = (p.evaluate(system, deviations=True) for p in (potential, loaded))
    for name, value in expected.quantities().items():
        torch.testing.assert_close(
            found.quantities()[name], value, rtol=1e-12, atol=1e-12
        )
    state = loaded.state_dict()
    for name, value in potential.state_dict().items():
        assert torch.equal(state[name], value)
    assert found.deviations.keys() == expected.deviations.keys()
    parts = zip(potential.modules(), loaded.modules(), strict=True)
    for mine, yours in parts:
        assert type(mine) is type(yours)
        if isinstance(mine, Potential):
            assert mine.training_range == yours.training_range
        if isinstance(mine, SpinMomentNetwork):
            assert torch.equal(mine.error_model.matrix, yours.error_model.matrix)
    np.testing.assert_equal(load_card(path), card)
    again = tmp_path / f"again{suffix}"
    save_potential(again, loaded, card=load_card(path))
    if suffix != ".pt":
        assert again.read_bytes() == path.read_bytes()


def read_by_hand(path: Path) -> dict[str, Any]:
    """Return the names that the reader of the documentation defines."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    names: dict[str, Any] = {"path": path}
    exec(code, names)
    return names


@pytest.mark.parametrize("name", ["moments", "NiO", "BiFeO3"])
def test_reader_of_the_documentation(tmp_path: Path, name: str) -> None:
    if name in KINDS:
        path = tmp_path / "model.safetensors"
        save_potential(path, KINDS[name](), card={"citation": "nobody"})
    else:
        path = resolve(name)
    names = read_by_hand(path)
    potential, tensors = load_potential(path), names["tensors"]
    for key, value in potential.state_dict().items():
        np.testing.assert_array_equal(tensors.pop(key), value.numpy())
    header = names["header"]
    assert header["card"] == load_card(path)
    assert header["architecture"]["type"] == type(potential).__name__
    assert all(key.startswith("/error_models/") for key in tensors)
    for part, known in header.get("error_models", {}).items():
        np.testing.assert_array_equal(
            tensors[known["matrix"]["tensor"]],
            potential.get_submodule(part).error_model.matrix.numpy(),
        )
    if name == "moments":
        assert header["layouts"] == {"SpinMomentNetwork": 1}
        low, high = header["ranges"][""]["arguments"]["bounds"]["distance Fe-Fe"]
        assert low > 2.0 and high == {"number": "inf"}


def test_package_safetensors_reads_it(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    path = tmp_path / "model.safetensors"
    save_potential(path, KINDS["sum"]())
    tensors = load_file(path)
    for key, value in KINDS["sum"]().state_dict().items():
        np.testing.assert_array_equal(tensors[key], value.numpy())
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["header"])["units"]["moments"] == "mu_B"


def test_any_byte_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_potential(path, pseudo_atoms(), card={"name": "Fe \u00e5"})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little")
    for k in [*range(8), *range(8, header + 8, 3), *range(header + 8, len(whole), 7)]:
        changed = bytearray(whole)
        changed[k] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_potential(path)
    for k in range(0, len(whole), 37):
        path.write_bytes(whole[:k])
        with pytest.raises(ValueError, match="truncated"):
            load_potential(path)


def changed(
    path: Path, change: Callable[[dict[str, str], dict[str, Any]], Any]
) -> None:
    """Write a file again, with other texts and a checksum that fits."""
    tensors, texts = read_safetensors(path, expected="")
    header = json.loads(texts["header"])
    change(texts, header)
    del texts["sha256"]
    write_safetensors(path, tensors, texts | {"header": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, h: t.update(version="2"), "format version 2; this release reads"),
        (lambda t, h: t.update(format="other"), "not a model file; expected a model"),
        (
            lambda t, h: h["layouts"].update(SpinMomentNetwork=7),
            "layout 7 of SpinMomentNetwork, and this version reads layout 1: train it "
            "anew, or use deepspin_ase 0",
        ),
        (
            lambda t, h: h["architecture"].update(type="Mine"),
            "needs Mine, which is not known: import the module that declares it, or",
        ),
        (lambda t, h: h["architecture"].update(type=[]), r"needs \[\], which is not"),
        (
            lambda t, h: h["architecture"]["arguments"]["config"]["arguments"].update(
                charm=1
            ),
            "does not fit deepspin_ase .*charm.*: train it anew, or use deepspin_ase",
        ),
        (
            lambda t, h: h["architecture"]["arguments"]["config"]["arguments"].update(
                channels=2
            ),
            "does not fit deepspin_ase .*size mismatch.*: train it anew, or use deep",
        ),
        (
            lambda t, h: h.update(ranges={"": "wide"}),
            "does not fit deepspin_ase .*the range of its training is 'wide'",
        ),
        (lambda t, h: h.pop("card"), "it lacks card"),
        (lambda t, h: h.update(layouts=3), "it lacks layouts"),
    ],
)
def test_models_of_other_versions(
    tmp_path: Path, change: Callable[..., Any], message: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_potential(path, moments())
    changed(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        load_potential(path)
    assert str(path) in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_older_layout_of_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    save_potential(path, Sum([EXCHANGE, moments()]))
    monkeypatch.setattr(ARCHITECTURES["moments"], "layout_version", 2)
    with pytest.raises(ValueError, match=r"layout 1 of Spin.* reads layout 2: tr"):
        load_potential(path)


def test_models_without_layouts_are_of_the_first(tmp_path: Path) -> None:
    """As files of earlier versions are."""
    path = tmp_path / "model.pt"
    save_potential(path, moments())
    content = torch.load(path, weights_only=True)
    for name in ("layouts", "written_by", "units"):
        del content[name]
    torch.save(content, path)
    assert isinstance(load_potential(path), SpinMomentNetwork)
    del content["state_dict"]["linear"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"Missing key.* the version that wrote it"):
        load_potential(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    text = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(ValueError, match="a safetensors file of something else; exp"):
        load_potential(path)
    for content in (b"", b"{}", b"\x00" * 40, b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is truncated, damaged or something else"):
            load_potential(path)


def test_the_content_decides_what_is_read(tmp_path: Path) -> None:
    path, other = tmp_path / "model.safetensors", tmp_path / "model.pt"
    save_potential(path, EXCHANGE)
    path.rename(other)
    assert isinstance(load_potential(other), Heisenberg)


def test_suffixes_and_cards(tmp_path: Path) -> None:
    for name in ("model", "model.pth", "model.yaml"):
        with pytest.raises(ValueError, match=r"must end in \.safetensors or \.pt"):
            save_potential(tmp_path / name, EXCHANGE)
    for suffix in SUFFIXES:
        path = tmp_path / f"model{suffix}"
        card = {"rmse": np.float64(0.1), "cells": (1, 2), "by": np.arange(2)}
        save_potential(path, EXCHANGE, card=card)
        assert load_card(path) == {"rmse": 0.1, "cells": [1, 2], "by": [0, 1]}
        with pytest.raises(TypeError, match="Atoms cannot be saved"):
            save_potential(path, EXCHANGE, card={"atoms": iron()})
        assert load_card(path)["rmse"] == 0.1


def test_convert_to_and_from(tmp_path: Path) -> None:
    """NiO by way of both suffixes is NiO, as it is written today."""
    chain = ["NiO", str(tmp_path / "a.pt"), str(tmp_path / "b.safetensors")]
    direct = str(tmp_path / "c.safetensors")
    for source, target in [*pairwise(chain), ("NiO", direct)]:
        assert main(["convert", source, target]) == 0
    assert Path(chain[-1]).read_bytes() == Path(direct).read_bytes()
    pairs = zip(
        *(load_potential(x).state_dict().values() for x in ("NiO", direct)), strict=True
    )
    assert all(torch.equal(*pair) for pair in pairs)


def test_cards_that_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_potential(tmp_path / "a.pt", EXCHANGE, card={"errors": {}, "licence": "?"})
    (tmp_path / "card.yaml").write_text("licence: MIT\ncitation: [one, two]\n")
    model, other = str(tmp_path / "a.pt"), str(tmp_path / "b.safetensors")
    card = ["--card", str(tmp_path / "card.yaml")]
    assert main(["convert", model, other, *card]) == 0
    expected = {"errors": {}, "licence": "MIT", "citation": ["one", "two"]}
    assert load_card(other) == expected
    for text in (
        "- a list",
        "a: [",
        "licence: !!python/name:os.system\n",
        "of: 2026-01-01",
    ):
        (tmp_path / "card.yaml").write_text(text)
        assert main(["convert", model, str(tmp_path / "c.pt"), *card]) == 2
        assert "card.yaml" in capsys.readouterr().err
    assert main(["convert", model, str(tmp_path / "c.yaml"), *card]) == 2
    assert "c.yaml holds no card: .safetensors, .pt do" in capsys.readouterr().err
    assert main(["convert", model, other, "--card", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
    assert load_card(other) == expected


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models(name: str) -> None:
    """They are small, whole, and say what others must know to use and cite them."""
    path = resolve(name)
    assert path.suffix == ".safetensors"
    assert path.stat().st_size < 5e6
    assert path.with_suffix(".md").is_file()
    card = load_card(name)
    assert card["name"] == name
    for key in ("description", "data", "licence", "valid_range", "citation", "errors"):
        assert card[key], key
    ranges = [
        p.training_range
        for p in load_potential(name).modules()
        if isinstance(p, Potential)
    ]
    assert any(ranges)
