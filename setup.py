"""Packages of the build: two of them lie beside the folder that they belong to.

``dynamics`` and ``analysis`` are folders of the top level and packages of
``deepspin_ase``. The symbolic links in ``deepspin_ase`` serve editors and type
checkers; a checkout without links builds the same wheel, since they are not read here.
Everything else is in setup.cfg.
"""

from setuptools import find_packages, setup

ROOT = "deepspin_ase"
BESIDE = ("dynamics", "analysis")


def packages_of(name: str, folder: str, exclude: tuple[str, ...] = ()) -> list[str]:
    """Return a package in a folder and all packages in it."""
    return [name, *(f"{name}.{inside}" for inside in find_packages(folder, exclude))]


linked = tuple(pattern for name in BESIDE for pattern in (name, f"{name}.*"))
setup(
    packages=[
        *packages_of(ROOT, ROOT, linked),
        *(p for name in BESIDE for p in packages_of(f"{ROOT}.{name}", name)),
    ],
    package_dir={f"{ROOT}.{name}": name for name in BESIDE},
)
