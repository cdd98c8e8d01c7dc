"""Configuration of active learning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from .._config import Configuration
from ..potentials.adapters import beside
from ..training import TrainingConfig
from ..training._config import Columns

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
SpinStates = Annotated[list[Literal["canted", "spiral", "random"]], Field(min_length=1)]


class StartConfig(Configuration):
    """First structures, scattered about those that are given.

    Attributes
    ----------
    count : int
        In all; 0 where labelled data are given instead.
    displacement, strain, reduced_temperature, length : float
        See :func:`~deepspin_ase.build.perturbed`.
    states : list of str
        Of the spins, in turn: see the same.
    """

    count: Annotated[int, Field(ge=0)] = 20
    displacement: NonNegative = 0.1
    strain: NonNegative = 0.02
    reduced_temperature: NonNegative = 0.2
    length: NonNegative = 0.1
    states: SpinStates = Field(default=["canted", "canted", "spiral", "random"])


class ExploreConfig(Configuration):
    """Spin-lattice dynamics that look for structures where the model is uncertain.

    Walkers run at all temperatures, from all structures in turn, in batches.

    Attributes
    ----------
    temperature_K : list of float
        Of the lattice.
    spin_temperature_K : list of float, optional
        Of the spins, one per temperature of the lattice; the same by default.
    walkers : int
        At least one per temperature.
    batch : int
        Walkers at a time, at most; batches run on the workers of a Dask cluster.
    time_fs, timestep_fs : float
        Of each walker in each generation.
    interval_fs : float
        Between looks at the deviations.
    friction_per_fs, damping : float
        Of the heat baths of atoms and spins.
    pressure_GPa : list of float, optional
        Of the walkers in turn, whose cells then move; the cells are fixed by default.
    external_field_T : (float, float, float), optional
    spin_starts : list of str
        Spin states that walkers start from, in turn: see
        :func:`~deepspin_ase.build.perturbed`.
    vacancies : float
        Share of walkers that an atom is taken out of.
    substitutions : dict of str
        Elements by those that they replace on one site of a share of the walkers; the
        moment of the site stays.
    substituted : float
        That share.
    strain, length : float
        Walkers start from cells that are strained, and moments that are longer or
        shorter, by up to so much. Dynamics keep both.
    closest : float
        Atoms that come nearer than this part of the sum of their covalent radii are
        unphysical: the walker starts anew.
    """

    temperature_K: Annotated[list[NonNegative], Field(min_length=1)]
    spin_temperature_K: list[NonNegative] | None = None
    walkers: Count = 16
    batch: Count = 16
    time_fs: Positive = 1000.0
    timestep_fs: Positive = 1.0
    interval_fs: Positive = 20.0
    friction_per_fs: Positive = 0.02
    damping: Positive = 0.05
    pressure_GPa: Annotated[list[float], Field(min_length=1)] | None = None
    external_field_T: tuple[float, float, float] | None = None
    spin_starts: SpinStates = Field(default=["canted", "spiral", "random"])
    vacancies: Annotated[float, Field(ge=0, le=1)] = 0.0
    substitutions: dict[str, str] = Field(default_factory=dict)
    substituted: Annotated[float, Field(ge=0, le=1)] = 0.25
    strain: NonNegative = 0.02
    length: NonNegative = 0.1
    closest: Positive = 0.6

    @model_validator(mode="after")
    def _check(self) -> Self:
        spins = self.spin_temperature_K
        if spins is not None and len(spins) != len(self.temperature_K):
            raise ValueError("spin_temperature_K must have the length of temperature_K")
        for old, new in self.substitutions.items():
            if unknown := {old, new} - set(atomic_numbers):
                raise ValueError(f"substitutions: {unknown.pop()!r} is no element")
        return self


class Window(Configuration):
    """Largest deviations in a structure that are worth a label.

    Below ``low`` the model is accurate; above ``high`` it is lost, and what a walker
    finds there says nothing.

    Attributes
    ----------
    low, high : float
        eV/A of forces, eV/mu_B of magnetic forces.
    """

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        return self


class SelectConfig(Configuration):
    """Which of the structures that were found are labelled.

    Attributes
    ----------
    count : int
        At most, in each generation.
    forces, magnetic_forces : Window
        Of the largest norm over the atoms; 0.1 to 1 eV/A and 0.01 to 0.1 eV/mu_B by
        default. ``low`` is what the model is to reach.
    accurate : float
        The loop ends when this share of what walkers visit is accurate, in two
        generations one after the other.
    """

    count: Count = 20
    forces: Window = Window(low=0.1, high=1.0)
    magnetic_forces: Window = Window(low=0.01, high=0.1)
    accurate: Share = 0.98


class LearnConfig(Configuration):
    """A whole file of ``deepspin learn``.

    Attributes
    ----------
    structures : list of str
        Files of crystals with moments (extxyz): all their frames. Put in what the model
        is for: other phases, supercells, vacancies, images of a path.
    data : list of str
        Labelled data to begin with: files and folders of any known format.
    columns : dict of str
        Names that extxyz files of ``structures`` and ``data`` have for moments and
        labels, such as ``{moments: dft_spin}``.
    engine : str or dict
        A name (see :func:`~deepspin_ase.labels.make_engine`), or one under ``name``
        with the settings of the engine beside it.
    check : bool
        Whether the engine first labels five structures near one of those to begin with,
        and the run ends where the labels are not derivatives of the energy.
    output : str
        Folder to write to.
    generations : int
        At most.
    workers : int
        Processes that share labels and walkers where the command runs (more than one:
        extra ``distributed``).
    seed : int
    held_back : int
        Every so many labels, and frames of ``data``, one is kept from training, to
        judge the model by.
    largest_force : float
        Frames with larger labelled forces are dropped, eV/A.
    start, explore, select
        :class:`StartConfig`, :class:`ExploreConfig`, :class:`SelectConfig`.
    train : dict
        Sections of a training file other than ``data`` and ``output``:
        see :class:`~deepspin_ase.training.TrainingConfig`.
    """

    structures: Annotated[list[str], Field(min_length=1)]
    data: list[str] = Field(default_factory=list)
    columns: Columns = Field(default_factory=dict)
    engine: dict[str, Any]
    check: bool = True
    output: str = "learning"
    generations: Count = 10
    workers: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    held_back: Annotated[int, Field(ge=2)] = 6
    largest_force: Positive = 30.0
    start: StartConfig = StartConfig()
    explore: ExploreConfig
    select: SelectConfig = SelectConfig()
    train: dict[str, Any] = Field(default_factory=dict)

    @field_validator("structures", "data", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("engine", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(
                "give the name of an engine or of a model, or the key 'name' beside "
                "the settings"
            )
        return value

    @field_validator("train")
    @classmethod
    def _sections(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = TrainingConfig.model_fields.keys() - {"data", "output"}
        if unknown := sorted(value.keys() - known):
            raise ValueError(
                f"unknown section {', '.join(unknown)}; known: "
                f"{', '.join(sorted(known))}"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.start.count and not self.data:
            raise ValueError("start.count is 0, and there are no data to begin with")
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
        engine = config.engine | {"name": beside(folder, config.engine["name"])}
        return config.model_copy(
            update={
                "structures": [str(folder / p) for p in config.structures],
                "data": [str(folder / p) for p in config.data],
                "output": str(folder / config.output),
                "engine": engine,
            }
        )
