"""Fast evaluation of frozen networks on the CPU."""

from .evaluator import evaluate

__all__ = ["evaluate"]
