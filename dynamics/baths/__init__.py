"""Heat baths, barostat, electrons and laser pulses."""

from __future__ import annotations

from .._state import Context
from ._barostat import Barostat
from ._electrons import Electrons
from ._lattice_bath import LatticeBath
from ._nose_hoover import NoseHooverChain
from ._pulse import LaserPulse
from ._spin_bath import SpinBath

__all__ = [
    "Barostat",
    "Context",
    "Electrons",
    "LaserPulse",
    "LatticeBath",
    "NoseHooverChain",
    "SpinBath",
]
