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
# # Spin-lattice dynamics
#
# Atoms follow their forces, moments precess about their magnetic forces
# $\mathbf B_i = -\partial E/\partial\mathbf m_i$ (the Landau-Lifshitz-Gilbert
# equation). The drivers of `deepspin_ase.dynamics` are used like ASE's. This tutorial
#
# 1. follows one damped moment and compares with the formula,
# 2. lets hot spins heat a cold lattice of iron,
# 3. runs NiO at 300 K, and
# 4. shows what a time step may be.

# %%
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    collinear,
    get_spins,
    set_spins,
)
from deepspin_ase.dynamics import (
    Midpoint,
    SpinDynamics,
    SpinLatticeLangevin,
    SpinLatticeNVE,
)
from deepspin_ase.potentials import Zeeman
from deepspin_ase.potentials.materials import reference
from deepspin_ase.units import G_FACTOR, HBAR, MU_B

fs = units.fs

# %% [markdown]
# ## 1. One moment in a field
#
# A moment of 2 mu_B starts across a field of 10 T. With Gilbert damping $\alpha$ and
# $\omega = \gamma B$ it turns and aligns as
# $m_z/m = \tanh\frac{\alpha\omega t}{1+\alpha^2}$,
# $\varphi = \frac{\omega t}{1+\alpha^2}$.

# %%
alpha, field = 0.1, 10.0
atoms = Atoms("Fe", positions=[(0, 0, 0)])
set_spins(atoms, [[2.0, 0, 0]])
atoms.calc = DeepSpinCalculator(Zeeman((0, 0, field)))
dyn = SpinDynamics(atoms, 5 * fs, damping=alpha)

times, moments = [], []
dyn.attach(lambda: (times.append(dyn.time_fs), moments.append(get_spins(atoms)[0])), 50)
dyn.run(8000)
times, moments = np.array(times), np.array(moments) / 2.0

turned = G_FACTOR / HBAR * MU_B * field * times * fs / (1 + alpha**2)
exact_z = np.tanh(alpha * turned)
exact_x = np.cos(turned) / np.cosh(alpha * turned)
error = np.hypot(moments[:, 0] - exact_x, moments[:, 2] - exact_z).max()
print(f"largest difference from the formula in 40 ps: {error:.1e}")

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(times / 1000, exact_x, "C0-", label="$m_x$, formula")
ax.plot(times / 1000, exact_z, "C1-", label="$m_z$, formula")
ax.plot(times[::8] / 1000, moments[::8, 0], "C0o", ms=4, label="$m_x$, dynamics")
ax.plot(times[::8] / 1000, moments[::8, 2], "C1o", ms=4, label="$m_z$, dynamics")
ax.set_xlabel("time (ps)")
ax.set_ylabel("$m/|m|$")
ax.legend(frameon=False)
fig.savefig("precession.png", dpi=120)

# %% [markdown]
# ## 2. Hot spins and a cold lattice
#
# Iron by the reference Hamiltonian `fe()` (embedded atoms and exchange that depends on
# distance). The spins start at several hundred kelvin, the lattice at rest. No bath is
# attached: total energy is conserved, and the spins' energy flows into the lattice
# through the dependence of the exchange on distance. The flow is slow: exchange alone
# couples the two weakly.

# %%
atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(3)
set_spins(atoms, {"Fe": 2.2}, pattern=collinear())
cant_spins(atoms, 0.1, seed=1)
atoms.calc = DeepSpinCalculator(reference.fe())
dyn = SpinLatticeNVE(atoms, 0.5 * fs, spin_integrator=Midpoint(tolerance=1e-7))


def temperatures(dyn):
    """Return time (fs), lattice and spin temperature (K), and total energy (eV)."""
    kinetic = float(atoms.get_kinetic_energy())
    return (
        dyn.time_fs,
        float(dyn.lattice_temperature()[0]),
        float(dyn.spin_temperature()[0]),
        float(dyn.prediction.energy[0]) + kinetic,
    )


record = []
dyn.attach(lambda: record.append(temperatures(dyn)), 40)
dyn.run(2000)
time_fs, lattice, spin, energy = np.array(record).T
print(f"lattice {lattice[0]:.0f} -> {lattice[-5:].mean():.0f} K,", end=" ")
print(f"spins {spin[0]:.0f} -> {spin[-5:].mean():.0f} K;", end=" ")
print(f"total energy within {np.ptp(energy) / len(atoms) * 1e6:.0f} ueV/atom")

fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].plot(time_fs / 1000, spin)
axes[0].set(ylim=(0, None), ylabel="temperature of the spins (K)")
axes[1].plot(time_fs / 1000, lattice, "C1")
axes[1].set(ylim=(0, None), ylabel="temperature of the lattice (K)")
for ax in axes:
    ax.set_xlabel("time (ps)")
fig.savefig("exchange_of_energy.png", dpi=120)

# %% [markdown]
# `Midpoint(tolerance=1e-7)` solves the spins' equations as well as energy conservation
# needs, in few model calls a step; more on that in part 4.
#
# ## 3. NiO at 300 K
#
# Rigid ions with the exchange that neutrons saw (`reference.nio()`), lattice and spins
# coupled to baths of 300 K. Spins reach the temperature within a fraction of a
# picosecond at the large damping chosen here; for true relaxation times, use the
# damping of the material. What holds nickel moments antiparallel is the exchange
# through an oxygen between them, at the distance of the lattice constant: their
# correlation is what we watch. (The four simple cubic sublattices that it couples
# hardly feel each other, and turn against each other in so small a cell.)

# %%
atoms = bulk("NiO", "rocksalt", 4.17, cubic=True).repeat(2)
order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.17)
set_spins(atoms, {"Ni": 1.7}, pattern=order)
thermalize_momenta(atoms, 300, rng=np.random.default_rng(1))
atoms.calc = DeepSpinCalculator(reference.nio())
nickel = np.flatnonzero(atoms.symbols == "Ni")
distances = atoms.get_all_distances(mic=True)[np.ix_(nickel, nickel)]
opposite = np.isclose(distances, 4.17)
dyn = SpinLatticeLangevin(
    atoms,
    1 * fs,
    temperature_K=300,
    friction=0.02 / fs,
    damping=0.3,
    rng=2,
    trajectory="nio_300K.extxyz",
    logfile="nio_300K.log",
    loginterval=50,
    checkpoint="nio_300K.ckpt",
    checkpoint_interval=100,
)


def correlation():
    """Return the mean cosine between moments across an oxygen."""
    directions = get_spins(atoms)[nickel] / 1.7
    return np.mean((directions @ directions.T)[opposite])


record = []
dyn.attach(lambda: record.append((*temperatures(dyn)[:3], correlation())), 10)
dyn.run(500)
time_fs, lattice, spin, across = np.array(record).T
late = len(record) // 2
print(
    f"lattice {lattice[late:].mean():.0f} K, spins {spin[late:].mean():.0f} K,", end=" "
)
print(f"correlation across oxygen {across[late:].mean():.2f}")

fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].plot(time_fs, lattice, label="lattice")
axes[0].plot(time_fs, spin, label="spins")
axes[0].axhline(300, color="0.7", lw=1, label="baths")
axes[0].set_ylabel("temperature (K)")
axes[0].legend(frameon=False)
axes[1].plot(time_fs, across)
axes[1].set_ylabel("correlation across oxygen")
for ax in axes:
    ax.set_xlabel("time (fs)")
fig.savefig("nio_300K.png", dpi=120)

# %% [markdown]
# `nio_300K.extxyz` holds moments, magnetic forces and momenta;
# `SpinLatticeLangevin.restore("nio_300K.ckpt")` continues the run bit for bit.

# %%
again = SpinLatticeLangevin.restore("nio_300K.ckpt")
print(f"restored at {again.time_fs:.0f} fs")

# %% [markdown]
# ## 4. The time step
#
# Without a bath the total energy is conserved but for a fluctuation that falls with
# the square of the time step, and does not drift. The default spin integrator solves
# its equations to round-off, which makes it reversible and takes more model calls the
# longer the step; `Midpoint(tolerance=1e-7)` conserves energy as well in two to five
# calls, without that reversibility. A driver warns when a spin rotates by more than
# 0.5 rad in a step.

# %%
steps, spreads, calls = [0.25, 0.5, 1.0], [], []
for timestep in steps:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
    set_spins(atoms, {"Fe": 2.2}, pattern=collinear())
    cant_spins(atoms, 0.02, seed=1)
    thermalize_momenta(atoms, 200, rng=np.random.default_rng(2))
    atoms.calc = DeepSpinCalculator(reference.fe())
    dyn = SpinLatticeNVE(atoms, timestep * fs)
    count = int(100 / timestep)
    before, energies = dyn.engine.n_calls, []
    for _ in range(25):
        dyn.run(count // 25)
        energies.append(float(dyn.conserved_energy()[0]) / len(atoms))
    spreads.append(np.std(energies))
    calls.append((dyn.engine.n_calls - before - 25) / count)
for timestep, spread, count in zip(steps, spreads, calls, strict=True):
    print(f"{timestep} fs: {spread:.1e} eV/atom, {count:.1f} model calls a step")

fig, ax = plt.subplots(figsize=(4, 3), layout="constrained")
ax.loglog(steps, spreads, "o-", label="measured")
ax.loglog(steps, spreads[0] * (np.array(steps) / steps[0]) ** 2, "--", label="$dt^2$")
ax.set_xticks(steps, [f"{step:g}" for step in steps])
ax.minorticks_off()
ax.set_yticks([2e-7, 5e-7, 1e-6, 2e-6], ["0.2", "0.5", "1", "2"])
ax.set_xlabel("time step (fs)")
ax.set_ylabel("energy fluctuation (μeV/atom)")
ax.legend(frameon=False)
fig.savefig("time_step.png", dpi=120)
