"""The compiled kernels against the network itself."""

from __future__ import annotations

import pytest
from test_network import VARIANTS, for_model, model, structure

from deepspin_ase.potentials import DeepSpinNetwork, Prediction
from deepspin_ase.system import System

QUANTITIES = ("energy", "energies", "forces", "magnetic_forces", "virial")


def frozen(net: DeepSpinNetwork) -> DeepSpinNetwork:
    return net.eval().requires_grad_(False)


def exactly(potential: DeepSpinNetwork, system: System) -> Prediction:
    potential.backend = "reference"
    found = potential.evaluate(system)
    potential.backend = "fused"
    return found


def assert_close(a: Prediction, b: Prediction, tolerance: float) -> None:
    for name in QUANTITIES:
        found, expected = getattr(a, name), getattr(b, name)
        scale = float(expected.abs().max())
        assert scale > 0
        assert float((found - expected).abs().max()) < tolerance * scale, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_network(variant: str) -> None:
    net = frozen(model(**VARIANTS[variant]))
    system = System.cat([for_model(structure(k, pbc=k != 1), net) for k in range(3)])
    assert_close(net.evaluate(system), exactly(net, system), 1e-10)
