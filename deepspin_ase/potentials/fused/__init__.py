"""Fast evaluation of frozen networks and of pair terms on the CPU."""

from .network import evaluate_network
from .pair_terms import evaluate_pairs, is_compilable

__all__ = ["evaluate_network", "evaluate_pairs", "is_compilable"]
