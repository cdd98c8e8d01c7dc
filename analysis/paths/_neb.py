"""Minimum energy paths of atoms, spins and cell: nudged elastic band and string.

>>> initial, final = atoms.copy(), atoms.copy()
>>> initial.calc = final.calc = atoms.calc
>>> rotate_spins(final, 180, axis="x")
>>> images = interpolate(initial, final, 9, axis="x")
>>> neb = SpinLatticeNEB(images)
>>> converged = FIRE(neb, logfile=None).run(fmax=0.05)
>>> neb.climb = True
>>> converged = neb.run(fmax=0.01, torque_max=1e-5)
>>> barrier = neb.path().barrier_forward  # eV
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.utils.abc import Optimizable
from tqdm import tqdm

from ..._digest import digest
from ..._files import locked
from ..._plausible import warn_of_unusual
from ..._progress import bar
from ..._validate import flag, positive, whole
from ...calculators._recorded import RecordedResults, identity
from ...io import write_extxyz
from ...optimize._defaults import FMAX, SPIN_SCALE, STRESS_MAX, TORQUE_MAX
from .._joint_space import (
    Metric,
    image_steps,
    lengths_of,
    move_image,
    tangents,
)
from ._band import Band, chosen_images, constrain, springs
from ._band_lbfgs import LEAST_LIMIT, MAX_STEP, SHARE, BandLBFGS
from ._neb_path import NEBPath, warn_of_folds
from ._string import redistribute_images

logger = logging.getLogger(__name__)

#: A band is written to its file every so many steps.
_SAVE_EVERY = 10

_METHODS = ("neb", "string")

#: What is held agrees between images up to this, A.
_SAME = 1e-4

#: Spring constant by default, eV/A^2, and the largest one in units of the difference
#: of energies over the square of the length: 5 times the curvature of a sine.
_SPRING, _SOFTEST = 0.1, 100.0

#: A torque across the path is small at this share of the mean one along it.
_SMALL = 0.03


class SpinLatticeNEB(Optimizable):
    r"""A band of images between two minima, for ASE's optimizers and :meth:`run`.

    Positions, directions of moments and, with ``cell``, strains move together in one
    metric of displacements, rotations and strains; moments keep their lengths, and
    those of length zero stay zero. On image i acts

        F - (F.t) t + (k_i |r_i| - k_{i-1} |r_{i-1}|) t,

    with F minus the gradient of the energy, t the improved tangent and r_i the way to
    the next image, along great circles where spins rotate. A climbing image feels
    F - 2 (F.t) t, which leads to a saddle point, and a falling one F, which leads to a
    minimum between the ends. The string method has no springs: after each step
    the images are put at equal distances along the path.

    All images that have moved are evaluated in one call of the model,
    the ends once. ASE's optimizers of gradients (BFGS, FIRE,
    MDMin, ...) drive it; those that search lines of the energy have none here, and
    ASE's ``NEBOptimizer`` takes ASE's own bands alone.

    Parameters
    ----------
    images : sequence of at least 3 Atoms
        The same atoms with moments and calculators that give ``magnetic_forces``;
        :func:`interpolate` makes them. The first and the last, which should be
        minima, stay; the others are changed in place. Constraints hold:
        ASE's for positions, :class:`~deepspin_ase.constraints.FixSpins` for moments.
    spring : float or (float, float), optional
        Spring constant, eV/A^2; or those of low and of high images, with linear
        weights above the higher end. By default 0.1, less where the energies of the
        first guess differ little.
    climb : bool or sequence of int
        Whether the highest inner image climbs, or which images do. May be set later.
    fall : bool or sequence of int
        Whether every image that is below both of its neighbours falls, or which
        images do. May be set later.
    positions, spins : bool
        Whether atoms and directions of moments move. What is held is the same in all
        images.
    cell : bool
        Whether cells move, among the periodic directions. Cells do not rotate.
    method : {"neb", "string"}
    spin_scale : float
        Length of a rotation by one radian, A: it sets the weight of rotations relative
        to displacements in distances along the path. Saddle points do not depend on it.
    torque_max : float, optional
        Converged when, besides ``fmax`` (eV/A) of the optimizer for atoms, no torque on
        a spin exceeds this, eV; by default the least of 1e-4, ``fmax`` times
        ``spin_scale``, and 3% of the mean torque along the path: the difference of the
        highest and the lowest energy over all rotations ...
    stress_max : float, optional
        ... and, with ``cell``, no stress exceeds this, eV/A^3; by default 5e-4, or what
        ``fmax`` means for the rows of the strain. All three act on the
        band: across the path, except for springs and climbing images.

    Raises
    ------
    ValueError
        If images do not fit together, two neighbours are the same, or another
        argument is not as described.

    References
    ----------
    Henkelman, Jonsson, J. Chem. Phys. 113, 9978 (2000), doi:10.1063/1.1323224
    (tangent); Henkelman, Uberuaga, Jonsson, J. Chem. Phys. 113, 9901 (2000),
    doi:10.1063/1.1329672 (climbing image, weighted springs); Bessarab, Uzdin, Jonsson,
    Comput. Phys. Commun. 196, 335 (2015), doi:10.1016/j.cpc.2015.07.001 (spins);
    Sheppard, Xiao, Chemelewski, Johnson, Henkelman, J. Chem. Phys. 136, 074103
    (2012), doi:10.1063/1.3684549 (cell); E, Ren, Vanden-Eijnden, Phys. Rev. B 66,
    052301 (2002), doi:10.1103/PhysRevB.66.052301 (string).
    """

    def __init__(
        self,
        images: Sequence[Atoms],
        *,
        spring: float | tuple[float, float] | None = None,
        climb: bool | Sequence[int] = False,
        fall: bool | Sequence[int] = False,
        positions: bool = True,
        spins: bool = True,
        cell: bool = False,
        method: str = "neb",
        spin_scale: float = SPIN_SCALE,
        torque_max: float | None = None,
        stress_max: float | None = None,
    ) -> None:
        if method not in _METHODS:
            raise ValueError(f"method must be one of {_METHODS}, got {method!r}")
        positive("spin_scale", spin_scale)
        if spring is not None:
            springs(spring)
        self.spring = spring
        self._own_spring: float | None = None
        self.climb = climb
        self.fall = fall
        self.method = method
        self.torque_max: float | None = None
        self.stress_max: float | None = None
        self._set_limits(torque_max, stress_max)
        chosen = {"positions": positions, "spins": spins, "cell": cell}
        for name, value in chosen.items():
            flag(name, value)
        moving = {"lattice": positions, "spins": spins}
        held = [name for name, moves in moving.items() if not moves]
        self.band = Band(images, cell=cell, held=held)
        self.metric = Metric.of(self.images[0], spin_scale, cell)
        self._check_held()
        gaps = lengths_of(self._rows())
        if gaps.min() == 0.0:
            k = int(gaps.argmin())
            raise ValueError(
                f"images {k} and {k + 1} are the same: there is no path between them"
            )
        self._x = np.zeros((len(gaps) - 1, *self._rows().shape[1:]))
        self._ends_checked = False
        self._known: tuple[int, str] | None = None
        self._optimizer: BandLBFGS | None = None
        self._forces = np.zeros_like(self._x)

    @property
    def images(self) -> list[Atoms]:
        """The images, both ends included."""
        return self.band.images

    # What ASE's optimizers ask for

    def ndofs(self) -> int:
        """Return the number of coordinates of all moving images."""
        return self._x.size

    def get_x(self) -> np.ndarray:
        """Return the displacements of the images since the band was made, flat, A.

        In rows of displacements, rotations times ``spin_scale`` and strains. Where
        several rotations follow each other these are sums of rotation vectors.
        """
        return self._x.ravel().copy()

    def set_x(self, x: np.ndarray) -> None:
        """Move the images by the difference of ``x`` and :meth:`get_x`."""
        step = x.reshape(self._x.shape) - self._x
        if not step.any():
            return
        self._x = self._x + step
        self._move(step)
        if self.method == "string":
            fixed = [*self._climbing(), *self._falling()]
            before = [image.copy() for image in self.images[1:-1]]
            redistribute_images(self.images, self.metric, fixed)
            for k, image in enumerate(before):
                pair = [image, self.images[k + 1]]
                self._x[k] += self._rows(pair)[0]

    def get_gradient(self) -> np.ndarray:
        """Return minus the forces on the moving images, flat, eV/A."""
        return -self.get_forces().ravel()

    def get_value(self) -> float:
        """Return the energy of the highest moving image, eV."""
        return float(self.energies[1:-1].max())

    def iterimages(self) -> Iterator[Atoms]:
        """Yield copies of all images with their results."""
        self.band.evaluate()
        return self.band.snapshots()

    def converged(self, gradient: np.ndarray, fmax: float) -> bool:
        """Return whether forces, torques and stresses on the band are small enough."""
        if not self._ends_checked:
            self._check_ends(fmax)
        largest = self.residuals(-gradient.reshape(self._x.shape))
        limits = self._limits(fmax)
        return all(value < limits[part] for part, value in largest.items())

    def _limits(self, fmax: float) -> dict[str, float]:
        """Return the thresholds of force (eV/A), torque (eV) and stress (eV/A^3)."""
        torque = min(TORQUE_MAX, fmax * self.metric.spin_scale, self._least_torque())
        stress = min(STRESS_MAX, fmax * self._stress_per_force())
        return {
            "force": fmax,
            "torque": torque if self.torque_max is None else self.torque_max,
            "stress": stress if self.stress_max is None else self.stress_max,
        }

    def _least_torque(self) -> float:
        """Return a torque (eV) that is small beside those along the path."""
        own = self.metric.parts(len(self.images[0]))["spins"]
        length = np.linalg.norm(self._rows()[:, own], axis=2).sum()
        span = float(np.ptp(self.energies))
        rotation = float(length) / self.metric.spin_scale
        return _SMALL * span / rotation if span > 0.0 and rotation > 0.0 else np.inf

    def run(
        self,
        *,
        fmax: float = FMAX,
        torque_max: float | None = None,
        stress_max: float | None = None,
        steps: int = 500,
        output: str | os.PathLike[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> bool:
        """Optimize the band by L-BFGS of all images together.

        Curvatures found in earlier runs are kept.

        Parameters
        ----------
        fmax : float
            eV/A.
        torque_max, stress_max : float, optional
            eV and eV/A^3, from now on; by default as they are.
        steps : int
            Largest number of steps.
        output : path, optional
            extxyz file to which the band is written every few steps and at the end.
        checkpoint : path, optional
            File that keeps the results of every model call. The same run, from the
            same images, repeats its steps from there and goes on where it was stopped
            or killed, to the same bits; thresholds and ``steps`` may be others.

        Returns
        -------
        bool
            Whether the band converged.

        Raises
        ------
        ValueError
            If a threshold is not positive, ``steps`` is negative, or the checkpoint is
            damaged or of another model, other images or options.
        OSError
            If ``output`` cannot be written, or another process writes to it.
        """
        warn_of_unusual("fmax", positive("fmax", fmax))
        whole("steps", steps)
        self._set_limits(torque_max, stress_max)
        if self._optimizer is None:
            parts = self.metric.parts(len(self.images[0]))
            ways = np.linalg.norm(self._rows(), axis=2).mean(axis=0)
            longest = max(SHARE * float(ways.max()), LEAST_LIMIT)
            self._optimizer = BandLBFGS([*parts.values()], min(longest, MAX_STEP))
        self._optimizer.resume()
        with locked(*(path for path in (output, checkpoint) if path is not None)):
            if checkpoint is not None:
                self.band.record = RecordedResults(
                    checkpoint, self.identity(), self.images
                )
            try:
                return self._optimize(self._optimizer, fmax, steps, output)
            finally:
                self.band.record = None

    def identity(self) -> dict[str, str]:
        """Return what the steps of a run depend on, thresholds aside."""
        chosen = ("spring", "climb", "fall", "method")
        return {
            "model": digest([identity(image.calc) for image in self.images]),
            "images": digest([[*self.images], self._x]),
            "cell": repr(self.band.cell),
            "held": repr(self.band.held),
            "spin_scale": repr(self.metric.spin_scale),
            **{name: repr(getattr(self, name)) for name in chosen},
        }

    def _optimize(
        self,
        optimizer: BandLBFGS,
        fmax: float,
        steps: int,
        output: str | os.PathLike[str] | None,
    ) -> bool:
        converged = False
        with bar(total=steps, desc="band", unit="step") as progress:
            for step in range(steps + 1):
                forces = self.get_forces()
                converged = self._report(step, forces, fmax, progress)
                last = converged or step == steps
                if output is not None and (last or step % _SAVE_EVERY == 0):
                    self.write(output)
                if last:
                    break
                x = self.get_x().reshape(forces.shape)
                self.set_x(optimizer.next(x, forces))
                progress.update()
        return converged

    def _report(
        self, step: int, forces: np.ndarray, fmax: float, progress: tqdm[Any]
    ) -> bool:
        """Show the largest energy and residuals; return whether the band converged."""
        largest = {k: f"{x:.1e}" for k, x in self.residuals(forces).items()}
        top = 1e3 * (self.get_value() - self.energies[0])
        progress.set_postfix({"top_meV": f"{top:.3f}", **largest})
        logger.info("step %d: top %.3f meV, %s", step, top, largest)
        return self.converged(-forces.ravel(), fmax)

    def _set_limits(self, torque_max: float | None, stress_max: float | None) -> None:
        """Change the thresholds that are given, eV and eV/A^3."""
        if torque_max is not None:
            self.torque_max = positive("torque_max", torque_max)
        if stress_max is not None:
            self.stress_max = positive("stress_max", stress_max)

    # The band

    @property
    def energies(self) -> np.ndarray:
        """Energies (P,) of the images, eV."""
        self.band.evaluate()
        return self.band.energies()

    def get_forces(self) -> np.ndarray:
        """Return the forces on the moving images in rows (P - 2, R, 3), eV/A."""
        self.band.evaluate()
        settings = repr((self.climb, self.fall, self.spring))
        known = (self.band.n_evaluated, settings)
        if self._known != known:
            self._known, self._forces = known, self._new_forces()
        return self._forces.copy()

    def _new_forces(self) -> np.ndarray:
        energies = self.band.energies()
        rows = self._rows()
        gaps = lengths_of(rows)
        tangent = tangents(rows, energies)[1:-1]
        real = self.band.forces(self.metric)[1:-1]
        along = np.sum(real * tangent, axis=(1, 2))
        pull = np.zeros_like(along)
        if self.method == "neb":
            pulls = self._spring_constants(energies) * gaps
            pull = pulls[1:] - pulls[:-1]
        keep = np.zeros_like(along)
        for images, sign in ((self._climbing(), -1.0), (self._falling(), 1.0)):
            for k in images:
                keep[k - 1], pull[k - 1] = sign, 0.0
        forces = real + ((keep - 1.0) * along + pull)[:, None, None] * tangent
        for image, own in zip(self.images[1:-1], forces, strict=True):
            constrain(image, own, potentials=False)
        return forces

    def residuals(self, forces: np.ndarray | None = None) -> dict[str, float]:
        """Return the largest force (eV/A), torque (eV) and stress (eV/A^3) on the band.

        Of what moves.

        Parameters
        ----------
        forces : (P', R, 3) array, eV/A, optional
            Of some images; by default those on the moving ones.
        """
        if forces is None:
            forces = self.get_forces()
        parts = self.metric.parts(len(self.images[0]))
        norms = np.linalg.norm(forces, axis=2)
        largest = {}
        if "lattice" not in self.band.held:
            largest["force"] = float(norms[:, parts["lattice"]].max())
        if "spins" not in self.band.held:
            torque = float(norms[:, parts["spins"]].max()) * self.metric.spin_scale
            largest["torque"] = torque
        if self.metric.strain_scale is not None:
            virial = float(np.abs(forces[:, parts["cell"]]).max())
            largest["stress"] = virial * self._stress_per_force()
        return largest

    def _stress_per_force(self) -> float:
        """Return the stress (eV/A^3) that a force (eV/A) on a row of the strain is."""
        volume = min(abs(np.linalg.det(i.cell.complete())) for i in self.images)
        return float((self.metric.strain_scale or 0.0) / volume)

    def path(self) -> NEBPath:
        """Return energies, barriers and lengths of the path as it is.

        Warns where the path folds back on itself, and where it leads down from an end.
        """
        energies = self.energies
        path = NEBPath.of(
            self.images,
            self.band.results,
            energies=energies,
            forces=self.band.forces(self.metric),
            metric=self.metric,
            climbing=self._climbing(),
        )
        warn_of_folds(path)
        return path

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write all images with their results to an extxyz file.

        A band resumes from there: ``read_extxyz`` gives the images, which need
        calculators again.
        """
        write_extxyz(path, list(self.iterimages()))

    def _rows(self, images: Sequence[Atoms] | None = None) -> np.ndarray:
        chosen = self.images if images is None else images
        return self.metric.rows(image_steps(chosen, cell=self.band.cell))

    def _check_held(self) -> None:
        """Raise ValueError where something is held that differs between images."""
        if len(self.band.held) == 2 and not self.band.cell:
            raise ValueError("nothing may move: set positions, spins or cell")
        parts, rows = self.metric.parts(len(self.images[0])), self._rows()
        for name in self.band.held:
            longest = np.linalg.norm(rows[:, parts[name]], axis=2).max()
            if longest > _SAME:
                argument = {"lattice": "positions", "spins": "spins"}[name]
                raise ValueError(
                    f"{argument}=False holds what differs between images, by up to "
                    f"{longest:.2g} A: give ends with the same {argument}"
                )

    def _move(self, rows: np.ndarray) -> None:
        steps = self.metric.steps(rows)
        for k, image in enumerate(self.images[1:-1]):
            move_image(image, steps.lattice[k], steps.rotations[k], steps.strains[k])

    def _spring_constants(self, energies: np.ndarray) -> np.ndarray:
        """Return the spring constants (P - 1,), eV/A^2."""
        if self._own_spring is None:
            length = float(lengths_of(self._rows()).sum())
            weak = _SOFTEST * float(np.ptp(energies)) / length**2
            self._own_spring = min(_SPRING, weak) if weak > 0.0 else _SPRING
        low, high = springs(self._own_spring if self.spring is None else self.spring)
        base = max(energies[0], energies[-1])
        upper = np.maximum(energies[:-1], energies[1:])
        if upper.max() <= base:
            return np.full(len(upper), low)
        weight = np.clip((upper - base) / (upper.max() - base), 0.0, 1.0)
        return low + (high - low) * weight

    def _climbing(self) -> list[int]:
        """Return the images that climb now."""
        if self.climb is True:
            return [1 + int(self.energies[1:-1].argmax())]
        return chosen_images("climb", self.climb, len(self.images))

    def _falling(self) -> list[int]:
        """Return the images that fall now."""
        if self.fall is True:
            e = self.energies
            below = (e[1:-1] < e[:-2]) & (e[1:-1] < e[2:])
            return (1 + np.flatnonzero(below)).tolist()
        return chosen_images("fall", self.fall, len(self.images))

    def _check_ends(self, fmax: float) -> None:
        """Warn where the ends are relaxed less well than the band shall be."""
        self._ends_checked = True
        forces, limits = self.band.forces(self.metric), self._limits(fmax)
        for name, k in (("first", 0), ("last", -1)):
            found = self.residuals(forces[[k]])
            if any(value > 2.0 * limits[part] for part, value in found.items()):
                shown = ", ".join(f"{p} {x:.2g} {_UNITS[p]}" for p, x in found.items())
                warnings.warn(
                    f"the {name} image is not a minimum ({shown}); it stays as it is, "
                    "and barriers count from there. Relax the ends first, with "
                    "deepspin_ase.optimize",
                    stacklevel=2,
                )


_UNITS = {"force": "eV/A", "torque": "eV", "stress": "eV/A^3"}
