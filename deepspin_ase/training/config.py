"""The training file: what to train, on what, and how."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator
from typing_extensions import Self

from ..configuration import Configuration
from ..potentials.config import DeepSpinConfig

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class DataConfig(Configuration):
    """Where the labelled frames are.

    Attributes
    ----------
    training, validation : list of str
        Files or folders (DeePMD npy, mixed npy, extxyz), relative to the
        training file. Without validation data, errors are reported on the
        training data alone.
    """

    training: Annotated[list[str], Field(min_length=1)]
    validation: list[str] = []


class LearningRateConfig(Configuration):
    """Warm-up, then decay from ``start_lr`` to ``stop_lr``.

    Attributes
    ----------
    start_lr, stop_lr : float
    decay : "exp" or "cosine"
    warmup_steps : int
        Steps of linear rise from zero.
    """

    start_lr: Annotated[float, Field(gt=0)] = 1e-3
    stop_lr: Annotated[float, Field(gt=0)] = 1e-6
    decay: Literal["exp", "cosine"] = "exp"
    warmup_steps: Annotated[int, Field(ge=0)] = 200

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stop_lr > self.start_lr:
            raise ValueError("stop_lr must not exceed start_lr")
        return self


class LossConfig(Configuration):
    """Weights of the squared errors, under DeePMD-kit's names.

    A weight runs from start to limit as the learning rate decays,
    p = limit + (start - limit) lr / start_lr. Units: energies in eV per root of
    the number of atoms, forces in eV/A, magnetic forces in eV/mu_B, virial in eV
    per root of the number of atoms.

    Attributes
    ----------
    start_pref_e, limit_pref_e : float
        Energy.
    start_pref_fr, limit_pref_fr : float
        Forces.
    start_pref_fm, limit_pref_fm : float
        Magnetic forces of the magnetic atoms.
    start_pref_v, limit_pref_v : float
        Virial.
    huber_delta : float, optional
        Errors beyond it count linearly (Huber); quadratic everywhere if unset.
    """

    start_pref_e: Weight = 0.02
    limit_pref_e: Weight = 1.0
    start_pref_fr: Weight = 1000.0
    limit_pref_fr: Weight = 1.0
    start_pref_fm: Weight = 1000.0
    limit_pref_fm: Weight = 1.0
    start_pref_v: Weight = 0.0
    limit_pref_v: Weight = 0.0
    huber_delta: Annotated[float, Field(gt=0)] | None = None


class RunConfig(Configuration):
    """The optimisation itself.

    Attributes
    ----------
    numb_steps : int
    batch_size : int
        Frames per step and process.
    seed : int
        Of the initial weights, the order of frames and the augmentation.
    precision : "float64" or "float32"
        Of the network while it trains; labels and the saved model are float64.
    weight_decay : float
        Of AdamW.
    gradient_clip : float, optional
        Largest norm of the gradient.
    averaging : float
        Decay of the running average of the weights that becomes the model; 0
        keeps the last weights.
    time_reversal : bool
        Turn all moments of a frame around, with probability one half.
    spin_rotation : bool
        Turn all moments of a frame by a random rotation: exact symmetry
        without spin-orbit coupling only.
    disp_freq : int
        Steps between validations.
    save_freq : int
        Steps between checkpoints.
    tensorboard : bool
        Write TensorBoard logs too (extra ``tensorboard``).
    """

    numb_steps: Count
    batch_size: Count = 1
    seed: int = 0
    precision: Literal["float64", "float32"] = "float64"
    weight_decay: Weight = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    averaging: Fraction = 0.0
    time_reversal: bool = False
    spin_rotation: bool = False
    disp_freq: Count = 1000
    save_freq: Count = 1000
    tensorboard: bool = False


class TrainingConfig(Configuration):
    """A whole training file.

    Attributes
    ----------
    model : DeepSpinConfig
    baseline : str, optional
        A potential that the network corrects: a model file, or the name of a
        shipped model. The network then starts from zero.
    init_model : str, optional
        A trained model of the same architecture to start from.
    data : DataConfig
    learning_rate : LearningRateConfig
    loss : LossConfig
    training : RunConfig
    """

    model: DeepSpinConfig
    baseline: str | None = None
    init_model: str | None = None
    data: DataConfig
    learning_rate: LearningRateConfig = LearningRateConfig()
    loss: LossConfig = LossConfig()
    training: RunConfig


def read_config(path: str | os.PathLike[str]) -> TrainingConfig:
    """Read a training file: YAML, or an input.json of DeePMD-kit.

    Paths of data are taken relative to the file.

    Raises
    ------
    ValueError
        If the file is not YAML, a key is unknown or missing, or a value unfit.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML or JSON file: {error}") from None
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} does not hold a training configuration")
    if "training_data" in values.get("training", {}):
        values = from_deepmd_input(values)
    config = TrainingConfig.from_dict(values)

    def absolute(paths: list[str]) -> list[str]:
        return [str(path.parent / p) for p in paths]

    data = DataConfig(
        training=absolute(config.data.training),
        validation=absolute(config.data.validation),
    )
    update: dict[str, Any] = {"data": data}
    for name in ("baseline", "init_model"):
        given = getattr(config, name)
        if given is not None and (path.parent / given).is_file():
            update[name] = str(path.parent / given)
    return config.model_copy(update=update)


#: Keys of an input.json that change nothing here, by section.
_IGNORED = {
    "": {"_comment", "nvnmd"},
    "model": {"_comment", "data_stat_nbatch", "data_stat_protect", "type"},
    "descriptor": {"_comment", "type", "seed", "precision", "trainable"},
    "fitting_net": {"_comment", "type", "seed", "precision", "trainable"},
    "learning_rate": {"_comment", "type", "decay_steps", "scale_by_worker"},
    "loss": {"_comment", "type"},
    "training": {"_comment", "disp_file", "numb_btch", "save_ckpt", "disp_training"}
    | {"time_training", "profiling", "profiling_file", "stat_file", "tensorboard_log_dir"}
    | {"tensorboard_freq", "opt_type", "mixed_precision", "training_data"}
    | {"validation_data", "max_ckpt_keep"},
}


def from_deepmd_input(values: Mapping[str, Any]) -> dict[str, Any]:
    """Map DeePMD-kit's input.json of an se_e2_a spin model to a training file.

    Keys that only steer DeePMD-kit (output files, seeds of single networks) are
    dropped; others that have no counterpart stay and are refused later by name.

    Raises
    ------
    ValueError
        If the input describes another kind of model.
    """

    def section(source: Mapping[str, Any], name: str) -> dict[str, Any]:
        return {k: v for k, v in source.items() if k not in _IGNORED[name]}

    values = json.loads(json.dumps(values))
    model = section(values.get("model", {}), "model")
    descriptor = model.get("descriptor", {})
    kind = descriptor.get("type", "se_e2_a")
    if kind not in ("se_e2_a", "se_a"):
        raise ValueError(
            f"the descriptor of this input is {kind!r}; only se_e2_a is trained here"
        )
    if "spin" not in model:
        raise ValueError("this input has no model.spin section: it is no spin model")
    model["descriptor"] = section(descriptor, "descriptor")
    model["fitting_net"] = section(model.get("fitting_net", {}), "fitting_net")
    training = values["training"]
    run = section(training, "training")
    batch_size = training["training_data"].get("batch_size", 1)
    if isinstance(batch_size, int):
        run["batch_size"] = batch_size
    if descriptor_precision := descriptor.get("precision"):
        run["precision"] = {"default": "float64"}.get(
            descriptor_precision, descriptor_precision
        )
    result = {
        key: value
        for key, value in values.items()
        if key not in _IGNORED[""] | {"model", "training", "learning_rate", "loss"}
    }
    return result | {
        "model": model,
        "data": {
            "training": _systems(training["training_data"]),
            "validation": _systems(training.get("validation_data", {})),
        },
        "learning_rate": section(values.get("learning_rate", {}), "learning_rate"),
        "loss": section(values.get("loss", {}), "loss"),
        "training": run,
    }


def _systems(data: Mapping[str, Any]) -> list[str]:
    systems = data.get("systems", [])
    return [systems] if isinstance(systems, str) else list(systems)
