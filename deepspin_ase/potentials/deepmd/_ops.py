"""What DeePMD-kit's TorchScript needs to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

_SCHEMAS = (
    "tabulate_fusion_se_a(Tensor a, Tensor b, Tensor c, Tensor d, int e) -> Tensor[]",
    "tabulate_fusion_se_r(Tensor a, Tensor b, Tensor c, int d) -> Tensor[]",
    "tabulate_fusion_se_t(Tensor a, Tensor b, Tensor c, Tensor d, int e) -> Tensor[]",
    "tabulate_fusion_se_t_tebd(Tensor a, Tensor b, Tensor c, Tensor d, int e)"
    " -> Tensor[]",
    "tabulate_fusion_se_atten(Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, int f,"
    " bool g) -> Tensor[]",
    "border_op(Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, Tensor f, Tensor g,"
    " Tensor h, Tensor i) -> Tensor[]",
)


@contextmanager
def declared_operators() -> Iterator[None]:
    """Declare DeePMD-kit's operators for the time of the block.

    TorchScript refuses a program that names an operator it does not know, even
    where that is never reached: the tables of compressed models, the exchange
    between processes. A declaration without an implementation is enough.
    Where deepmd-kit has declared them they are left alone, and none stay
    behind, so that deepmd-kit can still be imported afterwards.
    """
    library = torch.library.Library("deepmd", "FRAGMENT")
    for schema in _SCHEMAS:
        try:
            library.define(schema)
        except RuntimeError:  # declared by deepmd-kit
            continue
    try:
        yield
    finally:
        del library  # takes its declarations along


def uncompiled() -> AbstractContextManager[None]:
    """Let programs run as they are.

    TorchScript would specialise them for seconds in the first runs, which does not
    make these programs faster.
    """
    return torch.jit.optimized_execution(False)
