"""Models by name: those of the package, and those in the folder of models."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

from .._safetensors import SUFFIX

#: Suffixes of model files.
SUFFIXES = (SUFFIX, ".pt")

#: Environment variable that names the folder of models.
VARIABLE = "DEEPSPIN_MODELS"


def models_folder() -> Path:
    """Return the folder of models, which need not exist.

    That of the environment variable ``DEEPSPIN_MODELS``; without it ``deepspin/models``
    where caches are: ``~/.cache`` (or ``$XDG_CACHE_HOME``), ``~/Library/Caches`` on
    macOS, ``%LOCALAPPDATA%`` on Windows.
    """
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    home = Path(os.path.expanduser("~"))  # not Path.home(), which raises without one
    if sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    elif sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return caches / "deepspin" / "models"


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(_models_in(_shipped()))


def available_models() -> dict[str, Path]:
    """Return the models that are known by name, with their files.

    Those of the package, and those in the folder of models (:func:`models_folder`).
    """
    return dict(sorted((_models_in(models_folder()) | _models_in(_shipped())).items()))


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the path of a model file, or of a model by its name; without a prefix.

    Raises
    ------
    TypeError
        If it is neither a path nor a name.
    FileNotFoundError
        If there is neither: names what there is.
    ValueError
        If a model of the package and one in the folder of models have this name.
    """
    from .adapters import split

    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            "a model is a Potential, the path of a model file or the name of a model, "
            f"got {type(name).__name__}"
        )
    _, path = split(name) or ("", Path(name))
    if path.is_file():
        return path
    shipped, own = _models_in(_shipped()), _models_in(models_folder())
    key = os.fspath(name)
    if key in shipped and key in own:
        raise ValueError(
            f"{key!r} is a model of the package and {own[key]}, too: rename the "
            "latter, or give its path"
        )
    found = own.get(key) or shipped.get(key)
    if found is None and path.is_dir():
        raise FileNotFoundError(f"{key!r} is a folder; expected a file of a model")
    if found is None:
        raise FileNotFoundError(
            f"{key!r} is neither a file nor a shipped model ("
            f"{', '.join(sorted(shipped)) or 'there are none'}) nor one in the folder "
            f"{models_folder()} ({', '.join(sorted(own)) or 'there are none'}; "
            f"{VARIABLE} names another folder)"
        )
    return found


def _shipped() -> Path:
    return Path(str(resources.files("deepspin_ase") / "models"))


def _models_in(folder: Path) -> dict[str, Path]:
    """Return the models in a folder by their names."""
    if not folder.is_dir():
        return {}
    # Where one name has both suffixes, the first of them counts.
    files = sorted(folder.iterdir(), key=lambda path: path.suffix == SUFFIXES[0])
    return {
        path.stem: path
        for path in files
        if path.suffix in SUFFIXES and path.is_file() and path.name[0] != "."
    }
