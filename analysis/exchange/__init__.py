"""Exchange tensors: extraction, fits, files of other codes, spin-lattice coupling."""

from __future__ import annotations

from ...potentials.bonds import (
    wrapped_sites,
    write_spirit,
    write_tb2j,
    write_uppasd,
    write_vampire,
)
from ._fit import fit_exchange
from ._magnopy import from_magnopy, to_magnopy
from ._striction import (
    SpinLatticeCoupling,
    plot_spin_lattice_coupling,
    spin_lattice_coupling,
    strain_derivative,
)
from ._tensors import (
    ExchangeTensors,
    assemble_tensors,
    exchange_tensors,
    plot_exchange,
    plot_exchange_convergence,
)

__all__ = [
    "ExchangeTensors",
    "SpinLatticeCoupling",
    "assemble_tensors",
    "exchange_tensors",
    "fit_exchange",
    "from_magnopy",
    "plot_exchange",
    "plot_exchange_convergence",
    "plot_spin_lattice_coupling",
    "spin_lattice_coupling",
    "strain_derivative",
    "to_magnopy",
    "wrapped_sites",
    "write_spirit",
    "write_tb2j",
    "write_uppasd",
    "write_vampire",
]
