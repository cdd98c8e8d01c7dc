"""Hamiltonians as lists of bonds, and exchange tables of other codes."""

from __future__ import annotations

from ._bonds import averaged_ends
from ._files import (
    FORMATS,
    exchange_format,
    read_exchange_table,
    write_exchange_table,
)
from ._grogu import read_grogu, write_grogu
from ._hamiltonian import BondHamiltonian
from ._scripts import write_spinw, write_sunny
from ._spirit import read_spirit, write_spirit
from ._tables import ExchangeTableWarning, WrappedSites, wrapped_sites
from ._tb2j import read_tb2j, write_tb2j
from ._uppasd import read_uppasd, write_uppasd
from ._vampire import read_vampire, write_vampire

__all__ = [
    "FORMATS",
    "BondHamiltonian",
    "ExchangeTableWarning",
    "WrappedSites",
    "averaged_ends",
    "exchange_format",
    "read_exchange_table",
    "read_grogu",
    "read_spirit",
    "read_tb2j",
    "read_uppasd",
    "read_vampire",
    "wrapped_sites",
    "write_exchange_table",
    "write_grogu",
    "write_spinw",
    "write_spirit",
    "write_sunny",
    "write_tb2j",
    "write_uppasd",
    "write_vampire",
]
