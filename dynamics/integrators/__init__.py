"""Integrators of the spins: schemes, precession and fixed-point acceleration."""
