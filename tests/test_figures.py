"""Figures name every line and marker, and units by their symbols."""

from __future__ import annotations

import numpy as np
import pytest

from deepspin_ase._figures import with_symbols
from deepspin_ase.training import plot_learning_curve, plot_parity, plot_reliability
from deepspin_ase.training._metrics import Comparison


@pytest.mark.parametrize(
    ("plain", "shown"),
    [
        ("eV/A", "eV/Å"),
        ("eV/A^3", "eV/Å³"),
        ("meV/mu_B", r"meV/$\mu_B$"),
        ("mu_B^2/meV per magnetic atom", r"$\mu_B^2$/meV per magnetic atom"),
        ("meV/atom", "meV/atom"),
    ],
)
def test_units_have_symbols(plain: str, shown: str) -> None:
    assert with_symbols(plain) == shown


def comparisons() -> dict[str, Comparison]:
    rng = np.random.default_rng(0)
    label = rng.normal(size=64)
    error = 0.1 * rng.normal(size=64)
    made = {}
    for name, unit in (("forces", "eV/A"), ("magnetic_forces", "eV/mu_B")):
        made[name] = Comparison(
            title=name,
            unit=unit,
            label=label,
            prediction=label + error,
            deviation=abs(error) + 0.01,
        )
    return made


@pytest.mark.parametrize("plot", [plot_parity, plot_reliability])
def test_panels_of_errors(plot: object) -> None:
    axes = plot(comparisons())  # type: ignore[operator]
    assert "(meV/Å)" in axes[0].get_xlabel() and "(meV/Å)" in axes[0].get_ylabel()
    assert r"$\mu_B$" in axes[1].get_xlabel() and "mu_B)" not in axes[1].get_xlabel()
    assert axes[0].get_legend() is not None


def test_learning_curve_names_both_styles() -> None:
    step = np.array([1.0, 10.0, 100.0])
    curve = {
        "step": step,
        "validation_rmse_forces": 1 / step,
        "training_rmse_forces": 0.5 / step,
    }
    ax = plot_learning_curve(curve)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[-2:] == ["validation", "training"] and "Å" in names[0]
