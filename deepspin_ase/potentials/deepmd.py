"""Models of DeePMD-kit: frozen TorchScript and backend-neutral files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .base import Potential
from .config import DeepSpinConfig
from .network import DeepSpinNetwork


def recognises(path):
    return str(path).endswith(".pth")

def load_deepmd(path):
    lib = torch.library.Library("deepmd", "DEF")
    lib.define("tabulate_fusion_se_a(Tensor a, Tensor b, Tensor c, Tensor d, int e) -> Tensor[]")
    m = torch.jit.load(path, map_location="cpu")
    cfg = json.loads(m.get_model_def_script())
    sd = m.state_dict()
    d, f = cfg["descriptor"], cfg["fitting_net"]
    n = len(cfg["type_map"]) // 2
    config = DeepSpinConfig.from_dict(dict(type_map=cfg["type_map"][:n], spin=dict(use_spin=cfg["spin"]["use_spin"], virtual_scale=cfg["spin"]["virtual_scale"]),
        descriptor=dict(sel=d["sel"][:n], **{k: d[k] for k in "rcut rcut_smth neuron axis_neuron resnet_dt type_one_side activation_function env_protection".split()}),
        fitting_net={k: f[k] for k in ("neuron","resnet_dt","activation_function")}))
    net = DeepSpinNetwork(config)
    p = "backbone_model.atomic_model."
    state = net.state_dict()
    state["mean"] = sd[p+"descriptor.sea.mean"][:n, 0]
    state["std"] = sd[p+"descriptor.sea.stddev"][:n, 0]
    state["energy_bias"] = (sd[p+"fitting_net.bias_atom_e"][:, 0] + sd[p+"out_bias"][0, :, 0])[:n]
    for key in state:
        if key.startswith("embeddings."):
            _, ab, layer, name = key.split("."); a, b = map(int, ab.split("_"))
            k = b if config.descriptor.type_one_side else a + b*2*n
            state[key] = sd[p+f"descriptor.sea.filter_layers.networks.{k}.layers.{layer}.{name}"]
        if key.startswith("fittings."):
            _, a, layer, name = key.split(".")
            state[key] = sd[p+f"fitting_net.filter_layers.networks.{a}.layers.{layer}.{name}"]
    net.load_state_dict(state)
    return net
