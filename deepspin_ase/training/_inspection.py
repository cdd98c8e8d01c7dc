"""What training data hold and lack: told, or refused, before a training starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from .._digest import digest
from ..data import Dataset, Frame, conjugacy
from ..potentials import Trainable
from ..quantities import Quantity, label_table
from ._config import TrainingConfig
from ._report import aligned_columns
from ._schedule import warmup_steps

logger = logging.getLogger(__name__)

#: Frames of the same atoms whose labels are compared with their energies.
COMPARED = 60

#: Lengths of moments that vary by less than this share are one length, and directions
#: that differ by less (radian) are one axis.
_ONE = 1e-3


def inspect(
    parts: Mapping[str, tuple[Dataset, Dataset]],
    network: Trainable,
    config: TrainingConfig,
) -> None:
    """Warn of what cannot be learned from data; refuse what would spoil a model.

    Parameters
    ----------
    parts : mapping
        Frames for training and for validation of every data set, as they are trained
        on, by the name of the set.
    network : Trainable
    config : TrainingConfig

    Raises
    ------
    ValueError
        If a set has no label that the loss weighs, elements carry moments that the
        model calls non-magnetic, or forces have the wrong sign.
    """
    training = [data for data, _ in parts.values()]
    for name, both in parts.items():
        for kind, dataset in zip(("training", "validation"), both, strict=True):
            where = f"the {kind} data" + (f" of {name}" if len(parts) > 1 else "")
            _check_labels(where, dataset, config.loss.ends)
            _check_magnetic_elements(where, dataset, network)
    messages = [*_unknown_numbers(training), *_not_learned(training, network)]
    if config.init_model is None:
        messages += _without_frames(training, network)
    for message in messages:
        logger.warning("%s", message)
    steps = config.training.numb_steps
    warmup = warmup_steps(config.learning_rate, steps)
    if warmup >= max(steps, 1):
        logger.warning(
            "the warm-up of %d steps is longer than the training of %d, whose "
            "learning rate stays below start_lr: lower learning_rate.warmup_steps",
            warmup,
            steps,
        )
    for name, (data, held) in parts.items():
        for message in _repeated(data, held):
            logger.warning("%s: %s", name, message)
        _check_conjugacy(name, data)


def _repeated(training: Dataset, validation: Dataset) -> Iterator[str]:
    """Yield what structures that are there more than once mean."""
    known = {_structure(frame) for frame in training}
    if doubled := len(training) - len(known):
        yield (
            f"{doubled} frames for training repeat the structures of others, which "
            "count as often: are files or folders listed twice?"
        )
    seen = sum(_structure(frame) in known for frame in validation)
    if seen:
        yield (
            f"{seen} of {len(validation)} frames for validation are trained on, too: "
            "their errors say nothing about other structures"
        )


def _structure(frame: Frame) -> str:
    """Return a digest of a structure to the decimals that files hold."""
    numbers = (frame.positions, frame.cell, frame.spins)
    rounded = [np.round(values, 5) + 0.0 for values in numbers]
    return digest([frame.numbers, *rounded])


def overview(
    parts: Mapping[str, tuple[Dataset, Dataset]],
    network: Trainable,
    config: TrainingConfig,
) -> list[str]:
    """Return lines on the data and on what was chosen for them."""
    training, validation = (
        [frame for both in parts.values() for frame in both[k]] for k in (0, 1)
    )
    atoms = sum(frame.n_atoms for frame in training)
    elements = [chemical_symbols[z] for z in sorted(network.species)]
    magnetic = network.magnetic_species if network.uses_spins else frozenset()
    moments = [
        f"{chemical_symbols[z]} ({low:.2f} to {high:.2f} mu_B)"
        for z in sorted(magnetic or ())
        for low, high in [_span(_lengths([Dataset(training)], z))]
    ]
    linear = network.linear_term()
    features = "" if linear is None else f", {linear.shape[-1]} features"
    run, rate = config.training, config.learning_rate
    rows = [["label", "frames", "numbers", "rms", "weight"]]
    for name, quantity in label_table().items():
        values = [getattr(frame, name) for frame in training]
        known = [x for x in values if x is not None and np.isfinite(x).any()]
        if known:
            ends = config.loss.ends.get(name, (0.0, 0.0))
            rows.append(
                [
                    quantity.title,
                    str(len(known)),
                    str(sum(int(np.isfinite(x).sum()) for x in known)),
                    _rms(known, quantity),
                    " to ".join(f"{end:g}" for end in dict.fromkeys(ends)),
                ]
            )
    return [
        f"data: {len(training)} frames for training ({atoms} atoms) and "
        f"{len(validation)} for validation",
        f"elements: {', '.join(elements)}; magnetic: {', '.join(moments) or 'none'}",
        f"model: {type(network).__name__}, cutoff {network.cutoff:g} A{features}, "
        f"{sum(p.numel() for p in network.parameters())} parameters",
        f"steps: {run.numb_steps} of {run.batch_size} frames in {run.precision}, "
        f"learning rate {rate.start_lr:g} to {rate.stop_lr:g}"
        if run.numb_steps
        else "steps: none, the linear term is fitted in closed form",
        *(f"  {line}" for line in aligned_columns(rows)),
    ]


def _rms(values: Sequence[np.ndarray | float], quantity: Quantity) -> str:
    """Return the root mean square; of energies there is none, for lack of a zero."""
    if quantity.kind == "structure":
        return ""
    numbers = np.concatenate([np.ravel(x) for x in values])
    return f"{np.sqrt(np.nanmean(numbers**2)):.3g} {quantity.unit}"


def _check_labels(
    where: str, dataset: Dataset, weights: Mapping[str, tuple[float, float]]
) -> None:
    weighed = [name for name, ends in weights.items() if max(ends) > 0.0]
    if not len(dataset):
        return
    for frame in dataset:
        for name in weighed:
            value = getattr(frame, name)
            known = value is not None and np.isfinite(value).any()
            if known and frame.weights.get(name, 1.0) > 0.0:
                return
    found = [name for name in label_table() if dataset.has(name)]
    raise ValueError(
        f"{where} carry none of {', '.join(weighed)}, which the loss weighs "
        f"(labels that they have: {', '.join(found) or 'none'}); leave these data out, "
        "or give their labels a weight"
    )


def _check_magnetic_elements(where: str, dataset: Dataset, network: Trainable) -> None:
    if not network.uses_spins and dataset.magnetic_elements:
        logger.warning(
            "%s: %s carry moments, but no element is magnetic in the section model: "
            "the model will not depend on them",
            where,
            ", ".join(dataset.magnetic_elements),
        )
    if not network.uses_spins or network.magnetic_species is None:
        return
    known = [chemical_symbols[z] for z in sorted(network.magnetic_species)]
    for symbol in dataset.magnetic_elements:
        if symbol not in known and atomic_numbers[symbol] in network.species:
            _, most = _span(_lengths([dataset], atomic_numbers[symbol]))
            raise ValueError(
                f"{where}: {symbol} carries moments of up to {most:.2g} mu_B, but is "
                f"not magnetic in the section model; call it magnetic there, or remove "
                "its moments by 'deepspin data convert INPUT OUTPUT --magnetic "
                f"{' '.join(known)}'"
            )


def _without_frames(training: Sequence[Dataset], network: Trainable) -> Iterator[str]:
    """Yield a message on elements that are in no frame."""
    present = {atomic_numbers[s] for data in training for s in data.elements}
    missing = sorted(network.species - present)
    if missing:
        names = ", ".join(chemical_symbols[z] for z in missing)
        yield (
            f"the section model has {names}, but no frame for training does: nothing "
            "is learned of it, and calculators refuse it; leave it out of the "
            "elements, or add frames"
        )


def _unknown_numbers(training: Sequence[Dataset]) -> Iterator[str]:
    """Yield a message on labels that are NaN."""
    found = []
    for name, quantity in label_table().items():
        unknown = total = 0
        for frame in (frame for data in training for frame in data):
            value = getattr(frame, name)
            if value is None:
                continue
            rows = np.isnan(value)
            rows = rows.any(axis=1) if rows.ndim == 2 and quantity.per_atom else rows
            rows = rows[frame.spins.any(axis=1)] if quantity.magnetic else rows
            if not quantity.per_atom:
                rows = rows.any(keepdims=True)
            unknown, total = unknown + int(rows.sum()), total + rows.size
        if unknown:
            unit = "atoms" if quantity.per_atom else "frames"
            found.append(f"{name} of {unknown} of {total} {unit}")
    if found:
        yield f"labels that are NaN are left out: {', '.join(found)}"


def _not_learned(training: Sequence[Dataset], network: Trainable) -> Iterator[str]:
    """Yield messages on moments: none, of one length, or along one axis."""
    carrying = {s for data in training for s in data.magnetic_elements}
    if not carrying:
        yield (
            "no atom of the training data carries a moment: the model knows the "
            "lattice alone, and its magnetic forces mean nothing"
        )
        return
    if not network.uses_spins:
        yield (
            "the model has no magnetic element: moments of "
            f"{', '.join(sorted(carrying))} are ignored"
        )
        return
    for z in sorted(network.magnetic_species or ()):
        lengths, symbol = _lengths(training, z), chemical_symbols[z]
        low, high = _span(lengths)
        if not len(lengths):
            yield f"{symbol} is magnetic in the model, but has no moment in the data"
        elif high - low < _ONE * high:
            yield (
                f"all moments of {symbol} are {high:.3f} mu_B long: how the energy "
                "depends on their length is not learned beyond magnetic forces along "
                "them; keep lengths fixed with this model, or add frames with others"
            )
    if not any(data.has("magnetic_forces") for data in training):
        yield (
            "there are no magnetic forces or torques: how energies depend on moments "
            "is learned from energies and forces alone, which takes many more frames"
        )
    if all(_collinear(frame.spins) for data in training for frame in data):
        yield (
            "the moments of every frame lie along one axis: how the energy changes as "
            "they turn is not learned; add frames with canted moments and their "
            "magnetic forces"
        )


def _lengths(training: Sequence[Dataset], number: int) -> np.ndarray:
    """Return the lengths of the moments that atoms of an element carry, mu_B."""
    found = [np.zeros(0)]
    for frame in (frame for data in training for frame in data):
        length = np.linalg.norm(frame.spins[frame.numbers == number], axis=1)
        found.append(length[length > 0.0])
    return np.concatenate(found)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest value; zeros if there is none."""
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)


def _collinear(spins: np.ndarray) -> bool:
    lengths = np.linalg.norm(spins, axis=1)
    axis = spins[lengths.argmax()]
    sine = np.linalg.norm(np.cross(spins, axis), axis=1)
    return bool((sine <= _ONE * lengths * lengths.max()).all())


def _check_conjugacy(name: str, dataset: Dataset) -> None:
    """Warn of labels that are not slopes of the energies; refuse wrong signs."""
    report = conjugacy(dataset, max_frames=COMPARED)
    if not report.conclusive:
        return
    remedy = (
        "labels are forces -dE/dr in eV/A, magnetic forces -dE/dm in eV/mu_B and "
        "virials -dE/dstrain in eV ('deepspin data info' tells more)"
    )
    for term, slope in report.slopes.items():
        if slope + 3.0 * report.errors[term] < 0.0:
            raise ValueError(
                f"{name}: the {term} have the wrong sign: energies change by "
                f"{slope:.2f} +- {report.errors[term]:.2f} times their work; {remedy}"
            )
    for problem in report.problems():
        logger.warning("%s: %s; %s", name, problem, remedy)
