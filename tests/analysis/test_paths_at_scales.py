"""Bands and saddle points at every scale of the energy; parts that add up; holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import find_saddle
from deepspin_ase.analysis.paths import (
    NEBPath,
    SpinLatticeNEB,
    interpolate,
    plot_path,
)
from deepspin_ase.analysis.paths._path_fit import PathFit
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    Shells,
    Sum,
    UniaxialAnisotropy,
)

SCALES = (1e-7, 1e-5, 1e-3, 0.1)


def chain(scale: float, n_atoms: int) -> Atoms:
    """Moments along z, an easy axis, with a hard axis along y."""
    atoms = Atoms(f"Fe{n_atoms}", positions=[(2.5 * k, 0, 0) for k in range(n_atoms)])
    set_spins(atoms, np.tile([0.0, 0.0, 2.2], (n_atoms, 1)))
    terms = [
        UniaxialAnisotropy(scale, (0, 0, 1)),
        UniaxialAnisotropy(-0.3 * scale, (0, 1, 0)),
    ]
    if n_atoms > 1:
        terms.append(Heisenberg(Shells([(2.5, 0.02)])))
    atoms.calc = DeepSpinCalculator(Sum(terms))
    return atoms


@pytest.mark.parametrize(("scale", "n_atoms"), [*((s, 1) for s in SCALES), (1e-3, 4)])
def test_bands_find_the_barrier_at_every_scale(scale: float, n_atoms: int) -> None:
    """From a path over the slope of the hard axis, by the defaults."""
    first = chain(scale, n_atoms)
    last = first.copy()
    set_spins(last, -get_spins(first))
    images = interpolate(first, last, 9, axis=(-np.sin(1.0), np.cos(1.0), 0.0))
    neb = SpinLatticeNEB(images, climb=True)
    assert neb.run(steps=40)
    assert neb.path().barrier_forward == pytest.approx(n_atoms * scale, rel=1e-3)


@pytest.mark.parametrize("scale", SCALES)
def test_saddle_points_are_stationary_at_every_scale(scale: float) -> None:
    atoms = chain(scale, 1)
    e = np.array([1.0, 0.15, 0.1])
    set_spins(atoms, [2.2 * e / np.linalg.norm(e)])
    found = find_saddle(atoms, positions=False)
    assert found.is_saddle
    assert abs(get_spins(atoms)[0, 1:]).max() < 2.2e-3


def path_of(slopes: dict[str, Any], energies: Any) -> NEBPath:
    """A path whose numbers are given."""
    from deepspin_ase.analysis.paths._neb_path import _work

    coordinate = np.arange(len(energies), dtype=float)
    energies = np.asarray(energies, dtype=float)
    slopes = {name: np.asarray(x, dtype=float) for name, x in slopes.items()}
    work, residual = _work(coordinate, energies, slopes)
    return NEBPath(
        coordinate=coordinate,
        energies=energies,
        slopes=sum(slopes.values()),
        lengths={name: np.ones(len(energies) - 1) for name in slopes},
        work=work,
        residual=residual,
        bends=np.zeros(len(energies) - 2),
        straight=coordinate[-1],
        climbing=np.array([1]),
        spin_scale=0.4,
        n_atoms=1,
    )


@pytest.mark.parametrize(
    ("slopes", "energies"),
    [
        ({"lattice": [0, 60, 0], "spins": [0, 0.01, 0]}, [0, 16.56, 33]),
        ({"lattice": [0, 0, 0], "spins": [0, 0, 0]}, [0, 1, 0]),
        ({"lattice": [0, -3, 1], "spins": [0, 5, 1], "cell": [1, 1, -9]}, [0, 1, 2]),
    ],
)
def test_parts_add_up_to_the_energy(slopes: Any, energies: Any) -> None:
    path = path_of(slopes, energies)
    summed = sum(path.work.values())
    np.testing.assert_allclose(summed, path.energies - path.energies[0], atol=1e-12)
    assert "residual" in path.table()
    assert abs(path.residual).max() > 0.5  # said, not hidden
    for name, own in slopes.items():
        if not np.any(own) and any(np.any(x) for x in slopes.values()):
            assert not path.work[name].any()


@pytest.mark.filterwarnings("ignore:the path leads down")
def test_parts_of_a_band_add_up_on_few_images() -> None:
    """Of five images; what the integrals lack vanishes with more of them."""
    lacking = []
    for n_images in (5, 17):
        first = chain(1e-3, 2)
        first.calc = DeepSpinCalculator(
            Sum(
                [
                    Harmonic(1.0, 2.6, cutoff=4.0),
                    UniaxialAnisotropy(1e-3, (0, 0, 1)),
                ]
            )
        )
        last = first.copy()
        set_spins(last, -get_spins(first))
        last.positions[1, 0] += 0.2
        images = interpolate(first, last, n_images, axis="y")
        path = SpinLatticeNEB(images).path()
        summed = path.work["lattice"] + path.work["spins"]
        above = path.energies - path.energies[0]
        np.testing.assert_allclose(summed, above, atol=1e-12)
        lacking.append(np.ptp(path.residual))
    assert lacking[1] < 0.2 * lacking[0]


@pytest.mark.parametrize(
    ("energies", "slopes"),
    [
        ([0, 16.56, 30, 20, 0], [0, 80, 0, -60, 0]),  # steep beside the first image
        ([0, 1, 3, 1, 0], [0, 2, 0, -9, 0]),  # ... and beside the last one
        ([0, 1, 3, 1, 0], [-4, 1, 0, -1, 5]),  # ends that are no minima
        ([0, 0, 1, 0, 0], [1, 2, 0, -2, -1]),  # no difference of energies
    ],
)
def test_fits_do_not_fall_below_the_ends(energies: Any, slopes: Any) -> None:
    x = np.arange(5.0)
    fit = PathFit(x, np.array(energies, float), np.array(slopes, float))
    fine = fit(np.linspace(0, 4, 2001))
    assert fine.min() >= -1e-12
    np.testing.assert_allclose(fit(x), energies, atol=1e-12)
    top = fit.highest()
    assert top[1] >= fine.max() - 1e-12 and top[1] == pytest.approx(float(fit(top[0])))


def test_fits_are_cubics_through_smooth_data() -> None:
    x = np.linspace(0, 1, 7)
    fit = PathFit(x, np.sin(np.pi * x) ** 2, np.pi * np.sin(2 * np.pi * x))
    fine = np.linspace(0, 1, 101)
    np.testing.assert_allclose(fit(fine), np.sin(np.pi * fine) ** 2, atol=2e-3)
    assert fit.highest() == pytest.approx((0.5, 1.0))


def pair(spins: Any, distance: float = 2.5) -> Atoms:
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (distance, 0, 0)])
    set_spins(atoms, spins)
    atoms.calc = DeepSpinCalculator(
        Sum(
            [
                Harmonic(1.0, 2.3, cutoff=4.0),
                UniaxialAnisotropy(1e-3, (0, 0, 1)),
            ]
        )
    )
    return atoms


UP = [(0, 0, 2.2), (0, 0, 2.2)]


def test_the_lattice_is_held() -> None:
    """Although forces act on it: the bond is longer than its minimum."""
    first, last = pair(UP), pair(-np.array(UP))
    images = interpolate(first, last, 5, axis="y")
    neb = SpinLatticeNEB(images, positions=False, climb=True)
    assert neb.run(torque_max=1e-6)
    assert set(neb.residuals()) == {"torque"}
    assert neb.path().barrier_forward == pytest.approx(2e-3, rel=1e-6)
    for image in neb.images:
        np.testing.assert_array_equal(image.positions, first.positions)


def test_the_spins_are_held() -> None:
    first, last = pair([(2.2, 0, 0.3)] * 2, 2.2), pair([(2.2, 0, 0.3)] * 2, 2.4)
    neb = SpinLatticeNEB(interpolate(first, last, 5), spins=False)
    with pytest.warns(UserWarning, match=r"not a minimum \(force 0.1 eV/A\)"):
        neb.run(fmax=1e-3, steps=20)
    assert set(neb.residuals()) == {"force"}
    for image in neb.images:
        np.testing.assert_allclose(get_spins(image), get_spins(first), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": False, "spins": False}, "nothing may move"),
        ({"positions": False}, "positions=False holds what differs"),
        ({"spins": False}, "spins=False holds what differs"),
    ],
)
def test_holds_that_cannot_be(options: dict[str, bool], message: str) -> None:
    images = interpolate(pair(UP), pair(-np.array(UP), 2.6), 5, axis="y")
    with pytest.raises(ValueError, match=message):
        SpinLatticeNEB(images, **options)


@pytest.mark.parametrize("name", ["positions", "spins", "cell"])
def test_what_moves_is_true_or_false(name: str) -> None:
    images = interpolate(pair(UP), pair(-np.array(UP), 2.6), 5, axis="y")
    for value in ("no", None, 0):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            SpinLatticeNEB(images, **{name: value})


def test_energies_per_formula_unit() -> None:
    path = path_of({"lattice": [0, 1, 0], "spins": [0, 1, 0]}, [0, 0.004, 0])
    row = path.table(formula_units=2).splitlines()[2].split()
    assert float(row[2]) == pytest.approx(2.0)
    assert sum(map(float, row[4:6])) == pytest.approx(2.0)
    ax = plot_path(path, formula_units=2)
    assert ax.get_ylabel() == "energy (meV/f.u.)"
    assert max(ax.lines[1].get_ydata()) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="formula_units"):
        path.table(formula_units=0)


def test_every_line_and_marker_of_a_path_has_a_name() -> None:
    path = path_of({"lattice": [0, 1, 0], "spins": [0, 1, 0]}, [0, 1, 0])
    ax = plot_path(path, parts=True)
    names = ax.get_legend_handles_labels()[1]
    assert len(names) == len(ax.lines) == 5
    plot_path(path, ax, label="another")  # its markers have their names already
    assert ax.get_legend_handles_labels()[1][5:] == ["another"]
