"""Active learning: train, explore by dynamics, label what is uncertain, again."""

from __future__ import annotations

from ._config import ExploreConfig, LearnConfig, SelectConfig, StartConfig, Window
from ._explore import Exploration, explore
from ._loop import ActiveLearning, Generation
from ._select import equations, most_informative

__all__ = [
    "ActiveLearning",
    "Exploration",
    "ExploreConfig",
    "Generation",
    "LearnConfig",
    "SelectConfig",
    "StartConfig",
    "Window",
    "equations",
    "explore",
    "most_informative",
]
