# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Active learning
#
# From a crystal and a code that labels structures to a model that knows where it is
# uncertain. The "DFT" here is the reference Hamiltonian `fe()` of iron, so that all of
# it takes a minute or two; with a real code only `engine` changes (`gpaw`, `abacus`,
# `vasp`, see the page *From DFT to a model*). This tutorial
#
# 1. runs four generations of training, exploration and labelling,
# 2. shows where the frames came from and how the errors fall, and
# 3. compares the deviations that the model predicts with its true errors.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.build import perturbed
from deepspin_ase.dynamics import SpinLatticeLangevin
from deepspin_ase.io import read_extxyz, write_extxyz
from deepspin_ase.learning import ActiveLearning, LearnConfig
from deepspin_ase.potentials import load_potential, save_potential
from deepspin_ase.potentials.materials import reference

iron = bulk("Fe", "bcc", 2.8665, cubic=True).repeat((2, 2, 1))
set_spins(iron, {"Fe": 2.36})
write_extxyz("fe.extxyz", [iron])
teacher = reference.fe()
save_potential("teacher.pt", teacher)

# %% [markdown]
# ## 1. Four generations
#
# The first structures are scattered about the crystal. Then walkers run spin-lattice
# dynamics with each new model, from canted, spiral and random spins and strained cells;
# structures whose deviations lie in the windows are candidates, and those of them are
# labelled whose labels make the model most certain. The network is smaller than the
# default.

# %%
config = LearnConfig.from_dict(
    {
        "structures": "fe.extxyz",
        "engine": "teacher.pt",
        "output": "learning",
        "generations": 4,
        "held_back": 4,
        "start": {"count": 30},
        "explore": {
            "temperature_K": [300.0, 600.0, 1000.0],
            "walkers": 9,
            "time_fs": 150.0,
            "timestep_fs": 0.5,
            "interval_fs": 10.0,
        },
        "select": {
            "count": 20,
            "forces": {"low": 0.1, "high": 2.0},
            "magnetic_forces": {"low": 0.01, "high": 0.5},
        },
        "train": {
            "model": {
                "angular": 5,
                "spin_angular": 5,
                "four_body": 2,
                "neuron": [8],
            },
            "training": {"numb_steps": 200, "disp_freq": 100, "save_freq": 200},
        },
    }
)
learning = ActiveLearning(config)
generations = learning.run(progress=False)
for state in generations:
    print(
        f"generation {state.number}: {state.labelled} labelled, {state.frames} in all; "
        f"met: {state.accurate} accurate, {state.uncertain} uncertain, "
        f"{state.lost} lost; {state.selected} selected"
    )

# %% [markdown]
# `deepspin learn learn.yaml` does the same from a file, goes on after it was stopped, and
# writes `report.html`.
#
# ## 2. Frames and errors
#
# Left: the temperature of the walker that each frame came from. Right: errors on one
# test set: dynamics of `fe()` itself at 100 to 1000 K, from canted, spiral and random
# spins in strained cells, which no model has seen.

# %%
folders = [Path(config.output, f"generation-{g.number:02d}") for g in generations]
models = [load_potential(folder / "training" / "model.pt") for folder in folders]

rng = np.random.default_rng(11)
images = perturbed(iron, 12, displacement=0.0, seed=rng)
temperatures = np.linspace(100.0, 1000.0, len(images))
for image, temperature in zip(images, temperatures, strict=True):
    thermalize_momenta(image, temperature_K=temperature, rng=rng)
    image.calc = DeepSpinCalculator(teacher)
dynamics = SpinLatticeLangevin(
    images,
    0.25 * units.fs,
    temperature_K=temperatures,
    friction=0.02 / units.fs,
    damping=0.05,
    rng=rng,
)
test = []
dynamics.attach(lambda: test.extend(image.copy() for image in dynamics.images), 200)
dynamics.run(600)


def evaluate(atoms, potential):
    """Return forces, magnetic forces and the deviations of forces."""
    atoms = atoms.copy()
    atoms.calc = DeepSpinCalculator(potential)
    forces, magnetic = atoms.get_forces(), atoms.calc.get_property("magnetic_forces")
    deviation = None
    if potential is not teacher:
        deviation = atoms.calc.get_property("forces_deviation")
    return forces, magnetic, deviation


exact = [evaluate(atoms, teacher) for atoms in test]
predicted = [[evaluate(atoms, model) for atoms in test] for model in models]
frames = [state.frames for state in generations]

fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
bottom = np.zeros(len(folders))
for origin in ("start", "300 K", "600 K", "1000 K"):
    found = []
    for folder in folders:
        infos = [a.info for a in read_extxyz(folder / "structures.extxyz")]
        hot = [f"{x['temperature_K']:.0f} K" for x in infos if "walker" in x]
        found.append(hot.count(origin) if origin != "start" else len(infos) - len(hot))
    axes[0].bar(range(len(folders)), found, bottom=bottom, label=origin)
    bottom += found
axes[0].set(
    xlabel="generation", ylabel="structures labelled", xticks=range(len(folders))
)
axes[0].legend(title="origin")
axes[0].set_xlim(right=len(folders) + 1.0)
for k, (name, unit) in enumerate(
    (("forces", "meV/Å"), ("magnetic forces", r"meV/$\mu_B$"))
):
    errors = [
        1e3
        * np.sqrt(
            np.mean([(p[k] - x[k]) ** 2 for p, x in zip(own, exact, strict=True)])
        )
        for own in predicted
    ]
    print(name, "RMSE:", ", ".join(f"{x:.1f}" for x in errors))
    axes[1].loglog(frames, errors, "o-", label=f"{name} ({unit})")
axes[1].set(xlabel="labelled frames", ylabel="RMSE")
axes[1].set_xticks(frames, [str(n) for n in frames])
axes[1].set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
axes[1].minorticks_off()
axes[1].legend()
fig.savefig("learning.png", dpi=120)

# %% [markdown]
# ## 3. Deviations and true errors
#
# Each point is an atom of the test set: the norm of the error of its force against the
# standard deviation that the model predicts for that norm. Their root mean squares
# agree within a fifth. The first model ranks atoms by their errors (0.7); the last one,
# whose errors are more even, hardly does (0.2): its deviations have a floor, and atoms
# with small errors are more certain than it says.

# %%
fig, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
for k in (0, len(models) - 1):
    error = np.concatenate(
        [
            np.linalg.norm(p[0] - x[0], axis=1)
            for p, x in zip(predicted[k], exact, strict=True)
        ]
    )
    deviation = np.concatenate([np.linalg.norm(p[2], axis=1) for p in predicted[k]])
    ax.loglog(1e3 * deviation, 1e3 * error, ".", ms=4, label=f"generation {k}")
    rank = np.corrcoef(np.argsort(np.argsort([deviation, error])))[0, 1]
    ratio = np.sqrt(np.mean(error**2) / np.mean(deviation**2))
    print(
        f"generation {k}: error/deviation (rms) {ratio:.2f}, rank correlation {rank:.2f}"
    )
low, high = ax.get_ylim()
ax.plot([1, high], [1, high], "k-", lw=1, label="equal")
ax.set_ylim(low, high)
ax.set(xlabel="predicted deviation (meV/Å)", ylabel="error of the force (meV/Å)")
ax.legend()
fig.savefig("deviations.png", dpi=120)
