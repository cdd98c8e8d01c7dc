"""Magnetic transitions: temperatures, fluctuations, entropy changes and hysteresis."""

from __future__ import annotations

from ._crossing import crossing, peak
from ._finite_size import ScalingFit, scaling_fit
from ._fluctuations import (
    ThermalAverages,
    binder_cumulant,
    heat_capacity,
    plot_thermal_averages,
    susceptibility,
    thermal_averages,
)
from ._hysteresis import Hysteresis, hysteresis, plot_hysteresis
from ._magnetocaloric import EntropyChange, entropy_change, plot_entropy_change
from ._phase_diagram import PhaseDiagram, phase_diagram, plot_phase_diagram
from ._thermal_sampling import SamplingTask, ThermalSamples, model_data, run_sampling
from ._transition import TransitionResult, curie_temperature, plot_transition

__all__ = [
    "EntropyChange",
    "Hysteresis",
    "PhaseDiagram",
    "SamplingTask",
    "ScalingFit",
    "ThermalAverages",
    "ThermalSamples",
    "TransitionResult",
    "binder_cumulant",
    "crossing",
    "curie_temperature",
    "entropy_change",
    "heat_capacity",
    "hysteresis",
    "model_data",
    "peak",
    "phase_diagram",
    "plot_entropy_change",
    "plot_hysteresis",
    "plot_phase_diagram",
    "plot_thermal_averages",
    "plot_transition",
    "run_sampling",
    "scaling_fit",
    "susceptibility",
    "thermal_averages",
]
