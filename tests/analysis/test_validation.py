"""Validation of models: properties of Hamiltonians with known answers, and the book."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.data import atomic_masses
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from deepspin_ase import DeepSpinCalculator, set_spins, write_extxyz
from deepspin_ase.analysis.validation import (
    MATERIALS,
    PROPERTIES,
    Book,
    Findings,
    Value,
    references_of,
    write_page,
)
from deepspin_ase.analysis.validation._lattice import hill_moduli, rotated_elastic
from deepspin_ase.analysis.validation._property import with_error
from deepspin_ase.cli import main
from deepspin_ase.potentials import (
    Heisenberg,
    LennardJones,
    Shells,
    Sum,
    UniaxialAnisotropy,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.units import G_FACTOR

matplotlib.use("Agg")

ROOT = Path(__file__).parents[2]

ANISOTROPY = 1e-4
FAST = ("structure", "eos", "elastic", "vacancy", "phases")
FAST += ("exchange", "anisotropy", "magnons", "moments")

#: Constants of the exchange and the Landau expansion of fe(), in spins S = m/g.
COUPLING, CUTOFF, LANDAU = 0.870, 3.75, (-0.744824, 0.345295, -0.00790205)


def coupling(r: float) -> float:
    return COUPLING * (1.0 - r / CUTOFF) ** 3


def landau(S: float) -> float:
    near, far = 3**0.5 / 2 * 2.8665, 2.8665
    a = LANDAU[0] - 0.5 * (8 * coupling(near) + 6 * coupling(far))
    return a * S**2 + LANDAU[1] * S**4 + LANDAU[2] * S**6


GROUND = minimize_scalar(landau, bounds=(0.8, 1.6), method="bounded")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    potential = fe() + UniaxialAnisotropy(ANISOTROPY, (0, 0, 1), elements=("Fe",))
    found = Book(potential, tmp_path_factory.mktemp("book"), material="Fe")
    found.run(FAST)
    return found


def value(book: Book, name: str, key: str) -> float:
    return book.findings(name).values[key].value


def test_structure_and_bulk_modulus_are_those_of_the_potential(book):
    a = value(book, "structure", "a")
    assert value(book, "structure", "moment Fe") == pytest.approx(
        G_FACTOR * GROUND.x, rel=1e-4
    )
    energies = []
    lattice = fe(exchange=None)
    for edge in (0.999 * a, a, 1.001 * a):
        atoms = bulk("Fe", "bcc", edge)
        set_spins(atoms, {"Fe": 2.0})
        atoms.calc = DeepSpinCalculator(lattice)
        energies.append(atoms.get_potential_energy())
    assert np.argmin(energies) == 1
    modulus = np.diff(energies, 2)[0] / (1e-3 * a) ** 2 * 2.0 / (9.0 * a) / units.GPa
    assert value(book, "elastic", "B") == pytest.approx(modulus, rel=0.02)
    assert value(book, "eos", "B0") == pytest.approx(modulus, rel=0.06)


def test_elastic_constants_are_those_published(tmp_path):
    """Dudarev and Derlet 2005, and Finnis and Sinclair's fit to experiment, GPa."""
    for kind, known in (
        ("dudarev-derlet", (245.9, 138.3, 122.1)),
        ("finnis-sinclair", (243.1, 138.1, 121.9)),
    ):
        found = Book(fe(lattice=kind), tmp_path / kind)
        found.run(["elastic"])
        constants = [value(found, "elastic", key) for key in ("C11", "C12", "C44")]
        assert constants == pytest.approx(known, rel=0.015)


def test_elastic_tensors_rotate():
    cubic = np.diag([240.0, 240.0, 240.0, 120.0, 120.0, 120.0])
    cubic[:3, :3] += 140.0 * (1.0 - np.eye(3))
    assert rotated_elastic(cubic, np.eye(3)) == pytest.approx(cubic)
    along = rotated_elastic(cubic, MATERIALS["BiFeO3"].frame)
    assert along[2, 2] == pytest.approx((240 + 2 * 140 + 4 * 120) / 3)
    assert along[0, 3] == pytest.approx(-along[1, 3])
    assert abs(along[0, 3]) > 1.0
    turned = rotated_elastic(cubic, Rotation.random(rng=1).as_matrix())
    assert hill_moduli(turned) == pytest.approx(hill_moduli(cubic))
    assert hill_moduli(cubic)[0] == pytest.approx((240 + 2 * 140) / 3)


def test_exchange_and_its_slope_are_those_of_the_hamiltonian(book):
    a, S = (
        value(book, "structure", "a"),
        value(book, "structure", "moment Fe") / G_FACTOR,
    )
    for key, r in (("J1", 3**0.5 / 2 * a), ("J2", a)):
        J = 1e3 * coupling(r) * S**2
        assert value(book, "exchange", key) == pytest.approx(J, rel=1e-3)
        slope = -J * r / (CUTOFF - r)
        assert value(book, "exchange", f"d{key}/dlnV") == pytest.approx(slope, rel=1e-3)
    J1, J2 = (value(book, "exchange", key) for key in ("J1", "J2"))
    assert value(book, "exchange", "field") == pytest.approx(8 * J1 + 6 * J2, rel=1e-3)


def test_stiffness_is_the_second_moment_of_exchange(book):
    a, m = value(book, "structure", "a"), value(book, "structure", "moment Fe")
    J1, J2 = (value(book, "exchange", key) for key in ("J1", "J2"))
    stiffness = G_FACTOR / (6.0 * m) * (8 * J1 * 0.75 * a**2 + 6 * J2 * a**2)
    assert value(book, "magnons", "stiffness") == pytest.approx(stiffness, rel=1e-3)


def test_anisotropy_is_that_of_the_hamiltonian(book):
    found = value(book, "anisotropy", "range")
    assert found == pytest.approx(1e6 * ANISOTROPY, rel=1e-6)


def test_lengths_of_moments_are_those_of_the_landau_expansion(book):
    assert value(book, "moments", "length") == pytest.approx(
        G_FACTOR * GROUND.x, rel=2e-3
    )
    h = 1e-3
    second = (landau(GROUND.x + h) - 2 * landau(GROUND.x) + landau(GROUND.x - h)) / h**2
    curvature = second / G_FACTOR**2
    assert value(book, "moments", "curvature") == pytest.approx(curvature, rel=0.01)


def test_moments_are_worth_the_depth_of_the_landau_expansion(book):
    assert value(book, "phases", "bcc NM") == pytest.approx(-1e3 * GROUND.fun, rel=5e-3)


def test_vacancies_of_pair_potentials_cost_the_cohesive_energy(tmp_path):
    atoms = bulk("Fe", "fcc", 3.6, cubic=True)
    set_spins(atoms, {"Fe": 2.0})
    pairs = LennardJones(0.1, 2.3, cutoff=4.5)
    magnet = Sum([pairs, Heisenberg(Shells([(2.6, 1e-9)], 0.5))], elements=("Fe",))
    found = Book(magnet, tmp_path, structure=atoms)
    found.run(["vacancy"])
    values = found.findings("vacancy").values
    crystal = found.findings("structure").curves["atoms"]
    relaxed = Atoms(
        crystal["numbers"], crystal["positions"], cell=crystal["cell"], pbc=1
    )
    set_spins(relaxed, {"Fe": 2.0})
    relaxed.calc = DeepSpinCalculator(pairs)
    cohesive = -relaxed.get_potential_energy() / 4
    assert values["unrelaxed"].value == pytest.approx(cohesive, rel=1e-6)
    assert values["formation"].value < values["unrelaxed"].value


def test_phonons_are_curvatures_of_the_energy(book):
    """The three modes at H: both sublattices of the cube against each other."""
    book.settings["phonons"] |= {"samples": 3, "npoints": 20}
    book.run(["phonons"])
    a, energies = value(book, "structure", "a"), []
    for u in (-0.01, 0.0, 0.01):
        atoms = bulk("Fe", "bcc", a, cubic=True)
        atoms.positions += np.outer([u, -u], [0, 0, 1.0])
        set_spins(atoms, {"Fe": value(book, "structure", "moment Fe")})
        atoms.calc = DeepSpinCalculator(book.potential)
        energies.append(atoms.get_potential_energy() / 2.0)
    curvature = np.diff(energies, 2)[0] / 0.01**2
    omega = np.sqrt(curvature / atomic_masses[26])
    frequency = omega / (2.0 * np.pi) * units.second / 1e12
    assert value(book, "phonons", "H") == pytest.approx(frequency, rel=0.01)
    other = book.findings("phonons").values["H random"]
    assert other.error is not None and 0.0 < other.error < 0.2
    assert other.value == pytest.approx(frequency, rel=0.05)


def test_pages_hold_values_references_and_what_is_wrong(book):
    markdown, page = (book.folder / f"iron{suffix}" for suffix in (".md", ".html"))
    for path in (markdown, page):
        write_page(book, path)
    text = markdown.read_text()
    assert "## Elastic constants" in text and "![Magnons of Fe.]" in text
    assert re.search(r"138\.10 ± 0\.40 \(extrapolated to 0 K\) \[\d+\] \|", text)
    assert "doi.org/10.1103/PhysRev.122.1714" in text
    assert re.search(r"\(at 298 K\) \[\d+\]†", text)
    assert text.rstrip().endswith("† Not compared with the source.")
    summary = text.partition("## Summary")[2].partition("## Structure")[0]
    assert "- Magnons, spin stiffness" in summary and "C44" not in summary
    assert "Polarization and tilts: it is not ferroelectric." in text
    assert page.read_text().count("data:image/png;base64,") == text.count("![")
    for name in book.folder.glob("*.png"):
        assert f"({name.name})" in text


# --- the book --------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Return pages and figures, and the results without their times."""
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    for path in (folder / "results").glob("*.json"):
        entry = json.loads(path.read_text())
        entry.pop("seconds")
        found[path.name] = json.dumps(entry).encode()
    return found


def test_a_stopped_book_goes_on_to_the_same_bytes(tmp_path):
    whole, parts = (Book(fe(), tmp_path / name) for name in ("whole", "parts"))
    names = ["structure", "eos", "magnons"]
    whole.run(names)
    write_page(whole, tmp_path / "whole" / "fe.md")

    def stop(entry):
        if entry.name == "eos":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.run(names, tell=stop)
    before = (tmp_path / "parts/results/eos.json").stat().st_mtime_ns
    again = Book(fe(), tmp_path / "parts")
    again.run(names)
    write_page(again, tmp_path / "parts" / "fe.md")
    assert (tmp_path / "parts/results/eos.json").stat().st_mtime_ns == before
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path):
    save_potential(tmp_path / "fe.pt", fe())
    names = "structure,eos,elastic,phases,magnons,exchange"
    command = [sys.executable, "-m", "deepspin_ase", "validate", "fe.pt"]
    command += ["--only", names, "-o"]
    subprocess.run([*command, "whole"], cwd=tmp_path, check=True, capture_output=True)
    running = subprocess.Popen(
        [*command, "parts"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    results = tmp_path / "parts" / "results"
    while not (results / "elastic.json").exists() and running.poll() is None:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (results / "exchange.json").exists()
    subprocess.run([*command, "parts"], cwd=tmp_path, check=True, capture_output=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_another_model_or_setting_is_computed_anew(tmp_path):
    first = Book(fe(), tmp_path)
    first.run(["eos"])
    a = first.findings("structure").values["a"].value
    same = Book(fe(), tmp_path)
    assert same.stored("eos") is not None
    other = Book(fe(lattice="finnis-sinclair"), tmp_path)
    assert other.stored("eos") is None and other.stored("structure") is None
    longer = Book(fe(), tmp_path, settings={"eos": {"points": 11}})
    assert longer.stored("eos") is None and longer.stored("structure") is not None
    rough = Book(fe(), tmp_path, settings={"structure": {"fmax": 0.02}})
    assert rough.stored("eos") is None  # it was made of another structure
    longer.run(["eos"])
    assert len(longer.findings("eos").curves["volumes"]) == 11
    assert longer.findings("structure").values["a"].value == a


def test_failures_and_warnings_are_part_of_the_book(tmp_path):
    lattice = fe(exchange=None) + Heisenberg(Shells([(2.48, -0.02)], 0.15))
    found = Book(lattice, tmp_path, material="Fe")
    found.run(["magnetization"])
    entry = found.entry("magnetization")
    assert entry.findings is None and "no ground state" in entry.failure
    write_page(found, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "Failed: Order against temperature." in text
    with pytest.raises(ValueError, match=r"page.pdf must end in \.md or \.html"):
        write_page(found, tmp_path / "page.pdf")
    again = Book(lattice, tmp_path, material="Fe")
    assert again.stored("magnetization") is not None
    pseudo_atoms = Path(__file__).parents[1] / "data/pseudo_atoms/nio.safetensors"
    shipped = Book(pseudo_atoms, tmp_path / "nio", material="NiO")
    shipped.run(["structure"])
    assert any("has seen no stress" in w for w in shipped.entry("structure").warnings)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="no property 'elastics'; did you mean 'elastic'"
    ):
        Book(fe(), tmp_path).run(["elastics"])
    with pytest.raises(
        ValueError, match="Fe has no switching: it is not ferroelectric"
    ):
        Book(fe(), tmp_path).run(["switching"])
    with pytest.raises(
        ValueError, match="eos has no setting point; it has points, largest"
    ):
        Book(fe(), tmp_path, settings={"eos": {"point": 3}})
    with pytest.raises(ValueError, match="does not know Ni, O, which NiO needs"):
        Book(fe(), tmp_path, material="NiO")
    with pytest.raises(ValueError, match="there is no material 'Co'"):
        Book(fe(), tmp_path, material="Co")
    with pytest.raises(ValueError, match=r"no material has the elements .*\(any\)"):
        Book(Heisenberg(Shells([(2.5, 0.01)])), tmp_path)
    with pytest.raises(ValueError, match="does not depend on moments"):
        Book(fe(exchange=None), tmp_path)
    cobalt = Atoms("Co2", [(0, 0, 0), (0, 0, 2.5)], cell=(3, 3, 5), pbc=True)
    with pytest.raises(ValueError, match="carries no magnetic moments"):
        Book(fe(), tmp_path, structure=cobalt)
    set_spins(cobalt, {"Co": 1.7})
    with pytest.raises(ValueError, match="does not know Co, which Co2 needs"):
        Book(fe(), tmp_path, structure=cobalt)
    with pytest.raises(ValueError, match="a material or a structure, not both"):
        Book(fe(), tmp_path, structure=cobalt, material="Fe")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/structure.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"structure\.json cannot be read as a property"
    ):
        Book(fe(), tmp_path).run(["structure"])


def test_numbers_are_written_to_the_digits_of_their_errors():
    assert with_error(1043.21, 7.4) == "1043.2 ± 7.4"
    assert with_error(0.01236, 0.00067) == "0.01236 ± 0.00067"
    assert with_error(1234567.0) == "1234567"
    assert with_error(2.8665) == "2.866"
    assert with_error(float("nan"), 1.0) == "-"
    assert with_error(46.6, 1e-15) == "46.6"
    found = Findings(
        {"a": Value("a", float("nan"), "K")}, {"x": np.array([1.0, np.inf])}
    )
    plain = json.loads(json.dumps(found.to_plain(), allow_nan=False))
    assert plain["curves"]["x"] == [1.0, None]
    assert np.isnan(Findings.from_plain(plain).values["a"].value)


def test_command_writes_pages_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_potential("iron.pt", fe())
    assert main(["validate", "iron.pt", "--only", "eos", "-o", "out", "--json"]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert found["material"] == "Fe" and [*found["properties"]] == ["structure", "eos"]
    B = found["properties"]["eos"]["values"]["B0"]
    assert B["unit"] == "GPa" and B["references"][0]["value"] == 168.3
    assert "Equation of state" in out.err
    assert (tmp_path / "out/iron.md").exists() and (tmp_path / "out/iron.html").exists()
    assert main(["validate", "iron.pt", "--only", "eso", "-o", "out"]) == 2
    assert "no property 'eso'" in capsys.readouterr().err
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, [2.2, -2.2])
    write_extxyz("afm.extxyz", [atoms])
    given = ["--structure", "afm.extxyz", "--only", "structure", "-o", "afm"]
    assert main(["validate", "iron.pt", *given]) == 0
    assert "volume per atom" in capsys.readouterr().out


# --- references ------------------------------------------------------------------


def test_references_belong_to_properties_and_have_their_units(book):
    known = references_of("Fe")
    for name in FAST:
        for key, entries in known.get(name, {}).items():
            unit = book.findings(name).values[key].unit
            assert all(entry.unit == unit for entry in entries), (name, key)


@pytest.mark.parametrize("name", [*MATERIALS])
def test_references_have_sources(name):
    known = references_of(name)
    assert {*known} <= {*PROPERTIES}
    for keys in known.values():
        for entries in keys.values():
            for entry in entries:
                assert len(entry.source) > 20
                assert entry.doi is None or entry.doi.startswith("10.")


@pytest.mark.parametrize("name", [*MATERIALS])
def test_references_have_the_units_of_what_was_found(name):
    """By the results behind the pages of the shipped models."""
    for path in (ROOT / "validation" / name / "results").glob("*.json"):
        entry = json.loads(path.read_text(encoding="utf-8"))
        values = entry["findings"]["values"] if entry["findings"] else {}
        for key, references in references_of(name).get(path.stem, {}).items():
            for reference in references if key in values else ():
                assert reference.unit == values[key]["unit"], (path, key)


@pytest.mark.parametrize("name", [*MATERIALS])
def test_materials_are_what_their_phases_say(name):
    material = MATERIALS[name]
    volume = 12.0
    for build in material.phases.values():
        atoms = build(volume)
        assert atoms.get_volume() / len(atoms) == pytest.approx(volume, rel=1e-6)
        distances = atoms.get_all_distances(mic=True) + 9.0 * np.eye(len(atoms))
        assert distances.min() > 1.5
    if name in ("NiO", "BiFeO3"):
        material.check(load_potential(name))


# --- at temperatures ---------------------------------------------------------------


@pytest.mark.slow
def test_transition_of_the_frozen_lattice_is_that_of_long_runs(tmp_path):
    """benchmarks/curie.py has 1439(7) K frozen and 1444(37) K moving."""
    settings = {
        "transition": {"steps": 800, "equilibration": 200},
        "exchange-transition": {"steps": 3200, "equilibration": 800},
    }
    found = Book(fe(), tmp_path, settings=settings)
    found.run(["transition", "exchange-transition"])
    frozen = found.findings("transition").values["fixed lattice"]
    # Energies of these moments are bilinear: exchange alone is all there is.
    alone = found.findings("exchange-transition").values["exchange alone"]
    assert alone.value == pytest.approx(1439.0, rel=0.1)
    assert frozen.error is not None and 0.0 < frozen.error < 120.0
    assert frozen.value == pytest.approx(1439.0, rel=0.1)
    rough = found.findings("magnetization").values["fixed lattice"]
    assert rough.value == pytest.approx(1439.0, rel=0.15)
