"""Compile the Triton kernels for given CUDA devices, none of which need be there."""

from __future__ import annotations

import itertools
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from deepspin_ase.potentials.fused_cuda import (
    force_kernels,
    network_kernels,
    pair_kernels,
    site_kernels,
)
from deepspin_ase.potentials.fused_cuda.geometry import PAIR_WARPS, PAIRS
from deepspin_ase.potentials.fused_cuda.network import TILE_WARPS, tile

#: Pointers that are not to float64, and whole numbers.
INTEGERS = {
    **dict.fromkeys(("centres", "offsets", "first", "neighbours"), "*i64"),
    **dict.fromkeys(("structure", "sites"), "*i64"),
    **dict.fromkeys(("types", "magnetic", "first_cell", "found"), "*i32"),
    **dict.fromkeys(("counts", "cells", "reverse", "close"), "*i32"),
    **dict.fromkeys(("stride", "n_pairs"), "i32"),
}
#: In the precision of the network.
REAL = ("rows", "tables", "products", "gradients", "slopes")


def build(kernel: Any, capability: int, real: str, warps: int, **constants: Any) -> Any:
    """Compile one kernel; pointers are as aligned as those of tensors."""
    names = kernel.arg_names
    types = {
        name: "constexpr" if name in constants else INTEGERS.get(name, "*fp64")
        for name in names
    } | {name: real for name in REAL if name in names}
    aligned = {
        (k,): [["tt.divisibility", 16]]
        for k, name in enumerate(names)
        if types[name].startswith("*")
    }
    values = {(names.index(name),): value for name, value in constants.items()}
    return triton.compile(
        ASTSource(kernel, types, constexprs=values, attrs=aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps},
    )


def main() -> None:
    """Compile all kernels: both precisions, two sizes of networks."""
    sections = {"N_SECTIONS": 88, "N_TYPES": 2, "BLOCK": PAIRS}
    for capability, real in itertools.product((80, 90), ("*fp32", "*fp64")):
        common = (capability, real, PAIR_WARPS)
        build(site_kernels.collect_sites, *common, SECTIONS=32, **sections)
        build(force_kernels.gather_slopes, *common, BLOCK=PAIRS)
        for width in (40, 104):
            shape = tile(width)
            del shape["num_warps"]
            for kernel in (
                network_kernels.multiply_sites,
                network_kernels.differentiate_sites,
            ):
                build(kernel, capability, real, TILE_WARPS, **shape)
        build(pair_kernels.add_pairs, capability, "*fp64", 2, MAGNETIC=True, **sections)


if __name__ == "__main__":
    main()
