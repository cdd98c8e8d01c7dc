"""Networks: trained energies of atoms and moments."""

from __future__ import annotations

from ._config import DeepSpinConfig
from ._deepspin import DeepSpinNetwork
from ._sevennet import SevenNet

__all__ = [
    "DeepSpinConfig",
    "DeepSpinNetwork",
    "SevenNet",
]
