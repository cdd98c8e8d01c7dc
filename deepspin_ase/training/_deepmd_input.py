"""DeePMD-kit's input.json as a training configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

#: Keys that change nothing here, by section. Comments are dropped everywhere.
_IGNORED = {
    "": {"nvnmd"},
    "model": {"data_stat_nbatch", "data_stat_protect", "type"},
    "descriptor": {"type", "seed", "precision", "trainable"},
    "fitting_net": {"type", "seed", "precision", "trainable"},
    "learning_rate": {"type", "decay_steps", "scale_by_worker"},
    "loss": {"type"},
    "training": {"disp_file", "save_ckpt", "disp_training", "max_ckpt_keep"}
    | {"time_training", "profiling", "profiling_file", "tensorboard_log_dir"}
    | {"tensorboard_freq", "opt_type", "mixed_precision", "stat_file"}
    | {"training_data", "validation_data"},
}

#: DeePMD-kit's defaults where they differ from those of DeepSpinConfig.
_DESCRIPTOR = {"rcut": 6.0, "rcut_smth": 0.5, "neuron": [10, 20, 40], "axis_neuron": 4}
_FITTING = {"neuron": [120, 120, 120]}


def from_deepmd_input(values: Mapping[str, Any]) -> dict[str, Any]:
    """Map DeePMD-kit's input.json of an se_e2_a spin model to a training file.

    Keys that only steer DeePMD-kit (output files, seeds of single networks) are
    dropped; others that have no counterpart stay and are refused later by name.
    Omitted sizes of the networks take DeePMD-kit's defaults.

    Raises
    ------
    ValueError
        If the input describes another kind of model.
    """
    values = _without_comments(values)
    training = values.get("training", {})
    descriptor = values.get("model", {}).get("descriptor", {})
    rate = values.get("learning_rate", {})
    result = _section(values, "", {"model", "training", "learning_rate", "loss"})
    return result | {
        "model": _model(values.get("model", {})),
        "data": {
            "training": _systems(training.get("training_data")),
            "validation": _systems(training.get("validation_data")),
        },
        "learning_rate": _section(rate, "learning_rate")
        | {"decay": rate.get("type", "exp")},
        "loss": _loss(values.get("loss", {})),
        "training": _section(training, "training")
        | _batch_size(training.get("training_data") or {})
        | _precision(descriptor.get("precision", "default")),
    }


def _without_comments(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            k: _without_comments(v)
            for k, v in value.items()
            if not str(k).startswith("_")
        }
    return value


def _section(
    source: Mapping[str, Any], name: str, also: set[str] | None = None
) -> dict[str, Any]:
    dropped = _IGNORED[name] | (also or set())
    return {k: v for k, v in source.items() if k not in dropped}


def _model(values: Mapping[str, Any]) -> dict[str, Any]:
    descriptor = values.get("descriptor", {})
    kind = descriptor.get("type", "se_e2_a")
    if kind not in ("se_e2_a", "se_a"):
        raise ValueError(
            f"the descriptor of this input is {kind!r}; only se_e2_a is trained here"
        )
    if "spin" not in values:
        raise ValueError("this input has no model.spin section: it is no spin model")
    if not isinstance(descriptor.get("sel"), list):
        raise ValueError(
            f"model.descriptor.sel is {descriptor.get('sel', 'auto')!r}; give the "
            "largest number of neighbours of each element, as in [60, 60]"
        )
    mapped = _DESCRIPTOR | _section(descriptor, "descriptor")
    if not mapped.get("env_protection", True):
        del mapped["env_protection"]
    fitting = _FITTING | _section(values.get("fitting_net", {}), "fitting_net")
    spin = dict(values["spin"])
    use = spin.get("use_spin", [])
    if use and not any(isinstance(entry, bool) for entry in use):
        # Positions in the type map instead of one bool per element.
        n_types = len(values.get("type_map", []))
        spin["use_spin"] = [k in use for k in range(n_types)]
    return _section(values, "model") | {
        "descriptor": mapped,
        "fitting_net": fitting,
        "spin": spin,
    }


def _loss(values: Mapping[str, Any]) -> dict[str, Any]:
    kind = values.get("type", "ener_spin")
    if kind != "ener_spin":
        raise ValueError(f"the loss of this input is {kind!r}; expected 'ener_spin'")
    return _section(values, "loss")


def _batch_size(data: Mapping[str, Any]) -> dict[str, int]:
    size = data.get("batch_size", "auto")
    if isinstance(size, int):
        return {"batch_size": size}
    logger.warning("batch_size %r has no counterpart: batches of one frame", size)
    return {"batch_size": 1}


def _precision(name: str) -> dict[str, str]:
    return {"precision": "float64" if name == "default" else name}


def _systems(data: Mapping[str, Any] | None) -> list[str]:
    systems = (data or {}).get("systems", [])
    return [systems] if isinstance(systems, str) else list(systems)
