"""Schedules of the learning rate and of the loss weights over the steps."""

from __future__ import annotations

import math

from ._config import LearningRateConfig, LossConfig


def decay_factor(config: LearningRateConfig, step: int, n_steps: int) -> float:
    """Return lr / start_lr of a step, warm-up left out."""
    if config.decay_steps is not None and config.decay == "exp":
        step -= step % config.decay_steps
    progress = step / n_steps
    floor = config.stop_lr / config.start_lr
    if config.decay == "exp":
        return math.exp(math.log(floor) * progress)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_steps(config: LearningRateConfig, n_steps: int) -> int:
    """Return the number of steps over which the learning rate rises."""
    if config.warmup_steps is None:
        return min(200, n_steps // 4)
    return config.warmup_steps


def learning_rate(config: LearningRateConfig, step: int, n_steps: int) -> float:
    """Return the learning rate of a step, warm-up included."""
    warmup = min(1.0, (step + 1) / max(1, warmup_steps(config, n_steps)))
    return config.start_lr * decay_factor(config, step, n_steps) * warmup


def loss_weights(config: LossConfig, decay: float) -> dict[str, float]:
    """Return the weight of every label, ``decay`` being lr / start_lr."""

    def between(start: float, limit: float) -> float:
        return limit + (start - limit) * decay

    return {name: between(*ends) for name, ends in config.ends.items()}
