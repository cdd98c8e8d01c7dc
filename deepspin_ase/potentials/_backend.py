"""The choice of how potentials are evaluated."""

from __future__ import annotations

from ._base import Potential

BACKENDS = ("fused", "reference")


def choose_backend(
    potential: Potential, backend: str = "fused", *, mixed: bool = False
) -> None:
    """Choose how networks and pair terms of a potential are evaluated.

    Derivatives by parameters, :meth:`Potential.forward`, and devices other than the
    CPU and CUDA always use torch.

    Parameters
    ----------
    potential : Potential
    backend : {"fused", "reference"}
        ``"fused"``: compiled kernels with tabulated embeddings and functions of
        distance, where they apply (:mod:`deepspin_ase.kernels.cpu` and
        :mod:`deepspin_ase.kernels.cuda`).
        ``"reference"``: torch, exact to round-off.
    mixed : bool
        Embedding and fitting networks in float32, geometry and sums in the
        precision of the weights. Fused backend only.

    Raises
    ------
    ValueError
        If the backend is unknown, or has no mixed precision.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}"
        )
    if mixed and backend != "fused":
        raise ValueError("mixed precision needs the fused backend")
    for part in potential.modules():
        if isinstance(part, Potential):
            part.backend, part.mixed = backend, mixed
