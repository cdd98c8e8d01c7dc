"""Heat and pressure baths of lattice, spins and cell."""
