"""Registry of drivers by their names in configuration files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ._driver import SpinLatticeDynamics

Driver = TypeVar("Driver", bound=type[SpinLatticeDynamics])


@dataclass(frozen=True)
class Registered:
    """A driver, and its arguments that have ASE's unit of time.

    Attributes
    ----------
    cls : type
    time_arguments : mapping of str to int
        The power of time in the unit of each: -1 for a friction, 1 for a time.
    """

    cls: type[SpinLatticeDynamics]
    time_arguments: Mapping[str, int] = field(default_factory=dict)


#: Registered drivers by name.
DRIVERS: dict[str, Registered] = {}


def driver(
    name: str, *, time_arguments: Mapping[str, int] | None = None
) -> Callable[[Driver], Driver]:
    """Return a class decorator that registers a driver for ``deepspin md``.

    Parameters
    ----------
    name : str
        Value of ``driver`` in configuration files.
    time_arguments : mapping of str to int, optional
        Arguments in ASE's unit of time, with its power; in files they are in fs:
        ``{"friction": -1}`` is ``friction_per_fs`` there, ``{"tdamp": 1}`` is
        ``tdamp_fs`` and ``{"spin_mass": 2}`` is ``spin_mass_fs2``.

    Raises
    ------
    ValueError
        If the name is taken, or the driver has no such argument.

    Examples
    --------
    >>> @driver("quench", time_arguments={"friction": -1})
    ... class Quench(SpinLatticeDynamics):
    ...     def __init__(self, atoms, timestep, *, friction, **kwargs):
    ...         super().__init__(atoms, timestep, **kwargs)
    ...         self.friction = friction
    """
    powers = dict(time_arguments or {})

    def register(cls: Driver) -> Driver:
        if name in DRIVERS:
            raise ValueError(
                f"the name {name!r} is taken by {DRIVERS[name].cls.__name__}; choose "
                "another"
            )
        unknown = powers.keys() - cls.parameters().keys()
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no argument {', '.join(sorted(unknown))}"
            )
        DRIVERS[name] = Registered(cls, powers)
        return cls

    return register
