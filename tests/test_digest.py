"""Digests of nested data tell different data apart, and only those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from deepspin_ase._digest import digest


@pytest.mark.parametrize(
    "pair",
    [
        (1, 2),
        (1, "1"),
        ([1, 2], [12]),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
        ({"a": "x", "b": "y"}, {"a": "x;'b''y'"}),
        (np.zeros(2), np.zeros(3)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2), np.zeros(2, dtype=int)),
        (Atoms("Fe"), Atoms("Fe", cell=[1, 1, 1])),
        (Atoms("Fe", magmoms=[[0, 0, 1]]), Atoms("Fe", magmoms=[[0, 0, 2]])),
    ],
)
def test_different_data_differ(pair: tuple[Any, Any]) -> None:
    assert digest(pair[0]) != digest(pair[1])


def test_equal_data_agree() -> None:
    one = {"a": np.arange(3.0), "b": [Atoms("Fe"), None, 0.1]}
    two = {"b": [Atoms("Fe", info={"name": "x"}), None, 0.1], "a": np.arange(3.0)}
    assert digest(one) == digest(two)
    assert digest(torch.arange(3.0)) == digest(np.arange(3.0, dtype=np.float32))
