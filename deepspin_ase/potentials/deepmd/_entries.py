"""All entries of DeePMD-kit's input.json, and what they mean for spin models here.

One table, :data:`SECTIONS`, names every entry of release 3.2 that a se_e2_a model with
spins can have: what it is if omitted, whether it has a counterpart here, and, of those
that have none, at which values nothing depends on it. Frozen models hold the same
entries of their section ``model``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Default of entries that must be given.
REQUIRED = object()


@dataclass(frozen=True)
class Entry:
    """One entry of a section.

    Attributes
    ----------
    default : Any
        DeePMD-kit's, or :data:`REQUIRED`.
    aliases : tuple of str
        Other names of it.
    meaning : str
        Of an entry without counterpart: what it does.
    neutral : tuple
        Values at which it does nothing; a list of such values does nothing either.
    kind : {"used", "free", "fixed"}
        Used entries have a counterpart, free ones change no numbers whatever their
        value, and fixed ones have no counterpart: they must be neutral.
    types : tuple of type
        Of used entries.
    """

    kind: str
    default: Any = None
    aliases: tuple[str, ...] = ()
    meaning: str = ""
    neutral: tuple[Any, ...] = field(default=())
    types: tuple[type, ...] = ()

    def fits(self, value: Any) -> bool:
        """Say whether a value is of a type that a used entry may have."""
        if value is None:
            return self.default is None
        if isinstance(value, bool):
            return bool in self.types
        types = (*self.types, int) if float in self.types else self.types
        return isinstance(value, types)

    def is_neutral(self, value: Any) -> bool:
        """Say whether nothing depends on a fixed entry at this value."""
        if isinstance(value, list | tuple) and not isinstance(value, str):
            return all(self.is_neutral(one) for one in value)
        return any(value is one or value == one for one in self.neutral)


def _used(
    default: Any, *aliases: str, of: type | tuple[type, ...] | None = None
) -> Entry:
    """Return a used entry, of the type of its default where ``of`` says no other."""
    types = of if isinstance(of, tuple) else (of or type(default),)
    return Entry("used", default, aliases, types=types)


def _free(*names: str) -> dict[str, Entry]:
    return dict.fromkeys(names, Entry("free"))


def _fixed(meaning: str, *neutral: Any) -> Entry:
    return Entry("fixed", meaning=meaning, neutral=neutral)


#: Types in messages.
_NAMES: dict[type, str] = {
    bool: "true or false",
    dict: "a section",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
}

_DATA = {
    "systems": _used(".", of=(str, list)),
    "rglob_patterns": _used(None, of=list),
}

#: Entries by section; sections inside others have a dot in their names.
SECTIONS: dict[str, dict[str, Entry]] = {
    "": {
        "model": _used(REQUIRED, of=dict),
        "learning_rate": _used(REQUIRED, of=dict),
        "loss": _used(REQUIRED, of=dict),
        "training": _used(REQUIRED, of=dict),
        "optimizer": _used({}),
        "validating": _used({}),
        "nvnmd": _used({}),
        "learning_rate_dict": _fixed("rates of several tasks", None),
        "loss_dict": _fixed("losses of several tasks", None),
    },
    "model": {
        "type": _fixed("another kind of model", "standard"),
        "type_map": _used(REQUIRED, of=list),
        "descriptor": _used(REQUIRED, of=dict),
        "fitting_net": _used({}),
        "spin": _used(None, of=dict),
        # Statistics are taken over all frames here.
        **_free("data_stat_nbatch", "data_bias_nsample", "data_stat_protect"),
        **_free("info", "model_branch_alias"),
        # Of use_srtab and bridging_method, which have to be off.
        **_free("smin_alpha", "sw_rmin", "sw_rmax", "srtab_add_bias"),
        **_free("bridging_r_inner", "bridging_r_outer"),
        "use_srtab": _fixed("a tabulated repulsion of close atoms", None),
        "bridging_method": _fixed("a repulsion of close atoms", None, "None", "none"),
        "pair_exclude_types": _fixed("pairs of types that do not see each other", None),
        "atom_exclude_types": _fixed("types without energy", None),
        "preset_out_bias": _fixed("given energies of the elements", None),
        "type_embedding": _fixed("an embedding of the types", None),
        "modifier": _fixed("a model that is subtracted from the labels", None),
        "compress": _fixed("a compressed model", None),
        "finetune_head": _fixed("one task of a model of several", None),
        "model_dict": _fixed("models of several tasks", None),
        "shared_dict": _fixed("parts that models share", None),
        "weights": _fixed("weights of a sum of models", None),
        "models": _fixed("a sum of models", None),
        "hessian_mode": _fixed("training on second derivatives", None, False),
    },
    "model.spin": {
        "use_spin": _used(REQUIRED, of=list),
        "virtual_scale": _used(None, of=(float, list)),
        "spin_norm": _used(None, of=list),
        "virtual_len": _used(None, of=list),
        "scheme": _fixed("spins without pseudo-atoms", "deepspin"),
        "allow_missing_label": _fixed("data without moments read as zeros", False),
    },
    "model.descriptor": {
        "type": _used(REQUIRED, of=str),
        "sel": _used("auto", of=(str, list)),
        "rcut": _used(6.0),
        "rcut_smth": _used(0.5),
        "neuron": _used([10, 20, 40]),
        "axis_neuron": _used(4, "n_axis_neuron"),
        "activation_function": _used("tanh"),
        "resnet_dt": _used(False),
        "type_one_side": _used(False),
        "precision": _used("default"),
        "env_protection": _used(0.0),
        "set_davg_zero": _used(False),
        "exclude_types": _fixed("pairs of types that do not see each other", None),
        "trainable": _fixed("parameters that are not trained", True),
        **_free("seed"),
    },
    "model.fitting_net": {
        "type": _fixed("another output than the energy", "ener"),
        "neuron": _used([120, 120, 120], "n_neuron"),
        "activation_function": _used("tanh"),
        "resnet_dt": _used(True),
        "precision": _used("default"),
        "numb_fparam": _fixed("parameters of frames as inputs", 0),
        "numb_aparam": _fixed("parameters of atoms as inputs", 0),
        "use_aparam_as_mask": _fixed("parameters of atoms as inputs", False),
        "dim_case_embd": _fixed("an input that tells tasks apart", 0),
        "rcond": _fixed("a cutoff in the fit of the elements' energies", None),
        "atom_ener": _fixed("given energies of free atoms", None),
        "layer_name": _fixed("layers that several networks share", None),
        "trainable": _fixed("parameters that are not trained", True),
        # Values of frame parameters, of which there are none.
        **_free("seed", "default_fparam"),
    },
    "learning_rate": {
        "type": _used("exp"),
        "start_lr": _used(REQUIRED, of=float),
        "stop_lr": _used(None, of=float),
        "stop_lr_ratio": _used(None, of=float),
        "warmup_steps": _used(0),
        "warmup_ratio": _used(None, of=float),
        "warmup_start_factor": _fixed("a warm-up that does not start at zero", 0.0),
        "decay_steps": _used(5000),
        "decay_rate": _used(None, of=float),
        "smooth": _used(False),
        # The PyTorch back end does not look at it.
        **_free("scale_by_worker"),
    },
    "optimizer": {
        "type": _used("Adam"),
        "weight_decay": _used(None, of=float),
        "adam_beta1": _fixed("the first decay rate of Adam", 0.9),
        "adam_beta2": _fixed("the second decay rate of Adam", 0.999),
    },
    "loss": {
        "type": _used("ener"),
        "start_pref_e": _used(0.02),
        "limit_pref_e": _used(1.0),
        "start_pref_fr": _used(1000.0),
        "limit_pref_fr": _used(1.0),
        "start_pref_fm": _used(10000.0),
        "limit_pref_fm": _used(10.0),
        "start_pref_v": _used(0.0),
        "limit_pref_v": _used(0.0),
        **{
            f"{end}_pref_{label}": _fixed(f"a loss on {meaning}", 0.0)
            for end in ("start", "limit")
            for label, meaning in (
                ("ae", "energies of atoms"),
                ("pf", "weighted forces"),
            )
        },
        "relative_f": _fixed("errors relative to forces", None),
        "enable_atom_ener_coeff": _fixed("weighted sums of atoms' energies", False),
        "loss_func": _fixed("another norm of the errors", "mse"),
        "intensive_ener_virial": _fixed("losses of energies per atom squared", False),
    },
    "training": {
        "training_data": _used(REQUIRED, of=dict),
        "validation_data": _used(None, of=dict),
        "numb_steps": _used(
            None, "stop_batch", "num_step", "num_steps", "numb_step", of=int
        ),
        "numb_epoch": _fixed("a number of epochs (give numb_steps)", None),
        "num_epoch": _fixed("a number of epochs (give numb_steps)", None),
        "num_epochs": _fixed("a number of epochs (give numb_steps)", None),
        "numb_epochs": _fixed("a number of epochs (give numb_steps)", None),
        "seed": _used(None, of=int),
        "disp_freq": _used(1000),
        "save_freq": _used(1000),
        "enable_ema": _used(False),
        "ema_decay": _used(0.999),
        "gradient_max_norm": _used(0.0),
        "tensorboard": _used(False),
        "mixed_precision": _fixed("layers of half precision", None),
        "acc_freq": _fixed("gradients of several batches per step", 1),
        "change_bias_after_training": _fixed("elements' energies fitted again", False),
        # Output, speed and the names of files.
        **_free("disp_file", "disp_training", "disp_avg", "time_training", "numb_test"),
        **_free("save_ckpt", "save_dir", "max_ckpt_keep", "ckpt_keep_ratio"),
        **_free("ema_ckpt_keep", "profiling", "profiling_file", "enable_profiler"),
        **_free("tensorboard_log_dir", "tensorboard_freq", "stat_file"),
        **_free("stat_file_mode", "zero_stage", "neighbor_graph_method"),
        **_free("enable_compile", "enable_tf32"),
    },
    "training.training_data": {
        **_DATA,
        "batch_size": _used("auto", of=(str, int, list)),
        "auto_prob": _used("prob_sys_size", "auto_prob_style"),
        "sys_probs": _used(None, "sys_weights", of=list),
        "min_pair_dist": _fixed("frames with close atoms left out", 0.0),
        **_free("set_prefix", "numb_btch", "numb_batch"),
    },
    "training.validation_data": {
        **_DATA,
        # All frames of all systems count here.
        **_free("batch_size", "auto_prob", "auto_prob_style", "sys_probs"),
        **_free("sys_weights", "numb_btch", "numb_batch", "set_prefix"),
    },
    "validating": {
        "full_validation": _fixed("a choice by validation (see keep_best)", False),
        "ema_full_validation": _fixed("a choice by validation (see keep_best)", False),
        **_free("validation_freq", "save_best", "save_best_dir", "max_best_ckpt"),
        **_free("validation_metric", "full_val_file", "full_val_start"),
        **_free("compiled_infer", "tf32_infer", "amp_infer"),
    },
    "nvnmd": {
        "enable": _fixed("a model for its own hardware", False),
        **_free("version", "max_nnei", "net_size", "map_file", "config_file"),
        **_free("weight_file", "restore_descriptor", "restore_fitting_net"),
        **_free("quantize_descriptor", "quantize_fitting_net"),
    },
}


def objections(section: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is against the entries of a section: a sentence for each.

    Unknown entries, and entries without counterpart whose value is not neutral.
    """
    table = SECTIONS[section]
    prefix = f"{section}." if section else ""
    known = [name for key, entry in table.items() for name in (key, *entry.aliases)]
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, table, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield (
                f"unknown entry {prefix}{name} = {value!r} of DeePMD-kit's input{hint}"
            )
        elif name in table and table[name].kind == "fixed":
            if not table[name].is_neutral(value):
                yield (
                    f"{prefix}{name} = {value!r} has no counterpart here: "
                    f"{table[name].meaning}"
                )


def complete(section: str, values: Any) -> dict[str, Any]:
    """Return the entries of a section that have counterparts, with their defaults.

    Raises
    ------
    ValueError
        If the section is none, an entry is missing, given twice or unknown, or has
        no counterpart and is not neutral.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{section or 'the input'} must be a section, not {values!r}")
    against = list(objections(section, values))
    if against:
        raise ValueError("; ".join(against))
    result = {}
    prefix = f"{section}." if section else ""
    for name, entry in SECTIONS[section].items():
        if entry.kind != "used":
            continue
        given = [key for key in (name, *entry.aliases) if key in values]
        if len(given) > 1:
            raise ValueError(f"{prefix}{' and '.join(given)} are the same: give one")
        if not given and entry.default is REQUIRED:
            raise ValueError(f"{prefix}{name} is missing in DeePMD-kit's input")
        result[name] = values[given[0]] if given else entry.default
        if not entry.fits(result[name]):
            expected = " or ".join(_NAMES[kind] for kind in entry.types)
            raise ValueError(
                f"{prefix}{given[0]} = {result[name]!r} must be {expected}"
            )
    return result


def magnetic_elements(use_spin: Any, type_map: Sequence[str]) -> list[bool]:
    """Return one bool per element from DeePMD-kit's ``use_spin``.

    It is a list of one boolean per element, of symbols, or of positions in the
    type map.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    expected = (
        f"model.spin.use_spin = {use_spin!r} must be one boolean per element of the "
        f"type map ({', '.join(type_map)}), or the symbols or positions of the "
        "magnetic elements, each once"
    )
    if not isinstance(use_spin, list | tuple):
        raise ValueError(expected)
    kinds = {type(one) for one in use_spin}
    if kinds == {bool} and len(use_spin) == len(type_map):
        return list(use_spin)
    known = list(range(len(type_map)) if kinds == {int} else type_map)
    if not set(use_spin) <= set(known) or len(set(use_spin)) < len(use_spin):
        raise ValueError(expected)
    return [one in use_spin for one in known]
