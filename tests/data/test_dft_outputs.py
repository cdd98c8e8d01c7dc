"""Outputs of DFT with constrained moments: right labels, or the reason why not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import Rydberg

from deepspin_ase import get_spins, read_extxyz, set_spins
from deepspin_ase.cli import main
from deepspin_ase.data import read_dataset
from deepspin_ase.data._pairwork import pair_work
from deepspin_ase.io import write_vasp
from deepspin_ase.io._vasp import saxis_rotation

ABACUS = Path(__file__).parent / "abacus"
GPAW = Path(__file__).parent / "gpaw"
LOG = Path("OUT.abacus/running_scf.log")


@pytest.fixture
def run(tmp_path):
    """Return a function that copies a run of ABACUS and changes its files."""

    def copy(name: str, changes: dict[str, tuple[str, str]] | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(ABACUS / name, folder)
        for file, (old, new) in (changes or {}).items():
            text = (folder / file).read_text()
            assert old in text
            (folder / file).write_text(text.replace(old, new))
        return folder

    return copy


def only(path: Path, **options):
    (frame,) = read_dataset(path, **options)
    return frame


@pytest.mark.parametrize(("name", "points"), [("fe_pw", "fe"), ("nio_pw_u", "nio")])
def test_plane_waves_of_abacus(name, points):
    """Energies without lambda.M, by the labels that finite differences confirmed."""
    frame = only(ABACUS / name)
    (reference, *_) = read_dataset(ABACUS / f"{points}_fd_pw.extxyz")
    assert frame.energy == pytest.approx(reference.energy, abs=1e-6)
    for label in ("spins", "forces", "magnetic_forces", "virial", "positions"):
        found, expected = getattr(frame, label), getattr(reference, label)
        assert found == pytest.approx(expected, abs=2e-6), label
    assert frame.symbols == reference.symbols


def test_atomic_orbitals_of_abacus():
    """ABACUS took lambda.M off itself: the energy is the printed one."""
    frame = only(ABACUS / "fe_lcao")
    assert frame.energy == -6779.7209466198
    assert frame.spins[1] == pytest.approx([1.5258516653, 0.8809508563, 1.4784112093])
    assert frame.magnetic_forces[0] == pytest.approx(
        [0.0757635208, 0.0845266379, -0.2587719713]
    )


def test_direct_coordinates_of_abacus(run):
    folder = run("fe_pw", {"STRU": ("Cartesian", "Direct")})
    stru = folder / "STRU"
    place = "1.495000000000 1.395000000000 1.465000000000"
    direct = " ".join(f"{float(x) / 2.87:.15f}" for x in place.split())
    stru.write_text(stru.read_text().replace(place, direct))
    expected = only(ABACUS / "fe_pw").positions
    assert only(folder).positions == pytest.approx(expected, abs=1e-9)


def test_older_signs_and_units_are_seen_from_the_energy(run):
    """-lambda in Ry/mu_B: where the sum of the parts tells, labels are the same."""
    folder, right = run("fe_lcao"), only(ABACUS / "fe_lcao")
    text = (
        (folder / LOG)
        .read_text()
        .replace("Magnetic force (eV/uB)", "Magnetic force (Ry/uB)")
    )
    for row in right.magnetic_forces:
        for x in row:
            text = text.replace(f"{x:.10f}", f"{-x / Rydberg:.10f}", 1)
    (folder / LOG).write_text(text)
    found = only(folder)
    assert found.magnetic_forces == pytest.approx(right.magnetic_forces, abs=1e-8)
    assert found.energy == right.energy


def test_versions_that_were_not_checked(run):
    """Formats say what the log does not; of the two, one has conjugate labels."""
    folder = run("nio_pw_u", {str(LOG): ("v3.9.0", "v3.10.1")})
    with pytest.raises(ValueError, match="abacus/deltaspin/with-field and abacus"):
        read_dataset(folder)
    right = only(ABACUS / "nio_pw_u")
    with_field = only(folder, format="abacus/deltaspin/with-field")
    without = only(folder, format="abacus/deltaspin/without-field")
    assert with_field.energy == right.energy
    work = (right.magnetic_forces * right.spins).sum()
    assert without.energy == pytest.approx(right.energy + work)
    assert without.magnetic_forces == pytest.approx(right.magnetic_forces)


@pytest.mark.parametrize(
    ("points", "slopes"), [("fe", (0.99, 1.01)), ("nio", (0.99, 1.01))]
)
def test_labels_are_derivatives_of_the_energy(points, slopes):
    frames = list(read_dataset(ABACUS / f"{points}_fd_pw.extxyz"))[:5]
    energies, works = zip(*(pair_work(frames[0], f) for f in frames[1:]), strict=True)
    work = np.array(works).sum(axis=1)
    assert slopes[0] < (work @ np.array(energies)) / (work @ work) < slopes[1]


def test_what_finer_paths_leave_is_in_the_labels():
    """Plane waves of ABACUS: 2 % where little happens, whatever the quadrature.

    Five points of iron along one displacement. Simpson's rule with three and with five
    of them agrees, and the energy still changes by more than the work. What is left
    there and where a moment is stretched goes with the change of lambda.M that is taken
    off the printed energies: 0.1 to 0.2 % of it, of 17 to 100 meV.
    """
    frames = list(read_dataset(ABACUS / "fe_fd_pw.extxyz"))
    path = [frames[k] for k in (0, 8, 6, 9, 5)]
    whole = path[-1].positions - path[0].positions
    slopes = [-float((f.forces * whole).sum()) for f in path]
    three = (slopes[0] + 4.0 * slopes[2] + slopes[4]) / 6.0
    five = (slopes @ np.array([1.0, 4.0, 2.0, 4.0, 1.0])) / 12.0
    trapezoid = pair_work(path[0], path[-1])[1].sum()
    change = path[-1].energy - path[0].energy
    assert five == pytest.approx(three, rel=2e-4)
    assert change / trapezoid == pytest.approx(1.160, abs=1e-3)
    assert change / five == pytest.approx(1.021, abs=1e-3)
    stretched, longitudinal = pair_work(frames[0], frames[2])
    assert stretched / longitudinal.sum() == pytest.approx(1.023, abs=1e-3)

    def field_energy(frame):
        return float((frame.magnetic_forces * frame.spins).sum())

    left = [(change - five, path[-1]), (stretched - longitudinal.sum(), frames[2])]
    for difference, frame in left:
        changed = field_energy(frame) - field_energy(frames[0])
        assert 0.015 < changed < 0.101
        assert -0.002 < difference / changed < -0.001


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("fe_pw", LOG, "convergence is achieved", "", "density did not converge"),
        ("fe_pw", "INPUT", "sc_mag_switch 1", "", "moments were not constrained"),
        (
            "fe_pw",
            "INPUT",
            "calculation scf",
            "calculation relax",
            "run of calculation",
        ),
        (
            "fe_pw",
            "STRU",
            "mag 0.3820259909",
            "mag 0.4",
            "moment of atom 0 is 0.018 mu_B",
        ),
        ("fe_pw", LOG, "E_Hartree", "E_Other ", None),
        ("fe_pw", LOG, "Magnetic force (eV/uB)", "Magnetic Force (eV/mu_B)", None),
        ("fe_pw", LOG, "force (eV/uB)", "force (meV/uB)", "meV/uB.' is not known"),
        ("fe_pw", LOG, "(eV/Angstrom)", "(Ry/Bohr)", "FORCE .Ry/Bohr.' is not known"),
        ("fe_pw", "STRU", " sc 1 1 1", " sc 0 0 0", "no atom of STRU has sc 1 1 1"),
        ("fe_pw", "STRU", "LATTICE_VECTORS", "VECTORS", "STRU has no LATTICE_VECTORS"),
        ("fe_pw", LOG, "1703.4319", "1713.4319", "neither its numbers nor its version"),
        ("fe_pw", LOG, "(eV/uB)", "(Ry/uB)", "neither its numbers nor its version"),
        ("nio_pw_u", LOG, "v3.9.0", "v3.8.1", "neither its numbers nor its version"),
        ("nio_pw_u", LOG, "Total Magnetism", "Magnetism", "no table Total Magnetism"),
        (
            "fe_pw",
            LOG,
            "TOTAL-FORCE (eV/Angstrom)\n",
            "TOTAL-FORCE (eV/Angstrom)\n 1 2 3\n",
            "1 rows for 2 atoms",
        ),
        (
            "nio_pw_u",
            "STRU",
            "Cartesian\n\nNi",
            "Cartesian\n\nQx",
            "Qx names no element",
        ),
    ],
)
def test_runs_of_abacus_that_are_refused(name, file, old, new, message, run):
    folder = run(name, {str(file): (old, new)})
    if message is None:
        assert only(folder).energy == pytest.approx(only(ABACUS / name).energy)
        return
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        read_dataset(folder)


def test_formats_of_dpdata_fail_with_the_name_of_the_run():
    pytest.importorskip("dpdata")
    with pytest.raises(ValueError, match=r"fe_lcao cannot be read as .* by dpdata"):
        read_dataset(ABACUS / "fe_lcao", format="abacus/scf")


def test_runs_that_dpdata_reads_are_read_here(run):
    """With a label on every row dpdata reads the log, with lambda.M in the energy."""
    pytest.importorskip("dpdata")
    folder = run("fe_pw")
    text = (folder / LOG).read_text()
    blank = " " * len("                         Fe") + "  "
    (folder / LOG).write_text(text.replace("\n" + blank, "\n" + blank[:-4] + "Fe  "))
    with pytest.raises(ValueError, match="fe_pw: read it as 'abacus/deltaspin'"):
        read_dataset(folder, format="abacus/scf")
    assert only(folder).energy == only(ABACUS / "fe_pw").energy


def test_runs_are_found_and_converted(run, tmp_path, capsys):
    for name in ("fe_pw", "nio_pw_u"):
        run(name)
    assert len(read_dataset(tmp_path)) == 2
    assert len(read_dataset(tmp_path / "*pw*" / "OUT.abacus" / "*.log")) == 2
    with pytest.raises(FileNotFoundError, match="no file or folder fits"):
        read_dataset(tmp_path / "*.none")
    with pytest.raises(FileNotFoundError, match="no data of format vasp/constrained"):
        read_dataset(tmp_path, format="vasp/constrained")
    output = tmp_path / "nio.extxyz"
    command = ["data", "convert", str(tmp_path / "nio_pw_u"), str(output)]
    assert main([*command, "--magnetic", "Ni"]) == 0
    assert "moments of O, up to 0.0204 mu_B, are set to zero" in capsys.readouterr().out
    frame = only(output)
    assert not frame.spins[2:].any() and frame.spins[:2].any()
    assert main([*command, "--magnetic", "Mn"]) == 2
    assert "there is no Mn in" in capsys.readouterr().err


# VASP: files in the form of its versions, with numbers of an exact penalty

LAMBDA = 3.0


def vasp_structure() -> Atoms:
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, [[0.3, 0.2, 2.1], [0.0, -0.9, 2.0]])
    return atoms


def vectors(rows) -> list[str]:
    return [
        f"{k:4d} " + " ".join(f"{x:12.6f}" for x in row)
        for k, row in enumerate(rows, 1)
    ]


def write_outcar(
    folder: Path, energy: float, *, tail: str = "", reached: bool = True
) -> None:
    """Write what is needed of an OUTCAR of two Fe atoms."""
    atoms, said = vasp_structure(), "is" if reached else "was not"
    rows = [
        f"   {x:10.5f} {y:10.5f} {z:10.5f} {fx:12.6f} {fy:12.6f} {fz:12.6f}"
        for (x, y, z), (fx, fy, fz) in zip(
            atoms.positions, [(0.1, 0, -0.2), (-0.1, 0, 0.2)], strict=True
        )
    ]
    a = atoms.cell[0, 0]
    cell = [
        f"     {a * (k == 0):12.9f} {a * (k == 1):12.9f} {a * (k == 2):12.9f}     0 0 0"
        for k in range(3)
    ]
    lines = [
        " vasp.6.4.2",
        " POTCAR:    PAW_PBE Fe 06Sep2000",
        "   VRHFIN =Fe:  3d7 4s1",
        "   ions per type =               2",
        "--------- Iteration      1(   1)  -----------------------------------",
        f" aborting loop because EDIFF {said} reached",
        "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
        "  in kB  160.21766  160.21766  160.21766     0.00000     0.00000     0.00000",
        "  direct lattice vectors                 reciprocal lattice vectors",
        *cell,
        " POSITION                                       TOTAL-FORCE (eV/Angst)",
        " -----------------------------------------------------------------------",
        *rows,
        " -----------------------------------------------------------------------",
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
        "  ---------------------------------------------------",
        f"  free  energy   TOTEN  =       {energy:.8f} eV",
        "",
        f"  energy  without entropy=      {energy + 0.02:.8f}  "
        f"energy(sigma->0) =      {energy + 0.01:.8f}",
        tail,
    ]
    (folder / "OUTCAR").write_text("\n".join(lines) + "\n")


def write_penalty_run(
    folder: Path,
    *,
    mode: int = 1,
    factor: float = 1.0,
    saxis=(0, 0, 1),
    strength: float = LAMBDA,
) -> np.ndarray:
    """Write OSZICAR and INCAR of VASP's own constraint; return the true -dE/dM."""
    atoms = vasp_structure()
    targets = get_spins(atoms)
    reached = targets + np.array([[0.01, -0.02, 0.003], [0.02, 0.0, -0.01]])
    unit = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    along = (reached * unit).sum(axis=1, keepdims=True)
    length = np.linalg.norm(reached, axis=1, keepdims=True)
    off = reached - (targets if mode == 2 else unit * along)
    penalty = strength * ((length - along).sum() if mode == 4 else (off**2).sum())
    write_vasp(folder, atoms, saxis=saxis)
    rest = f"I_CONSTRAINED_M = {mode}\nLAMBDA = {strength}\n"
    magmom = (folder / "INCAR").read_text().replace("MAGMOM", "M_CONSTR")
    (folder / "INCAR").write_text(rest + magmom)
    write_outcar(folder, -16.5 + penalty)
    rotation = saxis_rotation(saxis)
    # VASP prints three digits of moments, and more of the table.
    rows = np.hstack([reached @ rotation, 0.9 * reached @ rotation]).round(3)
    lines = [
        f" E_p =  {penalty:.5E}  lambda =  {strength:.3E}  <lVp>= 0.3E-02",
        " ion             MW_int                 M_int",
        *vectors(rows),
        "DAV:   8    -0.166E+02    0.1E-07   -0.27056E-04  5384   0.738E-02",
        f"   1 F= {-16.5 + penalty:.8E} E0= -.1649E+02  d E =0.0  mag= 0.1 0.2 0.3",
        f" E_p =  {penalty:.5E}  lambda =  {strength:.3E}",
        "ion             lambda*MW_perp",
        *vectors(factor * strength * off @ rotation),
    ]
    (folder / "OSZICAR").write_text("\n".join(lines) + "\n")
    return strength * (reached / length - unit if mode == 4 else 2.0 * off)


@pytest.mark.parametrize(
    ("mode", "factor", "saxis"),
    [
        (1, 1.0, (0, 0, 1)),
        (2, 1.0, (0, 0, 1)),
        (4, 1.0, (0, 0, 1)),
        (4, 2.0, (0, 1, 1)),
        (1, 2.0, (0, 0, 1)),
        (1, -1.0, (0, 0, 1)),
        (2, 1.0, (1, 1, 0)),
    ],
)
def test_penalty_of_vasp(mode, factor, saxis, tmp_path):
    """F - E_p, 2 lambda MW_perp at the moments that were reached, in Cartesian axes."""
    magnetic = write_penalty_run(tmp_path, mode=mode, factor=factor, saxis=saxis)
    frame = only(tmp_path)
    assert frame.energy == pytest.approx(-16.5, abs=1e-6)
    assert frame.magnetic_forces == pytest.approx(magnetic, abs=2e-5)
    assert frame.spins[0] == pytest.approx([0.31, 0.18, 2.103], abs=1e-3)
    assert frame.forces[0].tolist() == [0.1, 0, -0.2]
    # 160.2 kbar, compressed: it pushes outwards.
    assert frame.virial == pytest.approx(0.1 * frame.volume * np.eye(3), rel=1e-5)


@pytest.mark.parametrize("dynamics", [False, True])
def test_ionic_steps_in_oszicar(dynamics, tmp_path):
    """Tables before and after the energy of a step are those of that step."""
    heading = "       N       E                     dE             d eps       ncg\n"
    outcars, oszicars, expected = [], [], []
    for step, (mode, more) in enumerate(((1, 0.0), (1, 0.5)), 1):
        expected.append(write_penalty_run(tmp_path, mode=mode, strength=LAMBDA + more))
        outcars.append((tmp_path / "OUTCAR").read_text())
        text = heading + (tmp_path / "OSZICAR").read_text()
        before = f"{step:6d} T=  300. E= -.1E+02 F= " if dynamics else f"{step:4d} F= "
        oszicars.append(text.replace("   1 F= ", before))
    start = outcars[1].index("--------- Iteration")
    second = outcars[1][start:].replace("Iteration      1(", "Iteration      2(")
    (tmp_path / "OUTCAR").write_text(outcars[0] + second)
    (tmp_path / "OSZICAR").write_text("".join(oszicars))
    frames = read_dataset(tmp_path)
    assert len(frames) == 2
    for frame, magnetic in zip(frames, expected, strict=True):
        assert frame.energy == pytest.approx(-16.5, abs=1e-6)
        assert frame.magnetic_forces == pytest.approx(magnetic, abs=2e-5)
    for cut in (oszicars[0], oszicars[0] + oszicars[1].split("DAV")[0]):
        (tmp_path / "OSZICAR").write_text(cut)
        with pytest.raises(ValueError, match=r"steps with moments for 2|complete"):
            read_dataset(tmp_path)


def test_penalties_that_do_not_add_up(tmp_path):
    write_penalty_run(tmp_path)
    text = (tmp_path / "OSZICAR").read_text()
    (tmp_path / "OSZICAR").write_text(
        text.replace("lambda =  3.000E+00", "lambda = 9.0")
    )
    with pytest.raises(ValueError, match="OSZICAR: the tables have a penalty of"):
        read_dataset(tmp_path)
    (tmp_path / "OSZICAR").write_text(text.replace("0.180000", "********", 1))
    with pytest.raises(ValueError, match=r"'\*\*\*\*.* is no number"):
        read_dataset(tmp_path)
    (tmp_path / "OSZICAR").write_text(text)
    write_outcar(tmp_path, -16.0, reached=False)
    with pytest.raises(ValueError, match="0 of 1 ionic steps converged"):
        read_dataset(tmp_path)
    (tmp_path / "OUTCAR").unlink()
    with pytest.raises(ValueError, match="no OUTCAR beside it"):
        read_dataset(tmp_path)


FINAL = """\
 DeltaSpin final status
   SCF convergence     : reached
   Moment constraint   : reached
   Maximum moment error: 4.2E-07
 DeltaSpin final constrained observables  DELTASPIN_MOMENT_DEF = 0
  ion elem cx cy cz Mx My Mz |M|
  ------------------------------
    1 Fe 1 1 1 0.3000000001 0.2 2.1 2.13
    2 Fe 1 1 1 0.0 -0.9 2.0 2.19
  ------------------------------
 Magnetic force (eV/uB)   magnetic force = spin_lambda for L=E+lambda.(M-M_target)
  ion elem cx cy cz MFx MFy MFz
  ------------------------------
    1 Fe 1 1 1 0.011 0.012D+00 -0.013
    2 Fe 1 1 1 -0.021 0.022 0.023
  ------------------------------
"""


def test_deltaspin_of_vasp_6(tmp_path):
    write_vasp(tmp_path, vasp_structure())
    write_outcar(tmp_path, -16.5, tail=FINAL)
    frame = only(tmp_path)
    assert frame.energy == -16.5
    assert frame.magnetic_forces.tolist() == [
        [0.011, 0.012, -0.013],
        [-0.021, 0.022, 0.023],
    ]
    assert frame.spins[1].tolist() == [0.0, -0.9, 2.0]
    for old, new, message in (
        (
            "constraint   : reached",
            "constraint   : not reached",
            "Moment constraint was",
        ),
        ("2 Fe 1 1 1 0.0", "2 Fe 1 1 0 0.0", "no moments of the atoms 1"),
        ("2 Fe 1 1 1 -0.021", "2 Ni 1 1 1 -0.021", "ion 2 is Ni, not Fe"),
        ("L=E+lambda", "L=E-lambda", "which sign the magnetic forces have"),
    ):
        write_outcar(tmp_path, -16.5, tail=FINAL.replace(old, new))
        with pytest.raises(ValueError, match=f"OUTCAR: .*{message}"):
            read_dataset(tmp_path)


def test_ionic_steps_of_vasp_6(tmp_path):
    """Each step has its own energy and tables; a truncated one is no frame."""
    write_vasp(tmp_path, vasp_structure())
    write_outcar(tmp_path, -16.5, tail=FINAL)
    first = (tmp_path / "OUTCAR").read_text()
    write_outcar(tmp_path, -16.6, tail=FINAL.replace("0.011 0.012", "0.021 0.012"))
    second = (tmp_path / "OUTCAR").read_text()
    step = second[second.index("--------- Iteration") :]
    step = step.replace("Iteration      1(", "Iteration      2(")
    (tmp_path / "OUTCAR").write_text(first + step)
    frames = read_dataset(tmp_path)
    assert [frame.energy for frame in frames] == [-16.5, -16.6]
    assert [frame.magnetic_forces[0, 0] for frame in frames] == [0.011, 0.021]
    for end in ("POSITION", "DeltaSpin final status", "Magnetic force", "    2 Fe 1"):
        (tmp_path / "OUTCAR").write_text(first + step[: step.rindex(end)])
        with pytest.raises(ValueError, match="OUTCAR"):
            read_dataset(tmp_path)


def test_deltaspin_of_vasp_5_in_oszicar(tmp_path):
    write_vasp(tmp_path, vasp_structure())
    write_outcar(tmp_path, -16.5)
    moments = get_spins(vasp_structure())
    rows = np.hstack([moments, np.full((2, 3), 1e-4)])
    magnetic = np.array([[0.01, 0.02, 0.03], [0.04, -0.05, 0.06]])
    lines = [
        " E_p =  0.25000000E-03",
        " ion         MW_current",
        *vectors(rows),
        " ion   Magnetic Force",
        *vectors(np.hstack([moments, magnetic])),
        "   1 F= -.16500000E+02 E0= -.1649E+02  d E =0.0",
    ]
    (tmp_path / "OSZICAR").write_text("\n".join(lines) + "\n")
    frame = only(tmp_path)
    assert frame.energy == pytest.approx(-16.50025)
    assert frame.magnetic_forces == pytest.approx(magnetic)
    assert frame.spins == pytest.approx(moments)


def test_terminal_output_of_deltaspin(tmp_path):
    """The last block, with everything on single lines."""
    atoms = vasp_structure()
    write_vasp(tmp_path, atoms)
    moments = get_spins(atoms)
    magnetic = np.array([[0.01, 0.02, 0.03], [0.04, -0.05, 0.06]])

    def line(array) -> str:
        return " ".join(f"{x:.9f}" for x in np.ravel(array))

    lines = [
        " final optimal lambda:",
        *("  " + " ".join(f"{x:.15E}" for x in row) for row in -magnetic),
        "    0.101E-01",
        "DAV:  40    -0.166307881682E+03    0.96586E-07   -0.27056E-04  5384",
        "RMS:",
        "2.4E-04",
        "Energy:",
        "-16.50000000",
        "Cartesian Coordinates:",
        line(atoms.positions + np.array([[2.87, 0, 0], [0, 0, 0]])),
        "Magnetization:",
        line(moments),
        "Magnetization Difference from Target:",
        line(np.full((2, 3), 2e-4)),
        "Atomic Force:",
        line([[0.1, 0, 0], [-0.1, 0, 0]]),
        "Magnetic Force:",
        line(magnetic),
    ]
    log = tmp_path / "vasp.log"
    # What a killed run leaves is no data, and is not passed over.
    log.write_text(" optimal delta lambda:\n")
    with pytest.raises(ValueError, match=r"vasp\.log: the run did not come to its end"):
        read_dataset(tmp_path)
    log.write_text("\n".join(lines[: lines.index("Atomic Force:")]) + "\n")
    with pytest.raises(ValueError, match=r"vasp\.log: there is no Magnetic Force"):
        read_dataset(tmp_path)
    log.write_text("\n".join(lines) + "\n")
    frame = only(tmp_path)
    assert frame.energy == -16.5
    assert frame.spins == pytest.approx(moments)
    assert frame.magnetic_forces == pytest.approx(magnetic)
    for old, new, message in (
        ("0.96586E-07", "0.96586E-02", "last electronic step changed"),
        ("0.000200000", "0.020000000", "0.02 mu_B off its target"),
        (
            "1.000000000000000E-02",
            "5.000000000000000E-02",
            "not minus the final lambda",
        ),
    ):
        text = "\n".join(lines) + "\n"
        assert old in text
        log.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=rf"vasp\.log: .*{message}"):
            read_dataset(log)


def test_log_of_gpaw():
    """What the log says is what the engine returned, to the digits of the log."""
    frame, expected = only(GPAW / "fe.txt"), only(GPAW / "fe.extxyz")
    assert frame.symbols == ["Fe", "Fe"] and frame.pbc.all()
    assert frame.energy == pytest.approx(expected.energy, abs=1e-6)
    assert frame.cell == pytest.approx(expected.cell, abs=1e-6)
    assert frame.forces == pytest.approx(expected.forces, abs=1e-5)
    assert frame.spins == pytest.approx(expected.spins, abs=1e-6)
    assert frame.magnetic_forces == pytest.approx(expected.magnetic_forces, abs=5e-6)


def test_logs_of_gpaw_that_are_refused(tmp_path):
    text = (GPAW / "fe.txt").read_text()
    log = tmp_path / "gpaw.txt"
    start = text.index("extensions=")
    plain = text[:start] + text[text.index("kpts=") :]
    for changed, message in (
        (plain, "names no constraint of moments"),
        (text.replace("Converged in", "After"), "did not converge"),
        (text[: text.index("Free energy")], "did not converge"),
        (text + "  Free energy:     -1.0\n", "2 calculations"),
        (text.replace("Local magnetic", "Magnetic"), "no table Local magnetic moments"),
        (text.replace("|  # Fe   1", "", 1), "moments does not have 2 vectors"),
        (text.replace("targets={0", "targets={"), "invalid syntax"),
    ):
        assert changed != text
        log.write_text(changed)
        with pytest.raises(ValueError, match=rf"gpaw\.txt: .*{message}"):
            read_dataset(log)
    # In a folder, logs without constraints are no labelled data.
    log.write_text(plain)
    with pytest.raises(FileNotFoundError, match="holds no data"):
        read_dataset(tmp_path)
    log.write_text(text)
    assert len(read_dataset(tmp_path)) == len(read_dataset(log, format="gpaw")) == 1


def test_compressed_outputs(run, tmp_path):
    folder = run("fe_pw")
    write_outcar(tmp_path, -16.5, tail=FINAL)
    write_vasp(tmp_path, vasp_structure())
    log = tmp_path / "gpaw.txt"
    shutil.copy(GPAW / "fe.txt", log)
    for path, form in ((folder / LOG, gzip), (tmp_path / "OUTCAR", lzma), (log, bz2)):
        suffix = {gzip: ".gz", lzma: ".xz", bz2: ".bz2"}[form]
        with form.open(path.with_name(path.name + suffix), "wb") as file:
            file.write(path.read_bytes())
        path.unlink()
    assert only(folder).energy == only(ABACUS / "fe_pw").energy
    assert only(tmp_path / "OUTCAR.xz").energy == -16.5
    assert only(tmp_path / "gpaw.txt.bz2").energy == only(GPAW / "fe.txt").energy
    # All of them below one folder.
    assert len(read_dataset(tmp_path)) == 3
    broken = folder / LOG.with_name("running_scf.log.gz")
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"scf\.log\.gz is no complete compressed file"
    ):
        read_dataset(folder)


def test_runs_that_failed_are_left_out_on_request(run, tmp_path, caplog, capsys):
    run("fe_pw")
    run("fe_lcao", {str(LOG): ("convergence is achieved", "")})
    run("nio_pw_u", {"INPUT": ("sc_mag_switch 1", "")})
    with pytest.raises(ValueError, match=r"fe_lcao.*density did not converge"):
        read_dataset(tmp_path)
    assert only(tmp_path, skip_failed=True).symbols == ["Fe", "Fe"]
    reasons = [record.getMessage() for record in caplog.records]
    assert "density did not converge" in reasons[0]
    assert "moments were not constrained" in reasons[1]
    command = ["data", "convert", str(tmp_path), str(tmp_path / "out.extxyz")]
    assert main(command) == 2 and main([*command, "--skip-failed"]) == 0
    assert "1 frames of" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"all runs at .* are refused"):
        read_dataset(tmp_path / "nio_pw_u", skip_failed=True)


def test_converted_outputs_are_read_again(run, tmp_path):
    output = tmp_path / "converted"
    assert main(["data", "convert", str(run("fe_pw")), str(output)]) == 0
    assert only(output).energy == only(ABACUS / "fe_pw").energy
    assert len(read_extxyz(ABACUS / "nio_fd_pw.extxyz")) == 3
