"""Configuration of a phase diagram, as of the command ``deepspin phases``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from ..._config import Configuration, numbers
from ...calculators._deepspin import DeepSpinCalculator
from ...io import read_structure
from ...orders import antiferromagnetic, collinear
from ...potentials import Potential
from ...potentials.adapters import beside
from ...potentials.bonds import exchange_format, read_exchange_table
from ...spins import set_spins, unit_vector
from ._order_parameters import (
    Density,
    ElectricPolarization,
    OctahedralTilt,
    PolarDisplacement,
)
from ._phase_diagram import KINDS, NAMES, QUANTITIES, line_arguments

#: Keys of the axes along which lines are looked for.
_AXES = {
    "temperature_K": "temperatures_K",
    "field_T": "fields_T",
    "pressure_GPa": "pressures_GPa",
    "strain": "strains",
}

Count = Annotated[int, Field(gt=0)]
Vector = tuple[float, float, float]
Vectors = Annotated[list[Vector], Field(min_length=1)]
#: Names of the quantities that keys of ``observables`` ask for.
_OBSERVABLES = {
    "density": "density (g/cm³)",
    "displacement": "displacement (Å)",
    "born_charges": "polarization (µC/cm²)",
    "tilts": "tilt (degrees)",
}


class MomentsConfig(Configuration):
    """Moments to start from.

    Attributes
    ----------
    lengths : dict of float
        By element, mu_B.
    q : (float, float, float), optional
        Wave vector of an antiferromagnetic order in reciprocal lattice units;
        ferromagnetic by default.
    cell : float, optional
        Edge of the cube, A, that ``q`` refers to; by default the cell of the file.
    direction : str or (float, float, float)
        Of the moments.
    """

    lengths: Annotated[dict[str, float], Field(min_length=1)]
    q: Vector | None = None
    cell: float | None = None
    direction: str | Vector = "z"


class ObservablesConfig(Configuration):
    """Order parameters of the lattice that are averaged, too.

    Attributes
    ----------
    density : bool
        Mass density, g/cm^3.
    displacement : str, optional
        Element whose displacement against the other atoms is polar; the structure of
        the file is not.
    born_charges : dict of float, optional
        By element, e: of the polarization, which is zero in the structure of the file.
    tilts : (str, str), optional
        Elements in the middle and at the corners of octahedra, whose tilts alternate
        along all three axes.
    """

    density: bool = False
    displacement: str | None = None
    born_charges: dict[str, float] | None = None
    tilts: tuple[str, str] | None = None

    def names(self) -> list[str]:
        """Return the names of the quantities that are asked for."""
        return [name for key, name in _OBSERVABLES.items() if getattr(self, key)]

    def functions(self, atoms: Atoms) -> dict[str, Callable[[Atoms], float]]:
        """Return the functions by name, with ``atoms`` as the reference."""
        made: dict[str, Callable[[Any], Callable[[Atoms], float]]] = {
            "density": lambda _: Density(),
            "displacement": lambda element: PolarDisplacement(atoms, element),
            "born_charges": lambda charges: ElectricPolarization(atoms, charges),
            "tilts": lambda elements: OctahedralTilt(*elements),
        }
        return {
            name: made[key](getattr(self, key))
            for key, name in _OBSERVABLES.items()
            if getattr(self, key)
        }


class PhasesConfig(Configuration):
    """A whole file of ``deepspin phases``.

    Attributes
    ----------
    structure : str
        File of the unit cell, or an exchange table such as ``exchange.out``.
    model : str, optional
        Model file, or name of a shipped model; by default the exchange table.
    moments : MomentsConfig, optional
        By default those of the file.
    repeat : int or (int, int, int)
        Repeats of the cell along its periodic directions.
    temperatures_K : list of float
        Ascending; numbers, or texts such as ``"50:500:10"`` (first, last, how many),
        as on the other axes.
    fields_T, pressures_GPa, strains : list of float, optional
        Axes beside the temperature; see :func:`~deepspin_ase.analysis.phase_diagram`.
    direction : str or (float, float, float)
        Of the field.
    compositions : list of dict of float, optional
        Of random alloys, such as ``[{}, {Mg: 0.1}, {Mg: 0.2}]``.
    sublattice : str, optional
        Element whose sites they occupy.
    realizations : int
        Of each alloy.
    q : list of (float, float, float) or "auto", optional
        Propagation vectors of the order in reciprocal lattice units of the unit cell;
        by default that of the moments to start from. With ``auto`` orders are looked
        for at all points.
    orders : dict of lists of (float, float, float)
        Propagation vectors of other orders, by name.
    observables : ObservablesConfig
    sweep : str, optional
        Axis that is followed up and down: "temperature_K", "field_T", "pressure_GPa" or
        "strain".
    tempering : {"temperature", "field", "none"}
        What replicas exchange configurations across in Monte Carlo: temperatures,
        temperatures and fields, or nothing.
    steps, interval, equilibration : int
        Sweeps, or time steps, that are sampled; between samples; and before (a fifth
        of ``steps`` by default).
    method : {"monte-carlo", "langevin", "npt"}
        Atoms are fixed, move, or move with the cell.
    space_group_tolerance : float, optional
        A: the space groups of the mean structures are told.
    options : dict
        Of the driver.
    seed : int
    workers : int
        Processes that share the points (more than one: extra ``distributed``).
    shown : list of str
        Quantities that are drawn; "phase" and "space group" for their names.
    lines : list of lists of str
        Transition lines on the maps: quantity, axis and kind of
        :meth:`.PhaseDiagram.line`.
    output : str
        Folder to write to.
    """

    structure: str
    model: str | None = None
    moments: MomentsConfig | None = None
    repeat: Count | tuple[Count, Count, Count] = 1
    temperatures_K: Annotated[list[float], Field(min_length=1)]
    fields_T: list[float] | None = None
    pressures_GPa: list[float] | None = None
    strains: list[float] | None = None
    direction: str | Vector = "z"
    compositions: list[dict[str, float]] | None = None
    sublattice: str | None = None
    realizations: Count = 4
    q: Vectors | Literal["auto"] | None = None
    orders: dict[str, Vectors] = Field(default_factory=dict)
    observables: ObservablesConfig = ObservablesConfig()
    sweep: Literal["temperature_K", "field_T", "pressure_GPa", "strain"] | None = None
    tempering: Literal["temperature", "field", "none"] = "temperature"
    steps: Count = 4000
    interval: Count = 2
    equilibration: Annotated[int, Field(ge=0)] | None = None
    method: Literal["monte-carlo", "langevin", "npt"] = "monte-carlo"
    space_group_tolerance: Annotated[float, Field(gt=0)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Count = 1
    shown: Annotated[list[str], Field(min_length=1)] = Field(
        default=["phase", "order", "magnetization", "heat_capacity", "susceptibility"]
    )
    lines: list[Annotated[list[str], Field(min_length=1, max_length=3)]] = Field(
        default_factory=list
    )
    output: str = "phases"

    @field_validator(
        "temperatures_K", "fields_T", "pressures_GPa", "strains", mode="before"
    )
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        return value if value is None else numbers(value)

    @field_validator("lines", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [[line] if isinstance(line, str) else line for line in value]
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        unit_vector(self.direction)
        if self.pressures_GPa is not None and self.method != "npt":
            raise ValueError("pressures_GPa need method: npt, in which the cell moves")
        orders = [f"order {name}" for name in self.orders]
        known = [*QUANTITIES, *orders, *self.observables.names()]
        drawn = [name for name in self.shown if name not in NAMES]
        for name in (*drawn, *(line[0] for line in self.lines)):
            # Which orders will be found is not known.
            found = self.q == "auto" and name.startswith("order ")
            if name not in known and not found:
                raise ValueError(
                    f"a quantity must be one of {', '.join(known)}, got {name!r}"
                )
        for _, axis, kind in map(line_arguments, self.lines):
            points = getattr(self, _AXES.get(axis, ""), None)
            if kind not in KINDS or points is None or len(points) < 4:
                raise ValueError(
                    f"lines are [quantity, axis, {' or '.join(KINDS)}] along an axis "
                    f"of four points or more, got {[axis, kind]}"
                )
        return self

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a YAML file; paths in it are relative to it.

        Raises
        ------
        ValueError
            Names every key that is unknown, missing or unfit.
        """
        config, folder = super().read(path), Path(path).parent
        found = {
            "structure": str(folder / config.structure),
            "output": str(folder / config.output),
        }
        if config.model is not None:
            found["model"] = beside(folder, config.model)
        return config.model_copy(update=found)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of :func:`~deepspin_ase.analysis.phase_diagram`.

        Raises
        ------
        ValueError
            If files do not hold what they should, or moments are missing.
        """
        cell, model = self._crystal()
        repeat = np.where(cell.pbc, self.repeat, 1)
        atoms = cell.repeat(tuple(repeat.tolist()))
        if self.moments is not None:
            set_spins(atoms, self.moments.lengths, pattern=self._pattern(cell))
        elif not cell.has("initial_magmoms"):
            raise ValueError(
                f"{self.structure} carries no magnetic moments; give them under "
                "'moments', such as moments: {lengths: {Ni: 1.277}}"
            )
        return {
            "atoms": atoms,
            "temperatures_K": self.temperatures_K,
            "fields_T": self.fields_T,
            "direction": self.direction,
            "pressures_GPa": self.pressures_GPa,
            "strains": self.strains,
            "compositions": self.compositions,
            "sublattice": self.sublattice,
            "realizations": self.realizations,
            "q": np.array(self.q) * repeat if isinstance(self.q, list) else self.q,
            "orders": {name: np.array(q) * repeat for name, q in self.orders.items()},
            "observables": self.observables.functions(atoms),
            "sweep": self.sweep,
            "tempering": self.tempering,
            "steps": self.steps,
            "interval": self.interval,
            "equilibration": self.equilibration,
            "method": self.method,
            "space_group_tolerance_A": self.space_group_tolerance,
            "options": self.options,
            "seed": self.seed,
            "model": DeepSpinCalculator(model),
        }

    def _crystal(self) -> tuple[Atoms, str | Potential]:
        """Return the cell and the model, both of an exchange table where it is one."""
        path = Path(self.structure)
        if exchange_format(path) is not None:
            table = read_exchange_table(path)
            return table.atoms, table if self.model is None else self.model
        if self.model is None:
            raise ValueError(
                f"'model' is missing: {path} is a structure, not an exchange table"
            )
        return read_structure(path), self.model

    def _pattern(self, cell: Atoms) -> Any:
        assert self.moments is not None
        if self.moments.q is None:
            return collinear(self.moments.direction)
        return antiferromagnetic(
            self.moments.q,
            direction=self.moments.direction,
            cell=cell.cell.array if self.moments.cell is None else self.moments.cell,
        )
