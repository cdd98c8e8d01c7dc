"""The shipped Fe model: errors of frames kept back by their kinds, and its card.

python finish.py FOLDER run/model.pt [--output Fe.safetensors]

FOLDER is that of collect.py.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import iread
from collect import OUTPUTS

from deepspin_ase.data import Dataset, read_dataset
from deepspin_ase.potentials import (
    Potential,
    load_card,
    load_potential,
    save_potential,
)
from deepspin_ase.training import aligned, compare, load_batches

DESCRIPTION = (
    "Iron, bcc and fcc: lattice, directions and lengths of moments. A network on moments "
    "with explicit spins, without spin-orbit coupling."
)
DATA = (
    "PBE (VASP): github.com/FitSNAP/FitSNAP, Fe_Linear_NPJ2021 (arXiv 2101.07332), "
    "self-consistent moments; github.com/Tomonori-Tanaka/Magesty.jl, bcc Fe with "
    "constrained directions; github.com/hztttt/Synergistic_Optimization, fcc Fe with "
    "constrained moments (DeltaSpin), also with an interstitial atom. LDA (GPAW), of small "
    "weight: 72 frames of two atoms of this package. Not from these calculations, but "
    "believed: measured C44 and phonons of N and H, the energy of a vacancy, exchange that "
    "falls with the distance (J as V^-1.2), energies of fcc and hcp at all volumes, and "
    "moments of zero and of 3 mu_B"
)
LICENCE = (
    "model: MIT; data: GPL-2.0 (FitSNAP), MPL-2.0 (Magesty.jl), GPL-3.0 (fcc), MIT"
)
RANGE = (
    "bcc at 0 to 1200 K and 10.5 to 13 A^3 an atom, moments of 0 to 3 mu_B in any "
    "directions; fcc at 10.8 to 11.2 A^3. Moments are those of PAW spheres (2.2 mu_B in "
    "bcc Fe). Other phases, defects and liquids are rough; no magnetic anisotropy. "
    "Exchange at other volumes and in hot crystals, and energies of fcc and hcp beside "
    "bcc, are beliefs"
)
CITATION = (
    "Nikolov et al., npj Comput. Mater. 7, 153 (2021) (bcc lattice); Magesty.jl (bcc "
    "torques); DeepSPIN: Yang et al., Phys. Rev. B 110, 064427 (2024) (fcc)"
)


def errors_of(model: Potential, frames: Dataset) -> dict[str, float]:
    """Return root mean square errors in eV/atom, eV/A, eV/mu_B and eV/atom."""
    return {k: v.rmse for k, v in compare(model, load_batches(frames, model)).items()}


def kept_back(
    model: Potential, card: dict[str, Any], folder: Path
) -> dict[str, dict[str, float]]:
    """Return the errors of all frames for validation, by kind."""
    found: dict[str, dict[str, float]] = {}
    for output, sets in OUTPUTS.items():
        for name, kinds in sets.items():
            path = folder / name / "valid.extxyz"
            frames = aligned(read_dataset(path), card["sets"][output])
            labels = [str(a.info.get("config_type", "")) for a in iread(path, ":")]
            for kind in kinds:
                low, high = kind.limits
                own = [
                    frame
                    for frame, label in zip(frames, labels, strict=True)
                    if label.endswith(kind.texts)
                    and low < frame.energy / frame.n_atoms < high
                ]
                row = f"{name} {', '.join(filter(None, kind.texts))}".strip()
                row += " (small strains)" if low < high < np.inf else ""
                found[row] = {"frames": len(own)} | errors_of(model, Dataset(own))
    return found


def longest(card: dict[str, Any], folder: Path) -> float:
    """Return the largest moment of the labelled frames, mu_B: guards do not count."""
    return max(
        float(np.linalg.norm(frame.spins, axis=1).max())
        for output, sets in OUTPUTS.items()
        for name in sets
        for frame in aligned(
            read_dataset(folder / name / "train.extxyz"), card["sets"][output]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", type=Path, default=Path("Fe.safetensors"))
    options = parser.parse_args()
    model, card = load_potential(options.model), load_card(options.model)
    errors = kept_back(model, card, options.folder)
    for name, row in errors.items():
        values = (f"{k} {1e3 * v:.3g}" for k, v in row.items() if k != "frames")
        print(f"{name} ({row['frames']}): {', '.join(values)}")
    known = model.training_range
    assert known is not None
    bounds = known.bounds | {"moment Fe": (0.0, longest(card, options.folder))}
    model.training_range = replace(known, bounds=bounds)
    card["training"]["data"] = "tutorials/fe/collect.py"
    card["training"]["baseline"] = "baseline.pt of tutorials/fe/collect.py"
    card |= {
        "name": "Fe",
        "description": DESCRIPTION,
        "data": DATA,
        "licence": LICENCE,
        "valid_range": RANGE,
        "citation": CITATION,
        "errors_by_kind": errors,
    }
    save_potential(options.output, model, card=card)


if __name__ == "__main__":
    main()
