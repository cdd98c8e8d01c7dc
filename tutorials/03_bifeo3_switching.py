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
# # Switching the polarisation of BiFeO3, with its spins
#
# In bismuth ferrite the same crystal is ferroelectric and antiferromagnetic. Bi and O
# shift along one of eight diagonals of the pseudo-cube, oxygen octahedra turn about it,
# and the moments of Fe alternate (G order). A field switches the polarisation by 71, 109
# or 180 degrees. What does the way from one variant to another look like, what
# barrier is on it, and what do the spins do?
#
# The paths are spin-lattice nudged elastic bands on the shipped model `BiFeO3`, for ten
# atoms: homogeneous switching. Real crystals switch by moving domain walls, over much
# lower barriers.

# %%
import matplotlib.pyplot as plt
import numpy as np

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import (
    SpinLatticeNEB,
    interpolate,
    octahedral_tilts,
    plot_path,
    polarization,
)
from deepspin_ase.constraints import FixSpins
from deepspin_ase.optimize import relax
from deepspin_ase.potentials import ElectricField, bismuth_ferrite, load_card

BORN_CHARGES = {"Bi": 4.37, "Fe": 3.87, "O": -2.747}
calculator = DeepSpinCalculator("BiFeO3")
# %% [markdown]
# ## 1. The variants
#
# `bismuth_ferrite(polar, tilt)` builds the cell from multiples of the displacements in
# R3c. The pseudo-cubic cell is kept for now. Polarisation counts from the cubic crystal,
# with Born charges (Bi 4.37, Fe 3.87, O -2.747) that were fitted to the 92 uC/cm^2 of
# the reference.

# %%
ideal = bismuth_ferrite((0, 0, 0))


def variant(polar, tilt=None, *, spin_axis=None, cell=False):
    """Return a relaxed variant, with spins along its polar axis by default."""
    atoms = bismuth_ferrite(
        polar, tilt, spin_axis=polar if spin_axis is None else spin_axis
    )
    atoms.calc = calculator
    relax(atoms, fmax=0.003, torque_max=1e-6, cell=cell)
    return atoms


def order(atoms):
    """Return polarization (uC/cm^2) and antiphase tilts (degrees) along x, y and z."""
    p = polarization(atoms, BORN_CHARGES, reference=ideal).uC_per_cm2[0]
    return p, octahedral_tilts(atoms, b="Fe", axes=np.eye(3)).mode()


for polar in [(1, 1, 1), (1, 1, -1), (-1, -1, 1), (-1, -1, -1)]:
    atoms = variant(polar)
    p, tilts = order(atoms)
    print(
        f"{polar}: {1e3 * atoms.get_potential_energy() / 2:.3f} meV/f.u.,",
        f"P {p.round(1)} uC/cm^2, tilts {tilts.round(1)} degrees",
    )

# %% [markdown]
# The variants are one crystal turned around: the same energy to the last digit, as the
# model knows no direction in space. The spins lie along the polar axis, which is easy
# by 0.03 meV, and cant by less than a degree.
#
# ## 2. Switching by 71 degrees
#
# One component of P turns around. Both ends are minima; the band of seven images starts
# on the straight line between them, and all images are evaluated in one call of the
# model. Atoms and spins move together: the spins start and end along the easy axis,
# which turns by 71 degrees. The cell holds two formula units; energies, barriers and the
# work of lattice and spins are per formula unit. The two add up to the energy: what their
# integrals lack, with so few images, is the residual.


# %%
def switch(initial, final, *, cell=False):
    """Return the converged band between two structures."""
    neb = SpinLatticeNEB(interpolate(initial, final, 7), cell=cell, torque_max=2e-6)
    neb.run(fmax=0.05)
    neb.climb = True
    converged = neb.run(fmax=0.01)
    print(f"converged: {converged}, {neb.band.n_calls} calls of the model", end="; ")
    print(f"barrier {1e3 * neb.path().barrier_forward / 2:.1f} meV/f.u.")
    return neb


start = variant((1, 1, 1))
neb = switch(start, variant((1, 1, -1)))
path = neb.path()
print(path.table(formula_units=2))


# %%
def plot_switching(neb):
    """Draw energy, polarization, tilts and the direction of one spin of a band."""
    path = neb.path()
    p, tilts = np.transpose([order(image) for image in neb.images], (1, 0, 2))
    spins = np.array([get_spins(image)[2] / 4.0 for image in neb.images])
    fig, axes = plt.subplots(1, 4, figsize=(14, 3), layout="constrained")
    plot_path(path, axes[0], formula_units=2)
    for ax, values, label in (
        (axes[1], p, "polarization (μC/cm²)"),
        (axes[2], tilts, "octahedral tilt (degrees)"),
        (axes[3], spins, "direction of a spin"),
    ):
        for component, axis, size in zip(values.T, "xyz", (8, 5, 3), strict=True):
            ax.plot(path.coordinate, component, "o-", ms=size, label=axis)
        ax.set(xlabel="path (Å)", ylabel=label)
        ax.legend(frameon=False, fontsize="small")
    axes[2].set_ylim(-12, 12)
    axes[3].set_ylim(-1.1, 1.1)
    length = np.linalg.norm(p, axis=1)
    axes[1].plot(path.coordinate, length, "k--", lw=1, label="length")
    axes[1].legend(frameon=False, fontsize="small")
    return fig


plot_switching(neb).savefig("switching_71.png", dpi=120)

# %% [markdown]
# P does not turn like a rigid arrow: its z component passes through zero, and so does
# the tilt about z, which is tied to it. In the middle the crystal is that with P and
# tilts along [110]. The dashed line is the length of P. The spins lie along [110] nearly
# all the way and turn at the ends: the forces on the lattice are thousands of times the
# torques, so a path of steepest descent turns the spins where the lattice is at rest.
#
# ## 3. 109 and 180 degrees
#
# The bands start on straight lines again, so that all components turn around together,
# and symmetry holds them there. Tilts and P may be parallel or antiparallel, so the
# tilts need not follow P: half-way to 109 degrees only one tilt has vanished, and
# half-way to 180 degrees none has: the middle is the non-polar crystal R-3c.

# %%
bands = {"71": neb}
for angle, polar, tilt, axis in (
    ("109", (-1, -1, 1), (1, 1, -1), (1, 1, -1)),
    ("180", (-1, -1, -1), (1, 1, 1), (1, 1, 1)),
):
    bands[angle] = switch(start, variant(polar, tilt, spin_axis=axis))

fig, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
for angle, band in bands.items():
    plot_path(band.path(), ax, label=f"{angle} degrees", formula_units=2)
fig.savefig("switching.png", dpi=120)
plot_switching(bands["180"]).savefig("switching_180.png", dpi=120)

# %% [markdown]
# Or one component at a time: on to the two next variants, and each is a minimum in
# which the crystal may rest.

# %%
steps = [neb]
for polar, following in (((1, 1, -1), (1, -1, -1)), ((1, -1, -1), (-1, -1, -1))):
    steps.append(switch(variant(polar), variant(following)))

fig, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
plot_path(bands["180"].path(), ax, label="180 degrees at once", formula_units=2)
way = 0.0
for band in steps:
    path = band.path()
    fine = np.linspace(0.0, path.length, 100)
    ax.plot(way + fine, 500 * (path.fit(fine) - path.energies[0]), "C1")
    way += path.length
ax.lines[-1].set_label("in steps of 71 degrees")
above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
ax.legend(ncols=2, fontsize="small", **above)
fig.savefig("switching_in_steps.png", dpi=120)

heights = {name: band.path().barrier_forward for name, band in bands.items()}
steps_71 = [band.path().barrier_forward for band in steps]
for route, barriers in {
    "109 at once": [heights["109"]],
    "109 as 71, 71": steps_71[:2],
    "180 at once": [heights["180"]],
    "180 as 71, 109": [heights["71"], heights["109"]],
    "180 as 71, 71, 71": steps_71,
}.items():
    print(f"{route:18s} highest barrier {1e3 * max(barriers) / 2:6.1f} meV/f.u.")

# %% [markdown]
# One component at a time costs least: 109 and 180 degrees are reached in two and three
# steps of 71 degrees, each over the low barrier. The way is longer, but a crystal that
# has waited for one step need not wait for all three at once. (Half-way to 109 degrees
# there are two saddle points of the same symmetry: one at 283 meV, where P points along
# z, and the lower one that the band found, where P has vanished.)
#
# ## 4. What the spins do to the barrier
#
# Three times the path of 71 degrees: with spins free, as above; frozen in the order
# they have at the start; and frozen parallel to each other, as a very strong field
# would hold them.


# %%
def frozen(polar, like):
    """Return a relaxed variant with the moments of ``like``, held as they are."""
    atoms = bismuth_ferrite(polar)
    set_spins(atoms, like)
    atoms.calc = calculator
    atoms.set_constraint(FixSpins([2, 3]))
    relax(atoms, fmax=0.003)
    return atoms


parallel = np.abs(get_spins(bismuth_ferrite(spin_axis=(0, 0, 1))))
barriers = {"free": neb.path().barrier_forward}
for name, like in (("frozen", get_spins(start)), ("frozen, parallel", parallel)):
    band = switch(frozen((1, 1, 1), like), frozen((1, 1, -1), like))
    barriers[name] = band.path().barrier_forward
for name, barrier in barriers.items():
    print(f"spins {name}: {1e3 * barrier / 2:.2f} meV/f.u.")

# %% [markdown]
# Whether antiparallel spins follow or not makes next to no difference: what holds their
# axis is the anisotropy of 0.03 meV. That they are antiparallel is another matter. The
# exchange through oxygen grows as the Fe-O-Fe angle opens towards 180 degrees, as it does
# half-way, where one tilt has vanished: parallel spins make the saddle point dearer.
#
# ## 5. With the cell free
#
# The ferroelectric cell is a rhombohedron stretched along P, and the cell follows.

# %%
relaxed = variant((1, 1, 1), cell=True)
free = switch(relaxed, variant((1, 1, -1), cell=True), cell=True)
print("angles of the cell", relaxed.cell.angles().round(2))
plot_switching(free).savefig("switching_71_cell.png", dpi=120)

# %% [markdown]
# ## 6. Switching by an electric field
#
# An `ElectricField` is a term of the potential, -V P.E with the charges from above; other
# sets are those of density functionals (J. B. Neaton et al., Phys. Rev. B 71, 014113
# (2005)). Against P_z it grows in steps of 0.01 V/A (1 MV/cm), and at each the crystal
# relaxes from where it was, nudged off what symmetry would hold: the hysteresis of a
# crystal without walls at zero temperature.

# %%
model = calculator.bare_potential
electric = ElectricField((0, 0, 0), ideal, BORN_CHARGES)
fields = np.arange(0.0, 0.101, 0.01)
swept, polarizations, directions = start.copy(), [], []
for strength in fields:
    swept.calc = DeepSpinCalculator(model + electric.in_field((0, 0, -strength)))
    swept.rattle(0.002, seed=1)
    relax(swept, fmax=0.005, torque_max=1e-6)
    polarizations.append(order(swept)[0])
    directions.append(get_spins(swept)[2] / 4.0)
    p, tilts = order(swept)
    print(f"{strength:.2f} V/A: P {p.round(1)} uC/cm^2, tilts {tilts.round(1)} degrees")

switched = fields[np.argmax(np.array(polarizations)[:, 2] < 0)]
print(f"P_z turns around at {100 * switched:.0f} MV/cm")
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for ax, values, label in (
    (axes[0], polarizations, "polarization (μC/cm²)"),
    (axes[1], directions, "direction of a spin"),
):
    for component, axis, size in zip(
        np.transpose(values), "xyz", (8, 5, 3), strict=True
    ):
        ax.plot(fields, component, "o-", ms=size, label=axis)
    ax.set(xlabel="field along -z (V/Å)", ylabel=label)
    ax.legend(frameon=False, fontsize="small")
fig.savefig("switching_by_field.png", dpi=120)

# %% [markdown]
# The crystal goes by 71 degrees, over the lowest of the barriers above, and the spins
# follow their easy axis. Films switch in tenths of this field: by walls, and warm.
#
# ## 7. How good is the model?
#
# It was trained on a reference, SevenNet-l3i5 with the spin term of
# `BismuthFerriteSpins`, whose own barriers are in its card
# (`tutorials/bifeo3/barriers.py`).

# %%
card = load_card("BiFeO3")["reference_barriers_meV_per_fu"]
print("            model  reference  (meV/f.u.)")
for name, band in (*bands.items(), ("71, cell", free)):
    own = 1e3 * band.path().barrier_forward / 2
    known = card["109, lower" if name == "109" else name]
    print(f"{name:10s} {own:6.1f} {known:10.1f}")
