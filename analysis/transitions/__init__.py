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
from ._found_orders import found_orders
from ._hysteresis import Hysteresis, hysteresis, plot_hysteresis
from ._magnetocaloric import EntropyChange, entropy_change, plot_entropy_change
from ._order_parameters import (
    Density,
    ElectricPolarization,
    OctahedralTilt,
    PolarDisplacement,
    Volume,
)
from ._phase_diagram import PhaseDiagram
from ._phase_maps import plot_phase_diagram
from ._phase_sampling import phase_diagram
from ._phases_config import PhasesConfig
from ._phases_page import line_table, write_page
from ._reweighting import MultiHistogram
from ._thermal_sampling import SamplingTask, ThermalSamples, model_data, run_sampling
from ._transition import TransitionResult, curie_temperature, plot_transition
from ._transition_order import (
    TransitionOrder,
    plot_transition_order,
    transition_order,
)

__all__ = [
    "Density",
    "ElectricPolarization",
    "EntropyChange",
    "Hysteresis",
    "MultiHistogram",
    "OctahedralTilt",
    "PhaseDiagram",
    "PhasesConfig",
    "PolarDisplacement",
    "SamplingTask",
    "ScalingFit",
    "ThermalAverages",
    "ThermalSamples",
    "TransitionOrder",
    "TransitionResult",
    "Volume",
    "binder_cumulant",
    "crossing",
    "curie_temperature",
    "entropy_change",
    "found_orders",
    "heat_capacity",
    "hysteresis",
    "line_table",
    "model_data",
    "peak",
    "phase_diagram",
    "plot_entropy_change",
    "plot_hysteresis",
    "plot_phase_diagram",
    "plot_thermal_averages",
    "plot_transition",
    "plot_transition_order",
    "run_sampling",
    "scaling_fit",
    "susceptibility",
    "thermal_averages",
    "transition_order",
    "write_page",
]
