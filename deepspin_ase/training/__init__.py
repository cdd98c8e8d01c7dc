"""Training of pseudo-atom networks on labelled structures."""

from __future__ import annotations

from .batch import Batch, collect, load_batches
from .config import TrainingConfig, read_config
from .curve import read_learning_curve
from .deepmd_input import from_deepmd_input
from .linear import LinearFit, fit_linear
from .metrics import UNITS, Comparison, compare
from .report import plot_learning_curve, plot_parity
from .trainer import Trainer

__all__ = [
    "UNITS",
    "Batch",
    "Comparison",
    "LinearFit",
    "Trainer",
    "TrainingConfig",
    "collect",
    "compare",
    "fit_linear",
    "from_deepmd_input",
    "load_batches",
    "plot_learning_curve",
    "plot_parity",
    "read_config",
    "read_learning_curve",
]
