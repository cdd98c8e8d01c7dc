"""Prophet-Spin models, evaluated by prophet-mlip."""

from __future__ import annotations

import io
import json
from typing import Any

import torch
from typing_extensions import Unpack

from ...neighbors import build_pairs
from ...system import System
from .._evaluation import Wanted
from .._prediction import Prediction
from ._base import Adapter


class ProphetModel(Adapter):
    """Prophet-Spin (``prophet-v1-mag.pt``), code MIT, in float32.

    Moments enter by m_i.m_j and lengths: exchange is isotropic, and there is neither
    anisotropy nor Dzyaloshinskii-Moriya exchange.
    """

    prefix = "prophet"
    package = "prophet-mlip"
    module = "prophet_spin"
    tested = "0.1.0"
    source = "git+https://github.com/kairosmaterial/prophet"

    @property
    def cutoff(self) -> float:
        """Largest distance between atoms that see each other, A."""
        return float(self.loaded.graph_cutoff)

    def pair_cutoff(self, system: System) -> float:
        """Return zero: neighbors are found in :meth:`ask`."""
        return 0.0

    def load(self) -> Any:
        """Open the model; see :meth:`Adapter.load`."""
        with open(self.path, "rb") as stream:
            try:
                config = json.loads(stream.readline().decode())
            except ValueError as error:
                raise self.wrong_kind("no file of Prophet") from error
            if not isinstance(config, dict) or "magmom_conditioning" not in config:
                raise self.wrong_kind("a model of Prophet without moments")
            content = io.BytesIO(stream.read())
        state = torch.load(content, map_location="cpu", weights_only=True)
        adapter = self.imported("prophet_spin.adapter")
        # Compiled tensor products need a CUDA toolchain; e3nn's give the same.
        model = adapter.ProphetSpin({**config, "kernel": False})
        known = {k: v for k, v in state.items() if ".tp." not in k}
        model.load_state_dict(known, strict=False)
        self.species = frozenset(int(z) for z in config["atomic_numbers"])
        return model.eval().requires_grad_(False)

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Ask Prophet; see :meth:`External.ask`."""
        single = system.to(None, torch.float32)
        pairs = build_pairs(single, self.cutoff)
        positions = single.positions.clone().requires_grad_()
        spins = single.spins.clone().requires_grad_()
        strain = torch.zeros_like(single.cell).requires_grad_()
        moved = single.replace(positions=positions).strained(strain)
        energies, _ = self.loaded.model.forward_features(
            self.loaded.z2idx[system.species],
            moved.positions,
            pairs.shift.to(torch.float32),
            torch.stack([pairs.j, pairs.i]),
            moved.cell,
            system.index,
            magmoms=spins,
        )
        gradients = torch.autograd.grad(energies.sum(), [positions, spins, strain])
        forces, magnetic, virial = (-gradient.double() for gradient in gradients)
        shares = energies.detach().double()
        return Prediction(
            volume=system.volume,
            energy=system.sum(shares),
            energies=shares,
            forces=forces if wanted["forces"] else None,
            magnetic_forces=magnetic if wanted["magnetic_forces"] else None,
            virial=virial if wanted["virial"] else None,
        )
