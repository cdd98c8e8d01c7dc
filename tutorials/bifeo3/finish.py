"""Put the reference's barriers into the card of a trained model.

python tutorials/bifeo3/finish.py run/model.pt BARRIERS... --output BiFeO3.safetensors

BARRIERS are files of barriers.py: without --cell, then with it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deepspin_ase.potentials import load_card, load_potential, save_potential

#: The lower saddle point half-way to 109 degrees, see barriers.py, meV per formula unit.
LOWER = {"109, lower": 214.8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("barriers", nargs=2, help="fixed cell, relaxed cell")
    parser.add_argument("--output", default="BiFeO3.safetensors")
    arguments = parser.parse_args()
    fixed, free = (json.loads(Path(name).read_text()) for name in arguments.barriers)
    barriers = fixed | LOWER | {f"{name}, cell": value for name, value in free.items()}
    card = load_card(arguments.model)
    card["training"]["data"] = "tutorials/bifeo3/data"
    card["training"] |= {"baseline": "baseline.pt", "init_model": None}
    card["reference"] = "SevenNet-l3i5 and BismuthFerriteSpins (bifeo3_reference)"
    card["reference_barriers_meV_per_fu"] = barriers
    save_potential(arguments.output, load_potential(arguments.model), card=card)


if __name__ == "__main__":
    main()
