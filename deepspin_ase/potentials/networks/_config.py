"""Hyper-parameters of the pseudo-atom network, under DeePMD-kit's names."""

from __future__ import annotations

from typing import Annotated, Any

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from ..._config import Configuration
from ..._plausible import warn_of_unusual
from ...kernels import ACTIVATIONS
from .._registry import register

Positive = Annotated[float, Field(gt=0)]
Width = Annotated[int, Field(gt=0)]
Widths = Annotated[list[Width], Field(min_length=1)]


def _known_activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}"
        )
    return name


@register
class SpinConfig(Configuration):
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = self.virtual_scale
        counts = (1, sum(self.use_spin), len(self.use_spin))
        if isinstance(given, list) and len(given) not in counts:
            raise ValueError(
                f"virtual_scale has {len(given)} entries; expected one, one per "
                "magnetic element, or one per element"
            )
        for scale, use in zip(self.scales(), self.use_spin, strict=True):
            if use and scale <= 0:
                raise ValueError("virtual_scale must be positive for magnetic elements")
        return self

    def meaning(self) -> dict[str, Any]:
        """Return nested plain data, with one scale per element."""
        return super().meaning() | {"virtual_scale": self.scales()}

    def scales(self) -> list[float]:
        """Return the scale of every element, A/mu_B; zero for non-magnetic ones."""
        given = self.virtual_scale
        values = given if isinstance(given, list) else [given]
        if len(values) == 1:
            values = values * len(self.use_spin)
        if len(values) < len(self.use_spin):
            magnetic = iter(values)
            values = [next(magnetic) if use else 0.0 for use in self.use_spin]
        return [
            scale if use else 0.0
            for scale, use in zip(values, self.use_spin, strict=True)
        ]


@register
class DescriptorConfig(Configuration):
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

    rcut: Positive
    rcut_smth: Annotated[float, Field(ge=0)]
    sel: Widths
    neuron: Widths = Field(default=[25, 50, 100])
    axis_neuron: Width = 16
    resnet_dt: bool = False
    type_one_side: bool = False
    activation_function: str = "tanh"
    env_protection: Positive = 0.01
    set_davg_zero: bool = False

    _activation = field_validator("activation_function")(_known_activation)

    def meaning(self) -> dict[str, Any]:
        """Return nested plain data without what only statistics of data depend on."""
        values = super().meaning()
        del values["set_davg_zero"]
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rcut_smth >= self.rcut:
            raise ValueError("rcut_smth must be below rcut")
        warn_of_unusual("rcut", self.rcut)
        if self.axis_neuron > self.neuron[-1]:
            raise ValueError("axis_neuron must not exceed the last width of neuron")
        return self


@register
class FittingConfig(Configuration):
    """The fitting network from descriptor to energy.

    Attributes
    ----------
    neuron : list of int
        Widths of the hidden layers.
    resnet_dt : bool
        Learn a step for every residual layer.
    activation_function : str
    """

    neuron: Widths = Field(default=[240, 240, 240])
    resnet_dt: bool = True
    activation_function: str = "tanh"

    _activation = field_validator("activation_function")(_known_activation)


class DeepSpinConfig(Configuration):
    """Everything that defines a pseudo-atom network except its weights.

    Attributes
    ----------
    type_map : list of str
        Chemical symbols.
    spin : SpinConfig
    descriptor : DescriptorConfig
    fitting_net : FittingConfig
    """

    type_map: Annotated[list[str], Field(min_length=1)]
    spin: SpinConfig
    descriptor: DescriptorConfig
    fitting_net: FittingConfig = FittingConfig()

    @property
    def data_options(self) -> dict[str, Any]:
        """Options of :func:`deepspin_ase.data.read_dataset` for DeePMD folders."""
        scales = zip(self.type_map, self.spin.scales(), strict=True)
        return {"default_type_map": self.type_map, "virtual_scale": dict(scales)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for symbol in self.type_map:
            if symbol not in atomic_numbers or symbol == "X":
                raise ValueError(f"type_map holds {symbol!r}, which is not an element")
        n = len(self.type_map)
        if len(set(self.type_map)) != n:
            raise ValueError("type_map holds an element twice")
        for name, values in (
            ("spin.use_spin", self.spin.use_spin),
            ("descriptor.sel", self.descriptor.sel),
        ):
            if len(values) != n:
                raise ValueError(
                    f"{name} has {len(values)} entries for {n} elements in type_map"
                )
        return self
