"""The pseudo-atom network: a deep potential of atoms and moments."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from ...kernels import Layer, NetworkData, NetworkKernel, NetworkSums
from ...neighbors import PairList
from ...system import System
from .._base import Predictor
from .._kernels import Kernels
from .._prediction import Prediction
from ._config import DeepSpinConfig
from ._environment import Environment
from ._layers import ResidualNetwork
from ._neighborhood import Derivatives, Group, Sites, group_sites
from ._trainable import Trainable, architecture

logger = logging.getLogger(__name__)

#: Centres evaluated at a time in torch; bounds the memory of large systems. Other
#: devices than the CPU need more work at a time.
CHUNK, DEVICE_CHUNK = 384, 4096

#: Initial scale of the pseudo-atoms' embedding weights. Turning the moments moves
#: the pseudo-atoms far, which hardly changes the energy: a network that sees them
#: in full from the start spends long on learning not to.
QUIET = 0.05

#: Smallest standard deviation of an environment column.
STD_FLOOR = 0.01


@architecture("deepspin")
class DeepSpinNetwork(Trainable):
    """Deep potential with pseudo-atoms that carry the moments' directions.

    Each magnetic atom i has a pseudo-atom at R_i + s m_i (s: virtual_scale).
    An atom sees its neighbours, their pseudo-atoms and its own through the
    se_e2_a descriptor, and a network maps the descriptor to its energy. Only
    real atoms are centres, so the cost is that of the pairs they have.

    Without a magnetic element it is a deep potential that ignores the moments: the
    lattice beside an analytic Hamiltonian of the spins.

    Sources: DeepSPIN, Yang et al., Phys. Rev. B 110, 064427 (2024); se_e2_a,
    Zhang et al., arXiv:1805.09003. Reproduces DeePMD-kit's spin model,
    including the contribution of the empty slots that its fixed number of
    neighbours leaves (in closed form), and the truncation to the nearest
    neighbours when there are more than slots, which is logged once.

    Parameters
    ----------
    config : DeepSpinConfig
    seed : int
        Of the initial weights.

    Attributes
    ----------
    backend : {"fused", "reference"}
        How :meth:`evaluate` works once the weights are frozen (``eval()`` or
        ``requires_grad_(False)``): in compiled kernels with tabulated embeddings
        (:mod:`deepspin_ase.kernels.cpu`, on CUDA devices
        :mod:`deepspin_ase.kernels.cuda`), or in plain torch as for training.
        Both give the same to 1e-10 eV per atom.
    mixed : bool
        Of the compiled kernels: geometry and sums in the precision of the weights,
        embedding and fitting in float32. See :func:`choose_backend` for both.
    """

    config_class: ClassVar[type[DeepSpinConfig]] = DeepSpinConfig
    config: DeepSpinConfig

    is_local = True

    mean: Tensor
    std: Tensor
    _type_of: Tensor
    _scale: Tensor

    def __init__(self, config: DeepSpinConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        numbers = [atomic_numbers[symbol] for symbol in config.type_map]
        n_types = len(numbers)
        self.species = frozenset(numbers)
        self.uses_spins = any(config.spin.use_spin)
        if self.uses_spins:
            self.magnetic_species = frozenset(
                z for z, use in zip(numbers, config.spin.use_spin, strict=True) if use
            )
        descriptor = config.descriptor
        self.environment = Environment(
            descriptor.rcut, descriptor.rcut_smth, descriptor.env_protection
        )
        self._build_networks(seed)
        self.register_buffer("mean", torch.zeros(n_types, 4, dtype=torch.float64))
        self.register_buffer("std", torch.ones(n_types, 4, dtype=torch.float64))
        self.register_element_energies(config.type_map)
        type_of = torch.full((max(atomic_numbers.values()) + 1,), -1)
        type_of[torch.tensor(numbers)] = torch.arange(n_types)
        self.register_buffer("_type_of", type_of, persistent=False)
        scale = torch.tensor(config.spin.scales(), dtype=torch.float64)
        self.register_buffer("_scale", scale, persistent=False)
        self._warned = False

    def _build_networks(self, seed: int) -> None:
        config, descriptor = self.config, self.config.descriptor
        n_types = len(config.type_map)
        generator = torch.Generator().manual_seed(seed)
        centre_types = [0] if descriptor.type_one_side else range(n_types)
        self.embeddings = nn.ModuleDict(
            {
                f"{a}_{b}": ResidualNetwork(
                    1,
                    descriptor.neuron,
                    activation=descriptor.activation_function,
                    timestep=descriptor.resnet_dt,
                    generator=generator,
                )
                for a in centre_types
                for b in range(len(self.slots))
            }
        )
        with torch.no_grad():
            for name, network in self.embeddings.items():
                if int(name.split("_")[1]) >= n_types:
                    for parameter in network.parameters():
                        parameter.mul_(QUIET)
        self.fittings = nn.ModuleList(
            ResidualNetwork(
                descriptor.neuron[-1] * descriptor.axis_neuron,
                config.fitting_net.neuron,
                activation=config.fitting_net.activation_function,
                timestep=config.fitting_net.resnet_dt,
                head=True,
                generator=generator,
            )
            for _ in range(n_types)
        )

    @property
    def slots(self) -> list[int]:
        """Slots by site type: elements and, where any is magnetic, pseudo-atoms."""
        return self.config.descriptor.sel * (2 if self.uses_spins else 1)

    def embedding(self, centre_type: int, site_type: int) -> nn.Module:
        """Return the embedding network of a centre and a site type.

        Site types count the elements and then their pseudo-atoms.
        """
        centre = 0 if self.config.descriptor.type_one_side else centre_type
        return self.embeddings[f"{centre}_{site_type}"]

    @property
    def cutoff(self) -> float:
        """Largest distance of a site from its centre, A."""
        return self.config.descriptor.rcut

    def pair_cutoff(self, system: System) -> float:
        """Return the cutoff plus the longest pseudo-atom arm, A."""
        arms = self._virtual(system, self.types(system)).detach().norm(dim=1)
        return self.cutoff + float(arms.max())

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance between atoms with a common neighbor, A."""
        return 2.0 * self.pair_cutoff(system)

    def types(self, system: System) -> Tensor:
        """Return the position of every atom's element in the type map, (N,)."""
        return self._type_of[system.species]

    def scale(self, types: Tensor) -> Tensor:
        """Return the distance of pseudo-atoms per moment, (N, 1), A/mu_B."""
        return self._scale[types][:, None]

    def _virtual(self, system: System, types: Tensor) -> Tensor:
        """Return the vectors (N, 3) from the atoms to their pseudo-atoms, A."""
        return system.spins * self.scale(types)

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV; differentiable in everything."""
        types = self.types(system)
        sites = Sites.of_pairs(
            types, pairs, pairs.vectors(system), self._virtual(system, types)
        )
        energies = torch.zeros_like(system.positions[:, 0])
        for centre_type, centres, groups in self._neighbourhoods(sites, system):
            rows = [self.environment.rows(g.vectors) for g in groups]
            energy = self._atomic_energy(centre_type, groups, rows, len(centres))
            energies = energies.index_add(0, centres, energy)
        return energies

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction:
        """Return energy and derivatives; see :meth:`Potential.evaluate`."""
        system = system.detach()
        scale = self.scale(self.types(system))
        sums = self._evaluate_plainly(
            system,
            pairs,
            system.spins * scale,
            want=forces or magnetic_forces or virial,
            create_graph=create_graph,
        )
        return self.prediction(
            system,
            scale,
            sums,
            forces=forces,
            magnetic_forces=magnetic_forces,
            virial=virial,
        )

    def prediction(
        self,
        system: System,
        scale: Tensor,
        sums: NetworkSums,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
    ) -> Prediction:
        """Return sums over the sites as a prediction, with :meth:`scale`."""
        return Prediction(
            energy=system.sum(sums.energies),
            energies=sums.energies,
            volume=system.volume,
            forces=sums.forces if forces else None,
            magnetic_forces=-sums.pulls * scale if magnetic_forces else None,
            virial=sums.virial if virial else None,
        )

    def compiled(self, kernels: Kernels) -> Predictor:
        """Return what evaluates the present weights in kernels: see ``backend``."""
        if (
            self.backend != "fused"
            or kernels.dtype != self.mean.dtype
            or (self.training and any(p.requires_grad for p in self.parameters()))
        ):
            return self
        real = torch.float32 if self.mixed else kernels.dtype
        kernel = kernels.network(self, self.frozen(), real)
        return self if kernel is None else _Compiled(self, kernel)

    def frozen(self) -> NetworkData:
        """Return the network as plain data: its present weights and sizes."""
        descriptor = self.config.descriptor
        n_types = len(self.config.type_map)
        networks = {k: _frozen(net) for k, net in self.embeddings.items()}
        centers = [0 if descriptor.type_one_side else a for a in range(n_types)]
        return NetworkData(
            cutoff=descriptor.rcut,
            smooth=descriptor.rcut_smth,
            protection=descriptor.env_protection,
            magnetic=tuple(self.config.spin.use_spin),
            slots=tuple(self.slots),
            axis=descriptor.axis_neuron,
            mean=self.mean,
            std=self.std,
            energy_bias=self.energy_bias,
            embeddings=tuple(
                tuple(networks[f"{a}_{b}"] for b in range(len(self.slots)))
                for a in centers
            ),
            fittings=tuple(map(_frozen, self.fittings)),
        )

    def _evaluate_plainly(
        self,
        system: System,
        pairs: PairList,
        virtual: Tensor,
        *,
        want: bool,
        create_graph: bool,
    ) -> NetworkSums:
        """Return per-atom energies and the derivatives, in torch.

        Networks are differentiated by autograd and the geometry by hand, some
        centres at a time, so that memory does not grow with the system.
        """
        sites = Sites.of_pairs(
            self.types(system), pairs, pairs.vectors(system), virtual
        )
        energies = torch.zeros_like(system.positions[:, 0])
        sums = Derivatives.zeros(system)
        size = CHUNK if system.device.type == "cpu" else DEVICE_CHUNK
        chunks = [sites] if create_graph else sites.chunks(size)
        for chunk in chunks:
            for a, centres, groups in self._neighbourhoods(chunk, system):
                energy, gradients = self._differentiated(
                    a, groups, len(centres), want=want, create_graph=create_graph
                )
                energies = energies.index_add(0, centres, energy)
                for group, gradient in zip(groups, gradients, strict=want):
                    sums.add(
                        group,
                        self.environment.pull_back(group.vectors, gradient),
                        system,
                    )
        return NetworkSums(energies, sums.forces, sums.virtual, sums.virial)

    def _differentiated(
        self,
        centre_type: int,
        groups: list[Group],
        n: int,
        *,
        want: bool,
        create_graph: bool,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the energies (n,) of centres and their gradients by the rows."""
        gradients: Sequence[Tensor] = []
        with torch.enable_grad():
            rows = [
                self.environment.rows(g.vectors).requires_grad_(want) for g in groups
            ]
            energy = self._atomic_energy(centre_type, groups, rows, n)
            if want and rows:
                gradients = torch.autograd.grad(
                    energy.sum(), rows, create_graph=create_graph
                )
        return (energy if create_graph else energy.detach()), gradients

    def _neighbourhoods(
        self, sites: Sites, system: System
    ) -> Iterator[tuple[int, Tensor, list[Group]]]:
        """Yield centre type, centres and their site groups."""
        grouped, truncated = group_sites(
            sites,
            magnetic=self.config.spin.use_spin,
            rcut=self.cutoff,
            sel=self.config.descriptor.sel,
        )
        if truncated and not self._warned:
            self._warned = True
            logger.warning(
                "some atoms have more neighbours than the model has slots (sel = %s); "
                "the nearest are kept, as in DeePMD-kit, and the energy is no longer "
                "smooth: use a model with a larger sel for such densities",
                self.config.descriptor.sel,
            )
        yield from grouped

    def _atomic_energy(
        self, centre_type: int, groups: list[Group], rows: list[Tensor], n: int
    ) -> Tensor:
        """Return the energies (n,) of centres of one type, from their rows."""
        descriptor = self.config.descriptor
        mean, std = self.mean[centre_type], self.std[centre_type]
        # Slots without a site hold the row of nothing, -mean / std.
        empty = -mean / std
        product = mean.new_zeros(n, 4, descriptor.neuron[-1])
        padding = mean.new_zeros(1, descriptor.neuron[-1])
        present = {group.site_type: k for k, group in enumerate(groups)}
        for site_type, slots in enumerate(self.slots):
            inputs = empty[None, :1]
            if site_type in present:
                row = (rows[present[site_type]] - mean) / std
                slots -= row.shape[1]
                inputs = torch.cat([row[..., :1].reshape(-1, 1), inputs])
            embedded = self.embedding(centre_type, site_type)(inputs)
            padding = padding + slots * embedded[-1:]
            if site_type in present:
                embedded = embedded[:-1].view(n, row.shape[1], -1)
                product = torch.baddbmm(product, row.transpose(1, 2), embedded)
        product = product + empty[:, None] * padding
        product = product / sum(self.slots)
        axes = product[:, :, : descriptor.axis_neuron]
        features = torch.bmm(product.transpose(1, 2), axes).flatten(1)
        energy = self.fittings[centre_type](features)[:, 0]
        return energy + self.energy_bias[centre_type]

    @torch.no_grad()
    def start_from_zero(self) -> None:
        """Make the network return its energy bias: a start for small corrections."""
        for fitting in self.fittings:
            for parameter in list(fitting.children())[-1].parameters():
                parameter.zero_()

    def fit_statistics(self, samples: Iterable[tuple[System, PairList]]) -> None:
        """Set the shift and scale of the environment rows from data.

        Mean and standard deviation per centre type over all slots, empty ones
        counting as zero; the three vector columns share one scale and no shift.

        Parameters
        ----------
        samples : iterable of (System, PairList)
        """
        n_types = len(self.config.type_map)
        n_slots = sum(self.slots)
        count = torch.zeros(n_types, dtype=torch.float64)
        first = torch.zeros(n_types, dtype=torch.float64)
        second = torch.zeros(n_types, 2, dtype=torch.float64)
        with torch.no_grad():
            for system, pairs in samples:
                types = self.types(system)
                sites = Sites.of_pairs(
                    types, pairs, pairs.vectors(system), self._virtual(system, types)
                )
                for a, centres, groups in self._neighbourhoods(sites, system):
                    count[a] += n_slots * len(centres)
                    for group in groups:
                        rows = self.environment.rows(group.vectors).double().cpu()
                        first[a] += rows[..., 0].sum()
                        second[a, 0] += rows[..., 0].square().sum()
                        second[a, 1] += rows[..., 1:].square().sum() / 3.0
        count = count.clamp_min(1.0)
        mean = first / count
        variance = second / count[:, None]
        variance[:, 0] -= mean.square()
        deviation = variance.clamp_min(0.0).sqrt().clamp_min(STD_FLOOR)
        self.std.copy_(deviation[:, [0, 1, 1, 1]])
        self.mean.zero_()
        if not self.config.descriptor.set_davg_zero:
            self.mean[:, 0] = mean.to(self.mean)


class _Compiled:
    """A network with frozen weights in a compiled kernel."""

    def __init__(self, network: DeepSpinNetwork, kernel: NetworkKernel) -> None:
        self.network = network
        self.kernel = kernel

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction:
        network, want = self.network, forces or magnetic_forces or virial
        types = network.types(system)
        scale = network.scale(types)
        arms = system.spins * scale
        sums = self.kernel(system, pairs, types, arms, derivatives=want)
        wanted = {
            "forces": forces,
            "magnetic_forces": magnetic_forces,
            "virial": virial,
        }
        if sums is None:
            return network.predict(system, pairs, create_graph=create_graph, **wanted)
        return network.prediction(system, scale, sums, **wanted)


def _frozen(network: nn.Module) -> tuple[Layer, ...]:
    assert isinstance(network, ResidualNetwork)
    return network.frozen()
