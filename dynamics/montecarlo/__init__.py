"""Metropolis Monte Carlo of spins and lattice."""
