"""Fast evaluation of frozen networks and of pair terms on the CPU."""

from ._network import evaluate_network
from ._pair_terms import evaluate_pairs, is_compilable

__all__ = ["evaluate_network", "evaluate_pairs", "is_compilable"]
