"""Data sets of different origin, brought to the conventions of one model.

Codes and settings differ in the zero of the energy, in what a moment is, and in what
they constrain. The first set defines both the zero and the moments; others have an
offset of the energy, and on request a scale of the moments::

    E = E_set - offset,    m = a m_set,    F_m = F_m,set / a
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from .._config import Configuration
from ..data import Dataset, Frame, read_dataset
from ..quantities import label_table
from ._config import DataConfig, LossConfig, SetConfig
from ._energies import ReferenceEnergies

#: Force error, eV/A, that a weight of one in the loss goes with: uncertainties of
#: labels matter where they are larger than this over the root of the weight.
ACCURACY = 0.02

#: Magnetic forces, eV/mu_B, up to which moments can be called self-consistent.
_NO_FORCE = 1e-3


@dataclass(frozen=True)
class TrainingSet:
    """Labelled frames of one origin, and how they join others.

    Attributes
    ----------
    training, validation : Dataset
    name : str
    moments : {"constrained", "directions", "self-consistent"}
        What was constrained; see :class:`~deepspin_ase.training.SetConfig`.
    offset : bool
        Whether the energies have a zero of their own, unless the set is the first.
    scale : float or "fit"
        Factor of the moments.
    weights : mapping of str to float
        Factors in the loss by label, 1 where not given.
    uncertainty : mapping of str to float
        Standard deviations of labels, in eV/atom, eV/A, eV/mu_B and eV/atom.
    """

    training: Dataset
    validation: Dataset = field(default_factory=lambda: Dataset([]))
    name: str = ""
    moments: Literal["constrained", "directions", "self-consistent"] = "constrained"
    offset: bool = True
    scale: float | Literal["fit"] = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    uncertainty: Mapping[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What is said of the set but its name, as plain data."""
        names = ("moments", "offset", "scale")
        plain = {name: getattr(self, name) for name in names}
        return plain | {
            "weights": dict(self.weights),
            "uncertainty": dict(self.uncertainty),
        }

    def prepared(self, dataset: Dataset, scale: float, loss: LossConfig) -> Dataset:
        """Return frames with the labels and weights that a training sees.

        Raises
        ------
        ValueError
            If labels contradict what is said of the moments.
        """
        frames = []
        for k, frame in enumerate(dataset):
            try:
                frame = _with_moments(frame, self.moments, scale)
            except ValueError as error:
                raise ValueError(f"{dataset.name}, frame {k}: {error}") from None
            weights = {
                name: frame.weights.get(name, 1.0)
                * self.weights.get(name, 1.0)
                * _reliability(name, self.uncertainty.get(name, 0.0), loss, frame)
                for name in label_table()
            }
            frames.append(frame.replace(weights=weights))
        return Dataset(frames, name=dataset.name)


def read_sets(
    config: DataConfig, model: Configuration | None = None
) -> list[TrainingSet]:
    """Read the data sets that the section ``data`` of a training file names.

    Paths without anything said of them are one set, the first.

    Parameters
    ----------
    config : DataConfig
    model : Configuration, optional
        The section ``model``, which may know what types and pseudo-atoms in DeePMD
        folders mean.
    """
    options = getattr(model, "data_options", {})

    def read(paths: list[str], columns: Mapping[str, str]) -> Dataset:
        if not paths:
            return Dataset([])
        return read_dataset(paths, columns=columns, **options)

    plain = [entry for entry in config.training if isinstance(entry, str)]
    sets = []
    if plain:
        training = read(plain, config.columns)
        validation = read(config.validation, config.columns)
        sets.append(TrainingSet(training, validation, name=", ".join(plain)))
    for entry in config.training:
        if isinstance(entry, SetConfig):
            weight = entry.weight
            if not isinstance(weight, Mapping):
                weight = dict.fromkeys(label_table(), weight)
            sets.append(
                TrainingSet(
                    read(entry.files, entry.columns),
                    read(entry.validation, entry.columns),
                    name=entry.name or ", ".join(entry.files),
                    moments=entry.moments,
                    offset=entry.offset,
                    scale=entry.scale,
                    weights=weight,
                    uncertainty=entry.uncertainty,
                )
            )
    return sets


def aligned(dataset: Dataset, entry: Mapping[str, Any]) -> Dataset:
    """Return data of a set in the conventions of a model that was trained on it.

    Parameters
    ----------
    dataset : Dataset
        Frames of the same origin as those of the training.
    entry : mapping
        What the model's card says of the set: ``card["sets"][name]``, with ``moments``,
        ``scale`` and ``offset``.
    """
    numbers = {atomic_numbers[s]: value for s, value in entry["offset"].items()}
    frames = []
    for frame in dataset:
        frame = _with_moments(frame, entry["moments"], entry["scale"])
        if frame.energy is not None:
            zero = sum(numbers.get(int(z), 0.0) for z in frame.numbers)
            frame = frame.replace(energy=frame.energy - zero)
        frames.append(frame)
    return Dataset(frames, name=dataset.name)


def card_entry(
    own: TrainingSet, scale: float, references: ReferenceEnergies, member: int
) -> dict[str, Any]:
    """Return what a model's card says of a data set, see :func:`aligned`."""
    present = {atomic_numbers[s] for s in own.training.elements}
    offset = references.offsets[member]
    return {
        "frames": len(own.training),
        "frames for validation": len(own.validation),
        "moments": own.moments,
        "scale": scale,
        "offset": {
            chemical_symbols[z]: value for z, value in offset.items() if z in present
        },
    }


def _with_moments(frame: Frame, moments: str, scale: float) -> Frame:
    """Return a frame with moments scaled, and with the magnetic forces that hold."""
    known = frame.magnetic_forces
    if moments == "self-consistent":
        if known is not None and np.nanmax(np.abs(known), initial=0.0) > _NO_FORCE:
            raise ValueError(
                "the moments of this set are declared self-consistent, but there are "
                f"magnetic forces of {np.nanmax(np.abs(known)):.3g} eV/mu_B; remove "
                "'moments: self-consistent' if moments were constrained"
            )
        known = np.zeros_like(frame.spins)
    return frame.replace(
        spins=scale * frame.spins,
        magnetic_forces=None if known is None else known / scale,
        longitudinal=frame.longitudinal and moments != "directions",
    )


def _reliability(
    name: str, uncertainty: float, loss: LossConfig, frame: Frame
) -> float:
    """Return the factor in the loss, 1 / (1 + (uncertainty / expected error)^2)."""
    _, weight = loss.ends.get(name, (0.0, 0.0))
    if label_table()[name].per_atom_in_errors:
        weight *= frame.n_atoms
    return 1.0 / (1.0 + weight * (uncertainty / ACCURACY) ** 2)


def names_of(sets: Sequence[TrainingSet]) -> list[str]:
    """Return the names of the sets.

    Raises
    ------
    ValueError
        If two have the same.
    """
    names = [own.name for own in sets]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two data sets have the name {name!r}; give them different ones"
            )
    return names
