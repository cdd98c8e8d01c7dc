"""DeepSPIN potentials of atoms and non-collinear spins in the ASE world."""

from __future__ import annotations

from ._imports import install
from ._lazy import attach
from ._version import __version__ as __version__

install()
__getattr__, __dir__, __all__ = attach(__name__, __file__)
