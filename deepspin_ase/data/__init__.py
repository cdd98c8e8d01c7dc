"""Labelled structures: reading, writing, checking, and the shipped examples."""

from __future__ import annotations

from ._checks import DataReport, Problem, Range, check_dataset
from ._conjugacy import ConjugacyReport, conjugacy
from ._examples import example_path, load_example
from ._frames import Dataset, Frame, keep_moments
from ._io import FORMATS, READ_FORMATS, read_dataset, write_dataset

__all__ = [
    "FORMATS",
    "READ_FORMATS",
    "ConjugacyReport",
    "DataReport",
    "Dataset",
    "Frame",
    "Problem",
    "Range",
    "check_dataset",
    "conjugacy",
    "example_path",
    "keep_moments",
    "load_example",
    "read_dataset",
    "write_dataset",
]
