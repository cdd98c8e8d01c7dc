"""``deepspin neb``: minimum energy path and barrier between two structures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from .._figures import write_figure
from .._files import locked, require_different
from ..analysis._joint_space import displacement
from ..analysis.paths import NEBPath, SpinLatticeNEB, interpolate, plot_path
from ..calculators._deepspin import DeepSpinCalculator
from ..calculators._recorded import RecordedResults
from ..io import read_extxyz
from ..optimize._defaults import FMAX, SPIN_SCALE, STRESS_MAX, TORQUE_MAX
from ..spins import get_spins, set_spins
from ._inputs import read_magnetic
from ._neb_page import path_page
from ._outcome import Outcome
from ._reports import add_report, check_report, write_report

#: Images of a first guess, both ends included.
N_IMAGES = 9

#: Ends of a file agree with those that are given up to its decimals, A and mu_B.
_SAME = 1e-6


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Minimum energy path of atoms and spins, and of the cell on "
        "request, by a nudged elastic band. The same command resumes a run "
        "that was stopped, or is not converged, from its checkpoint (.ckpt), and "
        "otherwise goes on with the band of the output file. The energies along "
        "the path are drawn next to it (.png), their numbers kept (.npz). The exit "
        "code is 3 where the band does not converge."
    )
    parser.add_argument("initial", type=Path, help="a minimum, with moments (extxyz)")
    parser.add_argument("final", type=Path, help="another one: the same atoms")
    parser.add_argument(
        "-m",
        "--model",
        required=True,
        metavar="MODEL",
        help="model file, or name of a model",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("band.extxyz"),
        help="extxyz file of the band (default: %(default)s)",
    )
    add_report(parser)
    _add_path_options(parser)
    _add_band_options(parser)
    parser.set_defaults(run=_run)


def _add_path_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("first guess")
    group.add_argument(
        "--images", type=int, help=f"both ends included (default: {N_IMAGES})"
    )
    group.add_argument(
        "--axis",
        metavar="AXIS",
        help="x, -z, ... or three numbers x,y,z: about which spins rotate that are "
        "antiparallel at the ends",
    )
    group.add_argument(
        "--positions",
        choices=("linear", "idpp"),
        help="interpolation of the atoms (default: linear)",
    )


def _add_band_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("band")
    group.add_argument(
        "--climb", action="store_true", help="let the highest image climb to the saddle"
    )
    group.add_argument("--cell", action="store_true", help="the cell moves too")
    group.add_argument(
        "--fix-positions", action="store_true", help="keep the atoms where they are"
    )
    group.add_argument(
        "--fix-spins", action="store_true", help="keep the directions of the moments"
    )
    group.add_argument(
        "--method",
        choices=("neb", "string"),
        default="neb",
        help="nudged elastic band or string (default: %(default)s)",
    )
    group.add_argument(
        "--spring",
        type=float,
        help="constant of the springs, eV/A^2 (default: 0.1, less where energies "
        "differ little)",
    )
    group.add_argument(
        "--spin-scale",
        type=float,
        default=SPIN_SCALE,
        help=f"length of a rotation by one radian, A (default: {SPIN_SCALE})",
    )
    group.add_argument(
        "--fmax",
        type=float,
        default=FMAX,
        help=f"largest force across the path, eV/A (default: {FMAX})",
    )
    group.add_argument(
        "--torque-max",
        type=float,
        help=f"largest torque, eV (default: the least of {TORQUE_MAX}, fmax x spin "
        "scale, and 3%% of the mean torque along the path)",
    )
    group.add_argument(
        "--stress-max",
        type=float,
        help=f"largest stress, eV/A^3 (default: {STRESS_MAX})",
    )
    group.add_argument(
        "--steps",
        type=int,
        default=500,
        help="largest number of steps (default: %(default)s)",
    )
    group.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="precision of the model (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> Outcome:
    output = arguments.output
    if output.suffix not in (".extxyz", ".xyz"):
        raise ValueError(f"{output} must end in .extxyz or .xyz")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist")
    for name in ("initial", "final"):
        require_different(output=output, **{name: getattr(arguments, name)})
    check_report(arguments.report)
    others = [output.with_suffix(suffix) for suffix in (".npz", ".png", ".ckpt")]
    with locked(output, *others):
        return _find_path(arguments, checkpoint=others[-1])


def _find_path(arguments: argparse.Namespace, checkpoint: Path) -> Outcome:
    calculator = DeepSpinCalculator(arguments.model, dtype=arguments.dtype)
    ends = read_magnetic(arguments.initial), read_magnetic(arguments.final)
    _say_what_is_ignored(arguments, checkpoint)
    neb = None
    if checkpoint.exists() and checkpoint.stat().st_size:
        neb = _stopped(
            _band(_started(checkpoint, ends), calculator, arguments), checkpoint
        )
    if neb is None:
        neb = _band(_images(ends, arguments), calculator, arguments)
    try:
        converged = neb.run(
            fmax=arguments.fmax,
            steps=arguments.steps,
            output=arguments.output,
            checkpoint=checkpoint,
        )
    except CalculationFailed as error:
        raise FloatingPointError(str(error)) from error
    path = neb.path()
    _show(path, converged, neb)
    files = _keep(path, arguments.output)
    if arguments.report is not None:
        report = path_page(
            path,
            neb.images,
            converged=converged,
            n_calls=neb.band.n_calls,
            residuals=neb.residuals(),
        )
        files += write_report(report, arguments)
    if converged:
        checkpoint.unlink()
    told = {
        "converged": converged,
        "model_calls": neb.band.n_calls,
        "barrier_forward_eV": path.barrier_forward,
        "barrier_reverse_eV": path.barrier_reverse,
        "barrier_forward_of_highest_image_eV": path.barrier_forward_image,
        "barrier_reverse_of_highest_image_eV": path.barrier_reverse_image,
        "last_above_first_eV": path.reaction_energy,
        "length_A": path.length,
        "fractions": path.fractions,
        "coordinate_A": path.coordinate,
        "energies_eV": path.energies,
        "climbing": path.climbing,
        "files": files,
    }
    return Outcome(told, 0 if converged else 3)


def _say_what_is_ignored(arguments: argparse.Namespace, checkpoint: Path) -> None:
    """Say which options of the first guess do nothing for a band that exists."""
    there = [path for path in (checkpoint, arguments.output) if path.exists()]
    guess = ("images", "axis", "positions")
    given = [f"--{n}" for n in guess if getattr(arguments, n) is not None]
    if there and given:
        print(
            f"{', '.join(given)} ignored: {there[0]} holds a band already; remove it "
            "to begin with a new guess"
        )


def _band(
    images: list[Atoms], calculator: DeepSpinCalculator, arguments: argparse.Namespace
) -> SpinLatticeNEB:
    for image in images:
        image.calc = calculator
    return SpinLatticeNEB(
        images,
        spring=arguments.spring,
        climb=arguments.climb,
        positions=not arguments.fix_positions,
        spins=not arguments.fix_spins,
        cell=arguments.cell,
        method=arguments.method,
        spin_scale=arguments.spin_scale,
        torque_max=arguments.torque_max,
        stress_max=arguments.stress_max,
    )


def _started(checkpoint: Path, ends: tuple[Atoms, Atoms]) -> list[Atoms]:
    """Return the images that the run of a checkpoint began with."""
    images = []
    for found in RecordedResults(checkpoint).start:
        image = Atoms(found["numbers"], found["positions"], cell=found["cell"])
        image.pbc = found["pbc"]
        set_spins(image, found["initial_magmoms"])
        images.append(image)
    _check_ends(checkpoint, images, ends)
    return images


def _stopped(neb: SpinLatticeNEB, checkpoint: Path) -> SpinLatticeNEB | None:
    """Return the band where the checkpoint is of the same run, None otherwise."""
    before, now = RecordedResults(checkpoint).run, neb.identity()
    differ = [name for name in now if now[name] != before.get(name)]
    if not differ:
        print(f"going on with the steps in {checkpoint}")
        return neb
    print(f"{', '.join(differ)} differ from those of {checkpoint}: begun anew")
    checkpoint.unlink()
    return None


def _images(ends: tuple[Atoms, Atoms], arguments: argparse.Namespace) -> list[Atoms]:
    """Return the band of the output file, or else a first guess."""
    if not arguments.output.exists():
        return interpolate(
            *ends,
            N_IMAGES if arguments.images is None else arguments.images,
            axis=_axis(arguments.axis),
            positions=arguments.positions or "linear",
        )
    images = read_extxyz(arguments.output)
    _check_ends(arguments.output, images, ends)
    print(f"going on with the {len(images)} images of {arguments.output}")
    return images


def _check_ends(path: Path, images: list[Atoms], ends: tuple[Atoms, Atoms]) -> None:
    """Raise ValueError if a band has other ends; give it their constraints."""
    for name, given, k in (("initial", ends[0], 0), ("final", ends[1], -1)):
        if not _same(given, images[k]):
            raise ValueError(
                f"{path} holds a band with another {name} structure: choose another "
                "--output, or remove it"
            )
    for image in images:
        image.set_constraint(ends[0].constraints)


def _axis(text: str | None) -> str | list[float] | None:
    """Return an axis as :func:`interpolate` takes it."""
    if text is None or "," not in text:
        return text
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        raise ValueError(f"--axis takes x, -z, ... or x,y,z, got {text!r}") from None


def _same(given: Atoms, found: Atoms) -> bool:
    """Return whether structures agree, up to lattice translations of atoms."""
    if len(given) != len(found) or (given.numbers != found.numbers).any():
        return False
    differences = (
        given.cell.array - found.cell.array,
        displacement(given, found, mic=True),
        get_spins(given) - get_spins(found),
    )
    return all(np.abs(x).max() < _SAME for x in differences)


def _show(path: NEBPath, converged: bool, neb: SpinLatticeNEB) -> None:
    print(path.table())
    state = "converged" if converged else "not converged (resume with more --steps)"
    left = ", ".join(f"{name} {x:.1e}" for name, x in neb.residuals().items())
    print(f"\n{state}: {left} (eV/A, eV, eV/A^3); {neb.band.n_calls} model calls")
    parts = ", ".join(f"{name} {part:.0%}" for name, part in path.fractions.items())
    print(f"length {path.length:.4f} A: {parts}")
    lacking = 1e3 * np.ptp(path.residual)
    print(
        f"residual of the work between images, shared out: {lacking:.4f} meV; more "
        "images make it less"
    )
    for name, fit, image in (
        ("forward", path.barrier_forward, path.barrier_forward_image),
        ("reverse", path.barrier_reverse, path.barrier_reverse_image),
    ):
        print(
            f"{name} barrier {1e3 * fit:.4f} meV by the fit, {1e3 * image:.4f} meV by "
            "the highest image"
        )


def _keep(path: NEBPath, output: Path) -> list[Path]:
    """Write the numbers and the figure next to the band; return all three files."""
    numbers, figure = output.with_suffix(".npz"), output.with_suffix(".png")
    path.save(numbers)
    write_figure(figure, plot_path(path, parts=True))
    print(f"wrote {output}, {numbers}, {figure}")
    return [output, numbers, figure]
