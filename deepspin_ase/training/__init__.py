"""Training of potentials on labelled structures."""

from __future__ import annotations

from ._batch import Batch, collect, load_batches
from ._config import SetConfig, TrainingConfig, read_config
from ._curve import read_learning_curve
from ._deepmd_input import from_deepmd_input
from ._energies import ReferenceEnergies
from ._errors import fit_error_model
from ._linear import Baseline, LinearFit, fit_baseline, fit_linear
from ._metrics import Comparison, compare
from ._report import plot_learning_curve, plot_parity, plot_reliability
from ._ridge import RidgeFit, fit_linear_term
from ._sets import TrainingSet, aligned, read_sets
from ._trainer import Trainer

__all__ = [
    "Baseline",
    "Batch",
    "Comparison",
    "LinearFit",
    "ReferenceEnergies",
    "RidgeFit",
    "SetConfig",
    "Trainer",
    "TrainingConfig",
    "TrainingSet",
    "aligned",
    "collect",
    "compare",
    "fit_baseline",
    "fit_error_model",
    "fit_linear",
    "fit_linear_term",
    "from_deepmd_input",
    "load_batches",
    "plot_learning_curve",
    "plot_parity",
    "plot_reliability",
    "read_config",
    "read_learning_curve",
    "read_sets",
]
