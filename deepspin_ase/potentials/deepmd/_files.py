"""File-type detection and dispatch to readers and writers."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path
from typing import TypeGuard

from ..._files import atomic_write
from ..._validate import path_first
from .._base import Potential
from ..networks._deepspin import DeepSpinNetwork
from . import _frozen as frozen
from . import _neutral as neutral
from ._parameters import Parameters, Unrunnable, Unsupported
from ._script import DeepmdScript
from ._trees import SUFFIXES, YAML

logger = logging.getLogger(__name__)

_HDF5 = b"\x89HDF\r\n\x1a\n"


def _kind(path: Path) -> str | None:
    """Return "frozen", "dp", "yaml", or None for files of no such kind."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = {part for name in archive.namelist() for part in name.split("/")}
        return "frozen" if {"code", "constants.pkl"} <= parts else None
    with open(path, "rb") as stream:
        start = stream.read(len(_HDF5))
    if start == _HDF5:
        return "dp"
    return "yaml" if path.suffix in YAML else None


def refuse_other_kinds(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for models of DeePMD-kit that are not read; says what to do."""
    path = Path(path)
    if path.suffix == ".pb":
        raise ValueError(
            f"{path} is a model of DeePMD-kit's TensorFlow back end, which is not "
            "read; train it with the PyTorch back end, or here with the same input.json"
        )
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if path.suffix == ".pt2" or any("aotinductor" in name for name in names):
            raise ValueError(
                f"{path} is a compiled model (.pt2) that needs deepmd-kit; "
                "'dp convert-backend' makes a .pth of it"
            )
        pickled = [name for name in names if name.endswith("/data.pkl")]
        if any(b"_extra_state" in archive.read(name) for name in pickled):
            raise ValueError(
                f"{path} is a checkpoint of DeePMD-kit's training; 'dp --pt freeze' "
                "makes a .pth of it"
            )


def recognises(path: str | os.PathLike[str]) -> bool:
    """Say whether a file is of a kind that :func:`load_deepmd` reads.

    TorchScript archives and HDF5 files are known by their content, YAML files
    by their suffix.
    """
    return _kind(Path(path)) is not None


def load_deepmd(path: str | os.PathLike[str]) -> Potential:
    """Read a model of DeePMD-kit; deepmd-kit need not be installed.

    Parameters
    ----------
    path : path
        A frozen model of the PyTorch back end (``.pth``, from ``dp --pt
        freeze``), or a backend-neutral file (``.yaml``, ``.dp``).

    Returns
    -------
    Potential
        A :class:`DeepSpinNetwork` for se_e2_a models with pseudo-atoms, from
        either kind of file. Other frozen models (other descriptors, excluded
        pairs, models without spins) run through their own TorchScript as a
        :class:`DeepmdScript`, which is slower; a warning says so.

    Raises
    ------
    ValueError
        If the file is of another kind or incomplete, or needs something that
        is not there, which is named.

    Notes
    -----
    Of a compressed se_e2_a model the networks are used, not the tables made of
    them, and a model in single precision is evaluated in that of the System:
    DeePMD-kit's own numbers then have errors that these have not.

    YAML and HDF5 files are plain data. A frozen model is a TorchScript program:
    it holds no pickled Python, but load it from sources you trust.
    """
    path = Path(path)
    kind = _kind(path)
    if kind is None:
        raise ValueError(
            f"{path} is not a DeePMD-kit model; expected a frozen .pth of the PyTorch "
            "back end (dp --pt freeze), or a backend-neutral .yaml or .dp"
        )
    if kind != "frozen":
        try:
            return _network(path, neutral.read(path))
        except Unrunnable as reason:
            raise ValueError(f"{path} cannot be used: {reason}") from reason
        except Unsupported as reason:
            raise ValueError(
                f"{path} does not fit the pseudo-atom network: {reason}; convert it "
                "with 'dp convert-backend' to a .pth, which runs as TorchScript"
            ) from reason
    script = frozen.open_script(path)
    try:
        network = _network(path, frozen.read(script))
        if frozen.disagreement(script, network) > frozen.precision(script):
            raise Unsupported("its numbers are not those of the networks in it")
        return network
    except Unsupported as reason:
        potential = DeepmdScript(path)
        logger.warning(
            "%s runs through its own TorchScript, which is slower than the networks "
            "of this package: %s",
            path,
            reason,
        )
        return potential


def _network(path: Path, parameters: Parameters) -> DeepSpinNetwork:
    try:
        return parameters.to_network()
    except Unsupported:
        raise
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def is_writable(potential: Potential) -> TypeGuard[DeepSpinNetwork]:
    """Return whether DeePMD-kit has a form for a potential."""
    return isinstance(potential, DeepSpinNetwork)


def write_deepmd(path: str | os.PathLike[str], potential: Potential) -> None:
    """Write a pseudo-atom network as a backend-neutral file of DeePMD-kit.

    ``dp convert-backend model.yaml model.pth`` makes of it a model for LAMMPS
    and for DeePMD-kit itself. Numbers keep full double precision.

    Parameters
    ----------
    path : path
        Ends in ``.yaml``, ``.yml`` or ``.dp`` (HDF5, smaller; needs h5py).
        Written whole or not at all.
    potential : DeepSpinNetwork

    Raises
    ------
    TypeError
        If it is not given a path and a potential, in this order.
    ValueError
        If the potential is of another class or has no magnetic element, or the suffix
        is another.
    """
    path_first("write_deepmd", path, potential, Potential)
    path = Path(path)
    if not is_writable(potential):
        raise ValueError(
            f"DeePMD-kit's format holds pseudo-atom networks (DeepSpinNetwork), not "
            f"{type(potential).__name__}; of a sum or a committee, write the members"
        )
    if not potential.uses_spins:
        raise ValueError(
            "DeePMD-kit's spin models need a magnetic element; this network has none"
        )
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}")
    parameters = Parameters.of_network(potential)
    with atomic_write(path) as temporary:
        neutral.write(temporary, parameters)
