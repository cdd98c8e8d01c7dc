"""Version of the package."""

#: Version of this package, as in setup.cfg.
__version__ = "0.1.0"
