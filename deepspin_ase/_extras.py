"""Modules of optional dependencies, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

#: The extra that brings a module.
EXTRAS = {
    "chemiscope": "view",
    "distributed": "distributed",
    "dpdata": "dpdata",
    "gpaw": "gpaw",
    "h5py": "hdf5",
    "magnopy": "magnons",
    "sevenn": "reference",
    "shtab": "completion",
    "sqsgenerator": "sqs",
    "torch_sim": "torch-sim",
    "tensorboard": "tensorboard",
}


def require(module: str, purpose: str) -> Any:
    """Return an optional module.

    Parameters
    ----------
    module : str
        Its name; that of its package is in :data:`EXTRAS`.
    purpose : str
        Subject of the message in the plural, such as ``"HDF5 trajectories"``.

    Raises
    ------
    ImportError
        If the package is not installed; the message names the extra that brings it.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{purpose} need {package}: pip install 'deepspin-ase[{EXTRAS[package]}]'"
        ) from error
    return importlib.import_module(module)
