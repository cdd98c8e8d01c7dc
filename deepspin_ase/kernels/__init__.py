"""Compiled evaluation of frozen potentials, by device."""
