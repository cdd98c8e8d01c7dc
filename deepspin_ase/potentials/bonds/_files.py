"""Exchange tables of other codes: which format a file is of, and its functions.

>>> tensors = ds.analysis.exchange_tensors(atoms)  # of any potential
>>> write_exchange_table(tensors, "exchange.out", format="tb2j")
>>> model = read_exchange_table("exchange.out")
>>> write_exchange_table(model, "vampire", format="vampire")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from .._base import Potential
from . import _grogu, _spirit, _tb2j, _uppasd, _vampire
from ._hamiltonian import BondHamiltonian
from ._scripts import write_spinw, write_sunny
from ._tables import HasBonds, PathLike


@dataclass(frozen=True)
class _Format:
    """A format: what it is, its functions, and how files of it are recognized."""

    title: str
    write: Callable[..., None]
    read: Callable[..., BondHamiltonian] | None = None
    recognizes: Callable[[Path], bool] | None = None


#: Formats of exchange tables by name.
FORMATS = {
    "tb2j": _Format(
        "exchange.out of TB2J", _tb2j.write_tb2j, _tb2j.read_tb2j, _tb2j.recognizes
    ),
    "uppasd": _Format(
        "inpsd.dat of UppASD",
        _uppasd.write_uppasd,
        _uppasd.read_uppasd,
        _uppasd.recognizes,
    ),
    "vampire": _Format(
        "a .ucf of VAMPIRE",
        _vampire.write_vampire,
        _vampire.read_vampire,
        _vampire.recognizes,
    ),
    "spirit": _Format(
        "a .cfg of Spirit",
        _spirit.write_spirit,
        _spirit.read_spirit,
        _spirit.recognizes,
    ),
    "grogu": _Format(
        "a text file of GROGU", _grogu.write_grogu, _grogu.read_grogu, _grogu.recognizes
    ),
    "sunny": _Format("a script for Sunny", write_sunny),
    "spinw": _Format("a script for pySpinW", write_spinw),
}


def exchange_format(path: PathLike) -> str | None:
    """Return the name of the format of an exchange table; None where it is none."""
    path = Path(path)
    if not path.exists():
        return None
    for name, form in FORMATS.items():
        if form.recognizes is not None and form.recognizes(path):
            return name
    return None


def read_exchange_table(
    path: PathLike, *, format: str | None = None, **options: Any
) -> BondHamiltonian:
    """Read an exchange table of TB2J, UppASD, VAMPIRE, Spirit or GROGU.

    Parameters
    ----------
    path : path
        A file, or the folder of an ``inpsd.dat``.
    format : {"tb2j", "uppasd", "vampire", "spirit", "grogu"}, optional
        By default recognized by name and content.
    **options
        Of the format's own function, such as :func:`read_tb2j`: ``elements`` and
        ``alat`` where files do not say them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format is not known, or the file lacks something.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; expected {_expected()}")
    name = exchange_format(path) if format is None else format
    read = None if name is None or name not in FORMATS else FORMATS[name].read
    if name is None or read is None:
        what = "is not an exchange table" if format is None else "cannot be read"
        raise ValueError(
            f"{path} {what}{'' if format is None else f' as {format!r}'}; expected "
            f"{_expected()}"
        )
    unknown = options.keys() - signature(read).parameters.keys()
    if unknown:
        raise ValueError(
            f"{path}: {FORMATS[name].title} needs no {', '.join(sorted(unknown))}, "
            "which the file says"
        )
    return read(path, **options)


def write_exchange_table(
    model: Potential | HasBonds,
    path: PathLike,
    *,
    format: str,
    **options: Any,
) -> None:
    """Write bonds for another code.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    path : path
        A file; of UppASD and VAMPIRE a folder.
    format : {"tb2j", "uppasd", "vampire", "spirit", "grogu", "sunny", "spinw"}
        The last two are scripts that rebuild the model.
    **options
        Of the format's own function, such as :func:`write_uppasd`.

    Raises
    ------
    ValueError
        If the format is not known, or does not hold a part of the model.
    TypeError
        If the model is no list of bonds.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    FORMATS[format].write(model, path, **options)


def _expected() -> str:
    titles = [form.title for form in FORMATS.values() if form.read is not None]
    return f"{', '.join(titles[:-1])} or {titles[-1]}"
