"""Drivers of spin and spin-lattice dynamics."""
