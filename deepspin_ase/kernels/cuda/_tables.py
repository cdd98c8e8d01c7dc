"""Tables of a network without its fitting part, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._data import NetworkData
from .._network_tables import network_tables


@dataclass(frozen=True)
class Tables:
    """The network without its fitting part, on the device.

    Attributes
    ----------
    constants : (3,) float64 tensor
        Cutoff, beginning of the switch, and protection of short distances, A.
    magnetic : (n_types,) int32 tensor
        Which elements have pseudo-atoms.
    slots : (2 n_types,) int32 tensor
        For the sites of each type.
    mean, scale : (n_types, 4) float64 tensors
        Rows are normalised as (row - mean) * scale, by the type of the centre.
    empty : (n_types, 2 n_types, M) tensor
        Embedding of an empty slot. M is the width, filled up.
    nothing : (n_types, 4) tensor
        Row of an empty slot.
    coefficients : (cells, 6, M) tensor
        Polynomials, see :class:`deepspin_ase.kernels._tables.Table`.
    first, cells : (n_types, 2 n_types, n_sections) int32 and float64 tensors
        First cell and number of cells of each section.
    width, axis, n_slots : int
        Rows and columns of the descriptor, and sum of the slots.
    """

    constants: Tensor
    magnetic: Tensor
    slots: Tensor
    mean: Tensor
    scale: Tensor
    empty: Tensor
    nothing: Tensor
    coefficients: Tensor
    first: Tensor
    cells: Tensor
    width: int
    axis: int
    n_slots: int

    @classmethod
    def of(cls, data: NetworkData, real: torch.dtype, device: torch.device) -> Tables:
        """Make them; raises NotTabulable where embeddings are not smooth.

        Parameters
        ----------
        data : NetworkData
            On the CPU.
        """
        model = network_tables(data, real)

        def to_device(values: object, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(values).to(device, dtype)

        radial = (model.cutoff, model.smooth, model.protection)
        return cls(
            constants=torch.tensor(radial, dtype=torch.float64, device=device),
            magnetic=to_device(model.magnetic, torch.int32),
            slots=to_device(model.slots.astype(int), torch.int32),
            mean=to_device(model.mean, torch.float64),
            scale=to_device(model.scale, torch.float64),
            empty=to_device(model.empty, real),
            nothing=to_device(-model.mean * model.scale, real),
            coefficients=to_device(model.tables, real),
            first=to_device(model.first.astype(int), torch.int32),
            cells=to_device(model.cells, torch.float64),
            width=model.width,
            axis=model.axis,
            n_slots=int(model.slots.sum()),
        )
