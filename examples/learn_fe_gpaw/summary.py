"""Gather a finished run: its labels, errors on labels apart, cost and a figure.

The test structures are labelled first, by the engine of the run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from deepspin_ase.io import read_extxyz, write_extxyz
from deepspin_ase.labels import label_structures
from deepspin_ase.learning import ActiveLearning, LearnConfig
from deepspin_ase.potentials import load_potential
from deepspin_ase.training import collect, compare, load_batches

output = Path("results")
output.mkdir(exist_ok=True)
learning = ActiveLearning(LearnConfig.read("learn.yaml"))
done = learning.generations()
for name in ("check.txt", "report.html"):
    shutil.copy(learning.folder / name, output / name)

# Every label of the run, with the generation and what it was for.
frames = []
for state in done:
    folder = learning.folder / f"generation-{state.number:02d}"
    for purpose in ("training", "validation"):
        path = folder / f"{purpose}.extxyz"
        for atoms in read_extxyz(path) if path.exists() else []:
            atoms.info |= {"generation": state.number, "purpose": purpose}
            frames.append(atoms)
write_extxyz(output / "data.extxyz", frames)
test = label_structures(
    read_extxyz("test_structures.extxyz"), learning.engine, "test_labels"
).frames
write_extxyz(output / "test.extxyz", [frame.to_atoms() for frame in test])

held = learning.held_back(done[-1].number)
compared, compared_held = [], []
for state in done:
    model = load_potential(learning.model_of(state.number))
    for frames_apart, found in ((test, compared), (held, compared_held)):
        found.append(compare(model, collect(load_batches(frames_apart, model))))
spreads = [
    {n: float(x.label.std()) for n, x in c[0].items()}
    for c in (compared, compared_held)
]
rows = [
    {
        "generation": state.number,
        "labelled": state.labelled,
        "frames": state.frames,
        "test": {name: found.rmse for name, found in errors.items()},
        "held back": {name: found.rmse for name, found in errors_held.items()},
        "new frames before": state.before,
        "share accurate": state.share,
        "seconds": state.seconds,
    }
    for state, errors, errors_held in zip(done, compared, compared_held, strict=True)
]
summary = {
    "test frames": len(test),
    "held-back frames": len(held),
    "units": done[-1].units,
    "spread of labels": dict(zip(("test", "held back"), spreads, strict=True)),
    "generations": rows,
}
(output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")

figure, (left, *panels) = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
titles = {
    "energy": "energy (meV/atom)",
    "forces": "forces (meV/Å)",
    "magnetic_forces_transverse": "magnetic forces, across (meV/$\\mu_B$)",
    "magnetic_forces_longitudinal": "magnetic forces, along (meV/$\\mu_B$)",
}
counts = [state.frames for state in done]
for name, title in titles.items():
    (line,) = left.plot(counts, [1e3 * c[name].rmse for c in compared], "o-")
    line.set_label(title)
    left.plot(
        counts, [1e3 * c[name].rmse for c in compared_held], "s--", c=line.get_color()
    )
left.set_yscale("log")
left.set_xticks(counts)
left.set_xlabel("labelled frames")
left.set_ylabel(f"RMSE, {len(test)} test (o), {len(held)} held back (squares)")
figure.legend(loc="outside upper left", ncols=4, fontsize="small")
kinds = {
    "forces (eV/Å)": ["forces"],
    "magnetic forces (eV/$\\mu_B$)": list(titles)[2:],
}
for ax, (title, names) in zip(panels, kinds.items(), strict=True):
    for k, marker in ((0, "x"), (-1, ".")):
        label, prediction = (
            np.concatenate([getattr(compared[k][name], kind) for name in names])
            for kind in ("label", "prediction")
        )
        ax.plot(label, prediction, marker, ms=4, label=f"generation {done[k].number}")
    ends = [label.min(), label.max()]
    ax.plot(ends, ends, c="k", lw=0.8)
    ax.set_xlabel(f"{title}, GPAW")
    ax.set_ylabel(f"{title}, model")
    ax.legend(fontsize="x-small")
figure.savefig(output / "errors.png", dpi=130)
