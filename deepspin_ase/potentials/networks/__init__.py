"""Neural networks of atoms and moments."""
