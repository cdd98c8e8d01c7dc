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
# # Exchange, magnons and phonons
#
# What holds the moments of a model together, and how they and the atoms oscillate:
#
# 1. exchange tensors of the shipped NiO network against distance, and how they change
#    when atoms move,
# 2. magnons of NiO against neutron scattering,
# 3. spin stiffness and phonons of iron,
# 4. magnons and phonons of NiO together, from the joint Hessian of the network.
#
# Signs and counting: $E = -\sum_{i<j}\mathbf e_i\cdot J_{ij}\,\mathbf e_j
# - \sum_i\mathbf e_i\cdot A_i\,\mathbf e_i$ with unit vectors, every pair once; $J>0$
# is ferromagnetic. (Neutron papers on NiO write $+J\,\mathbf S\cdot\mathbf S$.)

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, set_spins
from deepspin_ase.analysis import (
    MagnonPhonons,
    SpinWaves,
    exchange_tensors,
    group_velocities,
    k_path,
    magnon_dos,
    phonon_bands,
    plot_exchange,
    plot_magnon_bands,
    plot_magnon_phonon_bands,
    plot_phonon_bands,
    spin_lattice_coupling,
    spin_stiffness,
    write_uppasd,
)
from deepspin_ase.analysis.phonons import calculate_phonons
from deepspin_ase.optimize import relax_spins
from deepspin_ase.potentials.materials import reference

# %% [markdown]
# ## 1. Exchange of the NiO network
#
# The magnetic cell of type-II antiferromagnetism holds two formula units. The
# derivatives are taken in a supercell of it that is large enough for the network's
# range, 12 A. Smaller ones (`repeat=4`) take less time; `aliasing` says how much of the
# exchange reaches their edge.


# %%
def nickel_oxide(a, moment, direction):
    """Return the primitive magnetic cell of NiO."""
    places = a * np.array([(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1.5, 1.5, 1.5)])
    cell = 0.5 * a * (np.ones((3, 3)) + np.eye(3))
    atoms = Atoms("Ni2O2", positions=places, cell=cell, pbc=True)
    order = antiferromagnetic((0.5, 0.5, 0.5), direction=direction, cell=a)
    set_spins(atoms, {"Ni": moment}, pattern=order)
    return atoms


network = nickel_oxide(4.1857, 1.277, (1, 1, -2))
network.calc = DeepSpinCalculator("NiO")
relax_spins(network)
exchange = exchange_tensors(network)
for shell in exchange.shells()[:5]:
    print(shell)
print(f"at the edge of the supercell: {exchange.aliasing:.1%} of the strongest")

ax = plot_exchange(exchange)
ax.figure.savefig("exchange.png", dpi=120)

# %% [markdown]
# Neutron scattering has $J_1 = +1.37$ and $J_2 = -19.0$ meV for $S=1$ (Hutchings and
# Samuelsen, 1972). The network learned from density-functional energies and torques, of
# which the former imply a $J_2$ of some -18 and the latter of -14 meV, and stands in
# between (its card, `models/NiO.md`, says why). Its $J_1$ carries a spread because the
# antiferromagnet's parallel and antiparallel neighbours are different pairs.
#
# How $J_2$ changes when a nickel atom moves along the bond, oxygen standing still
# (from the same data: about 21 meV/A):

# %%
coupling = spin_lattice_coupling(network, 0, repeat=3)
across = np.isclose(coupling.distances, 4.1857)
slopes = 1000 * coupling.slopes[across]
print(f"dJ2/dr = {slopes.mean():.1f} +- {slopes.std():.1f} meV/A")

# %% [markdown]
# The tensors can go to atomistic spin codes: `write_tb2j`, `write_uppasd`,
# `write_vampire`, `write_spirit` and `to_magnopy`, each in its own units and counting.
# UppASD takes one anisotropy axis for each atom, and no fields at single sites: both are
# left out.

# %%
pairs_alone = replace(exchange, onsite=0 * exchange.onsite, fields=0 * exchange.fields)
write_uppasd(pairs_alone, "uppasd")
print(Path("uppasd/jfile").read_text().splitlines()[0])

# %% [markdown]
# ## 2. Magnons of NiO
#
# `reference.nio()` holds the neutron exchange itself. Spin waves need the spin that
# precesses, $|m| = gS = 2\,\mu_B$. Names of wave vectors are those of the
# crystal's primitive cell.

# %%
a = 4.173
crystal = nickel_oxide(a, 2.0, (1, 1, -2))
crystal.calc = DeepSpinCalculator(reference.nio(lattice=False))
waves = SpinWaves.from_atoms(crystal)
path = k_path(crystal, "XGLW", cell=bulk("NiO", "rocksalt", a).cell, npoints=160)
bands = waves.bands(path)
dos = magnon_dos(waves, 24)

direction = np.array([1.0, 1.0, 1.0]) / np.sqrt(3)
small = 0.05 * direction @ crystal.cell.array.T / (2 * np.pi)
slope = np.linalg.norm(group_velocities(waves, small)[0], axis=1).max()
print(f"highest magnon {1000 * bands.energies.max():.0f} meV (neutrons: about 117)")
print(f"slope along [111] {1000 * slope:.0f} meV A (neutrons: 250 to 270)")

# %% [markdown]
# The network (dashed in the figure) gives spin waves without any detour over tensors:
# at its reference state everything counts, bilinear or not. Its moments of 1.27 mu_B
# are what is left in a sphere around Ni; the spin that precesses is the ion's $S=1$,
# hence $g=|m|/S=1.27$. With $J_2$ smaller, so is the bandwidth.

# %%
learned = SpinWaves.from_atoms(network, g_factor=1.27)
primitive = bulk("NiO", "rocksalt", 4.1857).cell
learned_bands = learned.bands(k_path(network, "XGLW", cell=primitive, npoints=160))
print(f"network: highest magnon {1000 * learned_bands.energies.max():.0f} meV")

fig, axes = plt.subplots(
    1, 2, figsize=(8, 3.4), width_ratios=[3, 1], sharey=True, layout="constrained"
)
plot_magnon_bands(bands, axes[0], label="measured exchange")
style = {"color": "C1", "ls": "--", "label": "network"}
plot_magnon_bands(replace(learned_bands, path=path), axes[0], **style)
axes[0].axhline(117, color="0.6", lw=0.8, label="highest measured")
axes[0].legend(fontsize="small", loc="upper center", ncols=3)
axes[0].set_ylim(0, 145)
axes[1].plot(dos.dos / 1000, 1000 * dos.energies)
axes[1].set(xlabel="states per meV and cell", xlim=(0, None))
fig.savefig("nio_magnons.png", dpi=120)

# %% [markdown]
# A reference state that is no minimum is never passed over in silence: there is a
# warning, and `bands.instability` holds the mode in which it falls. The four domains of
# NiO, $\mathbf k = (\frac12,\frac12,\frac12)$, $(-\frac12,\frac12,\frac12)$, ..., and
# mixtures of them cost nearly the same in a cubic lattice. The least curvature of the
# energy at the points L of the other domains says whether the order is held:

# %%
points = np.array([(0.5, 1, 0.5), (0.5, 0.5, 0), (0, 0.5, 0.5)])
print(f"network: {1000 * learned.modes(points).curvature.min():.2f} meV")
print(f"reference: {1000 * waves.modes(points).curvature.min():.2f} meV")

# %% [markdown]
# ## 3. Iron
#
# The stiffness $D$ of $\hbar\omega = D k^2$ is a property of all neighbours together.
# The reference Hamiltonians of iron have two shells, which must do what the
# long-range, partly antiferromagnetic exchange of real iron does: about 280 meV A^2 is
# measured, theirs is larger.

# %%
for kind in ("heisenberg-landau", "bethe-slater"):
    iron = bulk("Fe", "bcc", 2.8665)
    set_spins(iron, {"Fe": 2.36 if kind == "heisenberg-landau" else 2.2})
    iron.calc = DeepSpinCalculator(reference.fe(exchange=kind))
    D = spin_stiffness(SpinWaves.from_atoms(iron))
    print(f"{kind}: D = {1000 * np.trace(D) / 3:.0f} meV A^2")

# %% [markdown]
# Phonons come from phonopy, which gets displaced cells that carry their moments.
# `relax_spins=True` would turn the moments after each displacement, and
# `thermal_phonons` averages over spin configurations of a temperature.

# %%
phonon = calculate_phonons(iron, 4)
lattice = phonon_bands(phonon, "GHNG", npoints=120)
at_H = lattice.frequencies_THz[
    np.argmin(abs(lattice.path.distances - lattice.path.ticks[1]))
]
print(f"phonons at H: {at_H.mean():.2f} THz (neutrons: 8.56)")

fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
plot_phonon_bands(lattice, axes[0])
magnons = SpinWaves.from_atoms(iron).bands(k_path(iron, "GHNG", npoints=120))
plot_magnon_bands(magnons, axes[1])
fig.savefig("iron.png", dpi=120)

# %% [markdown]
# ## 4. Magnons and phonons together
#
# The joint Hessian of positions and spins gives both, and their mixing. Exchange that
# depends on distance alone does not mix them to first order in a collinear magnet;
# what does is anisotropic. The network learned spin-orbit coupled data, and mixes.

# %%
joint = MagnonPhonons.from_atoms(network, repeat=6, g_factor=1.27)
print(f"largest coupling {1000 * np.abs(joint.coupling.values).max():.2f} meV/A")
coupled = joint.bands(k_path(network, "XGL", cell=primitive, npoints=200))
ax = plot_magnon_phonon_bands(coupled)
ax.figure.savefig("nio_magnon_phonons.png", dpi=120)

# %% [markdown]
# Where a magnon meets a phonon of the right symmetry they repel and exchange their
# character (purple), here by a millielectronvolt or less. The lattice of the network is
# good for the small displacements it was trained on; splittings between longitudinal
# and transverse optical modes at $\Gamma$ need Born charges, which it does not have.
