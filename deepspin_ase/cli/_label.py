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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    engines = ", ".join(name for name in ENGINES if name != "model")
    parser.description = (
        "Energies, forces and magnetic forces of structures at the moments that they "
        "have, as far as the engine reaches them. What is done is kept: run the "
        "command again to go on, with the same structures or more."
    )
    parser.add_argument("structures", type=Path, help="with moments (extxyz)")
    parser.add_argument(
        "-e",
        "--engine",
        required=True,
        help=f"{engines}, a model file, or the name of a shipped model",
    )
    parser.add_argument(
        "-s", "--settings", type=Path, help="of the engine (YAML); see its class"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("labels"), help="folder (labels)"
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


def _run(arguments: argparse.Namespace) -> int:
    settings = {} if arguments.settings is None else read_mapping(arguments.settings)
    engine = make_engine(arguments.engine, settings)
    structures = read_extxyz(arguments.structures, columns=columns_of(arguments))
    print(json.dumps(engine.provenance(), indent=1))
    if arguments.check:
        return _check(arguments, engine, structures[0])
    found = label_structures(
        structures, engine, arguments.output, retry=arguments.retry
    )
    print(f"{len(found.frames)} of {len(structures)} structures labelled")
    if found.indices:
        print(f"wrote {arguments.output / 'labelled.extxyz'}")
    for index, reason in list(found.failures.items())[:10]:
        print(f"structure {index} failed: {reason}")
    if found.failures:
        print(f"wrote {arguments.output / 'failed.extxyz'} with the reasons")
    if found.waiting:
        script = write_job_script(arguments.output, found.waiting.values())
        print(
            f"{len(found.waiting)} structures wait for the code: complete and submit "
            f"{script}, then run this command again"
        )
    return 3 if found.failures or found.waiting else 0


def _check(arguments: argparse.Namespace, engine: Engine, atoms: Atoms) -> int:
    try:
        found = check_engine(engine, atoms, arguments.output / "check")
    except LabelError as error:
        print(f"a structure of the check could not be labelled: {error}")
        return 3
    print(found)
    return 0 if found.ok else 3
