"""Contract between trainable potentials and the trainer, and their registry by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from ..._config import Configuration
from ...neighbors import PairList
from ...system import System
from .._base import Potential
from .._registry import register


class Trainable(Potential):
    """A potential whose parameters are learned by the trainer.

    A subclass is declared in one file: its configuration (a pydantic model), and
    the class with the decorator :func:`architecture`, whose name selects it in the
    section ``model`` of a training file. Everything that :meth:`Potential.forward`
    computes must be differentiable twice.

    Parameters
    ----------
    config : Configuration
        An instance of ``config_class``.
    seed : int
        Of the initial parameters.
    """

    #: Configuration that defines the potential except for its parameters.
    config_class: ClassVar[type[Configuration]]

    config: Configuration
    species: frozenset[int]

    def __init__(self, config: Configuration, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config

    def arguments(self) -> dict[str, Any]:
        """Return the configuration; the parameters make the seed irrelevant."""
        return {"config": self.config}

    def fit_statistics(self, samples: Iterable[tuple[System, PairList]]) -> None:
        """Set shifts and scales of the inputs from structures, before training.

        Parameters
        ----------
        samples : iterable of (System, PairList)
            The training structures, float64 on the CPU; iterated over once.
        """
        raise NotImplementedError

    @property
    def element_energies(self) -> dict[int, float]:
        """Constant energy of an atom of every species, eV, by atomic number.

        They are buffers, not parameters: the trainer fits them by least squares,
        keeps them at zero while it trains and assigns them to the final model.
        """
        raise NotImplementedError

    @element_energies.setter
    def element_energies(self, energies: Mapping[int, float]) -> None:
        raise NotImplementedError

    def start_from_zero(self) -> None:
        """Make the energy that of the elements: the start of a correction."""
        raise NotImplementedError


_T = TypeVar("_T", bound=type[Trainable])

#: Trainable potentials by the name that training files give them.
ARCHITECTURES: dict[str, type[Trainable]] = {}

#: Architecture of a training file that names none.
DEFAULT_ARCHITECTURE = "deepspin"


def architecture(name: str) -> Callable[[_T], _T]:
    """Make a trainable potential selectable as ``model: {type: name}`` (a decorator).

    The class and its configuration can then also be saved to model files.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def declare(cls: _T) -> _T:
        if name in ARCHITECTURES:
            raise ValueError(f"the architecture {name!r} is registered already")
        ARCHITECTURES[name] = register(cls)
        register(cls.config_class)
        return cls

    return declare


def architecture_of(config: Configuration) -> tuple[str, type[Trainable]]:
    """Return the name and the class of the potential that ``config`` defines.

    Raises
    ------
    ValueError
        If no architecture has such a configuration.
    """
    for name, cls in ARCHITECTURES.items():
        if cls.config_class is type(config):
            return name, cls
    raise ValueError(
        f"{type(config).__name__} configures no registered architecture; "
        f"known: {', '.join(ARCHITECTURES)}"
    )


def read_architecture(values: Mapping[str, Any], *, where: str = "") -> Configuration:
    """Return the configuration that a section with the key ``type`` describes.

    Parameters
    ----------
    values : mapping
        Keys of the configuration and ``type``, a name registered with
        :func:`architecture`; :data:`DEFAULT_ARCHITECTURE` if omitted.
    where : str
        Name of the section in messages.

    Raises
    ------
    ValueError
        If the type or a key is unknown, a key missing, or a value unfit.
    """
    name = values.get("type", DEFAULT_ARCHITECTURE)
    cls = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(
            f"{where + '.' if where else ''}type: unknown architecture {name!r}; "
            f"known: {', '.join(ARCHITECTURES)}"
        )
    rest = {key: value for key, value in values.items() if key != "type"}
    return cls.config_class.from_dict(rest, where=where)


def trainable_parts(potential: Potential) -> list[Trainable]:
    """Return the trainable potentials that a potential consists of."""
    return [part for part in potential.modules() if isinstance(part, Trainable)]
