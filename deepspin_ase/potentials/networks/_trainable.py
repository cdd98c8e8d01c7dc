"""Contract between trainable potentials and the trainer, and their registry by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from ..._config import Configuration
from ...neighbors import PairList
from ...system import System
from .._base import Potential
from .._registry import register
from ._error_model import ErrorModel


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

    #: Values of the sections ``learning_rate``, ``loss`` and ``training`` of a training
    #: file where these are not given, as far as they differ from the usual ones.
    training_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    #: Of the parameters and buffers in model files: raised with every change after
    #: which those in older files do not fit, or mean something else.
    layout_version: ClassVar[int] = 1

    #: Estimates errors, once :meth:`fit_error_model` was called.
    error_model: ErrorModel | None = None

    config: Configuration
    species: frozenset[int]
    energy_bias: Tensor

    def __init__(self, config: Configuration, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config

    def arguments(self) -> dict[str, Any]:
        """Return the configuration; the parameters make the seed irrelevant."""
        return {"config": self.config}

    @classmethod
    def completed(
        cls,
        values: Mapping[str, Any],
        *,
        elements: Sequence[str],
        magnetic: Sequence[str],
    ) -> dict[str, Any]:
        """Return the section ``model`` with what follows from the training data.

        Parameters
        ----------
        values : mapping
            As given in a training file, without ``type``.
        elements, magnetic : sequence of str
            Symbols of all elements of the data, and of those that carry moments.
        """
        return dict(values)

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
        keeps them at zero while it trains and assigns them to the final model. Those
        of :meth:`register_element_energies`, unless a subclass keeps them elsewhere.
        """
        values = self.energy_bias.tolist()
        return dict(zip(self._energy_order, values, strict=True))

    @element_energies.setter
    def element_energies(self, energies: Mapping[int, float]) -> None:
        values = [energies[number] for number in self._energy_order]
        self.energy_bias.copy_(torch.tensor(values, dtype=torch.float64))

    def register_element_energies(self, elements: Sequence[str]) -> None:
        """Register the buffer ``energy_bias``, energies (eV) in the order of elements.

        :meth:`forward` adds them to the energies of atoms.
        """
        self._energy_order = tuple(atomic_numbers[symbol] for symbol in elements)
        zeros = torch.zeros(len(self._energy_order), dtype=torch.float64)
        self.register_buffer("energy_bias", zeros)

    def start_from_zero(self) -> None:
        """Make the energy that of the elements: the start of a correction."""
        raise NotImplementedError

    def linear_term(self) -> nn.Parameter | None:
        """Return parameters that the energy is linear in, for a fit in closed form.

        None (the default) if there are none; otherwise :meth:`design` and
        :meth:`linear_sizes` go with them.
        """
        return None

    def linear_sizes(self) -> Tensor:
        """Return how large parameters of the linear term are expected to be.

        Returns
        -------
        (P,) float64 tensor
            Relative to each other, for the P entries of :meth:`linear_term`.
        """
        raise NotImplementedError

    def design(self, system: System, pairs: PairList) -> Tensor:
        """Return the derivatives of the energy and its slopes by the linear term.

        Returns
        -------
        (1 + 6 N + 9, P) float64 tensor
            For a System of one structure and the P entries of :meth:`linear_term`: of
            the energy (eV) and of its derivatives by positions (eV/A), moments
            (eV/mu_B) and strain (eV).
        """
        raise NotImplementedError

    def fit_error_model(
        self,
        samples: Iterable[tuple[System, PairList]],
        errors: Iterable[tuple[System, PairList, Mapping[str, Tensor]]],
    ) -> None:
        """Learn to estimate errors, for :meth:`Potential.deviations`; not by default.

        Parameters
        ----------
        samples : iterable of (System, PairList)
            The training structures, float64 on the CPU.
        errors : iterable of (System, PairList, dict of tensors)
            Structures kept back, and predictions minus labels: ``energy`` (B,),
            ``forces`` (N, 3), and magnetic forces (N, 1) per component across the
            moment, ``magnetic_forces_transverse``, and along it, ``_longitudinal``.
            Without any, distances of features are known, and no deviations.
        """

    def feature_distances(self, system: System, pairs: PairList) -> Tensor | None:
        """Return how far features of atoms are from their mean in the training data.

        Returns
        -------
        (N,) tensor, or None
            In standard deviations; None, as here, where it is not known.
        """
        return None


_T = TypeVar("_T", bound=type[Trainable])

#: Trainable potentials by the name that training files give them.
ARCHITECTURES: dict[str, type[Trainable]] = {}

#: Architecture of a training file that names none.
DEFAULT_ARCHITECTURE = "moments"


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


def architecture_named(
    values: Mapping[str, Any], *, where: str = ""
) -> tuple[type[Trainable], dict[str, Any]]:
    """Return the class that a section with the key ``type`` names, and the other keys.

    Parameters
    ----------
    values : mapping
        Keys of the configuration and ``type``, a name registered with
        :func:`architecture`. If omitted, a section with a ``descriptor``, as DeePMD-kit
        has it, is of type ``deepspin``, others are of :data:`DEFAULT_ARCHITECTURE`.
    where : str
        Name of the section in messages.

    Raises
    ------
    ValueError
        If the type is unknown.
    """
    default = "deepspin" if "descriptor" in values else DEFAULT_ARCHITECTURE
    name = values.get("type", default)
    cls = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(
            f"{where + '.' if where else ''}type: unknown architecture {name!r}; "
            f"known: {', '.join(ARCHITECTURES)}"
        )
    return cls, {key: value for key, value in values.items() if key != "type"}


def trainable_parts(potential: Potential) -> list[Trainable]:
    """Return the trainable potentials that a potential consists of."""
    return [part for part in potential.modules() if isinstance(part, Trainable)]
