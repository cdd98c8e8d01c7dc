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
# # From labelled structures to a model
#
# This tutorial trains the network with explicit spins on an extxyz file and asks what
# the model is worth:
#
# 1. data, and what may be wrong with them,
# 2. a training file of a few lines, and how errors fall while it runs,
# 3. errors on structures that the model has not seen,
# 4. how errors fall with the number of structures, and
# 5. what the model says itself about its errors.
#
# Labels come from the reference Hamiltonian `fe()` here, so that all of it takes a few
# minutes; with the file of your own calculations, begin at 2.

# %%
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from matplotlib.ticker import LogLocator, NullFormatter

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.build import perturbed
from deepspin_ase.data import Dataset, Frame, check_dataset, read_dataset, write_dataset
from deepspin_ase.potentials import OutOfRangeWarning
from deepspin_ase.potentials.materials import reference
from deepspin_ase.training import (
    Trainer,
    TrainingConfig,
    compare,
    load_batches,
    plot_learning_curve,
    plot_parity,
    plot_reliability,
    read_learning_curve,
)

work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## 1. Data
#
# Structures about the ferromagnet: strained, with displaced atoms, and with moments that
# are canted, form spirals or point anywhere, with lengths that differ by up to a tenth.
# Where all moments are equally long, a model cannot learn what the length does.

# %%
iron = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
set_spins(iron, {"Fe": 2.36})
calculator = DeepSpinCalculator(reference.fe())


def labelled(count: int, seed: int) -> Dataset:
    frames = []
    for atoms in perturbed(iron, count, seed=seed):
        atoms.calc = calculator
        atoms.get_potential_energy()
        frames.append(Frame.from_atoms(atoms))
    return Dataset(frames)


write_dataset(work / "train.extxyz", labelled(96, seed=0))
write_dataset(work / "valid.extxyz", labelled(32, seed=1))
write_dataset(work / "test.extxyz", labelled(32, seed=2))

# %% [markdown]
# `check_dataset` looks for what is frequently wrong with data: signs and units of
# labels, labels that are missing or zero, atoms too near to each other. `deepspin data
# info train.extxyz` prints the same in full.

# %%
train, valid, test = (
    read_dataset(work / f"{name}.extxyz") for name in ("train", "valid", "test")
)
report = check_dataset(train)
print(f"{report.n_frames} structures, problems: {list(report.problems)}")
for name, values in report.ranges.items():
    print(f"  {name}: {values.minimum:.3f} to {values.maximum:.3f}")

# %% [markdown]
# ## 2. Training
#
# The files are all that a training file must name; as YAML, `deepspin train` reads it.
# Elements, cut-off, sizes, loss and schedule are chosen, and written to `config.yaml`.
# Only the number of steps is less than usual here. The linear term is fitted in closed
# form before step 0, within seconds. The network then refines it, until validation
# errors no longer fall: the model is that of the best step.

# %%
files = {
    "training": [str(work / "train.extxyz")],
    "validation": [str(work / "valid.extxyz")],
}


def trained(data: Dataset, steps: int, name: str):
    """Return the model and the folder of its training."""
    settings = {
        "data": files,
        "model": {"elements": ["Fe"], "magnetic": ["Fe"]},
        "training": {"numb_steps": steps, "disp_freq": max(1, steps // 12)},
    }
    config = TrainingConfig.from_dict(settings)
    trainer = Trainer(config, data, valid, output=work / name)
    return trainer.run(progress=False), work / name


model, folder = trained(train, 600, "model")
curve = read_learning_curve(folder / "lcurve.csv")
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
plot_learning_curve(curve, ax)
ax.set_xscale("linear")
ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
fig.savefig("learning.png", dpi=120)

# %% [markdown]
# Training errors keep falling, validation errors soon do not: more steps would not help,
# more structures would.

# %% [markdown]
# ## 3. Errors
#
# Structures that were used for nothing before. Errors of magnetic forces across the
# moments (torques) and along them are different things.

# %%
found = compare(model, load_batches(test, model), deviations=True)
plot_parity(found)
plt.gcf().savefig("parity.png", dpi=120)

# %% [markdown]
# ## 4. How many structures?
#
# The linear fit alone, which takes seconds, is enough to see whether more structures
# would help. As long as errors fall with their number, they do; where errors level off,
# the form of the model is at its limit (or the labels are noisy), and more structures of
# the same kind do not help.

# %%
counts = [12, 24, 48, 96]
errors = []
for count in counts:
    potential, _ = trained(train[:count], 1, f"linear_{count}")
    errors.append(compare(potential, load_batches(test, potential)))
fig, axes = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
shown = {
    "energy": "meV/atom",
    "forces": "meV/Å",
    "magnetic_forces_transverse": r"meV/$\mu_B$",
    "magnetic_forces_longitudinal": r"meV/$\mu_B$",
}
for ax, (kind, unit) in zip(axes, shown.items(), strict=True):
    ax.loglog(counts, [1e3 * e[kind].rmse for e in errors], "o-", label="linear fit")
    ax.loglog([96], [1e3 * found[kind].rmse], "s", label="with the network")
    ax.set_title(found[kind].title, fontsize="small")
    ax.set_xlabel("structures")
    ax.set_ylabel(f"RMSE ({unit})")
    ax.set_xticks(counts, counts)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
axes[0].legend(frameon=False, fontsize="small")
fig.savefig("frames.png", dpi=120)

# %% [markdown]
# ## 5. What the model knows about its errors
#
# Trained with validation frames, a model estimates the errors of its results from how
# far every atom is from those that it was trained on. Grouped by the estimates, errors
# of the test structures lie on the line if the estimates are right: here they are within
# a factor of two to three, and rank the structures well.

# %%
plot_reliability(found)
plt.gcf().savefig("reliability.png", dpi=120)

# %% [markdown]
# The same from the calculator. A structure outside of all that was learned is told once:
# in the last one here atoms come nearer to each other than anywhere in the data. There
# no model knows anything; where atoms collide, add a short-range baseline (`ZBL`) or
# structures.

# %%
far = perturbed(iron, 1, displacement=0.0, strain=0.0, seed=3)[0]
far.calc = DeepSpinCalculator(model)
rng = np.random.default_rng(4)
steps = rng.normal(size=far.positions.shape)
start = far.positions.copy()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always", OutOfRangeWarning)
    for size in (0.02, 0.08, 0.15):
        far.positions = start + size * steps
        estimate = far.calc.get_property("forces_deviation", far)
        forces = far.get_forces()
        error = forces - calculator.get_property("forces", far)
        print(
            f"displacements of {size:.2f} A: error of forces "
            f"{1e3 * np.sqrt(np.mean(error**2)):.0f} meV/A, "
            f"estimated {1e3 * np.sqrt(np.mean(estimate**2)):.0f} meV/A"
        )
for warning in told[:1]:
    print(warning.message)

# %% [markdown]
# On to dynamics (`02_spin_lattice_dynamics.py`), exchange and magnons
# (`05_exchange_and_magnons.py`): `folder / "model.pt"` goes wherever a model does.
