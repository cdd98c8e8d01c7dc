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
# # Exchange tables: from TB2J to magnons, Curie temperature and skyrmions
#
# Codes of electronic structure give magnets as tables: $J$, $D$ and anisotropies, bond
# by bond. Such a table is a potential here and goes wherever a network goes. This
# tutorial
#
# 1. reads an `exchange.out` of TB2J and looks at what it holds,
# 2. computes its magnons and its Curie temperature,
# 3. hands it on to other codes, and
# 4. makes a table by hand, of a film with a skyrmion.

# %%
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import (
    ExchangeTensors,
    SpinWaves,
    curie_temperature,
    k_path,
    plot_exchange,
    plot_magnon_bands,
    plot_transition,
    spin_stiffness,
    topological_charge,
)
from deepspin_ase.optimize import relax_spins
from deepspin_ase.potentials import BondHamiltonian, Sum, Zeeman
from deepspin_ase.potentials.bonds import (
    read_exchange_table,
    write_exchange_table,
    write_tb2j,
)

# %% [markdown]
# ## 1. A table of bcc iron
#
# The numbers are those of the examples of TB2J (Siesta, release 0.2.5), the first five
# shells. With your own `exchange.out` leave this cell out.

# %%
iron = bulk("Fe", "bcc", a=2.848)
set_spins(iron, {"Fe": 2.3205})
published = {  # J in meV as TB2J counts, both (i, j) and (j, i)
    18.7397: [(1, 0, 0)],
    18.7398: [(0, 1, 0), (0, 0, 1)],
    18.8885: [(1, 1, 1)],
    12.4866: [(0, 1, 1), (1, 1, 0), (1, 0, 1)],
    -0.0713: [(1, 0, -1), (1, -1, 0), (0, 1, -1)],
    -0.0656: [(2, 1, 1), (1, 2, 1), (1, 1, 2)],
    -0.0824: [(1, 1, -1), (1, -1, 1), (-1, 1, 1)],
    -0.0567: [(2, 1, 0), (2, 0, 1), (1, 2, 0), (1, 0, 2), (0, 2, 1), (0, 1, 2)],
}
shift = [R for bonds in published.values() for R in bonds]
J = [2e-3 * value for value, bonds in published.items() for _ in bonds]
zeros = [0] * len(J)
write_tb2j(BondHamiltonian(iron, zeros, zeros, shift, J), "exchange.out")

# %% [markdown]
# Here pairs count once, $E = -\sum_{i<j}\mathbf e_i\cdot J_{ij}\,\mathbf e_j$: bonds are
# twice TB2J's numbers. The eight nearest neighbours should have one $J$, and differ by
# noise; the crystal's symmetry takes it out. (Cells in files of TB2J may have three
# digits only: `symprec=0.01`.)

# %%
table = read_exchange_table("exchange.out")
print(table, f"breaks the symmetry by {table.symmetry_violation():.1%}")
model = table.symmetrized()
exchange = ExchangeTensors.from_potential(model)
for shell in exchange.shells():
    print(shell)

# %% [markdown]
# ## 2. Magnons and the Curie temperature

# %%
waves = SpinWaves.from_exchange(exchange)
bands = waves.bands(k_path(model.atoms, "GHNGP"))
stiffness = 1000 * np.trace(spin_stiffness(waves)) / 3
print(f"spin stiffness {stiffness:.0f} meV A^2 of these shells")

temperatures = np.linspace(1340, 1440, 6)  # K
result = curie_temperature(
    model.atoms, temperatures, sizes=(6, 8, 10), steps=2500, interval=2, model=model
)
print(result)

fig, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
plot_exchange(exchange, axes[0])
plot_magnon_bands(bands, axes[1])
plot_transition(result, axes[2])
fig.savefig("iron.png", dpi=120)

# %% [markdown]
# Iron has 1043 K and 280 meV A$^2$. TB2J's table goes on to 20 A; what is left out here
# is small bond by bond and not in sum.
#
# Everything else takes the table in the same way: `atoms.calc =
# DeepSpinCalculator("exchange.out")`, then `SpinDynamics`, `relax_spins`, `NEB`,
# `hysteresis`, `--model exchange.out` of the commands, and `deepspin curie exchange.out -T
# 1340:1440:6`.
#
# ## 3. Other codes
#
# UppASD, VAMPIRE, Spirit, GROGU, Sunny and pySpinW have their own signs, units and
# counting, which the writers know (`docs/exchange_tables.md`). What a format cannot hold
# is refused, not dropped.

# %%
write_exchange_table(model, "vampire", format="vampire")
write_exchange_table(model, "uppasd", format="uppasd")
again = read_exchange_table("uppasd")
magnet = model.repeat(3).atoms
spins = np.random.default_rng(0).normal(size=(len(magnet), 3))
set_spins(magnet, 2.3205 * spins / np.linalg.norm(spins, axis=1, keepdims=True))
print(
    f"by way of UppASD: {1000 * (again.energy(magnet) - model.energy(magnet)):.1e} meV"
)

# %% [markdown]
# ## 4. A film with a skyrmion
#
# A layer of iron on a heavy metal, with numbers of the size that such films have:
# exchange on the triangular lattice, and Dzyaloshinskii-Moriya vectors in the plane,
# which only the substrate allows. One bond of each kind is enough where all atoms are
# there: symmetry gives the others, with the vectors turned as they must be.

# %%
a = 2.70
cell = [[a, 0, 0], [-a / 2, a * np.sqrt(0.75), 0], [0, 0, 12]]
film = Atoms("FeIr", positions=[(0, 0, 3), (0, a / np.sqrt(3), 0.8)], cell=cell)
film.pbc = (True, True, False)
set_spins(film, {"Fe": 3.0, "Ir": 0.0})
kinds = [(1, 0, 0), (2, 1, 0)]
J = [10e-3, -0.5e-3]
D = [[0, 2.5e-3, 0], [0, 0, 0]]  # across the bond
K = np.zeros((2, 3, 3))
K[0, 2, 2] = 0.5e-3  # an easy axis across the film
model = BondHamiltonian(film, [0] * 2, [0] * 2, kinds, J, dm=D, onsite=K).symmetrized()
print(model)
nearest = model.distances < 1.1 * a
for vector, dm in zip(model.vectors[nearest], model.dm[nearest], strict=True):
    print(f"bond along {vector.round(2)} A: D = {1000 * dm.round(6)} meV")

# %% [markdown]
# A field across the film makes the ferromagnet the ground state. A disk of reversed
# moments that turn across its edge in one sense relaxes to a skyrmion, a minimum of the
# energy with charge one; in the other sense it shrinks and is gone.

# %%
sheet = film.repeat((32, 32, 1))
iron_atoms = np.flatnonzero(sheet.symbols == "Fe")
center = sheet.cell.array.sum(axis=0) / 2
away = sheet.positions[iron_atoms] - center
away -= np.rint(away @ np.linalg.inv(sheet.cell.array)) @ sheet.cell.array
radius, phi = np.hypot(away[:, 0], away[:, 1]), np.arctan2(away[:, 1], away[:, 0])
theta = np.pi * np.clip(1.0 - radius / 25.0, 0.0, 1.0)
start = np.sin(theta)[:, None] * np.stack([np.cos(phi), np.sin(phi), 0 * phi], axis=1)
start[:, 2] = np.cos(theta)
field_T = 3.0

found = {}
for sense in (1, -1):
    moments = np.zeros((len(sheet), 3))
    moments[iron_atoms] = 3.0 * start * [sense, sense, 1.0]
    set_spins(sheet, moments)
    sheet.calc = DeepSpinCalculator(Sum([model, Zeeman((0, 0, field_T))]))
    relax_spins(sheet, steps=2000)
    charge = topological_charge(sheet[iron_atoms]).total
    found[sense] = sheet.get_potential_energy(), charge, get_spins(sheet)[iron_atoms]
set_spins(sheet, {"Fe": 3.0, "Ir": 0.0})
uniform = sheet.get_potential_energy()
for sense, (energy, charge, _) in found.items():
    print(
        f"start {sense:+d}: {1000 * (energy - uniform):7.1f} meV, charge {charge:.2f}"
    )

# %% [markdown]
# $D$ chooses the sense. The energy above the ferromagnet is that of one skyrmion.

# %%
energy, charge, best = min(found.values(), key=lambda state: abs(abs(state[1]) - 1))
xy = sheet.positions[iron_atoms]
fig, ax = plt.subplots(figsize=(6, 5), layout="constrained")
points = ax.scatter(xy[:, 0], xy[:, 1], c=best[:, 2] / 3.0, cmap="coolwarm", s=14)
near = radius < 30.0
ax.quiver(*xy[near, :2].T, *best[near, :2].T, scale=120, width=0.002)
fig.colorbar(points, label="$e_z$", shrink=0.5)
ax.set(aspect="equal", xlabel="x (Å)", ylabel="y (Å)")
ax.set_title(f"charge {charge:.0f}, {1000 * (energy - uniform):.0f} meV")
fig.savefig("skyrmion.png", dpi=120)
