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
# # Doping: NiO with magnesium and lithium
#
# Mg$^{2+}$ takes the place of Ni$^{2+}$ and leaves a hole in the net of moments; Li$^+$
# does, too, and makes another nickel Ni$^{3+}$. This tutorial
#
# 1. makes random alloys and looks at how random they are,
# 2. follows how the order is lost as magnesium replaces nickel,
# 3. compares lithium,
# 4. lets atoms swap places, so that an alloy orders, and
# 5. finds how the order of the atoms changes the Curie temperature of iron-cobalt.
#
# Runs are short, so that all of it takes three minutes; their errors say so.

# %%
import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, get_spins, set_spins
from deepspin_ase.analysis import curie_temperature, phase_diagram, short_range_order
from deepspin_ase.build import random_alloy
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.potentials import Heisenberg, PairPotential, Shells

# %% [markdown]
# ## 1. Structures
#
# Moments sit on the face-centered lattice of nickel; oxygen carries none and is left out.
# The ground state alternates along [111].

# %%
a = 4.17
nickel = bulk("Ni", "fcc", a, cubic=True).repeat(4)
order = antiferromagnetic((0.5, 0.5, 0.5), cell=a)
set_spins(nickel, {"Ni": 2.0}, pattern=order)

doped = [random_alloy(nickel, {"Mg": 0.25}, seed=k) for k in range(6)]
shells = a * np.array([0.5, 0.85, 1.11])  # between neighbors at 0.71 and 1.00 a
found = short_range_order(doped, shells, elements=("Ni", "Mg"))
print(doped[0].get_chemical_formula())
for shell, alpha, error in zip(
    ("first", "second"), found.alpha, found.error, strict=True
):
    print(f"{shell} neighbors: alpha = {alpha[0, 1]:.3f} +- {error[0, 1]:.3f}")

# %% [markdown]
# The Warren-Cowley parameters vanish in a random alloy, within what six cells of 256 atoms
# tell.
#
# ## 2. Magnesium
#
# The exchange is that of neutron scattering (Hutchings and Samuelsen, Phys. Rev. B 6, 3447):
# nearest neighbors +1.37 meV, ferromagnetic, and second ones through oxygen -19.01 meV, for
# spins of one. Here it does not change with doping, so that magnesium only dilutes.
# Classical moments order at about 310 K; quantum ones of S = 1 have up to (S + 1)/S times
# more, and experiment 523 K. Here ratios to the pure crystal count. In a cell as small as
# this one the order does not end at a point; where it has fallen to half of its size at
# rest is a measure that short runs give well.
#
# The order can alternate along any of four diagonals: all of them count.

# %%
J1, J2 = 1.37e-3, -19.01e-3  # eV
model = Heisenberg(Shells([(a / np.sqrt(2), J1), (a, J2)]))
diagonals = 4 * np.array(
    [(0.5, 0.5, 0.5), (-0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, -0.5)]
)
shares = [0.0, 0.15, 0.3, 0.45]
temperatures = np.linspace(100, 420, 11)  # K
diagram = phase_diagram(
    nickel,
    temperatures,
    compositions=[{"Mg": x} if x else {} for x in shares],
    realizations=2,
    q=diagonals,
    model=model,
    steps=500,
    equilibration=150,
)


def half(order, size):
    """Return where an order (T, 2) is half of ``size``, and the error, K."""
    value, error = order.T
    k = int(np.argmax(value < 0.5 * size))
    slope = (value[k] - value[k - 1]) / (temperatures[k] - temperatures[k - 1])
    return temperatures[k] + (0.5 * size - value[k]) / slope, abs(error[k] / slope)


line = np.array([half(order, 2.0) for order in diagram.quantities["order"]])
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for k, x in enumerate(shares):
    value, error = diagram.quantities["order"][k].T
    axes[0].errorbar(
        temperatures, value, error, fmt="o-", ms=4, capsize=2, label=f"{x:.0%}"
    )
axes[0].set(xlabel="temperature (K)", ylabel=r"ordered moment per Ni ($\mu_B$)")
axes[0].legend(title="Mg")
axes[1].errorbar(
    shares, *(line / line[0, 0]).T, fmt="o-", capsize=2, label="Monte Carlo"
)
axes[1].plot([0, 1], [1, 0], "--", c="0.6", label="mean field")
axes[1].axvline(1 - 0.3116, c="0.6", ls=":", label="percolation of second neighbors")
axes[0].axhline(1.0, c="0.7", lw=0.8, zorder=0)
axes[1].set(xlabel="share of Mg", ylabel=r"$T_{1/2}(x)\,/\,T_{1/2}(0)$", ylim=(0, 1.05))
axes[1].legend(fontsize="small")
fig.savefig("magnesium.png", dpi=120)
for x, (at, error) in zip(shares, line, strict=True):
    print(f"{x:.0%} Mg: half the order at {at:.0f} +- {error:.0f} K")

# %% [markdown]
# Mean field loses a share of the bonds, $1 - x$. Correlations make dilution count more: the
# second neighbors form four simple cubic nets, which fall apart at 69 % Mg, and there the
# order ends. `curie_temperature(disorder=...)` or `deepspin curie --doping Mg=0.15` gives
# transitions of infinite alloys, from several sizes.
#
# ## 3. Lithium
#
# Each Li$^+$ takes a nickel away and makes another one Ni$^{3+}$, of spin 1/2. The hole sits
# on a random nickel here, with half the exchange to its neighbors and a quarter among its
# like, as spins of half the size have at unchanged J; cobalt stands for it. What holes do
# to the exchange itself, by moving about, is more than this model holds.

# %%
holes = ("Ni", "Co"), ("Co", "Co")
lithium = Heisenberg(Shells([(a / np.sqrt(2), J1), (a, J2)]), elements=("Ni", "Ni"))
for scale, pair in zip((0.5, 0.25), holes, strict=True):
    weaker = Shells([(a / np.sqrt(2), scale * J1), (a, scale * J2)])
    lithium = lithium + Heisenberg(weaker, elements=pair)


def with_holes(x):
    """Return a realization with a share x of Li and as many Ni3+, of 1 mu_B."""
    return random_alloy(nickel, {"Li": x, "Co": x}, moments={"Co": 1.0}, seed=7)


for name, crystal, exchange in (
    ("pure", nickel, model),
    ("15 % Mg", random_alloy(nickel, {"Mg": 0.15}, seed=7), model),
    ("15 % Li", with_holes(0.15), lithium),
):
    result = phase_diagram(
        crystal,
        temperatures,
        q=diagonals,
        model=exchange,
        steps=500,
        equilibration=150,
    )
    lengths = np.linalg.norm(get_spins(crystal), axis=1)
    at, error = half(result.quantities["order"], lengths[lengths > 0].mean())
    print(f"{name}: half the order at {at:.0f} +- {error:.0f} K")

# %% [markdown]
# Lithium lowers the temperature by more than the same share of magnesium: it weakens bonds
# beside those that it takes away.
#
# ## 4. Alloys that order
#
# Where species attract each other, they do not stay random. Swaps of atoms are Monte Carlo
# moves beside those of the moments. Here nickel and magnesium on second neighbors gain 20
# meV, a number made up to see the effect. As these are four simple cubic nets, in which the
# two species alternate in the cold, they order below $4.51 \cdot 20\,\mathrm{meV}/2k =
# 523$ K (the Ising model). Exchange between second neighbors wants nickel beside nickel and
# works against it, weakly where the moments are disordered.

# %%
attraction = PairPotential(Shells([(a, -0.02)]), elements=("Ni", "Mg"))
alloy = random_alloy(nickel, {"Mg": 0.5}, seed=1)
grid = [180.0, 240.0, 300.0, 400.0, 600.0, 1000.0]
fig, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
for name, potential in (("with moments", model + attraction), ("without", attraction)):
    trial = alloy.copy()
    if name == "without":
        set_spins(trial, np.zeros(len(trial)))
    trial.calc = DeepSpinCalculator(potential)
    dynamics = MonteCarlo(trial, temperature_K=grid, swap_elements=("Ni", "Mg"), rng=2)
    dynamics.run(40)
    images = [[] for _ in grid]
    for _ in dynamics.irun(60):
        for frames, image in zip(images, dynamics.images, strict=True):
            frames.append(image.copy())
    pairs = [short_range_order(f[::10], shells, elements=("Ni", "Mg")) for f in images]
    second = [(p.alpha[1, 0, 1], p.error[1, 0, 1]) for p in pairs]
    ax.errorbar(grid, *np.array(second).T, fmt="o-", ms=4, capsize=2, label=name)
ax.axhline(0.0, c="0.7", lw=0.8, zorder=0)
ax.set(xlabel="temperature (K)", ylabel=r"$\alpha$ of Ni-Mg, second neighbors")
ax.legend()
fig.savefig("order.png", dpi=120)

# %% [markdown]
# $\alpha = -1$ where all second neighbors of nickel are magnesium.
#
# ## 5. Iron and cobalt
#
# Fe$_{50}$Co$_{50}$ orders as B2 (CsCl) below about 1000 K and is random on its bcc lattice
# above. Its exchange depends on who the neighbors are: these are constants of the random
# alloy that come as an example with UppASD, in mRy for pairs that count twice.
# `read_uppasd` reads such files whole, random alloys too.

# %%
a = 2.87
shell_radii = a * np.sqrt([0.75, 1, 2, 2.75, 3, 4, 4.75, 5, 6])
mRy = {
    ("Fe", "Fe"): (1.970, 0.117, 0.092, 0.044, -0.161, -0.015, -0.020, 0.008, -0.046),
    ("Fe", "Co"): (1.947, 0.094, 0.071, 0.105, -0.122, 0.002, -0.011, 0.009, -0.029),
    ("Co", "Co"): (1.239, 0.125, 0.044, 0.117, -0.084, -0.002, -0.001, 0.006, -0.013),
}
iron_iron, iron_cobalt, cobalt_cobalt = (
    Heisenberg(
        Shells(np.column_stack([shell_radii, 2e-3 * units.Ry * np.array(J)]), 0.05),
        elements=elements,
    )
    for elements, J in mRy.items()
)
exchange = iron_iron + iron_cobalt + cobalt_cobalt
lengths = {"Fe": 2.72, "Co": 1.72}  # mu_B
ordered = bulk("FeCo", "cesiumchloride", a)
set_spins(ordered, lengths)
iron = bulk("Fe", "bcc", a, cubic=True)
set_spins(iron, {"Fe": lengths["Fe"]})


def mixed(cell, seed):
    """Return a realization of the random alloy."""
    return random_alloy(cell, {"Co": 0.5}, moments={"Co": lengths["Co"]}, seed=seed)


for name, crystal, disorder, around in (
    ("random", iron, mixed, 1380),
    ("B2", ordered, None, 1510),
):
    result = curie_temperature(
        crystal,
        np.linspace(around - 200, around + 200, 5),
        sizes=(3, 5) if disorder else (4, 6),
        steps=400,
        disorder=disorder,
        realizations=2,
        model=exchange,
    )
    print(f"{name}: T_C = {result.temperature_K.value:.0f} K", end=" ")
    print(f"+- {result.temperature_K.error:.0f} K")

# %% [markdown]
# Each iron of B2 has eight cobalts next to it, with the strong exchange of unlike
# neighbors; a random alloy has as many weaker pairs of cobalts. Published Monte Carlo with
# exchange of the ordered alloy gives 1575 K (arXiv:1309.4232). In experiment the alloy
# becomes face-centered at 1250 K, while it is still a magnet.
