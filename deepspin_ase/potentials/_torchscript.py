"""Potentials as self-contained TorchScript, which runs without this package."""

# TorchScript compiles no annotations that are strings: they must not be postponed.

import copy
import json
import os
import warnings
from collections.abc import Iterator

import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor, nn

from .._files import atomic_write, cannot_write
from .._version import __version__
from ..neighbors import PairList, build_pairs
from ..spins import set_spins
from ..system import System
from ._backend import choose_backend
from ._base import Potential
from ._sums import Sum

#: Largest error of an exported program, relative to the largest number of its kind or
#: to one, eV, A and mu_B.
TOLERANCE = 1e-11

#: Name of the extra file in the archive that describes the program.
DESCRIPTION = "deepspin.json"


def export_torchscript(path: str | os.PathLike[str], potential: Potential) -> None:
    """Write a potential as TorchScript, which runs without this package.

    ``torch.jit.load`` reads the program, which computes in float64. Lengths are in A,
    moments in mu_B, energies in eV; derivatives have the signs of :class:`Prediction`.
    It has the methods

    ``forward(positions, moments, numbers, edges, shifts, cell, batch)``
        of B structures of N atoms in all, with E pairs from the caller's neighbor list:
        positions (N, 3), moments (N, 3), atomic numbers (N,) int64, edges (2, E) int64
        (i, j) with every pair in both orders, shifts (E, 3), the whole numbers of
        lattice vectors from atom j to the neighbor of i, cell (B, 3, 3) with lattice
        vectors as rows, and batch (N,) int64, the structure of each atom. Pairs beyond
        the cutoff may be among them. Ghost atoms may stand for periodic images: atoms
        without edges of their own, with shifts of zero;

    ``evaluate(positions, moments, numbers, cell, pbc)``
        of one structure with cell (3, 3) and pbc (3,) bool, by a search of its own,
        which compares all pairs of atoms: for some thousand atoms at most.

    Both return a dictionary of tensors: ``energy`` (B,), ``energies`` (N,), ``forces``
    (N, 3), ``magnetic_forces`` (N, 3) and ``virial`` (B, 3, 3). ``energies_of(vectors,
    i, j, moments, numbers)`` gives the energies of atoms as a differentiable function
    of the vectors from i to j, and ``neighbors(positions, cell, pbc)`` the edges and
    shifts. Attributes are ``cutoff`` (A), ``elements`` and ``magnetic`` (atomic
    numbers). ``forward_lower`` and ``get_...`` are those that DeePMD-kit's spin models
    have: ``pair_style deepspin`` of its LAMMPS takes the program.

    Parameters
    ----------
    path : path
        Ends in ``.pth``; written whole or not at all.
    potential : Potential
        Local and of known elements: a network, or a sum of networks and pair terms.

    Raises
    ------
    ValueError
        If the suffix is another, or the potential has no such form: sums over all atoms
        as those of Ewald, models of DeePMD-kit, programs that do not agree with it.
    OSError
        If the file cannot be written.
    """
    if os.fspath(path)[-4:] != ".pth":
        raise ValueError(f"{path} must end in .pth")
    check_exportable(potential)
    own = copy.deepcopy(potential).cpu().double().eval().requires_grad_(False)
    choose_backend(own, "reference")
    script = _program(own)
    if script is None:
        elements = [chemical_symbols[z] for z in own.species or ()]
        parts = {
            type(term).__name__: Sum([term], elements=elements) for term in own.terms()
        }
        names = [name for name, part in parts.items() if _program(part) is None]
        raise ValueError(
            f"{type(potential).__name__} cannot be exported: energies of "
            f"{', '.join(names) or 'its terms together'} depend on structures in ways "
            "that TorchScript does not record. A pseudo-atom network alone, not in a "
            "sum, becomes a model of DeePMD-kit ('deepspin convert MODEL model.yaml')"
        )
    kind = type(potential).__name__
    description = {"written_by": f"deepspin_ase {__version__}", "potential": kind}
    try:
        with atomic_write(path) as temporary:
            torch.jit.save(
                script, temporary, _extra_files={DESCRIPTION: json.dumps(description)}
            )
    except RuntimeError as error:  # torch's own, on a full disk
        raise cannot_write(path, error) from error


def check_exportable(potential: Potential) -> None:
    """Raise ValueError for potentials of which no program can be made; names why."""
    wrong = [type(term).__name__ for term in potential.terms() if not term.is_local]
    if wrong:
        raise ValueError(
            f"{type(potential).__name__} cannot be exported, nor run in LAMMPS: the "
            "energy of an atom must follow from its own pairs alone, and does not in "
            f"{', '.join(dict.fromkeys(wrong))}"
        )
    if potential.species is None:
        raise ValueError(
            f"{type(potential).__name__} cannot be exported, nor run in LAMMPS: it is "
            "for any element; name them, as in Sum([...], elements=[...])"
        )


def _program(potential: Potential) -> torch.jit.ScriptModule | None:
    """Return the program of a potential; None where it would give something else."""
    examples = list(_examples(potential))
    script = torch.jit.script(
        ExportedPotential(_traced(potential, examples[0]), potential)
    )
    # TorchScript would specialize the program for seconds in the first runs.
    with torch.jit.optimized_execution(False):
        same = all(_gives(script, potential, example) for example in examples)
    return script if same else None


class _Energies(nn.Module):
    """Energies of atoms as a function of plain tensors."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self, vectors: Tensor, i: Tensor, j: Tensor, moments: Tensor, numbers: Tensor
    ) -> Tensor:
        system = System(
            # Local potentials know positions by the vectors alone.
            torch.zeros_like(moments),
            moments,
            numbers,
            moments.new_zeros(1, 3, 3),
            numbers.new_zeros(1, 3, dtype=torch.bool),
            torch.zeros_like(numbers),
        )
        pairs = PairList(i, j, torch.zeros_like(vectors), self.potential.cutoff)
        energies: Tensor = self.potential(system, pairs.bound(system, vectors))
        return energies


class ExportedPotential(nn.Module):
    """What is exported: in the subset of Python that TorchScript compiles."""

    elements: Tensor
    magnetic: Tensor
    symbols: list[str]

    def __init__(self, energies: torch.jit.ScriptModule, potential: Potential) -> None:
        super().__init__()
        self.atomic = energies
        self.cutoff = float(potential.cutoff)
        elements, magnetic = potential.species or (), potential.magnetic_species
        self.symbols = [chemical_symbols[z] for z in sorted(elements)]
        carrying = elements if magnetic is None else magnetic
        if not potential.uses_spins:
            carrying = ()
        for name, numbers in (("elements", elements), ("magnetic", carrying)):
            known = torch.tensor(sorted(numbers), dtype=torch.int64)
            self.register_buffer(name, known)

    @torch.jit.export
    def energies_of(
        self, vectors: Tensor, i: Tensor, j: Tensor, moments: Tensor, numbers: Tensor
    ) -> Tensor:
        near = (vectors.square().sum(1) < self.cutoff**2).nonzero().flatten()
        result: Tensor = self.atomic(vectors[near], i[near], j[near], moments, numbers)
        return result

    def forward(
        self,
        positions: Tensor,
        moments: Tensor,
        numbers: Tensor,
        edges: Tensor,
        shifts: Tensor,
        cell: Tensor,
        batch: Tensor,
    ) -> dict[str, Tensor]:
        if not bool(torch.isin(numbers, self.elements).all()):
            raise ValueError("the model does not know the element of an atom")
        i, j = edges[0], edges[1]
        rows = cell.double()
        offset = torch.bmm(shifts.double()[:, None], rows[batch[i]])[:, 0]
        r = positions.detach().double()
        vectors = r[j] - r[i] + offset
        shares, pull, fields = self._derivatives(
            vectors, i, j, moments, numbers, len(numbers)
        )
        forces = torch.zeros_like(r).index_add(0, i, pull).index_add(0, j, -pull)
        virial = torch.zeros_like(rows).index_add(
            0, batch[i], -pull[:, :, None] * vectors[:, None]
        )
        energy = torch.zeros_like(rows[:, 0, 0]).index_add(0, batch, shares)
        return {
            "energy": energy,
            "energies": shares,
            "forces": forces,
            "magnetic_forces": -fields,
            "virial": virial,
        }

    def _derivatives(
        self,
        vectors: Tensor,
        i: Tensor,
        j: Tensor,
        moments: Tensor,
        numbers: Tensor,
        count: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies of the first atoms, and the derivatives of their sum.

        By the vectors (E, 3) and the moments (N, 3).
        """
        carrying = numbers[(moments != 0).any(dim=1)]
        if not bool(torch.isin(carrying, self.magnetic).all()):
            raise ValueError("an atom has a moment whose element carries none")
        x = vectors.detach().requires_grad_(True)
        m = moments.detach().double().requires_grad_(True)
        energies = self.energies_of(x, i, j, m, numbers)[:count]
        gradients = torch.autograd.grad([energies.sum()], [x, m], allow_unused=True)
        pull, fields = gradients[0], gradients[1]
        if pull is None:
            pull = torch.zeros_like(x)
        if fields is None:  # of the lattice alone
            fields = torch.zeros_like(m)
        return energies.detach(), pull, fields

    @torch.jit.export
    def forward_lower(
        self,
        extended_coord: Tensor,
        extended_atype: Tensor,
        extended_spin: Tensor,
        nlist: Tensor,
        mapping: Tensor | None = None,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
        do_atomic_virial: bool = False,
    ) -> dict[str, Tensor]:
        """Evaluate n atoms with M - n ghosts, as DeePMD-kit's models do.

        Of coordinates (1, M, 3), types (1, M), spins (1, M, 3) and places of neighbors
        (1, n, K), -1 where there is none. Energies are those of the n atoms.
        """
        count = nlist.shape[1]
        numbers = self.elements[extended_atype[0]]
        listed = (nlist[0] >= 0).nonzero()
        i = listed[:, 0]
        j = nlist[0][i, listed[:, 1]]
        r = extended_coord[0].detach().double()
        vectors = r[j] - r[i]
        shares, pull, fields = self._derivatives(
            vectors, i, j, extended_spin[0], numbers, count
        )
        forces = torch.zeros_like(r).index_add(0, i, pull).index_add(0, j, -pull)
        # DeePMD-kit wants to view them as flat.
        output = {
            "energy": shares.sum().view(1, 1),
            "atom_energy": shares.reshape(1, count, 1).contiguous(),
            "extended_force": forces[None].contiguous(),
            "extended_force_mag": -fields[None].contiguous(),
            "virial": -(pull.T @ vectors).reshape(1, 9),
        }
        if do_atomic_virial:
            work = -(pull[:, :, None] * vectors[:, None]).flatten(1)
            shared = work.new_zeros(len(r), 9).index_add(0, j, work)
            output["extended_virial"] = shared.view(1, len(r), 1, 9)
        return output

    @torch.jit.export
    def get_rcut(self) -> float:
        """Return how far neighbors are needed, A."""
        return self.cutoff

    @torch.jit.export
    def get_type_map(self) -> list[str]:
        """Return the elements by type."""
        return self.symbols

    @torch.jit.export
    def get_ntypes(self) -> int:
        """Return how many elements there are."""
        return len(self.symbols)

    @torch.jit.export
    def get_dim_fparam(self) -> int:
        """Return how many parameters a structure has."""
        return 0

    @torch.jit.export
    def get_dim_aparam(self) -> int:
        """Return how many parameters an atom has."""
        return 0

    @torch.jit.export
    def is_aparam_nall(self) -> bool:
        """Say whether ghosts have parameters."""
        return False

    @torch.jit.export
    def has_message_passing(self) -> bool:
        """Say whether energies depend on neighbors of neighbors."""
        return False

    @torch.jit.export
    def evaluate(
        self,
        positions: Tensor,
        moments: Tensor,
        numbers: Tensor,
        cell: Tensor,
        pbc: Tensor,
    ) -> dict[str, Tensor]:
        edges, shifts = self.neighbors(positions, cell, pbc)
        batch = torch.zeros_like(numbers)
        return self.forward(
            positions, moments, numbers, edges, shifts, cell[None], batch
        )

    @torch.jit.export
    def neighbors(
        self, positions: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows, r = cell.detach().double(), positions.detach().double()
        # Where there is no periodicity, any vector across the others will do.
        periodic = torch.where(pbc[:, None], rows, torch.zeros_like(rows))
        full = torch.linalg.svd(periodic)[2].T
        kept = int(pbc.sum())
        across = full[:, kept:]
        free = (~pbc).nonzero().flatten()
        complete = periodic.index_add(0, free, across.T)
        inverse = torch.linalg.inv(complete)
        whole = torch.where(pbc, (r @ inverse).floor(), torch.zeros_like(r))
        wrapped = r - whole @ complete
        most = torch.ceil(self.cutoff * inverse.square().sum(0).sqrt()).long()
        most = torch.where(pbc, most, torch.zeros_like(most))
        a, b, c = int(most[0]), int(most[1]), int(most[2])
        found: list[Tensor] = []
        images: list[Tensor] = []
        for ka in range(-a, a + 1):
            for kb in range(-b, b + 1):
                for kc in range(-c, c + 1):
                    shift = torch.tensor([ka, kb, kc]).to(r)
                    apart = torch.cdist(
                        wrapped,
                        wrapped + shift @ complete,
                        compute_mode="donot_use_mm_for_euclid_dist",
                    )
                    near = apart < self.cutoff
                    if ka == 0 and kb == 0 and kc == 0:
                        near.fill_diagonal_(False)
                    pairs = near.nonzero()
                    found.append(pairs)
                    images.append(shift.expand(len(pairs), 3))
        edges = torch.cat(found).T
        shifts = torch.cat(images) + whole[edges[0]] - whole[edges[1]]
        return edges, shifts


def _traced(potential: Potential, example: System) -> torch.jit.ScriptModule:
    """Return the energies of atoms as a program."""
    pairs = build_pairs(example, potential.cutoff)
    # What a potential keeps from its first evaluation must be constant in the program.
    potential(example, pairs)
    inputs = (
        pairs.vectors(example),
        pairs.i,
        pairs.j,
        example.spins,
        example.species,
    )
    with warnings.catch_warnings():
        # Deprecation of TorchScript, and hints at what depends on the example: results
        # are compared with those of the potential on others.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(_Energies(potential), inputs, check_trace=False)
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


def _examples(potential: Potential) -> Iterator[System]:
    """Yield a cluster of all elements, one in which some are missing, and one atom."""
    generator = torch.Generator().manual_seed(0)
    numbers = sorted(potential.species or ())
    magnetic = potential.magnetic_species
    step = 0.45 * max(potential.cutoff, 1.0)
    for chosen, count in ((numbers, 3), (numbers[:1], 2), (numbers[-1:], 1)):
        grid = torch.cartesian_prod(*3 * [torch.arange(count)]).double()
        if len(chosen) > len(grid):
            grid = torch.cartesian_prod(*3 * [torch.arange(5)]).double()
        noise = torch.rand(grid.shape, generator=generator, dtype=torch.float64)
        moments = torch.randn(grid.shape, generator=generator, dtype=torch.float64)
        atoms = Atoms(
            [chosen[k % len(chosen)] for k in range(len(grid))],
            positions=(step * (grid + 0.3 * noise)).numpy(),
            cell=[step * 5.0] * 3,
            pbc=True,
        )
        if not potential.uses_spins:
            moments.zero_()
        elif magnetic is not None:
            moments[[z not in magnetic for z in atoms.numbers]] = 0.0
        set_spins(atoms, moments.numpy())
        yield System.from_atoms(atoms)


def _gives(
    script: torch.jit.ScriptModule, potential: Potential, system: System
) -> bool:
    """Say whether the program gives what the potential gives."""
    expected = potential.evaluate(system)
    inputs = (system.positions, system.spins, system.species)
    try:
        found = script.evaluate(*inputs, system.cell[0], system.pbc[0])
    except RuntimeError:
        return False
    return all(_agree(x, getattr(expected, name)) for name, x in found.items())


def _agree(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= TOLERANCE * max(1.0, float(b.abs().max()))).all())
