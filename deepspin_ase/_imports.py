"""Finder of last resort for modules of this package.

Git makes no symbolic links on some systems (Windows, ``core.symlinks=false``); then the
folders ``dynamics`` and ``analysis`` of a checkout are found beside the package. Any
other module that does not exist raises with the place where its names are now.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

PACKAGE = __name__.rpartition(".")[0]

#: Folders at the top level of a checkout that are imported as subpackages.
BESIDE = ("dynamics", "analysis")

#: Where the names of modules of 0.1.0 are that went to another package.
_MOVED = {
    "analysis.symmetry": "symmetry",
    "cell_list": "neighbors",
    "commands": "cli",
    "grain_boundary": "build",
    "lammps": "calculators",
    "moment_calculator": "calculators",
    "optimize.symmetry": "symmetry",
    "potentials.fused": "kernels",
    "potentials.fused_cuda": "kernels",
}


class LastResort:
    """Entry of :data:`sys.meta_path`, asked when all others have found nothing."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Return a folder beside the package, or None for other packages.

        Raises
        ------
        ModuleNotFoundError
            If this package has no such module; the message says where to look.
        """
        outer, _, inside = name.partition(".")
        if outer != PACKAGE or not inside:
            return None
        folder = Path(__file__).parents[1] / inside
        if inside in BESIDE and (folder / "__init__.py").is_file():
            return spec_from_file_location(
                name, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
        raise ModuleNotFoundError(
            f"there is no module {name}: import its names from {_room(inside)} "
            "(CHANGELOG.md lists what moved)",
            name=name,
        )


def _room(inside: str) -> str:
    """Return the public package that has the names of a module that is not there."""
    parts = inside.split(".")
    outward = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    moved = (_MOVED[module] for module in outward if module in _MOVED)
    return ".".join(filter(None, [PACKAGE, next(moved, ".".join(parts[:-1]))]))


def install() -> None:
    """Ask :class:`LastResort` after all other finders."""
    if LastResort not in sys.meta_path:
        sys.meta_path.append(LastResort)
