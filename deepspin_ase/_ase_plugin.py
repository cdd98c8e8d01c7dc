"""What ASE gets from this package where it is installed.

The entry points ``ase.ioformats`` in setup.cfg name the formats, and ASE imports this
module with :mod:`ase.io`. It knows no entry points of calculators: theirs is
registered along.
"""

from __future__ import annotations

from typing import Any

from ase.calculators.calculator import external_calculators, register_calculator_class
from ase.utils.plugins import ExternalIOFormat

MCIF = ExternalIOFormat(
    desc="Magnetic CIF", code="1S", module="deepspin_ase.io._mcif", ext=["mcif"]
)

HDF5 = ExternalIOFormat(
    desc="Trajectory of deepspin-ase (HDF5)",
    code="+S",
    module="deepspin_ase.dynamics.files._hdf5",
    ext=["h5"],
)


class DeepSpin:
    """DeepSpinCalculator by its name in ASE, imported when one is made.

    Examples
    --------
    >>> from ase.calculators.calculator import get_calculator_class
    >>> atoms.calc = get_calculator_class("deepspin")("model.pt")
    """

    #: Tells ``ase run`` that there are no files of the calculator.
    nolabel = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a DeepSpinCalculator."""
        from .calculators import DeepSpinCalculator

        return DeepSpinCalculator(*args, **kwargs)


if "deepspin" not in external_calculators:
    register_calculator_class("deepspin", DeepSpin)
