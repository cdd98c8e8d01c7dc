"""Labels: energies and derivatives of structures with given moments, from any engine.

An :class:`Engine` computes one structure; :func:`label_structures` computes many, keeps
each as soon as it is done and goes on where it was stopped; :func:`check_engine` finds
out whether the labels are derivatives of the energy.
"""

from __future__ import annotations

from ._abacus import ABACUSEngine
from ._calculator import CalculatorEngine
from ._check import EngineCheck, check_engine, check_structures
from ._engine import ENGINES, Engine, LabelError, Waiting, make_engine
from ._external import ExternalEngine
from ._gpaw import GPAWEngine
from ._run import LabelledStructures, label_structures, write_job_script
from ._vasp import VASPEngine

__all__ = [
    "ENGINES",
    "ABACUSEngine",
    "CalculatorEngine",
    "Engine",
    "EngineCheck",
    "ExternalEngine",
    "GPAWEngine",
    "LabelError",
    "LabelledStructures",
    "VASPEngine",
    "Waiting",
    "check_engine",
    "check_structures",
    "label_structures",
    "make_engine",
    "write_job_script",
]
