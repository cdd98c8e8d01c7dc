"""Ready potentials of materials."""
