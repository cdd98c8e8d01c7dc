"""``deepspin relax``: joint relaxation of atoms, moments and cell."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from .._files import locked, require_different
from ..calculators._deepspin import DeepSpinCalculator
from ..io import read_structure, write_extxyz
from ..optimize import Relaxation, relax
from ..optimize._defaults import FMAX, STRESS_MAX, TORQUE_MAX
from ..spins import get_spins
from ._outcome import Outcome
from ._relax_page import relaxation_page
from ._reports import add_report, check_report, write_report
from ._start import add_start, set_moments


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Relax positions and directions of moments together, on request "
        "the cell and the lengths of the moments, too. A relaxation that was stopped "
        "at any moment continues with --resume as if it had not been. The exit code is "
        "3 where it does not converge."
    )
    parser.add_argument(
        "structure",
        type=Path,
        help="extxyz, or any file ASE reads: the last structure in it",
    )
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
        default=Path("relaxed.extxyz"),
        help="extxyz file to write (default: %(default)s)",
    )
    parser.add_argument(
        "-t",
        "--trajectory",
        type=Path,
        help="every step (.extxyz, or ASE's .traj)",
    )
    parser.add_argument(
        "-r",
        "--resume",
        action="store_true",
        help="continue a relaxation that was stopped, to the same bits, from its "
        "checkpoint beside the output (.ckpt); a larger --steps or other thresholds "
        "may be given",
    )
    add_report(parser)
    add_start(parser)
    _add_parts(parser)
    _add_ends(parser)
    parser.set_defaults(run=_run)


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_argument_group("what moves")
    parts.add_argument("--cell", action="store_true", help="relax the cell, too")
    parts.add_argument(
        "--pressure-GPa", type=float, default=0.0, help="external pressure, with --cell"
    )
    parts.add_argument(
        "--magnitudes", action="store_true", help="relax lengths of moments, too"
    )
    parts.add_argument(
        "--fix-positions", action="store_true", help="keep the atoms where they are"
    )
    parts.add_argument(
        "--fix-spins", action="store_true", help="keep the directions of the moments"
    )


def _add_ends(parser: argparse.ArgumentParser) -> None:
    ends = parser.add_argument_group("when to stop")
    ends.add_argument(
        "--fmax",
        type=float,
        default=FMAX,
        help="largest force, eV/A (default: %(default)s)",
    )
    ends.add_argument(
        "--torque-max",
        type=float,
        help=f"largest torque, eV (default: {TORQUE_MAX}, and moments that settled)",
    )
    ends.add_argument(
        "--stress-max",
        type=float,
        default=STRESS_MAX,
        help="largest stress, eV/A^3 (default: %(default)s)",
    )
    ends.add_argument(
        "--steps",
        type=int,
        default=1000,
        help="largest number of steps (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> Outcome:
    output, trajectory = arguments.output, arguments.trajectory
    if output.suffix not in (".extxyz", ".xyz"):
        raise ValueError(f"{output} must end in .extxyz or .xyz")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist")
    if arguments.pressure_GPa and not arguments.cell:
        raise ValueError("--pressure-GPa does nothing without --cell")
    check_report(arguments.report)
    checkpoint = output.with_suffix(".ckpt")
    require_different(
        structure=arguments.structure,
        output=output,
        trajectory=trajectory,
        checkpoint=checkpoint,
        report=arguments.report,
    )
    with locked(output, checkpoint, *([] if trajectory is None else [trajectory])):
        if checkpoint.exists() != arguments.resume:
            raise ValueError(
                f"{checkpoint} does not exist: there is nothing to resume"
                if arguments.resume
                else f"{checkpoint} holds a relaxation that was stopped: continue it "
                "with --resume, remove it, or choose another --output"
            )
        return _relax(arguments, checkpoint)


def _relax(arguments: argparse.Namespace, checkpoint: Path) -> Outcome:
    atoms = read_structure(arguments.structure)
    set_moments(atoms, arguments)
    before = atoms.copy()
    atoms.calc = DeepSpinCalculator(arguments.model)
    try:
        found = relax(
            atoms,
            fmax=arguments.fmax,
            torque_max=arguments.torque_max,
            stress_max=arguments.stress_max,
            steps=arguments.steps,
            logfile="-",
            trajectory=arguments.trajectory,
            checkpoint=checkpoint,
            positions=not arguments.fix_positions,
            cell=arguments.cell,
            spins=not arguments.fix_spins,
            magnitudes=arguments.magnitudes,
            pressure_GPa=arguments.pressure_GPa,
        )
    except CalculationFailed as error:
        raise FloatingPointError(str(error)) from error
    write_extxyz(arguments.output, atoms)
    print(
        f"{'converged' if found.converged else 'NOT converged'} after {found.n_calls} "
        f"model calls: {found.energy:.6f} eV; structure in {arguments.output}"
    )
    files = [arguments.output]
    if arguments.trajectory is not None:
        files.append(arguments.trajectory)
    if arguments.report is not None:
        thresholds = {
            "force": arguments.fmax,
            "torque": arguments.torque_max,
            "stress": arguments.stress_max,
        }
        report = relaxation_page(found, before, atoms, thresholds)
        files += write_report(report, arguments)
    if found.converged:
        checkpoint.unlink()
    else:
        print(f"{checkpoint} keeps the steps: raise --steps and --resume to continue")
        files.append(checkpoint)
    return Outcome(_told(found, atoms) | {"files": files}, 0 if found.converged else 3)


def _told(found: Relaxation, atoms: Atoms) -> dict[str, Any]:
    units = {"force": "eV_per_A", "torque": "eV", "stress": "eV_per_A3"}
    residuals = {f"{k}_{units[k]}": value for k, value in found.residuals.items()}
    return {
        "converged": found.converged,
        "model_calls": found.n_calls,
        "atoms": len(atoms),
        "energy_eV": found.energy,
        "energy_per_atom_eV": found.energy / len(atoms),
        "residuals": residuals,
        "volume_A3": atoms.get_volume() if atoms.cell.rank == 3 else None,
        "cell_A": atoms.cell.array,
        "net_moment_mu_B": get_spins(atoms).sum(axis=0),
    }
