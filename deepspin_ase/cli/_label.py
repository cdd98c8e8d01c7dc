"""``deepspin label``: labels of structures from a DFT code or a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ase import Atoms

from .._config import read_mapping
from ..io import read_extxyz
from ..labels import (
    ENGINES,
    Engine,
    LabelError,
    check_engine,
    label_structures,
    make_engine,
    write_job_script,
)
from ._options import add_columns, columns_of
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    engines = ", ".join(name for name in ENGINES if name != "model")
    parser.description = (
        "Energies, forces and magnetic forces of structures at the moments that they "
        "have, as far as the engine reaches them. What is done is kept: run the "
        "command again to go on, with the same structures or more."
    )
    parser.add_argument("structures", type=Path, help="extxyz file, with moments")
    parser.add_argument(
        "-e",
        "--engine",
        required=True,
        metavar="ENGINE",
        help=f"{engines}, a model file, or the name of a shipped model",
    )
    parser.add_argument(
        "-s", "--settings", type=Path, help="settings of the engine (YAML)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("labels"),
        metavar="FOLDER",
        help="folder of labels (default: %(default)s)",
    )
    add_columns(parser)
    parser.add_argument(
        "--retry", action="store_true", help="compute again what failed before"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="label five structures near the first one, and say whether the labels are "
        "derivatives of the energy, and which known fault explains it if not",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    settings = {} if arguments.settings is None else read_mapping(arguments.settings)
    engine = make_engine(arguments.engine, settings)
    structures = read_extxyz(arguments.structures, columns=columns_of(arguments))
    provenance = engine.provenance()
    print(json.dumps(provenance, indent=1))
    if arguments.check:
        return _check(arguments, engine, structures[0])
    output = arguments.output
    found = label_structures(structures, engine, output, retry=arguments.retry)
    files = []
    print(f"{len(found.frames)} of {len(structures)} structures labelled")
    if found.indices:
        files.append(output / "labelled.extxyz")
        print(f"wrote {files[-1]}")
    for index, reason in list(found.failures.items())[:10]:
        print(f"structure {index} failed: {reason}")
    if found.failures:
        files.append(output / "failed.extxyz")
        print(f"wrote {files[-1]} with the reasons")
    if found.waiting:
        script = write_job_script(output, found.waiting.values())
        files.append(script)
        print(
            f"{len(found.waiting)} structures wait for the code: complete and submit "
            f"{script}, then run this command again"
        )
    told = {
        "engine": provenance,
        "structures": len(structures),
        "labelled": found.indices,
        "seconds": found.seconds,
        "failures": found.failures,
        "waiting": found.waiting,
        "files": files,
    }
    return Outcome(told, 3 if found.failures or found.waiting else 0)


def _check(arguments: argparse.Namespace, engine: Engine, atoms: Atoms) -> Outcome:
    told = {"engine": engine.provenance()}
    try:
        found = check_engine(engine, atoms, arguments.output / "check")
    except LabelError as error:
        print(f"a structure of the check could not be labelled: {error}")
        return Outcome(told | {"error": str(error)}, 3)
    print(found)
    check = {
        "ok": found.ok,
        "names": found.names,
        "differences_eV": found.differences,
        "works_eV": found.works,
        "untested": found.untested,
        "faults": found.faults,
    }
    return Outcome(told | {"check": check}, 0 if found.ok else 3)
