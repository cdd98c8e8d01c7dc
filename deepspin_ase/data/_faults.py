"""Known faults of labels: what codes and converters get wrong, and how to undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase.units import Bohr, Hartree, Rydberg

from ._frames import Frame

#: Units that labels may be in by mistake: name, energy (eV), length (A).
_UNITS = (
    ("Ry", Rydberg, 1.0),
    ("Ha", Hartree, 1.0),
    ("Ry and bohr", Rydberg, Bohr),
    ("Ha and bohr", Hartree, Bohr),
)


@dataclass(frozen=True)
class Fault:
    """A fault and its remedy.

    Attributes
    ----------
    meaning : str
        Continues "it would agree if ...".
    mend : callable
        Returns a frame with the fault undone.
    """

    meaning: str
    mend: Callable[[Frame], Frame]


def _scaled(
    *, forces: float = 1.0, magnetic_forces: float = 1.0, virial: float = 1.0
) -> Callable[[Frame], Frame]:
    def mend(frame: Frame) -> Frame:
        factors = {
            "forces": forces,
            "magnetic_forces": magnetic_forces,
            "virial": virial,
        }
        known = {name: getattr(frame, name) for name in factors}
        return frame.replace(
            **{n: factors[n] * x for n, x in known.items() if x is not None}
        )

    return mend


def _energy_scaled(factor: float) -> Callable[[Frame], Frame]:
    def mend(frame: Frame) -> Frame:
        energy = frame.energy
        return frame if energy is None else frame.replace(energy=factor * energy)

    return mend


def _without_field_energy(sign: float) -> Callable[[Frame], Frame]:
    def mend(frame: Frame) -> Frame:
        if frame.energy is None or frame.magnetic_forces is None:
            return frame
        energy = float(np.nansum(frame.magnetic_forces * frame.spins))
        return frame.replace(energy=frame.energy - sign * energy)

    return mend


#: All of them, the likeliest first.
FAULTS: tuple[Fault, ...] = (
    Fault(
        "the magnetic forces had the other sign: they are -dE/dm, and -lambda in "
        "codes that add lambda.M to the Hamiltonian",
        _scaled(magnetic_forces=-1.0),
    ),
    Fault(
        "the energy did not contain the energy of the constraining field: subtract "
        "the sum of (magnetic force).(moment)",
        _without_field_energy(1.0),
    ),
    Fault(
        "the energy contained the energy of the constraining field: add the sum of "
        "(magnetic force).(moment)",
        _without_field_energy(-1.0),
    ),
    *(
        Fault(
            f"the magnetic forces were in {unit}/mu_B: multiply them by {factor:.5f}",
            _scaled(magnetic_forces=factor),
        )
        for unit, factor in (("Ry", Rydberg), ("Ha", Hartree))
    ),
    *(
        Fault(
            f"the magnetic forces were in {unit}/mu_B with the other sign: multiply "
            f"them by -{factor:.5f}",
            _scaled(magnetic_forces=-factor),
        )
        for unit, factor in (("Ry", Rydberg), ("Ha", Hartree))
    ),
    Fault(
        "the magnetic forces were twice as large, such as where each moment is held by "
        "half of a penalty's field",
        _scaled(magnetic_forces=2.0),
    ),
    Fault("the magnetic forces were half as large", _scaled(magnetic_forces=0.5)),
    *(
        Fault(
            f"the energies were in {unit}: multiply them by {factor:.5f}",
            _energy_scaled(factor),
        )
        for unit, factor in (("Ry", Rydberg), ("Ha", Hartree))
    ),
    *(
        Fault(
            f"the forces were in {unit}: multiply them by {energy / length:.5f}",
            _scaled(forces=energy / length),
        )
        for unit, energy, length in _UNITS
    ),
    Fault("the forces had the other sign", _scaled(forces=-1.0)),
    Fault(
        "the virial had the other sign: it is -dE/dstrain, minus volume times stress",
        _scaled(virial=-1.0),
    ),
    *(
        Fault(
            f"the virial were in {unit}: multiply it by {factor:.5f}",
            _scaled(virial=factor),
        )
        for unit, factor in (("Ry", Rydberg), ("Ha", Hartree))
    ),
)
