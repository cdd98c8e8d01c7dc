"""The shipped BiFeO3 model: its three networks joined, its errors and its card.

python tutorials/bifeo3/finish.py LATTICE EXCHANGE SPIN_ORBIT BARRIERS...

LATTICE, EXCHANGE and SPIN_ORBIT are models of train.yaml, exchange.yaml and
spin_orbit.yaml; BARRIERS are files of barriers.py: without --cell, then with it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deepspin_ase.data import read_dataset
from deepspin_ase.potentials import (
    BismuthFerriteSpins,
    Potential,
    Sum,
    load_card,
    load_potential,
    save_potential,
)
from deepspin_ase.training import collect, compare, load_batches

DATA = Path(__file__).parent / "data"
DESCRIPTION = (
    "Bismuth ferrite near its ferroelectric phase R3c and between its variants: networks "
    "on moments for the lattice (on pair potentials), for the exchange, and for "
    "anisotropy and Dzyaloshinskii-Moriya interactions."
)
PARTS = ("lattice", "exchange", "spin-orbit")
FRAMES = (
    "2864 structures of 10 to 80 atoms in tutorials/bifeo3/data, labelled by "
    "SevenNet-l3i5 (sevenn 0.13.0); 740 of 40 to 80 atoms made from them (spins.py), "
    "labelled by the spin Hamiltonian BismuthFerriteSpins"
)
RANGE = (
    "homogeneous switching, displacements up to about 0.3 A from it, strains up to 3 %; "
    "larger cells, in-phase tilts, walls, surfaces and defects were hardly or not seen"
)
#: The lower saddle point half-way to 109 degrees, see barriers.py, meV per formula unit.
LOWER = {"109, lower": 214.8}


def joined(lattice: Potential, *spins: Potential) -> Potential:
    """Return the lattice's potential with networks in place of its spin term.

    The lattice's network is the last one: distances of features are its own.
    """
    terms = [t for t in lattice.terms() if not isinstance(t, BismuthFerriteSpins)]
    whole = Sum([*terms[:-1], *spins, terms[-1]])
    whole.training_range = lattice.training_range
    return whole


def errors(model: Potential, folder: str) -> dict[str, dict[str, float]]:
    """Return errors on frames kept back, in eV, A and mu_B."""
    found = compare(model, collect(load_batches(read_dataset(DATA / folder), model)))
    return {name: {"rmse": x.rmse, "mae": x.mae} for name, x in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "models", nargs=len(PARTS), help="of these parts, in this order"
    )
    parser.add_argument("barriers", nargs=2, help="fixed cell, relaxed cell")
    parser.add_argument("--output", default="BiFeO3.safetensors")
    arguments = parser.parse_args()
    model = joined(*map(load_potential, arguments.models))
    fixed, free = (json.loads(Path(name).read_text()) for name in arguments.barriers)
    barriers = fixed | LOWER | {f"{name}, cell": value for name, value in free.items()}
    training = {}
    for name, path in zip(PARTS, arguments.models, strict=True):
        own = load_card(path)["training"]
        del own["output"]
        places = {"data": "tutorials/bifeo3/data"}
        places |= {"baseline": "baseline.pt"} if own["baseline"] else {}
        training[name] = own | places
    kept_back = errors(model, "validation")
    explored = errors(model, "explored_validation")
    for name, row in kept_back.items():
        of_both = (1e3 * row["rmse"], 1e3 * explored[name]["rmse"])
        print(f"{name}: {of_both[0]:.3g}, explored {of_both[1]:.3g} (thousandths)")
    card = {
        "name": "BiFeO3",
        "description": DESCRIPTION,
        "data": FRAMES,
        "licence": "model and data: MIT; SevenNet: MIT",
        "valid_range": RANGE,
        "citation": "SevenNet: Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        "training": training,
        "errors": {"on": "validation", **kept_back},
        "errors_explored": explored,
        "parameters": sum(p.numel() for p in model.parameters()),
        "reference": "SevenNet-l3i5 and BismuthFerriteSpins (bifeo3_reference)",
        "reference_barriers_meV_per_fu": barriers,
    }
    save_potential(arguments.output, model, card=card)


if __name__ == "__main__":
    main()
