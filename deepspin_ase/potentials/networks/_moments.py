"""The network on moments: explicit spins with exact symmetries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from ase.data import atomic_numbers
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self, Unpack

from ..._config import Configuration
from ..._plausible import warn_of_unusual
from ...kernels import (
    Instructions,
    MomentDescriptor,
    MomentFeatures,
    MomentsData,
    MomentsKernel,
    MomentsNetworkData,
    MomentsSums,
)
from ...neighbors import PairList
from ...system import System
from .._base import Predictor
from .._evaluation import Wanted
from .._kernels import Kernels
from .._prediction import Prediction
from ..terms._sites import unit_spins
from ._error_model import ErrorModel
from ._invariants import (
    Factors,
    Layout,
    Monomials,
    Program,
    compile_factors,
    compile_invariants,
    moment_factors,
    n_monomials,
)
from ._layers import DenseLayer, ResidualNetwork
from ._trainable import Trainable, architecture

#: Energy that a standardized feature stands for at first, eV: the scale of what
#: distinguishes the atoms of one magnet from each other.
ENERGY_SCALE = 0.02

#: A feature's standard deviation is at least this share of its mean size. Features that
#: hardly vary in the data, such as those of constant moments, would otherwise be
#: magnified without bounds as soon as they do vary.
LEAST_SHARE = 0.02

#: Weight of neighbors at other distances than in the data, for radial functions.
ELSEWHERE = 1e-3

#: Least standard deviation, where sums over neighbors are of the order of one.
LEAST_DEVIATION = 1e-4

#: Coefficients of features are expected to be smaller by this ratio for each further
#: moment of the neighborhood that is a factor of them.
EXPECTED_RATIO = 0.1

Count = Annotated[int, Field(gt=0)]


class SpinMomentConfig(Configuration):
    """Everything that defines a network on moments except its weights.

    Attributes
    ----------
    elements : list of str
        Chemical symbols.
    magnetic : list of str
        Those that carry moments.
    cutoff : float
        Largest distance of a neighbor, A.
    spin_orbit : bool
        Whether lattice and spins are coupled: magnetic anisotropy and
        Dzyaloshinskii-Moriya interactions. Without, energies do not change when all
        moments are rotated.
    lengths : bool
        Whether energies depend on lengths of moments. Without, they depend on the
        directions of moments alone, as those of classical spins do, and magnetic forces
        have no part along moments.
    basis : int
        Radial basis functions.
    channels, spin_channels : int
        Radial functions of the moments of the lattice and of the spins: combinations
        of basis functions and elements, whose number need not grow with that of the
        elements.
    angular, spin_angular : int
        Those of them, the most important ones first, whose moments have directions too
        and are multiplied with others. The energy is linear in the rest, which resolve
        the distance in interactions of pairs.
    degree, spin_degree : int
        Of the moments in the directions of the neighbors, at most 4 and 3.
    four_body : int
        Channels whose moments are multiplied three at a time; 0 for none.
    gates : int
        Scalars, the atom's own moment squared and sums over its neighbors, that
        products of two moments of the lattice are multiplied with: for data of several
        phases and volumes, for which the energy's linear term is a compromise without.
    neuron : list of int
        Widths of the hidden layers.
    """

    elements: Annotated[list[str], Field(min_length=1)]
    magnetic: list[str]
    cutoff: Annotated[float, Field(gt=0)] = 5.0
    spin_orbit: bool = False
    lengths: bool = True
    basis: Count = 24
    channels: Count = 24
    spin_channels: Count = 12
    angular: Count = 6
    spin_angular: Count = 6
    degree: Annotated[int, Field(ge=0, le=4)] = 3
    spin_degree: Annotated[int, Field(ge=0, le=3)] = 2
    four_body: Annotated[int, Field(ge=0)] = 3
    gates: Annotated[int, Field(ge=0)] = 0
    neuron: Annotated[list[Count], Field(min_length=1)] = Field(default=[32, 32])

    def meaning(self) -> dict[str, Any]:
        """Return nested plain data, the order of magnetic elements left out."""
        return super().meaning() | {"magnetic": sorted(self.magnetic)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for symbol in self.elements:
            if symbol not in atomic_numbers or symbol == "X":
                raise ValueError(f"elements holds {symbol!r}, which is not an element")
        for name in ("elements", "magnetic"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} holds an element twice")
        if missing := [x for x in self.magnetic if x not in self.elements]:
            raise ValueError(f"magnetic holds {missing[0]!r}, which is not in elements")
        if self.spin_degree > self.degree:
            raise ValueError("spin_degree must not exceed degree")
        if self.spin_orbit and not self.magnetic:
            raise ValueError("spin_orbit needs a magnetic element")
        if not (self.lengths or self.magnetic):
            raise ValueError("lengths: false needs a magnetic element")
        functions = self.basis * len(self.elements)
        for name in ("channels", "spin_channels"):
            if getattr(self, name) > functions:
                raise ValueError(
                    f"{name} must not exceed the {functions} functions that they "
                    "combine (basis times the number of elements), got "
                    f"{getattr(self, name)}"
                )
        warn_of_unusual("cutoff", self.cutoff)
        return self

    def layout(self) -> Layout:
        """Return the sizes of the moments."""
        spins = bool(self.magnetic)
        angular = min(self.angular, self.channels)
        spin_angular = min(self.spin_angular, self.spin_channels)
        return Layout(
            channels=self.channels,
            spin_channels=self.spin_channels if spins else 0,
            angular=angular,
            spin_angular=spin_angular if spins else 0,
            degree=self.degree,
            spin_degree=self.spin_degree if spins else 0,
            four_body=min(self.four_body, angular, spin_angular),
            gates=min(self.gates, self.channels + spins),
            spin_orbit=self.spin_orbit,
        )


@architecture("moments")
class SpinMomentNetwork(Trainable):
    """Network on invariants of moments of the lattice and of explicit spins.

    Moments of an atom's neighborhood, sums over neighbors of radial functions times
    powers of the direction and of the neighbor's spin, are contracted to invariants of
    two to four bodies (:mod:`deepspin_ase.potentials.networks._invariants`), which are
    standardized and mapped to the atom's energy by a linear term plus a small network
    per element. The radial functions are fixed combinations of Chebyshev polynomials
    with a cut-off function of class C2, so that derivatives for training come in closed
    form.

    Exact by construction: translations, permutations, rotations and inversion of the
    lattice with spins as axial vectors, time reversal; energies are polynomial where
    moments vanish. Without ``spin_orbit`` spins rotate on their own.

    Sources: moment tensors, Shapeev, Multiscale Model. Simul. 14, 1153 (2016); magnetic
    moments as variables, Novikov et al., npj Comput. Mater. 8, 13 (2022).

    Parameters
    ----------
    config : SpinMomentConfig
    seed : int
        Of the initial weights.

    Attributes
    ----------
    backend : {"fused", "reference"}
        Compiled kernels with analytic derivatives, or plain torch. Both give the same
        to 1e-10 eV per atom. Other devices than the CPU use torch.
    mixed : bool
        Of the compiled kernels: geometry and sums of forces in float64, all else in
        float32.
    """

    is_local = True
    config_class: ClassVar[type[Configuration]] = SpinMomentConfig
    training_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "learning_rate": {"start_lr": 2e-3, "stop_lr": 2e-6, "decay": "cosine"},
        "loss": {
            "weights": dict.fromkeys(("energy", "forces", "magnetic_forces", "virial"))
        },
        "training": {
            "numb_steps": 4000,
            "batch_size": 4,
            "precision": "mixed",
            "gradient_clip": 1.0,
            "averaging": 0.99,
            "keep_best": True,
            "disp_freq": 200,
        },
    }

    config: SpinMomentConfig

    lattice_mixing: Tensor
    spin_mixing: Tensor
    moment_scale: Tensor
    mean: Tensor
    deviation: Tensor
    _type_of: Tensor

    def __init__(self, config: SpinMomentConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        numbers = [atomic_numbers[symbol] for symbol in config.elements]
        n_types = len(numbers)
        self.species = frozenset(numbers)
        self.uses_spins = bool(config.magnetic)
        if self.uses_spins:
            self.magnetic_species = frozenset(
                atomic_numbers[symbol] for symbol in config.magnetic
            )
        self.layout = config.layout()
        self.program: Program = compile_invariants(self.layout)
        k = self.program.n_features
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Parameter(torch.zeros(n_types, k, dtype=torch.float64))
        self.fittings = nn.ModuleList(
            ResidualNetwork(
                k,
                config.neuron,
                activation="tanh",
                timestep=False,
                head=True,
                generator=generator,
            )
            for _ in range(n_types)
        )
        with torch.no_grad():
            for fitting in self.fittings:
                first, *_, head = _dense(fitting)
                first.copies = 0  # features stay out of the network's residuals
                head.matrix.mul_(0.1)
                head.bias.zero_()
        self._register(numbers, k)

    def _register(self, numbers: Sequence[int], k: int) -> None:
        config, layout, n_types = self.config, self.layout, len(numbers)

        def keep(name: str, values: Tensor) -> None:
            self.register_buffer(name, values)

        magnetic = [x in config.magnetic for x in config.elements]
        keep("lattice_mixing", _plain_mixing(layout.channels, config.basis, n_types))
        mixing = _plain_mixing(layout.spin_channels, config.basis, sum(magnetic))
        full = torch.zeros(n_types, *mixing.shape[1:], dtype=torch.float64)
        full[torch.tensor(magnetic)] = mixing
        keep("spin_mixing", full)
        # Moments of elements that carry none are nothing, and so are their derivatives.
        scale = [1.0 if carries else torch.inf for carries in magnetic]
        keep("moment_scale", torch.tensor(scale, dtype=torch.float64))
        keep("mean", torch.zeros(n_types, k, dtype=torch.float64))
        keep("deviation", torch.ones(n_types, k, dtype=torch.float64))
        self.register_element_energies(config.elements)
        type_of = torch.full((max(atomic_numbers.values()) + 1,), -1)
        type_of[torch.tensor(numbers)] = torch.arange(n_types)
        self.register_buffer("_type_of", type_of, persistent=False)
        self._program: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    @classmethod
    def completed(
        cls,
        values: Mapping[str, Any],
        *,
        elements: Sequence[str],
        magnetic: Sequence[str],
    ) -> dict[str, Any]:
        """Return the configuration with the elements of the data."""
        given = {"elements": list(elements), **values}
        known = given["elements"]
        magnetic = [x for x in magnetic if x in known] if known else list(magnetic)
        # Channels are shared by the elements: a few more for more than one.
        wider = {"channels": 16, "angular": 8} if len(known) > 1 else {}
        return {"magnetic": magnetic, **wider, **given}

    @property
    def cutoff(self) -> float:
        """Largest distance of a neighbor, A."""
        return self.config.cutoff

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance between atoms with a common neighbor, A."""
        return 2.0 * self.cutoff

    def types(self, system: System) -> Tensor:
        """Return the position of every atom's element in ``config.elements``, (N,)."""
        return self._type_of[system.species]

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV; differentiable in everything."""
        return self.energies(self.features(system, pairs), self.types(system))

    def energies(self, features: Tensor, types: Tensor) -> Tensor:
        """Return per-atom energies (N,), eV, of features (N, K)."""
        z = (features - self.mean[types]) / self.deviation[types]
        energies = torch.zeros_like(features[:, 0])
        for a, fitting in enumerate(self.fittings):
            rows = (types == a).nonzero().flatten() if len(self.fittings) > 1 else None
            own = z if rows is None else z[rows]
            if not len(own):
                continue
            energy = ENERGY_SCALE * (fitting(own)[:, 0] + own @ self.linear[a])
            energies = energy if rows is None else energies.index_add(0, rows, energy)
        return energies + self.energy_bias[types]

    def features(self, system: System, pairs: PairList) -> Tensor:
        """Return the invariants (N, K), in torch; differentiable."""
        moments = self._moments(system, pairs)
        first, second, out, coefficient = self._instructions(moments)
        n = self.program.n_values - self.layout.end
        values = torch.cat([moments, moments.new_zeros(n, moments.shape[1])])
        for begin, end in zip(
            self.program.levels[:-1], self.program.levels[1:], strict=True
        ):
            part = slice(begin, end)
            product = coefficient[part, None] * values[first[part]]
            values = values.index_add(0, out[part], product * values[second[part]])
        return values[-self.program.n_features :].T

    def _spins(self, system: System) -> Tensor:
        """Return what features depend on: moments, or their directions, (N, 3)."""
        return system.spins if self.config.lengths else unit_spins(system)

    def _described(self, system: System) -> System:
        """Return the System, without gradients, whose features kernels compute."""
        system = system.detach()
        if self.config.lengths:
            return system
        return system.replace(spins=self._spins(system))

    def _by_moments(self, system: System, gradients: Tensor) -> Tensor:
        """Return derivatives by moments (N, 3, ...) of those by what features know."""
        if self.config.lengths:
            return gradients
        shape = (-1, 3, *[1] * (gradients.ndim - 2))
        unit = self._spins(system).reshape(shape).to(gradients)
        length = system.spins.norm(dim=1).reshape(-1, *[1] * (gradients.ndim - 1))
        per = torch.where(length > 0.0, 1.0 / length, 0.0).to(gradients)
        along = (unit * gradients).sum(dim=1, keepdim=True)
        return per * (gradients - unit * along)

    def _instructions(self, like: Tensor) -> tuple[Tensor, ...]:
        key = like.device, like.dtype
        if key not in self._program:
            p = self.program
            indices = (torch.from_numpy(x) for x in (p.first, p.second, p.out))
            self._program[key] = (
                *(x.to(like.device) for x in indices),
                torch.from_numpy(p.coefficient).to(like),
            )
        return self._program[key]

    def _moments(self, system: System, pairs: PairList) -> Tensor:
        """Return the values (V, N) that the instructions start from."""
        types, layout = self.types(system), self.layout
        n, config = system.n_atoms, self.config
        s = self._spins(system) / self.moment_scale[types][:, None]
        vectors = pairs.vectors(system)
        r = vectors.norm(dim=1)
        u = vectors / r[:, None]
        basis = radial_basis(r, config.cutoff, config.basis)
        near = types[pairs.j]
        monomials = Monomials.up_to(layout.degree)
        columns = [torch.ones_like(r)]
        for parent, axis in list(zip(monomials.parent, monomials.axis, strict=True))[
            1:
        ]:
            columns.append(columns[int(parent)] * u[:, int(axis)])
        powers = torch.stack(columns, dim=1)

        def total(values: Tensor) -> Tensor:
            flat = values.flatten(1)
            return flat.new_zeros(n, flat.shape[1]).index_add(0, pairs.i, flat)

        radial = _mixed(basis, self.lattice_mixing, near)
        few = radial[:, None, : layout.angular]
        found = [
            torch.ones_like(s[:, :1]),
            s,
            total(radial),
            total(powers[:, 1:, None] * few),
        ]
        if layout.spin_channels:
            radial_spin = _mixed(basis, self.spin_mixing, near)
            sj = s[pairs.j]
            low = powers[:, : n_monomials(layout.spin_degree)]
            product = (low[:, 1:, None] * sj[:, None]).flatten(1)
            few = radial_spin[:, None, : layout.spin_angular]
            aligned = (s[pairs.i] * sj).sum(1)
            found += [
                total(sj[:, :, None] * radial_spin[:, None]),
                total(product[:, :, None] * few),
                total(sj.square().sum(1)[:, None] * radial_spin),
                total(aligned.square()[:, None] * radial_spin),
            ]
        if layout.spin_orbit:
            polar = (s[pairs.i] * u).sum(1)
            found.append(total(polar.pow(4)[:, None] * radial))
        return torch.cat(found, dim=1).T

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction | None:
        """Return energy and derivatives; see :meth:`Potential.evaluate`.

        With ``create_graph`` the results can be differentiated by the weights, not by
        positions and moments: for that, differentiate :meth:`forward`.
        """
        describe = self._descriptor(system) if create_graph else None
        if describe is None:
            return None
        want = forces or magnetic_forces or virial
        described = describe(self._described(system), pairs, self.types(system))
        energies, sums = self._evaluate_for_training(described, want=want)
        return Prediction(
            energy=system.sum(energies),
            energies=energies,
            volume=system.volume,
            forces=sums.forces if forces else None,
            magnetic_forces=self._by_moments(system.detach(), sums.magnetic_forces)
            if magnetic_forces
            else None,
            virial=sums.virial if virial else None,
        )

    def compiled(self, kernels: Kernels) -> Predictor:
        """Return what evaluates the present weights in kernels: see ``backend``."""
        if self.backend != "fused":
            return self
        real = torch.float32 if self.mixed else kernels.dtype
        kernel = kernels.moments(self, self.frozen(), real)
        return self if kernel is None else _Compiled(self, kernel)

    def frozen(self) -> MomentsNetworkData:
        """Return the network as plain data: its present weights and sizes."""
        return MomentsNetworkData(
            moments=self._frozen_moments(),
            scale=ENERGY_SCALE,
            mean=self.mean,
            deviation=self.deviation,
            linear=self.linear.detach(),
            energy_bias=self.energy_bias,
            fittings=tuple(
                tuple(layer.frozen() for layer in _dense(fitting))
                for fitting in self.fittings
            ),
        )

    def _frozen_moments(self) -> MomentsData:
        layout = self.layout
        factors, program = compile_factors(layout), self.program
        return MomentsData(
            cutoff=self.config.cutoff,
            mixing=torch.cat([self.lattice_mixing, self.spin_mixing], dim=1),
            lattice=layout.channels,
            moment_scale=self.moment_scale,
            factors=_instructions(factors),
            rows=factors.rows,
            contractions=_instructions(program),
            n_features=program.n_features,
        )

    def _descriptor(self, system: System) -> MomentDescriptor | None:
        """Return what describes neighborhoods in kernels, None without them."""
        if self.backend != "fused":
            return None
        real = torch.float32 if self.mixed else system.dtype
        kernels = self.kernels(system.device, system.dtype)
        return kernels.features(self, self._frozen_moments(), real)

    @torch.no_grad()
    def _frozen_features(self, system: System, pairs: PairList) -> Tensor:
        """Return the features (N, K) without their graph, by kernels if there are."""
        describe = self._descriptor(system)
        if describe is None:
            return self.features(system, pairs)
        described = describe(self._described(system), pairs, self.types(system))
        return described.features()

    @torch.no_grad()
    def fit_error_model(
        self,
        samples: Iterable[tuple[System, PairList]],
        errors: Iterable[tuple[System, PairList, Mapping[str, Tensor]]],
    ) -> None:
        """Learn to estimate errors; see :meth:`Trainable.fit_error_model`."""

        def described(system: System, pairs: PairList) -> tuple[Tensor, Tensor]:
            return self._frozen_features(system, pairs), self.types(system)

        model = ErrorModel.of(
            (described(*sample) for sample in samples), self.mean, self.deviation
        )
        self.error_model = model.calibrated(
            [(system, *described(system, pairs), own) for system, pairs, own in errors]
        )

    @torch.no_grad()
    def deviations(self, system: System, pairs: PairList) -> dict[str, Tensor]:
        """Return estimates of the errors; empty without an error model."""
        if self.error_model is None:
            return {}
        features = self._frozen_features(system, pairs)
        return self.error_model.deviations(features, self.types(system), system)

    def feature_distances(self, system: System, pairs: PairList) -> Tensor | None:
        """Return distances of features; see :meth:`Trainable.feature_distances`.

        None where there are no kernels for them, since torch takes long.
        """
        describe = self._descriptor(system)
        if self.error_model is None or describe is None:
            return None
        types = self.types(system)
        features = describe(self._described(system), pairs, types).features()
        return self.error_model.squared_distances(features, types).sqrt()

    def linear_term(self) -> nn.Parameter:
        """Return the coefficients (n_types, K) of the standardized features."""
        return self.linear

    def linear_sizes(self) -> Tensor:
        """Return the expected sizes of coefficients: less for more moments."""
        factors = torch.from_numpy(moment_factors(self.program, self.layout))
        sizes = EXPECTED_RATIO ** (factors.double() - 1.0).clamp_min(0.0)
        return sizes.repeat(len(self.fittings))

    def design(self, system: System, pairs: PairList) -> Tensor:
        """Return the derivatives by the linear term; see :meth:`Trainable.design`.

        Raises
        ------
        ValueError
            If there are no compiled kernels to do it.
        """
        describe = self._descriptor(system)
        if describe is None:
            raise ValueError(
                f"the linear term is fitted in compiled kernels, and there are none "
                f"on {system.device} with backend {self.backend!r}: set the network's "
                "backend to 'fused' and evaluate on the CPU"
            )
        described = describe(self._described(system), pairs, self.types(system))
        scale = ENERGY_SCALE / self.deviation.double()
        rows = described.design(scale)
        counts = torch.bincount(described.types, minlength=len(scale))
        rows[:, 0] -= counts[:, None] * self.mean.double() * scale
        n = system.n_atoms
        for own in rows[:, 1 + 3 * n : 1 + 6 * n]:  # of a type, views
            by_spins = own.view(n, 3, -1)
            by_spins.copy_(self._by_moments(system, by_spins))
        return rows.transpose(0, 1).flatten(1)

    def _evaluate_for_training(
        self, described: MomentFeatures, *, want: bool
    ) -> tuple[Tensor, MomentsSums]:
        """Return energies, forces, magnetic forces and virial, for their gradients."""
        features = described.features().requires_grad_(want)
        energies = self.energies(features, described.types)
        if not want:
            return energies, described.pull_back(torch.zeros_like(features))
        (slope,) = torch.autograd.grad(energies.sum(), features, create_graph=True)
        return energies, MomentsSums(*_PulledBack.apply(slope, described))

    @torch.no_grad()
    def start_from_zero(self) -> None:
        """Make the network return its element energies."""
        self.linear.zero_()
        for fitting in self.fittings:
            for parameter in _dense(fitting)[-1].parameters():
                parameter.zero_()

    @torch.no_grad()
    def fit_statistics(self, samples: Iterable[tuple[System, PairList]]) -> None:
        """Choose scales of moments, radial functions and standard scores from data.

        Radial functions become the combinations of basis functions and elements whose
        moments vary most in the data (principal components).
        """
        samples = list(samples)
        self._scale_moments(samples)
        self._choose_mixing(samples)
        n_types, k = self.mean.shape
        count = torch.zeros(n_types, dtype=torch.float64)
        first, second, size = (torch.zeros(n_types, k).double() for _ in range(3))
        for system, pairs in samples:
            features = self._frozen_features(system, pairs).double()
            types = self.types(system)
            count += torch.bincount(types, minlength=n_types)
            first.index_add_(0, types, features)
            second.index_add_(0, types, features.square())
            size.index_add_(0, types, features.abs())
        count = count.clamp_min(1.0)[:, None]
        self.mean.copy_(first / count)
        variance = (second / count - (first / count).square()).clamp_min(0.0)
        least = (LEAST_SHARE * size / count).clamp_min(LEAST_DEVIATION)
        self.deviation.copy_(torch.maximum(variance.sqrt(), least))

    def _scale_moments(self, samples: Sequence[tuple[System, PairList]]) -> None:
        """Set the unit of every magnetic element's moments to their rms."""
        n_types = len(self.moment_scale)
        squares, counts = torch.zeros(2, n_types, dtype=torch.float64)
        for system, _ in samples:
            types = self.types(system)
            length = self._spins(system).double().square().sum(1)
            squares.index_add_(0, types, length)
            counts.index_add_(0, types, (length > 0).double())
        mean = (squares / counts.clamp_min(1.0)).sqrt()
        present = torch.isfinite(self.moment_scale) & (mean > 0)
        self.moment_scale.copy_(torch.where(present, mean, self.moment_scale))

    def _choose_mixing(self, samples: Sequence[tuple[System, PairList]]) -> None:
        """Set the radial functions to principal components of moments."""
        config, n_types = self.config, len(self.moment_scale)
        size = n_types * config.basis
        lattice, spins = torch.zeros(2, size, size, dtype=torch.float64)
        near_lattice, near_spins = torch.zeros(2, size, size, dtype=torch.float64)
        n_atoms = 0
        for system, pairs in samples:
            system = system.to(dtype=torch.float64)
            types = self.types(system)
            n_atoms += system.n_atoms
            vectors = pairs.vectors(system)
            r = vectors.norm(dim=1)
            u = vectors / r[:, None]
            basis = radial_basis(r, config.cutoff, config.basis)
            each = torch.zeros(len(r), n_types, config.basis, dtype=torch.float64)
            each[torch.arange(len(r)), types[pairs.j]] = basis
            each = each.flatten(1)
            s = (self._spins(system) / self.moment_scale[types][:, None])[pairs.j]
            for weight, matrix, near in (
                (u, lattice, near_lattice),
                (s, spins, near_spins),
            ):
                moments = torch.zeros(system.n_atoms, 3, size, dtype=torch.float64)
                moments.index_add_(0, pairs.i, weight[:, :, None] * each[:, None])
                matrix += torch.einsum("naj,nak->jk", moments, moments)
                scaled = each * weight.norm(dim=1, keepdim=True)
                near += scaled.T @ scaled
        for matrix, near, mixing in (
            (lattice, near_lattice, self.lattice_mixing),
            (spins, near_spins, self.spin_mixing),
        ):
            if mixing.shape[1]:
                found = _components(matrix, near / n_atoms, mixing.shape[1])
                mixing.copy_(
                    found.view(mixing.shape[1], n_types, config.basis).transpose(0, 1)
                )


def _dense(fitting: nn.Module) -> list[DenseLayer]:
    return [layer for layer in fitting.children() if isinstance(layer, DenseLayer)]


def _components(matrix: Tensor, near: Tensor, count: int) -> Tensor:
    """Return principal components (count, size) with sums over neighbors of one.

    ``near`` (size, size) are the products of single neighbors' functions, summed over
    the neighbors of an average atom. A share of their mean stands for neighbors at
    other distances, where functions that vanish at those of the data remain bounded.
    """
    _, vectors = torch.linalg.eigh(matrix)
    chosen = vectors.T.flip(0)[:count]
    elsewhere = ELSEWHERE * near.diagonal().mean().clamp_min(1e-9)
    size = torch.einsum("cj,jk,ck->c", chosen, near, chosen).clamp_min(0.0) + elsewhere
    return chosen / size.sqrt()[:, None]


class _PulledBack(torch.autograd.Function):
    """Forces of dE/d(features), linear in these: the gradient is the transposed map."""

    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, described: MomentFeatures
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.described = described
        sums = described.pull_back(slope)
        return sums.forces, sums.magnetic_forces, sums.virial

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.described.push_forward(*gradients), None


class _Compiled:
    """A network with frozen weights in a compiled kernel."""

    def __init__(self, network: SpinMomentNetwork, kernel: MomentsKernel) -> None:
        self.network = network
        self.kernel = kernel
        self._features: Tensor | None = None

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        create_graph: bool,
        **wanted: Unpack[Wanted],
    ) -> Prediction | None:
        return self._predict(system, pairs, None, **wanted)

    def predict_with_deviations(
        self, system: System, pairs: PairList, **wanted: Unpack[Wanted]
    ) -> Prediction | None:
        model = self.network.error_model
        if model is None:
            return None
        features = self._room(system)
        found = self._predict(system, pairs, features, **wanted)
        if found is None:
            return None
        types = self.network.types(system)
        return found.replace(deviations=model.deviations(features, types, system))

    def _room(self, system: System) -> Tensor:
        """Return a tensor for the features, the same again while it fits."""
        shape = system.n_atoms, self.network.program.n_features
        if self._features is None or self._features.shape != shape:
            real = torch.float32 if self.network.mixed else system.dtype
            self._features = torch.empty(shape, dtype=real, device=system.device)
        return self._features

    def _predict(
        self,
        system: System,
        pairs: PairList,
        features: Tensor | None,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
    ) -> Prediction | None:
        want, network = forces or magnetic_forces or virial, self.network
        described, types = network._described(system), network.types(system)
        found = self.kernel(
            described, pairs, types, derivatives=want, features=features
        )
        if found is None:
            return None
        energies, sums = found
        return Prediction(
            energy=system.sum(energies),
            energies=energies,
            volume=system.volume,
            forces=sums.forces if forces else None,
            magnetic_forces=network._by_moments(system, sums.magnetic_forces)
            if magnetic_forces
            else None,
            virial=sums.virial if virial else None,
        )


def _instructions(program: Program | Factors) -> Instructions:
    return Instructions(
        program.out,
        program.first,
        program.second,
        program.coefficient,
        program.n_values,
    )


def radial_basis(r: Tensor, cutoff: float, n: int) -> Tensor:
    """Return Chebyshev polynomials times a cut-off function, (E, n), at r (E,) A.

    T_k(2 r/r_c - 1) (1 - t)^3 (1 + 3 t + 6 t^2) with t = r/r_c, which vanishes at the
    cutoff with two derivatives.
    """
    t = r / cutoff
    x = 2.0 * t - 1.0
    rest = (1.0 - t).clamp_min(0.0)
    smooth = rest**3 * (1.0 + 3.0 * t + 6.0 * t * t)
    values = [torch.ones_like(x), x]
    for _ in range(2, n):
        values.append(2.0 * x * values[-1] - values[-2])
    return torch.stack(values[:n], dim=1) * smooth[:, None]


def _mixed(basis: Tensor, mixing: Tensor, types: Tensor) -> Tensor:
    """Return radial functions (E, channels) of neighbors of the given types."""
    result = basis.new_zeros(basis.shape[0], mixing.shape[1])
    for b in range(len(mixing)):
        rows = (types == b).nonzero().flatten()
        result = result.index_add(0, rows, basis[rows] @ mixing[b].T)
    return result


def _plain_mixing(channels: int, basis: int, n_types: int) -> Tensor:
    """Return mixing (n_types, channels, basis) before there are data.

    Channels take turns with the elements, each with the next basis function.
    """
    mixing = torch.zeros(n_types, channels, basis, dtype=torch.float64)
    for c in range(channels if n_types else 0):
        mixing[c % n_types, c, c // n_types] = 1.0
    return mixing
