"""Checks of arguments: accepted numbers, and one wording for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT

from deepspin_ase._validate import (
    finite,
    non_negative,
    per_replica,
    positive,
    positive_numbers,
    require_calculator,
    whole,
)


@pytest.mark.parametrize(
    "value", [2, 2.0, np.float32(2.0), np.int64(2), np.array(2.0), torch.tensor(2.0)]
)
def test_numbers_of_all_kinds(value: Any) -> None:
    for check in (finite, positive, non_negative):
        assert check("x", value) == 2.0
        assert type(check("x", value)) is float


@pytest.mark.parametrize("value", ["2", True, None, [1.0], [[1.0], [2.0, 3.0]], 1j])
def test_what_is_not_a_number(value: Any) -> None:
    for check in (finite, positive, non_negative):
        with pytest.raises(TypeError, match="x must be a number, got"):
            check("x", value)
    with pytest.raises(TypeError, match="x must be a whole number, got"):
        whole("x", value)


def test_ranges() -> None:
    assert finite("x", -1) == -1.0
    assert non_negative("x", 0) == 0.0
    assert whole("x", np.int32(3), 3) == 3
    for check, bad, bound in (
        (finite, np.inf, "finite"),
        (positive, 0.0, "finite and > 0"),
        (positive, np.nan, "finite and > 0"),
        (non_negative, -1e-9, "finite and >= 0"),
        (whole, -1, "a whole number >= 0"),
        (positive_numbers, [1.0, 0.0], "finite and > 0"),
    ):
        with pytest.raises(ValueError, match=f"x must be {bound}, got"):
            check("x", bad)
    np.testing.assert_array_equal(positive_numbers("x", 2), [2.0])
    np.testing.assert_array_equal(per_replica("x", 2, 3), [2.0] * 3)
    with pytest.raises(ValueError, match="x must be one number or 3"):
        per_replica("x", [1.0, 2.0], 3)


def test_calculators() -> None:
    atoms = Atoms("Cu")
    with pytest.raises(ValueError, match=r"structure 2 has no calculator; set atoms\."):
        require_calculator(atoms, name="structure 2")
    atoms.calc = EMT()
    require_calculator(atoms, "forces", "stress")
    with pytest.raises(
        ValueError,
        match=r"EMT does not give magnetic_forces \(-dE/dm, eV/mu_B\), which spins",
    ):
        require_calculator(atoms, "forces", "magnetic_forces", purpose="spins=True")
