"""Example datasets that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ._frames import Dataset
from ._io import read_dataset


def example_path(name: str) -> Path:
    """Return the folder of an example; its SOURCE.md describes the origin.

    Raises
    ------
    ValueError
        If there is no example of this name.
    """
    root = Path(str(resources.files("deepspin_ase") / "data" / "examples"))
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    if name not in names:
        raise ValueError(f"no example {name!r}; there are: {', '.join(names)}")
    return root / name


def load_example(name: str, *, split: str | None = None) -> Dataset:
    """Read an example, its part ``"train"`` or ``"valid"``, or both in this order.

    ``"fe2_lda"``: 72 + 17 frames of two Fe atoms with non-collinear moments.
    """
    splits = ("train", "valid")
    if split is not None and split not in splits:
        raise ValueError(f"unknown split {split!r}; choose 'train' or 'valid'")
    folder = example_path(name)
    chosen = splits if split is None else (split,)
    return read_dataset([folder / f"{part}.extxyz" for part in chosen])
