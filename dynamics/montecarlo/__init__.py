"""Monte Carlo: trial moves, their energies, hybrid moves and replica exchange."""

from __future__ import annotations

from ._couplings import Couplings, find_couplings
from ._hybrid import LatticeMove
from ._monte_carlo import MonteCarlo
from ._swaps import SwapMove
from ._tempering import ReplicaExchange
from ._transmutations import TransmutationMove
from ._trial_moves import Acceptance, TrialMoves

__all__ = [
    "Acceptance",
    "Couplings",
    "LatticeMove",
    "MonteCarlo",
    "ReplicaExchange",
    "SwapMove",
    "TransmutationMove",
    "TrialMoves",
    "find_couplings",
]
