"""Write NiO with displaced atoms and its moments, and without them for i-PI."""

from ase.build import bulk

from deepspin_ase import antiferromagnetic, cant_spins, set_spins, write_extxyz

LATTICE, MOMENT = 4.186, 1.277  # A, mu_B

# i-PI takes cells whose first vector is along x and whose second is in the xy plane.
atoms = bulk("NiO", "rocksalt", LATTICE, cubic=True).repeat(2)
order = antiferromagnetic((0.5, 0.5, 0.5), cell=LATTICE, direction=(1, 1, -2))
set_spins(atoms, {"Ni": MOMENT}, pattern=order)
cant_spins(atoms, 0.05, seed=1)
atoms.rattle(0.03, seed=1)
write_extxyz("nio.extxyz", atoms)

a, b, c, *angles = atoms.cell.cellpar()
lines = [
    str(len(atoms)),
    f"# CELL(abcABC): {a} {b} {c} {' '.join(map(str, angles))} "
    "positions{angstrom} cell{angstrom}",
    *(
        f"{symbol} {x:.16g} {y:.16g} {z:.16g}"
        for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ),
]
with open("nio.xyz", "w") as file:
    file.write("\n".join(lines) + "\n")
