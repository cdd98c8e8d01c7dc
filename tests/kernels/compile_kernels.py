"""Compile the Triton kernels for CUDA devices, none of which need be there.

Potentials are evaluated as far as that goes without running what was compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from networks import PSEUDO_ATOMS, moments_network, nickel_oxide
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver, jit

from deepspin_ase.kernels import cuda, register
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    CubicCut,
    DzyaloshinskiiMoriya,
    choose_backend,
    load_potential,
)

KERNELS = {
    "collect_sites",
    "multiply_sites",
    "differentiate_sites",
    "gather_slopes",
    "add_pairs",
    "describe_pairs",
    "multiply",
    "multiply_back",
    "add_moments",
    "differentiate_moments",
    "pull_pairs",
    "gather_pulls",
}


class Absent(DriverBase):
    """A device of some compute capability that is not there."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_benchmarker(self) -> Any:
        raise NotImplementedError


def main() -> None:
    """Compile for devices from A100 to H100."""
    compiled: set[str] = set()
    run = jit.JITFunction.run

    def compile_only(self: Any, *arguments: Any, **options: Any) -> Any:
        kernel = run(self, *arguments, **{**options, "warmup": True})
        assert "cubin" in kernel.asm
        compiled.add(kernel.name)
        return kernel

    jit.JITFunction.run = compile_only
    register("cpu", cuda)
    system = nickel_oxide()
    pairs = build_pairs(system, 7.0)
    potential = load_potential(PSEUDO_ATOMS)
    network = moments_network()
    chiral = DzyaloshinskiiMoriya(CubicCut(0.1, 4.0))
    for capability in (80, 90):
        compiled.clear()
        driver.set_active(Absent(capability))
        for mixed in (False, True):
            for term in (potential, network):
                choose_backend(term, mixed=mixed)
                term.evaluate(system, pairs)
        chiral.evaluate(system, pairs)
        assert compiled == KERNELS, compiled


if __name__ == "__main__":
    main()
