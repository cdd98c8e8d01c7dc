"""Configuration of a training: model, data, schedule, loss and run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from .._config import Configuration, problems_of, read_mapping
from .._plausible import warn_of_unusual
from ..data import Dataset, read_dataset
from ..io._columns import check_columns
from ..potentials.adapters import beside
from ..potentials.networks._trainable import architecture_named, architecture_of
from ..quantities import label_table
from ._deepmd_input import from_deepmd_input

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Columns = Annotated[dict[str, str], AfterValidator(check_columns)]


Paths = Annotated[
    list[str], BeforeValidator(lambda x: [x] if isinstance(x, str) else x)
]


class SetConfig(Configuration):
    """An entry of ``data.training`` that says more of a data set than where it is.

    Attributes
    ----------
    files : list of str
        Files or folders (DeePMD npy, mixed npy, extxyz), relative to the training file.
    validation : list of str
        The same, of frames for validation.
    name : str, optional
        In reports and in the card of the model; by default the files.
    moments : "constrained", "directions" or "self-consistent"
        What was constrained: the moments (magnetic forces are as labelled), their
        directions alone (labels along the moments do not count), or nothing (all
        magnetic forces are zero).
    offset : bool
        Whether the energies have a zero of their own, which is fitted. The first set
        defines the zero.
    scale : float or "fit"
        Factor a from moments of this set to those of the model, where codes define
        them differently: moments times a, magnetic forces over a. It is fitted to how
        energies and magnetic forces depend on moments in the other sets.
    weight : float or dict of float
        Factor in the loss, of all labels or by the name of the label. Weights of frames
        multiply it: ``config_weight``, ``config_energy_weight``, ... in extxyz files.
    uncertainty : dict of float
        Standard deviations of labels by name, in eV/atom, eV/A, eV/mu_B and eV/atom
        (virial). Labels lose weight as soon as it is larger than the error that the
        weights of the loss suppose, 0.02 over the root of the weight.
    columns : dict of str
        Names that extxyz files have for moments and labels, such as ``{moments:
        dft_spin}``; see :func:`~deepspin_ase.io.read_extxyz`.
    """

    files: Annotated[Paths, Field(min_length=1)]
    validation: Paths = Field(default=[])
    name: str | None = None
    moments: Literal["constrained", "directions", "self-consistent"] = "constrained"
    offset: bool = True
    scale: Annotated[float, Field(gt=0)] | Literal["fit"] = 1.0
    weight: Weight | dict[str, Weight] = 1.0
    uncertainty: dict[str, Weight] = Field(default={})
    columns: Columns = Field(default={})

    @field_validator("weight", "uncertainty")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            _check_names(values)
        return values


def _entry(value: Any) -> Any:
    """Return an entry of ``data.training``, with messages of its own keys."""
    return SetConfig.from_dict(value) if isinstance(value, Mapping) else value


class DataConfig(Configuration):
    """Where the labelled frames are.

    Attributes
    ----------
    training : list of str or SetConfig
        Files or folders (DeePMD npy, mixed npy, extxyz), relative to the training file;
        all of them are one data set. A set of another origin is a mapping, with keys
        ``files``, ``validation``, ``name``, ``moments``, ``offset``, ``scale``,
        ``weight``, ``uncertainty`` and ``columns``.
    validation : list of str
        Of the files without a mapping. Without validation data, errors are reported on
        the training data alone.
    columns : dict of str
        Of the files without a mapping; see :class:`SetConfig`.
    """

    training: Annotated[
        list[Annotated[str | SetConfig, BeforeValidator(_entry)]], Field(min_length=1)
    ]
    validation: list[str] = Field(default=[])
    columns: Columns = Field(default={})

    @model_validator(mode="after")
    def _check(self) -> Self:
        plain = any(isinstance(x, str) for x in self.training)
        for name in ("validation", "columns"):
            if getattr(self, name) and not plain:
                raise ValueError(f"give {name} in the entries of training")
        return self

    @property
    def sources(self) -> list[tuple[list[str], dict[str, str]]]:
        """Files of training data, and the names of columns in them."""
        return [
            ([x], self.columns) if isinstance(x, str) else (x.files, x.columns)
            for x in self.training
        ]

    def below(self, folder: Path) -> Self:
        """Return the same with paths relative to a folder."""

        def absolute(paths: list[str]) -> list[str]:
            return [str(folder / path) for path in paths]

        training = [
            str(folder / entry)
            if isinstance(entry, str)
            else entry.model_copy(
                update={
                    "files": absolute(entry.files),
                    "validation": absolute(entry.validation),
                    "name": entry.name or ", ".join(entry.files),
                }
            )
            for entry in self.training
        ]
        validation = absolute(self.validation)
        return self.model_copy(update={"training": training, "validation": validation})


class LearningRateConfig(Configuration):
    """Warm-up, then decay from ``start_lr`` to ``stop_lr``.

    Attributes
    ----------
    start_lr, stop_lr : float
    decay : "exp" or "cosine"
    warmup_steps : int, optional
        Steps of linear rise from zero: 200 or, if that is less, a quarter of the run.
    decay_steps : int, optional
        The rate of an exponential decay stays the same for so many steps; it
        changes with every step if unset.
    """

    start_lr: Annotated[float, Field(gt=0)] = 1e-3
    stop_lr: Annotated[float, Field(gt=0)] = 1e-6
    decay: Literal["exp", "cosine"] = "exp"
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    decay_steps: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stop_lr > self.start_lr:
            raise ValueError("stop_lr must not exceed start_lr")
        warn_of_unusual("start_lr", self.start_lr)
        return self


#: Weight of a label at the start and in the limit; None for the sizes of labels.
Ends = tuple[Weight, Weight] | None

#: How a training file says None.
AUTOMATIC = "auto"


def _default_weights() -> dict[str, Ends]:
    return {name: quantity.loss_weights for name, quantity in label_table().items()}


class LossConfig(Configuration):
    """Weights of the squared errors.

    A weight runs from start to limit as the learning rate decays,
    p = limit + (start - limit) lr / start_lr. Units: energies in eV per root of
    the number of atoms, forces in eV/A, magnetic forces in eV/mu_B, virial in eV
    per root of the number of atoms.

    DeePMD-kit's names are read too: ``start_pref_e`` and ``limit_pref_e`` (energy),
    ``_fr`` (forces), ``_fm`` (magnetic forces), ``_v`` (virial).

    Attributes
    ----------
    weights : dict of (float, float) or "auto"
        Start and limit by the name of the label. ``auto`` (None) is a constant from the
        sizes of the training labels, with which all of them are learned alike; the
        numbers are in the ``config.yaml`` of the run. Where not given, weights are
        ``auto`` for the network on moments, and otherwise (0.02, 1) of ``energy``,
        (1000, 1) of ``forces`` and of ``magnetic_forces`` and (0, 0) of ``virial``.
    huber_delta : float, optional
        Errors beyond it count linearly (Huber); quadratic everywhere if unset.
    """

    weights: dict[str, Ends] = Field(default_factory=_default_weights)
    huber_delta: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Fill in default weights, and those under DeePMD-kit's names."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        given = values.pop("weights", {})
        if not isinstance(given, Mapping):
            return values | {"weights": given}
        given = {k: None if v == AUTOMATIC else v for k, v in given.items()}
        weights: dict[Any, Any] = {**_default_weights(), **given}
        for key, (name, end) in _deepmd_keys().items():
            if key in values:
                if name in given:
                    raise ValueError(f"weights.{name} and {key} are the same: give one")
                pair: list[Any] = list(weights[name] or _default_weights()[name] or ())
                pair[end] = values.pop(key)
                weights[name] = tuple(pair)
        return values | {"weights": weights}

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, Ends]) -> dict[str, Ends]:
        _check_names(weights)
        return weights

    @property
    def ends(self) -> dict[str, tuple[float, float]]:
        """Weights at the start and in the limit; automatic ones are known by now."""
        return {name: ends for name, ends in self.weights.items() if ends is not None}

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys that may be given, for messages."""
        return [*super().known_keys(), *_deepmd_keys()]


def _check_names(labels: Iterable[str]) -> None:
    unknown = sorted(set(labels) - label_table().keys())
    if unknown:
        raise ValueError(
            f"unknown label {', '.join(unknown)}; known: {', '.join(label_table())}"
        )


def _deepmd_keys() -> dict[str, tuple[str, int]]:
    """Return label and end (0: start, 1: limit) by DeePMD-kit's keys."""
    return {
        f"{end}_pref_{quantity.deepmd_prefactor}": (name, k)
        for name, quantity in label_table().items()
        if quantity.deepmd_prefactor
        for k, end in enumerate(("start", "limit"))
    }


class RunConfig(Configuration):
    """The optimisation itself.

    Attributes
    ----------
    numb_steps : int
        Zero leaves a network with a linear term, such as that on moments, at the fit in
        closed form from which it starts.
    ridge : float, optional
        Of that fit, relative to the largest eigenvalue of the normal matrix; see
        :func:`~deepspin_ase.training.fit_linear_term`. If unset, the one that predicts
        frames best that the fit does not know. What is minimized is the loss with the
        weights of its limit, and with those of data sets and frames.
    batch_size : int
        Frames per step and process.
    seed : int
        Of the initial weights, the order of frames and the augmentation.
    precision : "float64", "float32" or "mixed"
        Of the network while it trains; labels and the saved model are float64.
        "mixed" leaves structures and sums in float64, for networks with kernels that
        compute the rest in float32.
    weight_decay : float
        Of AdamW.
    gradient_clip : float, optional
        Largest norm of the gradient.
    averaging : float
        Decay of the running average of the weights that becomes the model; 0
        keeps the last weights.
    keep_best : bool
        The model is that of the step with the least validation loss (of the training
        data where there are none for validation), not of the last.
    patience : int, optional
        Stop early after so many validations without a smaller loss than before, and
        keep the best weights.
    time_reversal : bool
        Reverse all moments of a frame with probability one half.
    spin_rotation : bool
        Rotate all moments of a frame by a random rotation: exact symmetry
        without spin-orbit coupling only.
    disp_freq : int
        Steps between validations.
    save_freq : int
        Steps between checkpoints.
    tensorboard : bool
        Write TensorBoard logs too (extra ``tensorboard``).
    """

    numb_steps: Annotated[int, Field(ge=0)]
    ridge: Annotated[float, Field(gt=0)] | None = None
    batch_size: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float64", "float32", "mixed"] = "float64"
    weight_decay: Weight = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    averaging: Fraction = 0.0
    keep_best: bool = False
    patience: Count | None = None
    time_reversal: bool = False
    spin_rotation: bool = False
    disp_freq: Count = 1000
    save_freq: Count = 1000
    tensorboard: bool = False


class TrainingConfig(Configuration):
    """A whole training file.

    Attributes
    ----------
    model : Configuration
        Keys of the architecture that the key ``type`` names, one of
        :data:`deepspin_ase.potentials.ARCHITECTURES`; ``moments`` if omitted.
    baseline : str, optional
        A potential that the network corrects: a model file, or the name of a
        shipped model. The network then starts from zero.
    init_model : str, optional
        A trained model of the same architecture to start from.
    output : str
        Folder to write to.
    data : DataConfig
    learning_rate : LearningRateConfig
    loss : LossConfig
    training : RunConfig
    """

    model: SerializeAsAny[Configuration]
    baseline: str | None = None
    init_model: str | None = None
    output: str = "training"
    data: DataConfig
    learning_rate: LearningRateConfig = LearningRateConfig()
    loss: LossConfig = Field(default_factory=lambda: LossConfig.from_dict({}))
    training: RunConfig

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Build from nested plain data; see :meth:`Configuration.from_dict`."""
        model = values.get("model")
        if isinstance(model, Mapping):
            inside = f"{where}.model" if where else "model"
            cls_, rest = architecture_named(model, where=inside)
            config = cls_.config_class.from_dict(rest, where=inside)
            values = {**values, "model": config}
            for name, defaults in cls_.training_defaults.items():
                given = values.get(name, {})
                if isinstance(given, Mapping):
                    values[name] = _merged(defaults, given)
        return super().from_dict(values, where=where)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain data, the inverse of :meth:`from_dict`."""
        name, _ = architecture_of(self.model)
        values = super().to_dict()
        return values | {"model": {"type": name, **values["model"]}}


def read_config(path: str | os.PathLike[str]) -> TrainingConfig:
    """Read a training file: YAML, or an input.json of DeePMD-kit.

    Paths of data and of the output are taken relative to the file. What the section
    ``model`` leaves open is completed from the training data, if there is a way to.

    Raises
    ------
    ValueError
        If the file is not YAML, a key is unknown or missing, or a value unfit.
    """
    path = Path(path)
    values = read_mapping(path)
    training = values.get("training")
    if isinstance(training, Mapping) and "training_data" in training:
        with problems_of(path):
            values = from_deepmd_input(values, folder=path.parent)

    with problems_of(path):
        config = TrainingConfig.from_dict(_completed(values, path.parent))
    update: dict[str, Any] = {
        "data": config.data.below(path.parent),
        "output": str(path.parent / config.output),
    }
    for name in ("baseline", "init_model"):
        given = getattr(config, name)
        if given is not None:
            update[name] = beside(path.parent, given)
    return config.model_copy(update=update)


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults with what is given in their place."""
    if any("_pref_" in key for key in given):  # weights of the loss by other names
        defaults = {key: value for key, value in defaults.items() if key != "weights"}
    both = {
        key: {**value, **given[key]}
        for key, value in defaults.items()
        if isinstance(value, Mapping) and isinstance(given.get(key), Mapping)
    }
    return {**defaults, **given, **both}


def _completed(values: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return a training file's content with a section ``model`` made complete."""
    model = values.get("model", {})
    data = values.get("data")
    if not isinstance(model, Mapping) or not isinstance(data, Mapping):
        return values
    cls, rest = architecture_named(model, where="model")
    required = {k for k, f in cls.config_class.model_fields.items() if f.is_required()}
    if required <= rest.keys():
        return values
    sources = DataConfig.from_dict(data, where="data").below(folder).sources
    types = rest.get("type_map")
    parts = [
        read_dataset(files, default_type_map=types, columns=columns)
        for files, columns in sources
    ]
    dataset = Dataset(frame for part in parts for frame in part)
    rest = cls.completed(
        rest, elements=dataset.elements, magnetic=dataset.magnetic_elements
    )
    given = {"type": model["type"]} if "type" in model else {}
    return {**values, "model": {**given, **rest}}
