"""``deepspin data``: inspection and conversion of labelled data."""

from __future__ import annotations

import argparse

from .._files import require_different
from .._validate import positive
from ..data import (
    FORMATS,
    ConjugacyReport,
    DataReport,
    Dataset,
    check_dataset,
    keep_moments,
    read_dataset,
    write_dataset,
)
from ..training._checkpoint import fingerprint
from ._options import add_columns, columns_of, pairs
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions ``info`` and ``convert``."""
    parser.description = "Look into labelled data, or convert them."
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    info = actions.add_parser("info", help="contents, ranges and problems of data")
    info.description = (
        "What data hold: compositions, labels and their ranges; whether magnetic "
        "forces are derivatives of the energy; and what would spoil a training."
    )
    info.add_argument("path", nargs="+", help=_PATHS)
    _add_names(info)
    info.add_argument("--format", metavar="NAME", help=_INPUT_FORMAT)
    info.add_argument(
        "--magnetic",
        nargs="+",
        metavar="ELEMENT",
        help="elements that may carry moments (default: those that do)",
    )
    _add_skip(info)
    info.set_defaults(run=_info)

    convert = actions.add_parser("convert", help="write data in another format")
    convert.description = "Write data as DeePMD folders or as extxyz."
    convert.add_argument("input", help=_PATHS)
    convert.add_argument("output", help="file or new folder")
    convert.add_argument(
        "--format",
        choices=FORMATS,
        help="format of the output (default: extxyz for .xyz and .extxyz, "
        "else deepmd/npy)",
    )
    convert.add_argument(
        "--input-format",
        metavar="NAME",
        help="format of the input; detected automatically",
    )
    _add_names(convert)
    convert.add_argument(
        "--magnetic",
        nargs="+",
        metavar="ELEMENT",
        help="elements that keep moments; those of others, which DFT leaves, are set "
        "to zero and reported",
    )
    _add_skip(convert)
    convert.set_defaults(run=_convert)


_INPUT_FORMAT = "format of the input; detected automatically"

_PATHS = (
    "file or folder: extxyz, DeePMD, traj, MLIP's cfg, runs of ABACUS, GPAW and VASP "
    "with constrained moments"
)


def _add_skip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-failed",
        action="store_true",
        help="leave out runs of DFT that are refused, and say why",
    )


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--type-map",
        nargs="+",
        metavar="ELEMENT",
        help="elements of the types 0, 1, ... of DeePMD and MLIP",
    )
    parser.add_argument(
        "--virtual-scale",
        nargs="+",
        metavar="ELEMENT=SCALE",
        help="distance of pseudo-atoms per moment, A/mu_B, where they are further "
        "atoms (data of DeePMD-kit's TensorFlow back end: virtual_len / spin_norm)",
    )
    add_columns(parser)


def _virtual_scale(arguments: argparse.Namespace) -> dict[str, float] | None:
    """Return the distance of pseudo-atoms per moment by element, A/mu_B."""
    expected = "ELEMENT=SCALE, such as Ni=0.314"
    given = pairs("--virtual-scale", expected, arguments.virtual_scale)
    if given is None:
        return None
    try:
        return {element: positive(element, float(x)) for element, x in given.items()}
    except ValueError as error:
        raise ValueError(f"--virtual-scale takes {expected}: {error}") from None


def _info(arguments: argparse.Namespace) -> Outcome:
    dataset = read_dataset(
        arguments.path,
        format=arguments.format,
        type_map=arguments.type_map,
        virtual_scale=_virtual_scale(arguments),
        columns=columns_of(arguments),
        skip_failed=arguments.skip_failed,
    )
    report = check_dataset(dataset, magnetic_elements=arguments.magnetic)
    digest = fingerprint([dataset])
    lines = [
        *_contents(dataset, report, digest),
        *_ranges(report),
        *_conjugacy(report.conjugacy),
        "",
        "problems" if report.problems else "no problems found",
        *(f"  {problem}" for problem in report.problems),
    ]
    print("\n".join(lines))
    found = {
        "data": dataset.name,
        "frames": report.n_frames,
        "sha256": digest,
        "compositions": report.compositions,
        "elements": dataset.elements,
        "magnetic": dataset.magnetic_elements,
        "labels": report.labels,
        "ranges": report.ranges,
        "conjugacy": report.conjugacy,
        "problems": report.problems,
    }
    return Outcome(found)


def _contents(dataset: Dataset, report: DataReport, digest: str) -> list[str]:
    formulas = [f"{name} ({n})" for name, n in report.compositions.items()]
    more = f", and {len(formulas) - 8} more" if len(formulas) > 8 else ""
    labels = [
        name if n == report.n_frames else f"{name} ({n})"
        for name, n in report.labels.items()
        if n
    ]
    missing = [name for name, n in report.labels.items() if not n]
    return [
        f"data          {dataset.name}",
        f"frames        {report.n_frames}",
        f"sha-256       {digest}",
        f"compositions  {', '.join(formulas[:8])}{more}",
        f"elements      {', '.join(dataset.elements)}",
        f"magnetic      {', '.join(dataset.magnetic_elements) or 'none'}",
        f"labels        {', '.join(labels) or 'none'}",
        f"missing       {', '.join(missing) or 'none'}",
    ]


def _ranges(report: DataReport) -> list[str]:
    lines = ["", f"{'':<40}{'min':>11}{'mean':>11}{'std':>11}{'max':>11}"]
    for name, found in report.ranges.items():
        numbers = (found.minimum, found.mean, found.std, found.maximum)
        lines.append(f"{name:<40}" + "".join(f"{value:11.4f}" for value in numbers))
    return lines


def _conjugacy(report: ConjugacyReport) -> list[str]:
    lines = ["", "conjugacy: slope of energy differences over the work of the labels"]
    if not report.conclusive:
        return [*lines, f"  not tested: {report.untested}"]
    notes = [f"{report.n_pairs} pairs of {report.n_frames} frames"]
    if report.aligned:
        notes.append("spins rotated together to match")
    if report.extrapolated:
        notes.append("extrapolated to near pairs, as paths between frames are curved")
    if report.cells == "fitted":
        notes.append("strain energy fitted along, as cells differ and virials miss")
    return [
        *lines,
        f"  {'; '.join(notes)}",
        f"  {'all':<14}{report.slope:6.3f} +- {report.slope_error:.3f}",
        *(
            f"  {name:<14}{slope:6.3f} +- {report.errors[name]:.3f}"
            for name, slope in report.slopes.items()
        ),
        f"  correlation {report.correlation:.4f}, residual {report.residual:.3f} of "
        f"{report.spread:.3f} meV/atom, net torque {report.net_torque:.1e} eV",
    ]


def _convert(arguments: argparse.Namespace) -> Outcome:
    require_different(input=arguments.input, output=arguments.output)
    dataset = read_dataset(
        arguments.input,
        format=arguments.input_format,
        type_map=arguments.type_map,
        virtual_scale=_virtual_scale(arguments),
        columns=columns_of(arguments),
        skip_failed=arguments.skip_failed,
    )
    dropped: dict[str, float] = {}
    if arguments.magnetic is not None:
        dataset, dropped = keep_moments(dataset, arguments.magnetic)
        for element, largest in dropped.items():
            print(f"moments of {element}, up to {largest:.3g} mu_B, are set to zero")
    write_dataset(
        arguments.output, dataset, format=arguments.format, type_map=arguments.type_map
    )
    print(f"{len(dataset)} frames of {arguments.input} written to {arguments.output}")
    found = {
        "frames": len(dataset),
        "largest_moments_set_to_zero_mu_B": dropped,
        "files": [arguments.output],
    }
    return Outcome(found)
