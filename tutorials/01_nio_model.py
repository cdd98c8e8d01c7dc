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
# # A DeepSPIN model of NiO, from data to energy surface
#
# NiO is an antiferromagnet: nickel moments are parallel within (111) planes and
# antiparallel between them (AFM-II). This tutorial
#
# 1. looks at constrained non-collinear DFT data of NiO,
# 2. fits an analytic baseline to them and trains a small network on top,
# 3. compares the shipped model, trained in the same way for longer, with DFT, and
# 4. draws its energy over atomic displacement, relative and collective rotation.
#
# The DFT frames are not part of this package (LGPL-3.0). Fetch them with
# `git clone --depth 1 https://github.com/deepmodeling/deepmd-kit` and point
# `NIO_DATA` to `examples/spin/data_reformat`. Without them, parts 1 to 3 are skipped.

# %%
import os
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, set_spins
from deepspin_ase.analysis import (
    CollectiveRotation,
    Displacement,
    RelativeRotation,
    plot_landscape,
    scan_landscape,
)
from deepspin_ase.data import conjugacy, read_dataset
from deepspin_ase.potentials import load_card, load_potential
from deepspin_ase.training import (
    Trainer,
    collect,
    compare,
    load_batches,
    plot_parity,
    read_config,
)

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
sys.path.insert(0, str(here / "nio"))
data = Path(os.environ.get("NIO_DATA", here.parent.parent / "shared/data/nio_dft"))
have_data = data.is_dir()
print("data found" if have_data else "no data: parts 1 to 3 are skipped")

# %% [markdown]
# ## 1. The data
#
# 151 frames of 32 atoms with energies, forces and magnetic forces $-\partial E/
# \partial\mathbf m$. In exact labels, the energy difference of two frames equals
# the work of forces and magnetic forces between them. A slope other than one means
# that no model can fit all labels to zero.

# %%
if have_data:
    training = read_dataset([data / "data_0", data / "data_1"])
    validation = read_dataset(data / "data_2")
    print(len(training), "training and", len(validation), "validation frames")
    print(conjugacy(training + validation))

# %% [markdown]
# The energies imply an exchange that is about a quarter stronger than the one that
# the magnetic forces imply: a model has to compromise, and errors of a few
# hundredths of meV/atom or a few tenths of meV/mu_B are in the labels themselves.
#
# ## 2. Baseline and network
#
# Born-Mayer and near Coulomb pairs with a distance-dependent exchange, nine
# numbers in all, already describe small amplitudes well. The network corrects
# them, and where there are no data the baseline keeps atoms apart. Here it trains
# for a minute at most; `tutorials/nio/train.yaml` is the recipe of the shipped model.

# %%
if have_data:
    from baseline import fitted

    baseline, fit = fitted(training)
    for name, (before, after) in fit.rmse.items():
        print(
            f"{name:16s} rms {1e3 * before:6.2f} -> {1e3 * after:6.2f} m(eV, A, mu_B)"
        )
    print(f"J2 = {1e3 * fit.coefficients[-2]:.1f} meV, dJ2/dr = ", end="")
    print(f"{1e3 * fit.coefficients[-1]:.1f} meV/A")

# %%
if have_data:
    recipe = read_config(here / "nio" / "train.yaml")
    run = recipe.training.model_copy(
        update={"numb_steps": 1000, "disp_freq": 250, "averaging": 0.98}
    )
    folder = tempfile.mkdtemp()
    trainer = Trainer(
        recipe.model_copy(update={"training": run}),
        training,
        validation,
        output=folder,
        baseline=baseline,
    )
    short = trainer.run()
    for name, found in compare(short, collect(load_batches(validation, short))).items():
        print(f"{name:30s} RMSE {1e3 * found.rmse:8.3f} m")

# %% [markdown]
# ## 3. The shipped model against DFT
#
# Trained on `data_0` and `data_1`, compared with `data_2`, which it has not seen.
# Energies are per atom; magnetic forces are split into the part across the moment,
# which turns it, and the part along it. The latter has a few outliers in the labels.

# %%
model = load_potential("NiO")
for name, error in load_card("NiO")["errors"].items():
    print(name, error)
if have_data:
    found = compare(model, collect(load_batches(validation, model)))
    plot_parity(found)
    plt.savefig("nio_parity.png", dpi=150)

# %% [markdown]
# ## 4. The energy surface
#
# Three collective coordinates: an optical displacement D of nickel against oxygen,
# a relative rotation C of the two sublattices of moments, and a collective rotation
# R of all of them. Exchange makes C stiff; R costs only what spin-orbit coupling
# costs, within the noise of the model.

# %%
a = 4.2166
atoms = bulk("NiO", "rocksalt", a, cubic=True).repeat(2)
order = antiferromagnetic((0.5, 0.5, 0.5), cell=a, direction=(1, 1, -2))
set_spins(atoms, {"Ni": 1.277}, pattern=order)
atoms.calc = DeepSpinCalculator(model)
print(f"energy {atoms.get_potential_energy():.4f} eV, {len(atoms)} atoms")
print("largest torque", np.abs(atoms.calc.get_torques(atoms)).max(), "eV")

# %%
pattern = np.zeros((len(atoms), 3))
pattern[atoms.numbers == 8, 0] = 1.0
optical = Displacement(pattern)
relative = RelativeRotation.of_sublattices(atoms, axis=(1, 1, 1))
collective = CollectiveRotation((1, 1, 1))
shift, canting, turn = (
    np.linspace(-0.03, 0.03, 13),
    np.linspace(-30, 30, 13),
    np.linspace(0, 180, 13),
)
surface = scan_landscape(
    atoms, coordinates=[optical, relative], grids=[shift, canting], model=model
)
rotation = scan_landscape(
    atoms, coordinates=[relative, collective], grids=[canting, turn], model=model
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
plot_landscape(surface, axes[0])
plot_landscape(rotation, axes[1])
figure.savefig("nio_landscape.png", dpi=150)
surface.save("nio_landscape.npz")

# %%
energies = surface.relative_meV_per_atom()
print(f"displacement of 0.03 A: {energies[0, 6]:.2f} meV/atom")
print(f"relative rotation of 30 degrees: {energies[6, 0]:.2f} meV/atom")
spread = np.ptp(rotation.relative_meV_per_atom()[6])
print(f"collective rotation: {spread:.3f} meV/atom")

# %% [markdown]
# How far the model can be trusted: frames of the training set move atoms by at most
# 0.014 A and keep |m| at 1.27 mu_B in one cell. Small displacements and rotations of
# the spins are interpolation; large amplitudes, strain, and the length of moments
# are not, and rest on the baseline.
