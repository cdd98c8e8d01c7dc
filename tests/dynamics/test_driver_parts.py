"""Contract of drivers and their parts: saved, restored, reset and taken back."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.dynamics import (
    TSPIN,
    DepondtMertens,
    LongitudinalSpinLangevin,
    Midpoint,
    MonteCarlo,
    Rotation,
    Scheme,
    SemiImplicitB,
    SpinDynamics,
    SpinLatticeDynamics,
    SpinLatticeLangevin,
    SpinLatticeNPT,
    SpinLatticeNVE,
    State,
    Stateful,
    ThreeTemperature,
    read_hdf5,
)
from deepspin_ase.dynamics.files import HDF5Trajectory
from deepspin_ase.dynamics.integrators import rotate
from deepspin_ase.potentials.materials import reference
from deepspin_ase.system import System

FS = units.fs


def iron(seed: int = 1) -> Atoms:
    """Return warm, canted bcc iron, 8 atoms."""
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat((2, 2, 1))
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, 0.05, seed=seed)
    atoms.rattle(0.02, seed=seed)
    thermalize_momenta(atoms, 300, rng=np.random.default_rng(seed))
    atoms.calc = DeepSpinCalculator(reference.fe(exchange="bethe-slater"))
    return atoms


#: A driver of every kind, small and seeded.
MAKERS: dict[str, Any] = {
    "nve": lambda a: SpinLatticeNVE(
        a, 0.5 * FS, spin_integrator=Midpoint(tolerance=1e-7)
    ),
    "langevin": lambda a: SpinLatticeLangevin(
        a, 0.5 * FS, temperature_K=300, friction=0.02 / FS, damping=0.1, rng=1
    ),
    "spin": lambda a: SpinDynamics(a, FS, spin_integrator=Midpoint(tolerance=1e-7)),
    "npt": lambda a: SpinLatticeNPT(
        a,
        0.5 * FS,
        temperature_K=300,
        damping=0.0,
        spin_integrator=Midpoint(tolerance=1e-7),
    ),
    "longitudinal": lambda a: LongitudinalSpinLangevin(
        a,
        0.2 * FS,
        temperature_K=300,
        friction=0.02 / FS,
        gamma_L=0.2 / FS,
        rng=1,
    ),
    "tspin": lambda a: TSPIN(
        a, 0.5 * FS, temperature_K=300, collision_time=5 * FS, rng=1
    ),
    "three-temperature": lambda a: ThreeTemperature(
        a,
        0.5 * FS,
        electron_temperature_K=800,
        heat_capacity=5e-8,
        friction=0.02 / FS,
        damping=0.1,
        rng=1,
    ),
    "monte-carlo": lambda a: MonteCarlo(
        a, temperature_K=[200, 300], exchange_interval=2, move="mixed", rng=1
    ),
}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested plain data by their names."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, x in pairs for k, v in flat(x, f"{name}.{key}").items()}
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value}


def assert_same(first: Any, second: Any) -> None:
    mine, yours = flat(first), flat(second)
    assert mine.keys() == yours.keys()
    for name, value in yours.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_state_moves_from_one_driver_to_another(name: str) -> None:
    """All that a run depends on is in the dictionary, for every driver."""
    first, second = (MAKERS[name](iron()) for _ in range(2))
    first.run(4)
    second.run(1)
    second.load_state_dict(first.state_dict())
    for image, other in zip(second.images, first.images, strict=True):
        assert np.array_equal(get_spins(image), get_spins(other))
    first.run(4)
    second.run(4)
    assert_same(second.state_dict(), first.state_dict())


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_failed_step_leaves_the_driver_as_it_was(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, parts and variables; it runs on as if nothing had been tried."""
    atoms = iron()
    dyn = MAKERS[name](atoms)
    if name == "monte-carlo":  # whose moves of spins need no model call here
        dyn.exchange_interval = 1
    dyn.run(3)
    before = dyn.state_dict()
    evaluate, allowed = dyn.engine.evaluate, {"npt": 1, "three-temperature": 2}

    def fail_at_the_end(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > allowed.get(name, 0):
            raise CalculationFailed("not finite")
        return evaluate(*args, **kwargs)

    calls: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(dyn.engine, "evaluate", fail_at_the_end)
        with pytest.raises(CalculationFailed):
            dyn.run(1)
    assert calls
    after = dyn.state_dict()
    for other in (before, after):  # drawn for the step that failed
        del other["generator"], other["prediction"], other["engine"]
    assert_same(after, before)


class Counter(Stateful):
    """Counts its steps, and its resets without remembering them."""

    def __init__(self) -> None:
        self.steps = self.resets = 0

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]

    def reset(self) -> None:
        self.resets += 1


class Drift(SpinLatticeDynamics):
    """Atoms that keep their velocities: the least that a driver has to define."""

    variables = ("way",)

    def __init__(self, atoms: Any, timestep: float, **kwargs: Any) -> None:
        super().__init__(atoms, timestep, **kwargs)
        self.way = torch.zeros(self.n_replicas, dtype=torch.float64)
        self.counter = self.add_part("counter", Counter())
        self.fails = False
        self.prepared: list[int] = []
        self.prepare()

    def prepare(self) -> None:
        """Note the step; fails where the constructor is not done."""
        self.prepared.append(self.counter.steps)
        self.velocity = 1.0 / self.mass

    def step(self) -> None:
        """Advance by one time step, after the part and the variable have moved."""
        self.counter.steps += 1
        moved = self.dt * self.state.momenta * self.velocity
        self.way = self.way + self.state.system.sum(moved.norm(dim=1))
        if self.fails:
            raise CalculationFailed("as asked")
        system = self.state.system
        system = system.replace(positions=system.positions + moved)
        self.state = State(system, self.state.momenta)


def test_the_base_calls_no_hook_before_the_driver_is_there() -> None:
    dyn = Drift(iron(), FS)
    assert dyn.prepared == [0]
    assert dyn.counter.resets == 0
    dyn.run(2)
    assert dyn.prepared == [0]


def test_parts_of_a_new_driver(tmp_path: Path) -> None:
    """Nothing but ``add_part`` and ``variables`` makes it restart and go back."""
    atoms = iron()
    dyn = Drift(atoms, FS)
    dyn.run(3)
    dyn.save(tmp_path / "run.ckpt")
    again = Drift.restore(tmp_path / "run.ckpt")
    assert again.counter.steps == again.nsteps == 3
    assert torch.equal(again.way, dyn.way)
    dyn.fails = True
    with pytest.raises(CalculationFailed):
        dyn.run(1)
    with pytest.raises(CalculationFailed):
        list(dyn.irun(1))
    assert dyn.counter.steps == dyn.nsteps == 3
    assert torch.equal(again.way, dyn.way)
    dyn.fails = False
    atoms.positions[0] += 0.1
    dyn.run(1)
    assert dyn.counter.resets == 1
    assert dyn.prepared == [0, 3]


def test_a_change_by_the_user_survives_a_failed_step() -> None:
    """The step that fails goes back to the state from which it started."""
    atoms = iron()
    dyn = Drift(atoms, FS)
    steps = dyn.irun(3)
    next(steps)
    next(steps)
    atoms.positions[0] += 0.25
    moved = atoms.positions.copy()
    dyn.fails = True
    with pytest.raises(CalculationFailed):
        next(steps)
    assert np.array_equal(dyn.state.system.positions.numpy(), moved)
    assert dyn.counter.steps == 1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nve", (300,), "SpinLatticeNVE has no temperature_K"),
        ("three-temperature", (300,), "ThreeTemperature has no temperature_K"),
        ("spin", (300, 200), "SpinDynamics has no spin_temperature_K"),
        ("monte-carlo", (300, 200), "MonteCarlo has no spin_temperature_K"),
        ("npt", (0.0,), "temperature_K must be finite and > 0"),
        ("langevin", (-1.0,), "temperature_K must be finite and >= 0"),
        ("langevin", (1.0, -1.0), "spin_temperature_K must be finite and >= 0"),
    ],
)
def test_temperatures_that_a_driver_cannot_have(
    name: str, arguments: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MAKERS[name](iron()).set_temperature(*arguments)


@pytest.mark.parametrize(
    "scheme", [Rotation(), DepondtMertens(), SemiImplicitB(), Midpoint()]
)
def test_schemes_are_settings(scheme: Scheme) -> None:
    """They cannot be changed, compare by value, and leave a memory as it was."""
    assert scheme == type(scheme)()
    with pytest.raises(FrozenInstanceError):
        scheme.tolerance = 1e-3  # type: ignore[misc]
    spins = torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    field = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)

    def evaluate(spins: torch.Tensor) -> tuple[torch.Tensor, None]:
        return field + 0.1 * spins.flip(0), None

    memory = scheme.init()
    for _ in range(3):
        before = deepcopy(memory)
        *_, following = scheme.step(spins, evaluate, lambda s, b: b, 0.1, memory)
        assert_same(memory, before)
        *_, again = scheme.step(spins, evaluate, lambda s, b: b, 0.1, memory)
        assert_same(again, following)
        memory = following


@dataclass(frozen=True)
class Relaxed(Scheme):
    """Explicit steps whose rate is averaged over those before."""

    name = "test-relaxed"

    weight: float = 0.5

    def init(self) -> dict[str, Any]:
        return {"rate": None}

    def step(
        self,
        spins: torch.Tensor,
        evaluate: Any,
        rate: Any,
        dt: float,
        memory: dict[str, Any],
        start: torch.Tensor | None = None,
    ) -> Any:
        field, forces = evaluate(spins)
        omega, before = rate(spins, field), memory["rate"]
        if before is not None:
            omega = self.weight * omega + (1.0 - self.weight) * before
        return rotate(spins, dt * omega), forces, {"rate": omega}


def test_a_scheme_of_ones_own(tmp_path: Path) -> None:
    """Any driver takes it, and a checkpoint keeps its settings and its memory."""
    atoms = iron()
    dyn = SpinLatticeNVE(atoms, 0.5 * FS, spin_integrator=Relaxed(weight=0.7))
    dyn.run(3)
    dyn.save(tmp_path / "run.ckpt")
    dyn.run(3)
    again = SpinLatticeNVE.restore(tmp_path / "run.ckpt")
    assert again.scheme.scheme == Relaxed(weight=0.7)
    again.run(3)
    assert np.array_equal(get_spins(again.images[0]), get_spins(atoms))
    assert np.array_equal(again.images[0].positions, atoms.positions)
    named = SpinDynamics(iron(), FS, spin_integrator="test-relaxed")
    assert named.scheme.scheme == Relaxed()


def test_files_take_any_source_of_states(tmp_path: Path) -> None:
    """A writer needs frames, not a driver."""
    frame = iron()
    frame.info["time_fs"] = 2.5
    source = SimpleNamespace(images=[frame], n_replicas=1, frames=lambda: [frame])
    frame.calc = SimpleNamespace(results={"energy": -1.0})
    writer = HDF5Trajectory(tmp_path / "run.h5", source, append=False)
    writer.write()
    writer.flush()
    (found,) = read_hdf5(tmp_path / "run.h5")
    assert found.info["time_fs"] == 2.5
    assert found.get_potential_energy() == -1.0
    assert np.array_equal(found.positions, frame.positions)


def test_baths_take_any_context() -> None:
    """Heat exchange at fixed kT, without a driver."""
    from deepspin_ase.dynamics._constraints import Constraints
    from deepspin_ase.dynamics.baths import Context, LatticeBath

    atoms = iron() * (5, 5, 5)
    system = System.from_atoms(atoms)
    mass = torch.from_numpy(atoms.get_masses())[:, None]
    context = Context(
        dt=1.0,
        mass=mass,
        lengths=system.spins.norm(dim=1, keepdim=True),
        constraints=Constraints([atoms], system.device),
        generator=torch.Generator().manual_seed(1),
        evaluate=lambda *args, **kwargs: pytest.fail("no model call is needed"),
        check_rotation=lambda rate: None,
        zero_momentum=True,
        index=system.index,
    )
    bath = LatticeBath(context, friction=np.array([2.0]))
    kT = torch.full_like(mass, 300 * units.kB)
    momenta = torch.zeros_like(system.positions)
    for _ in range(5):
        momenta = bath.exchange(system, momenta, kT)
    heat = float((momenta**2 / mass).mean())
    assert heat == pytest.approx(300 * units.kB, rel=0.1)
    assert float(momenta.sum(0).abs().max()) < 1e-9
