"""Space groups of mean structures along a structural transition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from torch import Tensor

from deepspin_ase import set_spins
from deepspin_ase.analysis import phase_diagram
from deepspin_ase.analysis.transitions import SamplingTask, model_data, run_sampling
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import Heisenberg, Potential, Shells, Sum, register
from deepspin_ase.symmetry import space_group
from deepspin_ase.system import System

A = 3.0


@register
class Wells(Potential):
    """Atoms tied to sites; those of titanium in double wells along z that agree.

    E = sum k u^2 / 2, of titanium k (x^2 + y^2) / 2 + d (1 - z^2 / z0^2)^2 and
    - c (mean of z)^2 for each.
    """

    uses_spins = False
    is_local = False
    cutoff = 1.0

    def __init__(self, sites: list[list[float]], k: float, d: float, c: float) -> None:
        super().__init__()
        self.sites, self.k, self.d, self.c = sites, k, d, c

    def forward(self, system: System, pairs: PairList) -> Tensor:
        places = torch.tensor(self.sites).to(system.positions)
        u = (system.positions.reshape(-1, *places.shape) - places).flatten(0, 1)
        inner = (system.species == 22).to(u)
        z = u[:, 2]
        springs = 0.5 * self.k * ((u**2).sum(dim=1) - inner * z**2)
        wells = inner * self.d * (1.0 - (z / 0.3) ** 2) ** 2
        counts = system.sum(inner)
        mean = (system.sum(inner * z) / counts)[system.index]
        return springs + wells - inner * self.c * mean**2


def crystal() -> tuple[Atoms, Potential]:
    atoms = bulk("MnTi", "cesiumchloride", a=A).repeat(2)
    set_spins(atoms, {"Mn": 2.0})
    wells = Wells(atoms.positions.tolist(), 5.0, 0.05, 0.5)
    polar = atoms.copy()
    polar.positions[atoms.numbers == 22, 2] += 0.3
    return polar, Sum([wells, Heisenberg(Shells([(A, 1e-6)]))])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not in equilibrium:UserWarning")
def test_a_ferroelectric_is_cubic_when_it_is_hot(tmp_path: Path) -> None:
    atoms, model = crystal()
    options = {
        "temperatures_K": [50.0, 3000.0],
        "method": "langevin",
        "q": (0, 0, 0),
        "space_group_tolerance_A": 0.15,
        "options": {"timestep_fs": 4.0, "damping": 0.01, "friction": 0.02 / units.fs},
        "model": model,
        "steps": 2400,
        "equilibration": 400,
        "interval": 5,
        "checkpoint": tmp_path,
    }
    found = phase_diagram(atoms, **options)
    assert found.space_groups.tolist() == ["P4mm (99)", "Pm-3m (221)"]
    cold = found.samples[0][0].mean[0]
    shift = (cold.positions - atoms.positions)[:, 2]
    inner = atoms.numbers == 22
    # The wells at rest, which what agrees makes deeper: z^2 = z0^2 + c z0^4 / 2d.
    well = 0.3 * np.sqrt(1.0 + 0.5 * 0.3**2 / (2 * 0.05))
    moved = shift[inner].mean() - shift[~inner].mean()
    assert moved == pytest.approx(well - 0.3, abs=0.015)
    axes = found.plot(quantity="space group")
    axes.figure.clear()
    again = phase_diagram(atoms, **options)
    np.testing.assert_array_equal(again.space_groups, found.space_groups)


def test_a_mean_structure_goes_on_bit_for_bit(tmp_path: Path) -> None:
    atoms, model = crystal()
    task = SamplingTask(
        model_data(model),
        atoms,
        (100.0, 300.0),
        ((0.0, 0.0, 0.0),),
        atoms.cell.array,
        60,
        10,
        2,
        "langevin",
        options={"timestep_fs": 2.0},
        mean_structure=True,
        checkpoint=str(tmp_path / "run"),
    )
    whole = run_sampling(replace(task, checkpoint=None))
    run_sampling(replace(task, steps=28))
    longer = run_sampling(task)
    for one, other in zip(whole.mean, longer.mean, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    assert abs(whole.mean[1].positions - whole.final[1].positions).max() > 0.01


def test_names_of_space_groups() -> None:
    assert space_group(bulk("Fe")) == "Im-3m (229)"
    shaken = bulk("Fe", cubic=True).repeat(2)
    shaken.rattle(0.01, seed=1)
    assert space_group(shaken) == "P1 (1)"
    assert space_group(shaken, symprec=0.1) == "Im-3m (229)"
