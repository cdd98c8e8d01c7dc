"""Labelled structures: reading, writing, checking, and the shipped examples."""

from __future__ import annotations

from ._checks import DataReport, Problem, Range, check_dataset
from ._conjugacy import ConjugacyReport, conjugacy
from ._examples import example_path, load_example
from ._frames import Dataset, Frame
from ._io import FORMATS, read_dataset, write_dataset

__all__ = [
    "FORMATS",
    "ConjugacyReport",
    "DataReport",
    "Dataset",
    "Frame",
    "Problem",
    "Range",
    "check_dataset",
    "conjugacy",
    "example_path",
    "load_example",
    "read_dataset",
    "write_dataset",
]
