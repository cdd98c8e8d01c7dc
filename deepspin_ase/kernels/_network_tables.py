"""A network without its fitting part as tables, which every back end reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ._data import NetworkData
from ._embedding import SECTIONS, tabulate
from ._layers import through
from ._tables import joined

#: Widths are filled up to a multiple of this, for whole vectors of the processor.
ALIGNMENT = 8


class NetworkTables(NamedTuple):
    """The network without its fitting part.

    Attributes
    ----------
    cutoff, smooth, protection : float, A
    magnetic : (n_types,) bool
        Which elements have pseudo-atoms.
    slots : (2 n_types,) uint64
        For the sites of each type.
    per_slot : float
        1/(sum of the slots).
    mean, scale : (n_types, 4) float64
        Rows are normalised as (row - mean) * scale, by the type of the centre.
    empty : (n_types, 2 n_types, M)
        Embedding of an empty slot.
    tables : (cells, 6, M)
        Polynomials, see :class:`deepspin_ase.kernels._tables.Table`. M is
        the width of the embedding, filled up.
    first, cells : (n_types, 2 n_types, n_sections) uint64 and float64
        First cell and number of cells of each section.
    sections : int
        Of s between 0 and 1.
    width, axis : int
        Rows and columns of the descriptor.
    """

    cutoff: float
    smooth: float
    protection: float
    magnetic: np.ndarray
    slots: np.ndarray
    per_slot: float
    mean: np.ndarray
    scale: np.ndarray
    empty: np.ndarray
    tables: np.ndarray
    first: np.ndarray
    cells: np.ndarray
    sections: int
    width: int
    axis: int


@torch.no_grad()
def network_tables(data: NetworkData, real: torch.dtype) -> NetworkTables:
    """Tabulate the embeddings of a network.

    Parameters
    ----------
    data : NetworkData
        On the CPU.
    real : torch.dtype
        Of the tables.

    Raises
    ------
    NotTabulable
        If an embedding is not smooth.
    """
    magnetic = data.magnetic
    n_types = len(magnetic)
    sites = [b for b in range(2 * n_types) if b < n_types or magnetic[b - n_types]]
    keys = [(a, b) for a in range(n_types) for b in sites]
    tables, *where = joined(tabulate(data, keys, real), real, ALIGNMENT)
    shape = (n_types, 2 * n_types, where[0].shape[1])
    first, cells = np.zeros(shape, np.uint64), np.zeros(shape)
    for k, key in enumerate(keys):
        first[key], cells[key] = where[0][k], where[1][k]
    mean, scale = data.mean.double(), 1.0 / data.std.double()
    empty = torch.zeros(n_types, 2 * n_types, tables.shape[-1]).double()
    for a in range(n_types):
        row = (-mean[a] * scale[a])[None, :1].to(data.mean)
        for b, layers in enumerate(data.embeddings[a]):
            empty[a, b, : data.width] = through(layers, row)[0]
    slots = np.zeros(2 * n_types, np.uint64)
    slots[: len(data.slots)] = data.slots
    return NetworkTables(
        cutoff=data.cutoff,
        smooth=data.smooth,
        protection=data.protection,
        magnetic=np.array(magnetic),
        slots=slots,
        per_slot=1.0 / float(slots.sum()),
        mean=mean.numpy(),
        scale=scale.numpy(),
        empty=empty.to(real).numpy(),
        tables=tables,
        first=first,
        cells=cells,
        sections=SECTIONS,
        width=data.width,
        axis=data.axis,
    )
