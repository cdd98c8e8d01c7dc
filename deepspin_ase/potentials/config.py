"""Hyper-parameters of the pseudo-atom network, under DeePMD-kit's names."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ase.data import atomic_numbers

from .layers import ACTIVATIONS
from .registry import register

C = TypeVar("C")


def strict(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Build a dataclass from a mapping, refusing keys that it does not know.

    Raises
    ------
    ValueError
        Names the unknown or missing key and the nearest known one.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {where}; {hint}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


@register
@dataclass(frozen=True)
class SpinConfig:
    """Which elements carry moments, and how far their pseudo-atoms sit.

    Attributes
    ----------
    use_spin : list of bool
        One per element of the type map.
    virtual_scale : float or list of float
        Distance of the pseudo-atom per moment, A/mu_B: one number, one per
        magnetic element, or one per element.
    """

    use_spin: list[bool]
    virtual_scale: float | list[float]

    def __post_init__(self) -> None:
        if isinstance(self.virtual_scale, Sequence):
            count = len(self.virtual_scale)
            if count not in (1, sum(self.use_spin), len(self.use_spin)):
                raise ValueError(
                    f"virtual_scale has {count} entries; expected one, one per "
                    "magnetic element, or one per element"
                )
        scales = self.scales()
        if any(s <= 0 for s, use in zip(scales, self.use_spin, strict=True) if use):
            raise ValueError("virtual_scale must be positive for magnetic elements")

    def scales(self) -> list[float]:
        """Return the scale of every element, A/mu_B; zero for non-magnetic ones."""
        given = self.virtual_scale
        if not isinstance(given, Sequence):
            given = [given]
        if len(given) == 1:
            given = list(given) * len(self.use_spin)
        if len(given) == len(self.use_spin):
            return [float(s) if u else 0.0 for s, u in zip(given, self.use_spin)]  # noqa: B905
        magnetic = iter(given)
        return [float(next(magnetic)) if u else 0.0 for u in self.use_spin]


@register
@dataclass(frozen=True)
class DescriptorConfig:
    """The se_e2_a descriptor (Zhang et al., NeurIPS 2018, arXiv:1805.09003).

    Attributes
    ----------
    rcut, rcut_smth : float
        Cutoff, and where switching starts, A.
    sel : list of int
        Slots for neighbours of each element. They enter as the normalisation
        and the padding of DeePMD-kit; the same number serves the pseudo-atoms.
    neuron : list of int
        Widths of the embedding network.
    axis_neuron : int
        Columns of the embedding that form the second factor of the descriptor.
    resnet_dt : bool
        Learn a step for every residual layer.
    type_one_side : bool
        Embedding networks depend on the neighbour's type only.
    activation_function : str
    env_protection : float
        Added to distances before they are inverted, A.
    set_davg_zero : bool
        Do not shift the radial input by its mean.
    """

    rcut: float
    rcut_smth: float
    sel: list[int]
    neuron: list[int] = field(default_factory=lambda: [25, 50, 100])
    axis_neuron: int = 16
    resnet_dt: bool = False
    type_one_side: bool = False
    activation_function: str = "tanh"
    env_protection: float = 0.01
    set_davg_zero: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rcut_smth < self.rcut:
            raise ValueError("rcut_smth must be at least 0 and below rcut")
        if self.axis_neuron > self.neuron[-1]:
            raise ValueError("axis_neuron must not exceed the last width of neuron")
        if self.env_protection <= 0:
            raise ValueError("env_protection must be positive for spin models")
        _check_activation(self.activation_function)


@register
@dataclass(frozen=True)
class FittingConfig:
    """The fitting network from descriptor to energy.

    Attributes
    ----------
    neuron : list of int
        Widths of the hidden layers.
    resnet_dt : bool
        Learn a step for every residual layer.
    activation_function : str
    """

    neuron: list[int] = field(default_factory=lambda: [240, 240, 240])
    resnet_dt: bool = True
    activation_function: str = "tanh"

    def __post_init__(self) -> None:
        _check_activation(self.activation_function)


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation_function {name!r}; known: {', '.join(ACTIVATIONS)}"
        )


@register
@dataclass(frozen=True)
class DeepSpinConfig:
    """Everything that defines a pseudo-atom network except its weights.

    Attributes
    ----------
    type_map : list of str
        Chemical symbols.
    spin : SpinConfig
    descriptor : DescriptorConfig
    fitting_net : FittingConfig
    """

    type_map: list[str]
    spin: SpinConfig
    descriptor: DescriptorConfig
    fitting_net: FittingConfig = field(default_factory=FittingConfig)

    def __post_init__(self) -> None:
        for symbol in self.type_map:
            if symbol not in atomic_numbers:
                raise ValueError(f"type_map holds {symbol!r}, which is no element")
        if len(set(self.type_map)) != len(self.type_map):
            raise ValueError("type_map holds an element twice")
        n = len(self.type_map)
        for name, values in (
            ("spin.use_spin", self.spin.use_spin),
            ("descriptor.sel", self.descriptor.sel),
        ):
            if len(values) != n:
                raise ValueError(
                    f"{name} has {len(values)} entries for {n} elements in type_map"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeepSpinConfig:
        """Build from nested plain data, such as the model section of a YAML file.

        Raises
        ------
        ValueError
            If a key is unknown or missing, or a value does not fit.
        """
        parts = {
            "spin": SpinConfig,
            "descriptor": DescriptorConfig,
            "fitting_net": FittingConfig,
        }
        built = dict(values)
        for name, part in parts.items():
            if isinstance(built.get(name), Mapping):
                built[name] = strict(part, built[name], f"model.{name}")
        return strict(cls, built, "model")

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain data, the inverse of :meth:`from_dict`."""
        return dataclasses.asdict(self)
