"""Analytic terms of Hamiltonians of atoms and moments."""
