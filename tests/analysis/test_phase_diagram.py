"""Phase diagrams against exact averages and limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.neighborlist import neighbor_list
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from deepspin_ase import antiferromagnetic, set_spins
from deepspin_ase.analysis import phase_diagram, plot_phase_diagram
from deepspin_ase.analysis.transitions import (
    PhaseDiagram,
    SamplingTask,
    ThermalSamples,
    model_data,
    run_sampling,
)
from deepspin_ase.analysis.transitions._phase_averages import reweighted
from deepspin_ase.potentials import (
    BondHamiltonian,
    Exponential,
    Harmonic,
    Heisenberg,
    Shells,
    UniaxialAnisotropy,
)
from deepspin_ase.units import MU_B

A, M, J = 3.0, 2.0, 0.01

#: Moments of short runs wander.
wanders = pytest.mark.filterwarnings("ignore:.*not in equilibrium:UserWarning")


def kelvin(*reduced: float) -> np.ndarray:
    return np.array(reduced) * J / units.kB


def magnet(size: int = 2, *, alternating: bool = False) -> Atoms:
    atoms = Atoms("Mn", cell=[A] * 3, pbc=True).repeat(size)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=A) if alternating else None
    set_spins(atoms, {"Mn": M}, pattern=order)
    return atoms


def test_paramagnet_in_a_field() -> None:
    """The Langevin function, its slope, and the heat capacity of Zeeman energy."""
    free = UniaxialAnisotropy(0.0, (0, 0, 1))
    fields, temperatures = [20.0, 60.0], np.array([20.0, 40.0, 60.0])
    found = phase_diagram(
        magnet(3),
        temperatures,
        fields_T=fields,
        direction="x",
        q=(0, 0, 0),
        model=free,
        steps=400,
        interval=1,
    )
    x = M * MU_B * np.array(fields)[:, None] / (units.kB * temperatures)
    langevin = 1 / np.tanh(x) - 1 / x
    slope = 1 / x**2 - 1 / np.sinh(x) ** 2
    for name, expected in (
        ("magnetization", M * langevin),
        ("field_susceptibility", M**2 * slope / (units.kB * temperatures)),
        ("heat_capacity", x**2 * slope),
    ):
        value, error = np.moveaxis(found.quantities[name], -1, 0)
        assert (abs(value - expected) < 4.5 * error).all(), name
        assert (error < 0.3 * expected).all()
    assert list(found.axes) == ["field_T", "temperature_K"]


@wanders
def test_spins_flop_in_a_field() -> None:
    """Cold easy-axis antiferromagnet: from along to across at sqrt(HA (2 HE - HA))."""
    K = 0.2 * J
    exchange, easy = 6 * J / M / MU_B, 2 * K / M / MU_B
    flop = np.sqrt(easy * (2 * exchange - easy))
    found = phase_diagram(
        magnet(2, alternating=True),
        kelvin(0.03),
        fields_T=flop * np.array([0.0, 0.7, 1.6, 2.5]),
        model=Heisenberg(Shells([(A, -J)])) + UniaxialAnisotropy(K, (0, 0, 1)),
        steps=200,
        equilibration=300,
    )
    along, across, moment = (
        found.quantities[name][:, 0, 0] / M
        for name in ("order_along", "order_across", "magnetization")
    )
    assert (along[:2] > 0.9).all()
    assert (across[:2] < 0.3).all()  # eight moments: 0.19 at 0.7 of the flop
    assert (along[2:] < 0.2).all()
    assert (across[2:] > 0.8).all()
    # A canted magnet has m = B / (2 HE - HA).
    expected = flop * np.array([1.6, 2.5]) / (2 * exchange - easy)
    np.testing.assert_allclose(moment[2:], expected, rtol=0.03)
    assert abs(moment[:2]).max() < 0.02


@pytest.fixture(scope="module")
def grid() -> PhaseDiagram:
    return phase_diagram(
        magnet(4),
        kelvin(0.7, 0.9, 1.1, 1.4, 2.2),
        strains=[-0.05, 0.0],
        compositions=[{}, {"X": 0.25}],
        realizations=2,
        observables={"density": lambda atoms: len(atoms) / atoms.get_volume()},
        model=Heisenberg(Exponential(0.3, A + 0.3 * np.log(J), 3.4)),
        steps=200,
    )


def test_all_points_have_all_quantities(grid: PhaseDiagram) -> None:
    assert list(grid.axes) == ["strain", "composition", "temperature_K"]
    assert {v.shape for v in grid.quantities.values()} == {(2, 2, 5, 2)}
    density = grid.quantities["density"][..., 0]
    np.testing.assert_allclose(density[1, 0], 1 / A**3)
    np.testing.assert_allclose(density[1, 1], 0.75 / A**3)
    np.testing.assert_allclose(density[0, 0], 1 / (0.95 * A) ** 3)


def test_what_strengthens_and_what_weakens_the_order(grid: PhaseDiagram) -> None:
    order = grid.quantities["order"][..., 0]
    assert (order[0, 0] > order[1, 0]).all()  # shorter bonds
    assert (order[:, 0, :3] > order[:, 1, :3]).all()  # missing neighbors


def test_it_is_drawn_and_kept(grid: PhaseDiagram, tmp_path: Path) -> None:
    axes = grid.plot(quantity="order", lines=["susceptibility"])
    assert axes.get_ylabel() == "strain"
    axes.figure.clear()
    axes = plot_phase_diagram(grid, against="composition", at={"strain": 0.0})
    assert axes.get_ylabel() == "share of sites"
    axes.figure.clear()
    grid.save(tmp_path / "diagram.npz")
    again = PhaseDiagram.load(tmp_path / "diagram.npz")
    np.testing.assert_array_equal(again.quantities["order"], grid.quantities["order"])
    with pytest.raises(ValueError, match="quantity must be one of order"):
        grid.line("polarization")
    with pytest.raises(ValueError, match="axis must be one of strain"):
        grid.line("order", "field_T")
    with pytest.raises(ValueError, match="needs four points"):
        grid.line("order", "strain")


@wanders
def test_a_sweep_goes_up_and_down_again() -> None:
    """A cold magnet with an easy axis keeps its direction beyond zero field."""
    K = 0.3 * J
    coercive = 2 * K / M / MU_B
    fields = coercive * np.array([-3.0, -0.4, 0.4, 3.0])
    magnet_down = magnet(2)
    set_spins(magnet_down, {"Mn": -M})
    found = phase_diagram(
        magnet_down,
        kelvin(0.01, 0.02),
        fields_T=fields,
        q=(0, 0, 0),
        sweep="field_T",
        model=Heisenberg(Shells([(A, J)])) + UniaxialAnisotropy(K, (0, 0, 1)),
        steps=200,
        equilibration=300,
    )
    moment = found.quantities["magnetization"][..., 0] / M
    assert moment.shape == (2, 4, 2)
    np.testing.assert_allclose(moment[0, :, 0], [-1, -1, -1, 1], atol=0.1)
    np.testing.assert_allclose(moment[1, :, 0], [-1, 1, 1, 1], atol=0.1)
    loop, error = np.moveaxis(found.hysteresis("magnetization"), -1, 0)
    assert (loop[1:3] > 10 * error[1:3] + 1.8 * M).all()
    steps = found.line("magnetization", "field_T", kind="step")[:, 0]
    assert steps[0] == pytest.approx([1.7 * coercive, 1.3 * coercive])
    assert steps[1] == pytest.approx([-1.7 * coercive, 1.3 * coercive])
    axes = found.plot(
        quantity="magnetization", lines=[("magnetization", "field_T", "step")]
    )
    assert len(axes.get_legend().get_texts()) == 2
    axes.figure.clear()


@wanders
def test_heating_and_cooling_visit_the_same_temperatures() -> None:
    found = phase_diagram(
        magnet(2),
        kelvin(0.5, 1.0, 3.0),
        model=Heisenberg(Shells([(A, J)])),
        sweep="temperature_K",
        steps=400,
        options={"clusters": 0},
    )
    difference, error = np.moveaxis(found.hysteresis("energy"), -1, 0)
    assert (abs(difference) < 5 * error).all()
    (up,), (down,) = found.samples
    np.testing.assert_array_equal(up.temperatures_K, kelvin(0.5, 1.0, 3.0))
    np.testing.assert_array_equal(down.temperatures_K, up.temperatures_K)


def test_between_sampled_points() -> None:
    """Langevin functions at temperatures and fields that were not sampled."""
    found = phase_diagram(
        magnet(3),
        [20.0, 30.0, 45.0],
        fields_T=[10.0, 30.0, 60.0],
        direction="x",
        q=(0, 0, 0),
        model=UniaxialAnisotropy(0.0, (0, 0, 1)),
        steps=400,
        interval=1,
    )
    temperatures, fields = np.array([25.0, 37.0, 2.0]), np.array([20.0, 45.0])
    between = found.reweighted(temperatures, fields)
    x = M * MU_B * fields[:, None] / (units.kB * temperatures[:2])
    slope = 1 / x**2 - 1 / np.sinh(x) ** 2
    for name, expected in (
        ("magnetization", M * (1 / np.tanh(x) - 1 / x)),
        ("field_susceptibility", M**2 * slope / (units.kB * temperatures[:2])),
        ("heat_capacity", x**2 * slope),
    ):
        value, error = np.moveaxis(between.quantities[name], -1, 0)
        assert (abs(value[:, :2] - expected) < 4.5 * error[:, :2]).all(), name
        assert (error[:, :2] < 0.2 * expected).all()
        assert np.isnan(value[:, 2]).all()  # no sample has seen it
    with pytest.raises(ValueError, match="no points of pressure_GPa"):
        found.reweighted(temperatures, pressures_GPa=[0.0])
    one = found.reweighted(temperatures[:2])
    assert one.quantities["order"].shape == (3, 2, 2)
    assert set(one.quantities) == set(found.quantities)


@pytest.mark.parametrize("tempering", ["none", "temperature", "field"])
def test_exchange_changes_no_average(tempering: str) -> None:
    """Two coupled moments in fields, whose sum S has the density S/2 if they are free.

    The weight of S is S exp(J S^2 / 2 kT) sinh(x) / x, x = h S / kT.
    """
    atoms = Atoms("Mn2", [[0.0, 0.0, 0.0], [0.0, 0.0, A]])
    set_spins(atoms, {"Mn": M})
    fields, temperatures = np.array([5.0, 40.0, 75.0]), kelvin(0.5, 0.8, 1.2)
    found = phase_diagram(
        atoms,
        temperatures,
        fields_T=fields,
        q=(0, 0, 0),
        model=Heisenberg(Shells([(A, -J)])),
        tempering=tempering,
        options={"move": "uniform", "rotations": 0},
        steps=2000,
        interval=1,
        seed=3,
    )
    S = np.linspace(1e-6, 2.0, 4001)
    kT = units.kB * temperatures[:, None]
    x = M * MU_B * fields[:, None, None] * S / kT
    weight = S * np.exp(-J * S**2 / (2 * kT)) * np.sinh(x) / x
    weight /= weight.sum(axis=2, keepdims=True)
    for name, expected in (
        ("magnetization", M * (weight * S * (1 / np.tanh(x) - 1 / x)).sum(2) / 2),
        ("energy", J * (weight * (S**2 / 2 - 1)).sum(2) / 2),
    ):
        value, error = np.moveaxis(found.quantities[name], -1, 0)
        assert (abs(value - expected) < 4.5 * error).all(), name
        assert (error < 0.05 * abs(expected).max()).all(), name


@wanders
def test_tempering_across_fields_goes_on(tmp_path: Path) -> None:
    options = {
        "temperatures_K": kelvin(1.0, 1.5),
        "fields_T": [0.0, 10.0],
        "strains": [0.0, 0.01],
        "model": Heisenberg(Shells([(A, J)], 0.1)),
        "checkpoint": tmp_path,
        "tempering": "field",
        "steps": 200,
    }
    whole = phase_diagram(magnet(), **options)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    again = phase_diagram(magnet(), **options)
    for name, values in whole.quantities.items():
        np.testing.assert_array_equal(again.quantities[name], values)


@wanders
def test_orders_that_compete() -> None:
    found = phase_diagram(
        magnet(2, alternating=True),
        kelvin(0.1),
        fields_T=[0.0, 5000.0],
        orders={"ferromagnet": (0, 0, 0)},
        model=Heisenberg(Shells([(A, -J)])),
        steps=200,
    )
    alternating, uniform = (
        found.quantities[name][:, 0, 0] / M for name in ("order", "order ferromagnet")
    )
    np.testing.assert_allclose(alternating, [0.95, 0.0], atol=0.12)
    np.testing.assert_allclose(uniform, [0.0, 1.0], atol=0.12)


def test_an_observable_that_never_varies(tmp_path: Path) -> None:
    """And a run whose observables are functions goes on in another process."""
    for _ in range(2):
        with pytest.warns(UserWarning, match="'density' is .* in all samples of all"):
            phase_diagram(
                magnet(),
                kelvin(2.0),
                observables={"density": lambda atoms: len(atoms) / atoms.get_volume()},
                model=Heisenberg(Shells([(A, J)])),
                checkpoint=tmp_path,
                steps=200,
            )


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_numbers() -> None:
    distributed = pytest.importorskip("distributed")
    options = {
        "temperatures_K": kelvin(1.0, 1.5),
        "fields_T": [0.0, 10.0, 20.0],
        "model": Heisenberg(Shells([(A, J)])),
        "steps": 200,
    }
    here = phase_diagram(magnet(), **options)
    seen: list[int] = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = phase_diagram(
            magnet(),
            client=client,
            observe=lambda found: seen.append(found.unfinished()),
            **options,
        )
    for name, values in here.quantities.items():
        np.testing.assert_array_equal(there.quantities[name], values)
    assert seen == [4, 2, 0]


def test_points_resume_from_their_checkpoints(tmp_path: Path) -> None:
    options = {
        "temperatures_K": kelvin(1.0, 1.5),
        "fields_T": [0.0, 10.0],
        "model": Heisenberg(Shells([(A, J)])),
        "checkpoint": tmp_path,
    }
    whole = phase_diagram(magnet(), steps=200, **options)
    for name in ("point0_0", "point1_0"):
        assert (tmp_path / f"{name}.npz").exists()
    (tmp_path / "point1_0.npz").unlink()
    again = phase_diagram(magnet(), steps=200, **options)
    for name, values in whole.quantities.items():
        np.testing.assert_array_equal(again.quantities[name], values)


@wanders
@pytest.mark.slow
def test_phases_of_the_anisotropic_cubic_antiferromagnet() -> None:
    """XXZ model with D = 0.8: J sum [D (xx + yy) + zz] - H sum z.

    W. Selke, Phys. Rev. E 83, 042102 (2011), doi:10.1103/PhysRevE.83.042102, and limits
    of mean field that are exact at rest: antiferromagnet up to H = 6 J sqrt(1 - D^2),
    flopped moments H / (6 J (1 + D)) along the field, and a paramagnet above
    6 J (1 + D).
    """
    D = 0.8
    cell = Atoms("Mn", cell=[A] * 3, pbc=True)
    set_spins(cell, {"Mn": M})
    tensor = -J * np.diag([D, D, 1.0])
    model = BondHamiltonian(cell, [0] * 3, [0] * 3, np.eye(3, dtype=int), [tensor] * 3)
    atoms = cell.repeat(6)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=A)
    set_spins(atoms, {"Mn": M}, pattern=order)
    unit = J / (M * MU_B)
    fields = np.array([0.0, 3.2, 4.0, 6.0, 9.0, 12.0])  # J
    temperatures = np.array([0.05, 0.4, 0.8, 1.2, 1.6])
    found = phase_diagram(
        atoms,
        kelvin(*temperatures),
        fields_T=fields * unit,
        q=(3, 3, 3),
        model=model,
        steps=1000,
        equilibration=400,
    )
    along, across, moment = (
        found.quantities[name][..., 0] / M
        for name in ("order_along", "order_across", "magnetization")
    )
    cold = along[:, 0], across[:, 0]
    print(np.round([along, across, moment], 3))
    assert (cold[0][:2] > 0.95).all()
    assert (cold[1][:2] < 0.15).all()
    assert (cold[0][2:] < 0.15).all()
    canted = fields[2:5] / (6 * (1 + D))
    np.testing.assert_allclose(moment[2:5, 0], canted, rtol=0.03)
    expected = np.sqrt(1 - canted**2)
    np.testing.assert_allclose(cold[1][2:5], expected, rtol=0.07)  # warm
    assert cold[1][5] < 0.15
    assert moment[5, 0] > 0.97
    # Without a field the anisotropy orders above the isotropic 1.443, along the axis.
    assert along[0, 3] > 0.4
    assert along[0, 4] < 0.45
    # The paramagnet comes at lower temperatures where the field is higher.
    assert (np.diff(across[2:5, 2]) < 0).all()


@pytest.mark.slow
@wanders
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_dilution_on_both_sides_of_percolation(share: float) -> None:
    """Cold moments of each cluster are parallel: <m^2> = sum of (n_cluster / N)^2."""
    found = {}
    for size in (6, 12):
        diagram = phase_diagram(
            magnet(size),
            kelvin(0.01),
            compositions=[{"X": 1.0 - share}],
            realizations=4,
            q=(0, 0, 0),
            model=Heisenberg(Shells([(A, J)])),
            steps=400,
            equilibration=400,
        )
        squares = []
        for samples in diagram.samples[0]:
            atoms = samples.final[0]
            i, j = neighbor_list("ij", atoms, 1.1 * A)
            graph = coo_array((np.ones(len(i)), (i, j)), shape=[len(atoms)] * 2)
            sizes = np.bincount(connected_components(graph)[1])
            expected = (sizes**2).sum() / len(atoms) ** 2
            squares.append([(samples.order**2).mean() / M**2, expected])
        sampled, expected = np.mean(squares, axis=0)
        print(share, size, sampled, expected)
        assert sampled == pytest.approx(expected, rel=0.1)
        found[size] = np.sqrt(sampled)
    if share < 0.3116:  # no net: finite clusters
        assert found[12] < 0.65 * found[6]
    else:
        assert found[12] > 0.85


@wanders
@pytest.mark.slow
def test_a_cell_at_pressure() -> None:
    """Springs k between neighbors of an fcc crystal: B = 2 sqrt(2) k / (3 r)."""
    k, r, pressure = 1.0, 2.5, 5.0
    atoms = Atoms("Mn", cell=(np.ones((3, 3)) - np.eye(3)) * r / np.sqrt(2), pbc=True)
    atoms = atoms.repeat(3)
    set_spins(atoms, {"Mn": M})
    found = phase_diagram(
        atoms,
        [20.0],
        pressures_GPa=[0.0, pressure],
        method="npt",
        options={"timestep_fs": 2.0, "pdamp": 200 * units.fs},
        model=Harmonic(k, r, cutoff=3.0) + Heisenberg(Shells([(r, 1e-6)])),
        observables={"length": lambda atoms: float(atoms.cell.lengths().mean())},
        steps=400,
        equilibration=400,
    )
    free, pressed = found.quantities["length"][:, 0, 0]
    bulk = 2 * np.sqrt(2) * k / (3 * r) / units.GPa
    assert free == pytest.approx(3 * r, rel=5e-3)
    assert pressed / free - 1.0 == pytest.approx(-pressure / (3 * bulk), rel=0.2)
    volumes = found.quantities["volume"][:, 0, 0]
    np.testing.assert_allclose(
        volumes, np.array([free, pressed]) ** 3 / np.sqrt(2) / 27, rtol=1e-3
    )


def test_between_pressures() -> None:
    """An ideal gas with springs: exact volumes, enthalpies and heat capacity.

    p(V) = V^N exp(-PV/kT), p(U) = U^(f/2-1) exp(-U/kT), f degrees of freedom.
    """
    N, f, count = 20, 60, 40000
    rng, pressures, temperatures = (
        np.random.default_rng(5),
        np.array([1.0, 1.4, 2.0]),
        np.array([300.0, 400.0]),
    )
    kT = units.kB * temperatures
    runs = []
    for p in pressures * units.GPa:
        volume = rng.gamma(N + 1, 1.0, (2, count)) * kT[:, None] / p
        zero = np.zeros((2, count, 2, 3))
        runs.append(
            ThermalSamples(
                temperatures,
                np.abs(rng.normal(size=(2, count))),
                rng.normal(size=(2, count, 3)),
                rng.gamma(f / 2, 1.0, (2, count)) * kT[:, None],
                N,
                N,
                zero + rng.normal(size=(2, count, 1, 1)),
                {"volume": volume / N},
                [],
                [],
            )
        )
    wanted, at = np.array([1.2, 1.7]), np.array([340.0])
    found = reweighted(
        runs,
        [(0.0, p) for p in pressures],
        at,
        [(0.0, p) for p in wanted],
        {"": np.zeros((1, 3))},
        np.array([0.0, 0.0, 1.0]),
    )
    kT = units.kB * at[0]
    for name, expected in (
        ("volume", (N + 1) * kT / (wanted * units.GPa) / N),
        ("energy", np.full(2, f / 2 * kT / N)),
        ("heat_capacity", np.full(2, (f / 2 + N + 1) / N)),
    ):
        value, error = found[name][:, 0].T
        assert (abs(value - expected) < 4 * error).all(), name
        assert (error < 0.03 * expected).all(), name


@pytest.mark.slow
@wanders
def test_a_spring_between_pressures() -> None:
    """Lengths between sampled pressures are those that are sampled there."""
    k, r = 1.0, 2.5
    atoms = Atoms("Mn", cell=(np.ones((3, 3)) - np.eye(3)) * r / np.sqrt(2), pbc=True)
    atoms = atoms.repeat(2)
    set_spins(atoms, {"Mn": M})
    found = phase_diagram(
        atoms,
        [150.0, 200.0, 260.0],
        pressures_GPa=[0.0, 1.0, 2.0, 3.0],
        method="npt",
        options={"timestep_fs": 2.0, "pdamp": 2000 * units.fs},
        model=Harmonic(k, r, cutoff=3.2) + Heisenberg(Shells([(r, 1e-6)], 0.4)),
        steps=6000,
        equilibration=1000,
    )
    sampled = found.quantities["volume"][1:3, 1]
    kept = [0, 3]
    ends = replace(
        found,
        axes=found.axes | {"pressure_GPa": np.array([0.0, 3.0])},
        samples=[found.samples[k] for k in kept],
    )
    between = ends.reweighted([200.0], pressures_GPa=[1.0, 2.0])
    value, error = between.quantities["volume"][:, 0].T
    print(sampled, value, error)
    assert np.isfinite(value).all()
    assert (abs(value - sampled[:, 0]) < 4 * np.hypot(error, sampled[:, 1])).all()
    assert (error < 0.01 * value).all()
    # One that is four times as stiff would not do: volumes differ by many errors.
    volumes = found.quantities["volume"][:, 1]
    assert volumes[0, 0] - volumes[3, 0] > 10 * volumes[:, 1].max()


def test_energies_are_without_the_field_of_the_driver() -> None:
    """Also where atoms move; the entropy in a field counted it twice."""
    model = Harmonic(5.0, A, cutoff=3.8) + Heisenberg(Shells([(A, 1e-9)]))
    task = SamplingTask(
        model_data(model),
        magnet(),
        (1.0,),
        (0.0, 0.0, 0.0),
        np.eye(3) * A,
        20,
        0,
        1,
        "langevin",
        options={"external_field_T": (0.0, 0.0, 500.0)},
    )
    # At rest, with moments along the field: -0.46 eV of it would be seen.
    assert abs(run_sampling(task).energy).max() < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperatures_K": [3.0, 2.0]}, "temperatures_K must ascend"),
        ({"temperatures_K": [-1.0]}, "temperatures_K"),
        ({"fields_T": [1.0, np.nan]}, "field_T must be finite"),
        ({"fields_T": [2.0, 1.0]}, "field_T must ascend"),
        ({"pressures_GPa": [0.0]}, 'need method="npt"'),
        ({"options": {"pressure_GPa": 1.0}}, "give pressures_GPa, of which one"),
        ({"sweep": "field_T"}, "sweep must be an axis"),
        ({"tempering": "pressure"}, "tempering must be one of none, temp"),
        ({"tempering": "field"}, "needs fields_T of two points"),
        (
            {"tempering": "field", "fields_T": [0.0, 1.0], "sweep": "field_T"},
            "no sweep",
        ),
        ({"compositions": []}, "compositions are empty"),
        ({"compositions": [{"X": 0.01}]}, "nearest share that fits"),
        ({"method": "exact"}, "method must be one of"),
        ({"steps": 10}, "fewer than 100 samples"),
    ],
)
def test_what_cannot_be_sampled(change: dict[str, object], message: str) -> None:
    options = {
        "temperatures_K": [10.0, 20.0],
        "model": Heisenberg(Shells([(A, J)])),
        "steps": 200,
    } | change
    with pytest.raises(ValueError, match=message):
        phase_diagram(magnet(), **options)  # type: ignore[arg-type]
