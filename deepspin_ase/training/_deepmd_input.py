"""DeePMD-kit's input.json as a training configuration."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers

from .._validate import positive, whole
from ..data import read_dataset
from ..data._npy import find_systems, number_of_atoms, number_of_frames
from ..neighbors import build_pairs
from ..potentials.deepmd import activation, complete, magnetic_elements
from ..potentials.networks._config import SpinConfig
from ..system import System

logger = logging.getLogger(__name__)

#: The rate at the end where none is given, and the least one, of DeePMD-kit.
_STOP_LR, _LEAST_LR = 5e-8, 1e-10

#: Entries that stood in the section ``training`` before release 3.2.
_MOVED = {
    "learning_rate": ("warmup_steps", "warmup_ratio", "warmup_start_factor"),
    "optimizer": ("opt_type", "weight_decay", "adam_beta1", "adam_beta2"),
}

#: Entries of the section ``training`` that are the same here.
_SAME = ("numb_steps", "disp_freq", "save_freq", "tensorboard")

#: Names of the two precisions that networks train in.
_PRECISIONS = {
    "default": "float64",
    "float64": "float64",
    "double": "float64",
    "float32": "float32",
    "single": "float32",
}


def from_deepmd_input(
    values: Mapping[str, Any], *, folder: Path = Path()
) -> dict[str, Any]:
    """Map DeePMD-kit's input.json of an se_e2_a spin model to a training file.

    All its entries are in a table (:mod:`deepspin_ase.potentials.deepmd`): those that
    change no numbers are dropped, omitted ones have DeePMD-kit's defaults, and what
    has no counterpart here is refused.

    Parameters
    ----------
    values : mapping
    folder : path
        What the paths of data are relative to.

    Raises
    ------
    ValueError
        If the input describes another kind of model, or an entry is unknown, missing,
        or has no counterpart.
    """
    top = complete("", _modernized(_without_comments(values)))
    for section in ("validating", "nvnmd"):
        complete(section, top[section])
    run = complete("training", top["training"])
    if run["numb_steps"] is None:
        raise ValueError("training.numb_steps is missing in DeePMD-kit's input")
    model, precision = _model(top["model"])
    data, batch_size = _data(run, folder)
    if isinstance(model["descriptor"]["sel"], str):
        files = [
            file
            for entry in data["training"]
            for file in ([entry] if isinstance(entry, str) else entry["files"])
        ]
        model["descriptor"]["sel"] = _counted_slots(model, files, folder)
    return {
        "model": model,
        "data": data,
        "learning_rate": _learning_rate(top["learning_rate"], run["numb_steps"]),
        "loss": _loss(top["loss"]),
        "training": {
            **{name: run[name] for name in _SAME},
            "batch_size": batch_size,
            "precision": precision,
            "seed": run["seed"] or 0,
            "weight_decay": _weight_decay(top["optimizer"]),
            "gradient_clip": run["gradient_max_norm"] or None,
            "averaging": run["ema_decay"] if run["enable_ema"] else 0.0,
            "keep_best": False,
        },
    }


def _without_comments(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            k: _without_comments(v)
            for k, v in value.items()
            if not str(k).startswith("_")
        }
    return value


def _modernized(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the input with entries where release 3.2 has them."""
    training = values.get("training")
    if not isinstance(training, Mapping):
        return values
    result = dict(values)
    for section, names in _MOVED.items():
        old = {k.removeprefix("opt_"): training[k] for k in names if k in training}
        if old:
            result[section] = {**old, **result.get(section, {})}
        training = {k: v for k, v in training.items() if k not in names}
    return result | {"training": training}


def _model(values: Any) -> tuple[dict[str, Any], str]:
    """Return the section ``model`` and the precision of its networks."""
    whole = values.get("type", "standard")
    if whole != "standard":
        raise ValueError(
            f"model.type = {whole!r} has no counterpart here: only models with a "
            "descriptor se_e2_a are trained"
        )
    model = complete("model", values)
    kind = model["descriptor"].get("type")
    if kind not in ("se_e2_a", "se_a"):
        raise ValueError(
            f"the descriptor of this input is {kind!r}; only se_e2_a is trained here"
        )
    if model["spin"] is None:
        raise ValueError("this input has no model.spin section: it is no spin model")
    descriptor = complete("model.descriptor", model["descriptor"])
    fitting = complete("model.fitting_net", model["fitting_net"])
    del descriptor["type"]
    if not isinstance(descriptor["sel"], list) and _margin(descriptor["sel"]) is None:
        raise ValueError(
            f"model.descriptor.sel is {descriptor['sel']!r}; give the largest number "
            "of neighbours of each element, as in [60, 60], or 'auto' to count them"
        )
    if not descriptor["env_protection"]:
        del descriptor["env_protection"]
    names = [part.pop("precision") for part in (descriptor, fitting)]
    precisions = {_PRECISIONS.get(name) for name in names}
    precision = precisions.pop()
    if precision is None or precisions:
        raise ValueError(
            f"model.descriptor.precision = {names[0]!r} and "
            f"model.fitting_net.precision = {names[1]!r}; give 'float64' or 'float32' "
            "for both"
        )
    for part in (descriptor, fitting):
        part["activation_function"] = activation(part["activation_function"])
    return {
        "type_map": model["type_map"],
        "descriptor": descriptor,
        "fitting_net": fitting,
        "spin": _spin(model["spin"], model["type_map"]),
    }, precision


def _margin(rule: Any) -> float | None:
    """Return the factor of "auto" or "auto:1.2", None of anything else."""
    name, _, factor = str(rule).partition(":")
    try:
        return float(factor or 1.1) if name == "auto" else None
    except ValueError:
        return None


def _counted_slots(
    model: Mapping[str, Any], files: list[str], folder: Path
) -> list[int]:
    """Return the most neighbours of each element in the data, with DeePMD-kit's margin.

    The next multiple of four to the margin times the number.
    """
    descriptor, type_map = model["descriptor"], model["type_map"]
    factor = _margin(descriptor["sel"])
    assert factor is not None
    magnetic = dict(zip(type_map, SpinConfig(**model["spin"]).scales(), strict=True))
    dataset = read_dataset(
        [folder / file for file in files],
        default_type_map=type_map,
        virtual_scale=magnetic,
    )
    numbers = torch.tensor([atomic_numbers[symbol] for symbol in type_map])
    most = torch.zeros(len(numbers))
    for frame in dataset:
        system = System.from_atoms(frame.to_atoms())
        pairs = build_pairs(system, descriptor["rcut"])
        kinds = (system.species[pairs.j, None] == numbers).to(most)
        counts = most.new_zeros(frame.n_atoms, len(numbers)).index_add(
            0, pairs.i, kinds
        )
        most = torch.maximum(most, counts.amax(dim=0))
    slots = [4 * ((int(n * factor) + 3) // 4) for n in most.tolist()]
    logger.info("sel: %s, counted in the training data", slots)
    return slots


def _spin(values: Any, type_map: list[str]) -> dict[str, Any]:
    """Return the section ``spin``, of the PyTorch or the TensorFlow back end."""
    spin = complete("model.spin", values)
    use_spin = magnetic_elements(spin["use_spin"], type_map)
    scale = spin["virtual_scale"]
    lengths, norms = spin["virtual_len"], spin["spin_norm"]
    if scale is None and lengths and norms and len(lengths) == len(norms):
        scale = [
            positive("model.spin.virtual_len", length)
            / positive("model.spin.spin_norm", norm)
            for length, norm in zip(lengths, norms, strict=True)
        ]
    elif scale is None or lengths or norms:
        raise ValueError(
            "model.spin needs virtual_scale, or virtual_len and spin_norm of each "
            "magnetic element (their ratio), and not both"
        )
    return {"use_spin": use_spin, "virtual_scale": scale}


def _learning_rate(values: Any, n_steps: int) -> dict[str, Any]:
    """Return the section ``learning_rate``."""
    kind = values.get("type", "exp") if isinstance(values, Mapping) else "exp"
    if kind not in ("exp", "cosine"):
        raise ValueError(
            f"learning_rate.type = {kind!r} has no counterpart here: 'exp' and "
            "'cosine' have"
        )
    rate = complete("learning_rate", values)
    start = positive("learning_rate.start_lr", rate["start_lr"])
    whole("learning_rate.decay_steps", rate["decay_steps"], 1)
    stop, ratio = rate["stop_lr"], rate["stop_lr_ratio"]
    if stop is not None and ratio is not None:
        raise ValueError("learning_rate has stop_lr and stop_lr_ratio: give one")
    if stop is None:
        stop = _STOP_LR if ratio is None else start * ratio
    warmup = rate["warmup_steps"]
    if rate["warmup_ratio"] is not None:
        warmup = int(rate["warmup_ratio"] * n_steps)
    if warmup:
        logger.warning(
            "the learning rate decays from the first of the %d steps of the warm-up "
            "on; in DeePMD-kit it starts to after them",
            warmup,
        )
    result = {"start_lr": start, "decay": kind, "warmup_steps": warmup}
    if kind == "cosine":
        return result | {"stop_lr": stop}
    total, steps = n_steps - warmup, rate["decay_steps"]
    if rate["decay_rate"] is not None:
        decay_rate = positive("learning_rate.decay_rate", rate["decay_rate"])
        reached = start * decay_rate ** (total / steps)
        if reached < stop:
            raise ValueError(
                f"learning_rate.decay_rate = {rate['decay_rate']} reaches "
                f"{reached:.3g} in {total} steps, below stop_lr = {stop:.3g}, where "
                "DeePMD-kit would hold it: leave decay_rate out, or lower stop_lr"
            )
        stop = reached
    elif steps >= total:
        steps = 100 if total // 10 > 100 else total // 100 + 1
    stairs = None if rate["smooth"] else steps
    return result | {"stop_lr": max(stop, _LEAST_LR), "decay_steps": stairs}


def _loss(values: Any) -> dict[str, float]:
    """Return the section ``loss``; DeePMD-kit drops what starts or ends at zero."""
    kind = values.get("type", "ener") if isinstance(values, Mapping) else "ener_spin"
    if kind != "ener_spin":
        raise ValueError(
            f"the loss of this input is {kind!r}, which leaves out magnetic forces; "
            "expected loss.type = 'ener_spin'"
        )
    loss = complete("loss", values)
    del loss["type"]
    pairs = [(name, name.replace("start", "limit")) for name in loss if "start" in name]
    return {
        name: loss[name] if loss[start] and loss[limit] else 0.0
        for start, limit in pairs
        for name in (start, limit)
    }


def _weight_decay(values: Any) -> float:
    """Return the weight decay of the section ``optimizer``, of AdamW."""
    kind = values.get("type", "Adam") if isinstance(values, Mapping) else "Adam"
    if kind not in ("Adam", "AdamW"):
        raise ValueError(
            f"optimizer.type = {kind!r} has no counterpart here: 'Adam' and 'AdamW' "
            "have"
        )
    decay = complete("optimizer", values)["weight_decay"]
    if decay is None:
        return 0.0 if kind == "Adam" else 1e-3
    if decay and kind == "Adam":
        raise ValueError(
            f"optimizer.weight_decay = {decay} of Adam is added to the gradient, which "
            "has no counterpart here: use AdamW"
        )
    return float(decay)


def _data(run: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], int]:
    """Return the section ``data`` and the number of frames of a batch."""
    training = complete("training.training_data", run["training_data"])
    systems = _systems(training, folder)
    batch_size = _batch_size(training["batch_size"], systems, folder)
    validation: list[str] = []
    if run["validation_data"] is not None:
        section = complete("training.validation_data", run["validation_data"])
        validation = _systems(section, folder)
    weighted = _weighted(training, systems, folder)
    if weighted is None:
        return {"training": systems, "validation": validation}, batch_size
    weighted[0]["validation"] = validation
    return {"training": weighted}, batch_size


def _named(system: Path, folder: Path) -> str:
    """Return a path as seen from the folder of the input; absolute ones stay."""
    inside = system.is_relative_to(folder)
    return str(system.relative_to(folder) if inside else system)


def _systems(data: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the folders of data: those given, or those in them that fit patterns."""
    given, patterns = data["systems"], data["rglob_patterns"]
    roots = [given] if isinstance(given, str) else list(given)
    if patterns is None:
        return roots
    found = {
        _named(system, folder)
        for root in roots
        for system in find_systems(folder / root, patterns)
    }
    if not found:
        raise FileNotFoundError(
            f"no DeePMD system (a folder with type.raw) in {', '.join(roots)} fits "
            f"rglob_patterns = {patterns!r}"
        )
    return sorted(found)


def _weighted(
    data: Mapping[str, Any], roots: list[str], folder: Path
) -> list[dict[str, Any]] | None:
    """Return one data set per system, or None where all frames count alike.

    DeePMD-kit draws a system with its probability p and then n of its frames. Here all
    frames are drawn alike, and those of the system have the weight p N / n among N in
    all: the same loss on average.
    """
    given, style = data["sys_probs"], data["auto_prob"]
    if given is None and style == "prob_sys_size":
        return None
    systems = [system for root in roots for system in find_systems(folder / root)]
    frames = np.array([number_of_frames(system) for system in systems], dtype=float)
    if given is None:
        blocks = str(style).split(";")
        if blocks[0] == "prob_uniform" and len(blocks) == 1:
            given = np.ones(len(systems))
        elif blocks[0] == "prob_sys_size":
            given = _blocks(blocks[1:], frames)
        else:
            raise ValueError(
                f"training.training_data.auto_prob = {style!r} is unknown; expected "
                "'prob_sys_size', 'prob_uniform', or 'prob_sys_size;0:2:0.5;2:4:0.5'"
            )
    try:
        chances = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        chances = np.zeros(0)
    if chances.shape != frames.shape or not (chances >= 0).all() or not chances.any():
        raise ValueError(
            f"training.training_data.sys_probs = {data['sys_probs']!r} must be one "
            f"number >= 0 for each of the {len(systems)} systems"
        )
    weights = chances / chances.sum() * frames.sum() / frames
    return [
        {
            "files": [_named(system, folder)],
            "offset": False,
            "weight": float(weight),
        }
        for system, weight in zip(systems, weights, strict=True)
        if weight > 0
    ]


def _blocks(blocks: list[str], frames: np.ndarray) -> np.ndarray:
    """Return probabilities of systems from those of blocks, "start:stop:weight"."""
    chances = np.zeros(len(frames))
    for block in blocks:
        try:
            start, stop, weight = block.split(":")
            own = slice(int(start), int(stop))
            chances[own] = float(weight) * frames[own] / frames[own].sum()
        except ValueError:
            raise ValueError(
                f"training.training_data.auto_prob has the block {block!r}; expected "
                "start:stop:weight, as in 0:2:0.5"
            ) from None
    return chances


def _batch_size(size: Any, roots: list[str], folder: Path) -> int:
    """Return the number of frames of a batch."""
    sizes = size if isinstance(size, list) else [size]
    if all(isinstance(n, int) for n in sizes) and len(set(sizes)) == 1:
        return int(sizes[0])
    rule, _, number = str(size).partition(":")
    if isinstance(size, list) or rule not in ("auto", "max", "mixed"):
        raise ValueError(
            f"training.training_data.batch_size = {size!r} has no counterpart here: "
            "give one number of frames"
        )
    if not (number or "32").isdecimal() or not int(number or 32):
        raise ValueError(
            f"training.training_data.batch_size = {size!r} must be as in 'auto:32'"
        )
    wanted = int(number or 32)
    if rule == "mixed":
        return wanted
    atoms = [
        number_of_atoms(system)
        for root in roots
        for system in find_systems(folder / root)
    ]
    if not atoms:
        raise FileNotFoundError(
            f"no DeePMD system (a folder with type.raw) in {', '.join(roots)}"
        )
    frames = [
        math.ceil(wanted / n) if rule == "auto" else max(1, wanted // n) for n in atoms
    ]
    if len(set(frames)) > 1:
        logger.warning(
            "batch_size %r means %d to %d frames, by system; batches have one size "
            "here: %d frames",
            size,
            min(frames),
            max(frames),
            min(frames),
        )
    return min(frames)
