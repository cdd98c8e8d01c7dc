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
# # Spins at a grain boundary of NiO
#
# The Sigma 5 (310)[001] tilt boundary of NiO, 36.87 degrees, is the example of the
# DeepSPIN paper (Phys. Rev. B 110, 064427 (2024)) for what first principles cannot
# reach: thousands of atoms whose positions and spins have to relax together. This
# tutorial
#
# 1. builds the boundary, with antiferromagnetic order in both grains,
# 2. relaxes lattice and spins at once, with the shipped model `NiO`,
# 3. draws how the order changes across the boundary, and
# 4. shows the spins at it.
#
# The model knows NiO near its crystal only: structure and energy of the boundary are
# extrapolated, and show how such a calculation is made.

# %%
import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    get_spins,
    rotate_spins,
    set_spins,
    write_extxyz,
)
from deepspin_ase.analysis import neighbor_order, plot_profile, profile_along
from deepspin_ase.build import symmetric_tilt_boundary
from deepspin_ase.optimize import relax

a = 4.186  # lattice constant, A
size = {"thickness": 2, "repeat": (1, 2)}  # 624 atoms
# size = {"thickness": 3, "repeat": (6, 4)}  # that of the paper: 11,328 atoms, minutes

# %% [markdown]
# ## 1. Two grains
#
# Each grain is cut from the crystal with its order of type II, q = (1/2, 1/2, 1/2),
# moments along the tilt axis. The upper grain is the lower one turned; atoms that
# come closer than 1.5 A at the boundary become one. The cell is periodic and holds two
# boundaries, at a quarter and at three quarters of its height.

# %%
crystal = bulk("NiO", "rocksalt", a, cubic=True)
order = antiferromagnetic((0.5, 0.5, 0.5), cell=a)
atoms = symmetric_tilt_boundary(
    crystal, (3, 1, 0), axis=(0, 0, 1), moments={"Ni": 1.277}, pattern=order, **size
)
merged = np.sum(atoms.arrays["grain"] == 2)
print(f"{len(atoms)} atoms in a box of {atoms.cell.lengths().round(2)} A;", end=" ")
print(f"{merged} of them are two that came together")

# %% [markdown]
# ## 2. Atoms and spins relax together
#
# The spins start canted by some degrees, so that no symmetry holds them where they
# are. One call of `relax` moves atoms and spins to forces below 0.01 eV/A and torques
# below 0.1 meV.
#
# They do not stay along the tilt axis, y. The crystal likes moments best in the planes
# across q, in which they are parallel, and the tilt axis lies 35 degrees out of those of
# both grains. Where the moments go, and what turning all of them back together costs, is
# printed below. That is far more than the anisotropy of the crystal, 0.12 meV per Ni: in the
# boundary, where the model extrapolates, spin-orbit terms are large, and which way the
# moments point there should not be believed.

# %%
atoms.calc = DeepSpinCalculator("NiO")
cant_spins(atoms, 0.01, seed=1)
start = atoms.copy()
start.calc = DeepSpinCalculator("NiO")
before = start.get_potential_energy()
done = relax(atoms, fmax=0.01, torque_max=1e-4)
print(f"converged: {done.converged} after {done.n_calls} model calls, {done.residuals}")

perfect = crystal.repeat(2)
set_spins(perfect, {"Ni": 1.277}, pattern=order)
perfect.calc = DeepSpinCalculator("NiO")
per_atom = perfect.get_potential_energy() / len(perfect)
area = 2 * atoms.cell[0, 0] * atoms.cell[1, 1]  # of both boundaries
for name, energy in (("built", before), ("relaxed", done.energy)):
    excess = (energy - len(atoms) * per_atom) / area
    print(f"boundary energy, {name}: {16.0218 * excess:.2f} J/m^2")
write_extxyz("boundary.extxyz", [start, atoms])

turned = atoms.copy()
turned.calc = atoms.calc
rotate_spins(turned, 90, axis="x")
cost = 1e3 * (turned.get_potential_energy() - done.energy) / np.sum(atoms.numbers == 28)
mean = abs(get_spins(atoms)[atoms.numbers == 28]).mean(axis=0)
print(f"mean |m| along x, y, z: {mean.round(2)} mu_B;", end=" ")
print(f"with all spins turned to y: {cost:.2f} meV per Ni more")

# %% [markdown]
# ## 3. The order across the boundary
#
# In the crystal each Ni is antiparallel to its six second neighbors, across an O. The
# mean cosine with them, sign changed, is 1 inside the grains. At the boundary some of
# these neighbors belong to the other grain, whose order has another propagation
# vector, or are missing. Dots are Ni atoms; the line is the mean over each plane of them.
# Both boundaries of the cell were built alike and relax on their own, to the same. In
# grains half as thick (`"thickness": 1`) they do not: each reaches into the middle, where
# the order is 0.95 of that of the crystal.

# %%
second = {"min_distance": 0.85 * a, "antiparallel": True}
local = neighbor_order(atoms, 1.15 * a, **second)
across = profile_along(atoms, local, axis=2, planes=0.1)
ax = plot_profile(across, label="order with second neighbors")
z = (atoms.positions[:, 2] + 0.1) % atoms.cell[2, 2] - 0.1
ax.plot(z, local, ".", c="0.5", ms=4, label="Ni")
for height in (0.25, 0.75):
    place = ax.axvline(height * atoms.cell[2, 2], color="0.7", zorder=0)
place.set_label("boundary")
ax.set_xlabel("z (Å)")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize="small")
ax.figure.savefig("profile.png", dpi=120)
inside = abs(atoms.positions[:, 2] / atoms.cell[2, 2] % 0.5 - 0.25) > 0.15
print(f"order inside the grains: {np.nanmean(local[inside]):.3f},", end=" ")
print(f"lowest at the boundary: {np.nanmin(local):.3f}")
away = np.linspace(-5, 5, 41)
halves = [
    np.interp(away, across.centers - h * atoms.cell[2, 2], across.mean)
    for h in (0.25, 0.75)
]
print(
    f"largest difference of the two boundaries: {abs(halves[0] - halves[1]).max():.3f}"
)

# %% [markdown]
# ## 4. Spins at the boundary
#
# A slice of the boundary seen along the tilt axis, -y. Arrows are the projections of the
# moments, color is the order of the previous figure; circles and crosses give the sign of
# the component along the tilt axis: towards and away from the reader.

# %%
spins = get_spins(atoms)
slice_ = (atoms.positions[:, 1] + a / 4) % atoms.cell[1, 1] < a / 2
nickel = slice_ & (atoms.numbers == 28)
x, z = atoms.positions[:, 0], atoms.positions[:, 2]
fig, ax = plt.subplots(figsize=(5, 7), layout="constrained")
oxygen = slice_ & ~nickel
ax.plot(x[oxygen], z[oxygen], ".", color="0.75", ms=3, label="O")
towards = spins[:, 1] < 0
for which, marker, name in (
    (nickel & towards, "o", "Ni, towards the reader"),
    (nickel & ~towards, "x", "Ni, away"),
):
    ax.scatter(x[which], z[which], c="0.4", marker=marker, s=10, lw=0.8, label=name)
arrows = ax.quiver(
    x[nickel],
    z[nickel],
    spins[nickel, 0],
    spins[nickel, 2],
    local[nickel],
    cmap="viridis_r",
    pivot="middle",
    scale=0.6,
    scale_units="x",
    width=0.006,
)
fig.colorbar(arrows, label="order with second neighbors", shrink=0.6)
fig.legend(loc="outside lower center", ncols=3, fontsize="small")
middle = 0.25 * atoms.cell[2, 2]
limits = {"ylim": (middle - 11, middle + 11), "aspect": "equal"}
ax.set(xlabel="x (Å)", ylabel="z (Å)", **limits)
fig.savefig("spins.png", dpi=120)
