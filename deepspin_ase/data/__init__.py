"""Labelled structures: reading, writing, checking, and the shipped examples."""

from __future__ import annotations

from .frames import LABELS, Dataset, Frame
from .io import read_dataset, write_dataset

__all__ = [
    "LABELS",
    "Dataset",
    "Frame",
    "read_dataset",
    "write_dataset",
]
