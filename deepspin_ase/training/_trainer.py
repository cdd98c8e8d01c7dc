"""Gradient training of any trainable potential, with checkpoints and reports."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .._config import differences
from .._device import as_device
from .._digest import digest
from .._extras import require
from .._files import atomic_write, locked, make_folder
from .._plain_data import save_plain
from .._progress import Clock, bar
from ..data import Dataset
from ..neighbors import build_pairs
from ..potentials import (
    Potential,
    Sum,
    Trainable,
    TrainingRange,
    choose_backend,
    load_potential,
    save_potential,
)
from ..potentials.networks._error_model import ErrorModel
from ..potentials.networks._trainable import architecture_of, trainable_parts
from ..quantities import label_table
from ._batch import Batch, collect, load_batches
from ._checkpoint import (
    deferred_interrupt,
    fingerprint,
    read_checkpoint,
)
from ._config import TrainingConfig
from ._curve import LearningCurve, brief
from ._distributed import (
    average_gradients,
    local_device,
    mean_over_processes,
    process_group,
)
from ._energies import (
    ReferenceColumns,
    ReferenceEnergies,
    fit_reference_energies,
    subtract_baseline,
)
from ._errors import fit_error_model
from ._inspection import inspect, overview
from ._loss import loss_of_errors, training_loss
from ._metrics import Comparison, compare
from ._report import save_figures, table_of_sets
from ._ridge import fit_linear_term
from ._sampling import FrameSampler
from ._scales import fit_scales
from ._schedule import decay_factor, learning_rate, loss_weights
from ._sets import TrainingSet, card_entry, names_of
from ._weights import with_weights

logger = logging.getLogger(__name__)

#: At most so many training frames are looked at when errors are reported.
N_WATCHED = 32

Errors = dict[str, Comparison]


class Trainer:
    """Gradient training of a potential on a dataset, with checkpoints and reports.

    The configuration names the architecture, any
    :class:`~deepspin_ase.potentials.Trainable`; it is called the network here.

    Parameters
    ----------
    config : TrainingConfig
        Its ``data`` section is not read again: the data are given here.
    training : Dataset or sequence of TrainingSet
        Frames of one origin, or data sets of different origin.
    validation : Dataset, optional
        Goes with a Dataset; without validation data, errors are reported on the
        training data alone.
    output : path
        Folder for ``model.pt``, ``checkpoint.pt``, ``lcurve.csv``, ``config.yaml``
        and the figures; made if missing.
    baseline : Potential, optional
        What the network corrects; the trained potential is their sum. It must
        have the symmetries that the augmentation uses.
    device : str or torch.device, optional
        CPU by default.

    Raises
    ------
    ValueError
        If the data are empty or do not fit the model, the loss weighs a label that the
        model does not predict, or ``ridge`` or no steps are asked for where there is
        no fit in closed form.
    """

    def __init__(
        self,
        config: TrainingConfig,
        training: Dataset | Sequence[TrainingSet],
        validation: Dataset | None = None,
        *,
        output: str | os.PathLike[str],
        baseline: Potential | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.sets = _as_sets(training, validation)
        loss = with_weights(config.loss, self.sets)
        self.config = config = config.model_copy(update={"loss": loss})
        self.output = Path(output)
        self._curve = LearningCurve(self.output / "lcurve.csv")
        self.baseline = baseline
        self.device = local_device(as_device("cpu" if device is None else device))
        self.step = 0
        self._clock = Clock(0, config.training.numb_steps)
        network = _initial_network(config)
        _check_closed_form(config, network)
        whole = network if baseline is None else Sum([baseline, network])
        self.scales = self._fitted_scales()
        self._parts = {
            own.name: self._prepared_data(k) for k, own in enumerate(self.sets)
        }
        inspect(self._parts, network, config)
        for line in overview(self._parts, network, config):
            logger.info("%s", line)
        self.frames, self.validation_frames = (
            [
                batch
                for k, both in enumerate(self._parts.values())
                for batch in load_batches(both[part], whole, member=k)
            ]
            for part in (0, 1)
        )
        parts = [part for own in self.sets for part in (own.training, own.validation)]
        self._fingerprint = digest(
            [fingerprint(parts), [own.settings for own in self.sets]]
        )
        self.training_range = TrainingRange.of(
            ((batch.system, batch.pairs) for batch in self.frames),
            magnetic=whole.magnetic_species if whole.uses_spins else frozenset(),
            labels=(
                label
                for label in label_table()
                if any(data.has(label) for data, _ in self._parts.values())
            ),
        )
        if network.training_range is not None:
            earlier, network.training_range = network.training_range, None
            self.training_range = self.training_range.with_elements_of(earlier)
        reduced = subtract_baseline(self.frames, baseline)
        self._columns = ReferenceColumns(network.species, reduced, self._free_offsets)
        network.element_energies = dict.fromkeys(network.species, 0.0)
        found = None
        if config.init_model is None:
            found = self._initialize(network, reduced)
        _check_predictions(config, network, reduced[0])
        self.references = found or fit_reference_energies(
            network, reduced, self._columns
        )
        self._training = self._prepared(network, reduced)
        self._validation = self._prepared(
            network, subtract_baseline(self.validation_frames, baseline)
        )
        self._error_model: ErrorModel | None = None
        self._build(network)

    @property
    def _free_offsets(self) -> list[bool]:
        return [k > 0 and own.offset for k, own in enumerate(self.sets)]

    def _fitted_scales(self) -> list[float]:
        """Return the factors of the moments of all sets."""
        given = [1.0 if own.scale == "fit" else own.scale for own in self.sets]
        if all(own.scale != "fit" for own in self.sets):
            return given
        found = fit_scales(
            [
                own.prepared(own.training, scale, self.config.loss)
                for own, scale in zip(self.sets, given, strict=True)
            ],
            [own.scale == "fit" for own in self.sets],
            self._free_offsets,
            loss_weights(self.config.loss, 0.0),
            names_of(self.sets),
        )
        return [a * b for a, b in zip(given, found, strict=True)]

    def _prepared_data(self, member: int) -> tuple[Dataset, Dataset]:
        """Return a set's frames for training and validation as they are trained on."""
        own, scale = self.sets[member], self.scales[member]
        training, validation = (
            own.prepared(data, scale, self.config.loss)
            for data in (own.training, own.validation)
        )
        return training, validation

    def _initialize(
        self, network: Trainable, batches: Sequence[Batch]
    ) -> ReferenceEnergies | None:
        """Initialize a new network from the data before the first step.

        ``batches`` are single frames in float64 on the CPU, the baseline subtracted.
        Reference energies are returned if they were fitted with the network.
        """
        network.fit_statistics((b.system, b.pairs) for b in batches)
        if self.baseline is not None:
            network.start_from_zero()
        if network.linear_term() is None:
            return None
        return self._fit_linear_term(network, batches)

    def _fit_linear_term(
        self, network: Trainable, batches: Sequence[Batch]
    ) -> ReferenceEnergies:
        """Start from the best linear term, in closed form; the rest is zero.

        Steps refine the rest alone: coefficients of features that nearly depend on each
        other are large, and small steps of all would undo what cancels.
        """
        network.start_from_zero()
        weights = loss_weights(self.config.loss, 0.0)
        found = fit_linear_term(
            network, batches, weights, self._columns, ridge=self.config.training.ridge
        )
        linear = network.linear_term()
        assert linear is not None
        linear.requires_grad_(False)
        return found.references

    def _prepared(self, network: Trainable, batches: Sequence[Batch]) -> list[Batch]:
        """Subtract reference energies and convert to training precision."""
        dtype = self._dtype
        return [
            batch.replace(
                energy=batch.energy - self.references.of(batch),
                # A baseline may reach farther than the network.
                pairs=build_pairs(batch.system, network.pair_cutoff(batch.system)),
            ).to(self.device, dtype)
            for batch in batches
        ]

    @property
    def _dtype(self) -> torch.dtype:
        precision = self.config.training.precision
        return torch.float32 if precision == "float32" else torch.float64

    def _build(self, network: Trainable) -> None:
        run = self.config.training
        choose_backend(network, mixed=run.precision == "mixed")
        self.network = network.to(self.device, self._dtype)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.config.learning_rate.start_lr,
            weight_decay=run.weight_decay,
            fused=True,
        )
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._averaged = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(run.averaging)
        )
        self.sampler = FrameSampler(len(self._training), run.batch_size, seed=run.seed)
        self._losses: list[float] = []
        self._best: tuple[float, dict[str, Any]] | None = None
        self._stale = 0

    @property
    def potential(self) -> Potential:
        """The potential as trained so far, on the CPU in float64."""
        network = self._trained()
        network.element_energies = self.references.elements
        network.error_model = self._error_model
        whole = network if self.baseline is None else Sum([self.baseline, network])
        whole.training_range = self.training_range
        return whole

    def _trained(self) -> Trainable:
        """Return the network as trained so far, without energies of elements."""
        network = _new_network(self.config)
        best = (
            self._averaged.module.state_dict() if self._best is None else self._best[1]
        )
        network.load_state_dict(best)
        network.element_energies = dict.fromkeys(network.species, 0.0)
        return network.requires_grad_(False).eval()

    def run(self, *, progress: bool | None = None) -> Potential:
        """Train from the present step to the last and write everything.

        Under torchrun every process takes its own share of each batch. When the
        run is interrupted, the step is finished and a checkpoint written.

        Parameters
        ----------
        progress : bool, optional
            Show a progress bar; by default only on a terminal.

        Returns
        -------
        Potential
            Also saved as ``model.pt``.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite; the last checkpoint stays.
        OSError
            If the folder cannot be written to, or another process trains there.
        """
        with process_group(self.device) as (rank, world):
            if rank > 0:
                self._loop(rank, world, progress)
                return self.potential
            make_folder(self.output)
            with locked(self.output):
                self._write_config()
                self._curve.begin()
                self._loop(rank, world, progress)
                self._finish()
        return self.potential

    def _loop(self, rank: int, world: int, progress: bool | None) -> None:
        run = self.config.training
        logged = run.tensorboard and rank == 0
        tensorboard = _tensorboard(self.output) if logged else None
        with (
            deferred_interrupt() as stopped,
            bar(
                total=run.numb_steps,
                initial=self.step,
                progress=progress if rank == 0 else False,
                unit="step",
            ) as shown,
        ):
            if (
                rank == 0
                and self.step == 0
                and (self._keeps_best or not run.numb_steps)
            ):
                self._report()
            if rank == 0 and not run.numb_steps:
                self.save_checkpoint()
            self._clock = Clock(self.step, run.numb_steps)
            exhausted = False
            while self.step < run.numb_steps and not exhausted:
                loss = self._advance(rank, world)
                loss, stop = mean_over_processes(loss, float(stopped()))
                if rank == 0:
                    self._losses.append(loss)
                shown.update()
                last = self.step == run.numb_steps
                if self.step % run.disp_freq == 0 or last:
                    if rank == 0:
                        row = self._report()
                        shown.set_postfix_str(brief(row))
                        for name, value in row.items():
                            if tensorboard is not None:
                                tensorboard.add_scalar(name, value, self.step)
                    exhausted = self._exhausted()
                    last = last or exhausted
                due = self.step % run.save_freq == 0 or last
                if rank == 0 and (due or stop):
                    self.save_checkpoint()
                if stop:
                    raise KeyboardInterrupt
        if tensorboard is not None:
            tensorboard.close()

    def _advance(self, rank: int, world: int) -> float:
        """Take one optimiser step; return the loss before it."""
        run, schedule = self.config.training, self.config.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(schedule, self.step, run.numb_steps)
        chosen = self.sampler.draw(rank, world)
        batch = Batch.cat([self._training[k] for k in chosen])
        rotations = self.sampler.rotations(
            rank, world, rotate=run.spin_rotation, reverse=run.time_reversal
        )
        if rotations is not None:
            batch = batch.with_rotated_spins(rotations.to(batch.energy))
        decay = decay_factor(schedule, self.step, run.numb_steps)
        weight = loss_weights(self.config.loss, decay)
        prediction = self.network.evaluate(
            batch.system,
            batch.pairs,
            create_graph=True,
            **{n: weight[n] > 0 for n, q in label_table().items() if q.derivative},
        )
        loss = training_loss(prediction, batch, weight, self.config.loss.huber_delta)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {self.step}; lower start_lr or set "
                "gradient_clip, and look at the data with 'deepspin data info'"
            )
        self.optimizer.zero_grad(set_to_none=False)
        if loss.requires_grad:
            loss.backward()
        average_gradients(self.network.parameters())
        if run.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), run.gradient_clip)
        self.optimizer.step()
        self._averaged.update_parameters(self.network)
        self.step += 1
        return value

    def errors(self) -> dict[str, Errors]:
        """Return the present errors on the validation and (some) training frames."""
        network = cast(Potential, self._averaged.module)
        stride = max(1, len(self._training) // N_WATCHED)
        watched = {"training": self._training[::stride]}
        if self._validation:
            watched["validation"] = self._validation
        return {
            kind: compare(network, collect(batches))
            for kind, batches in watched.items()
        }

    @property
    def _sources(self) -> dict[str, Any]:
        """Where the data come from, for the card."""

        def of(part: str) -> str:
            some = [getattr(own, part) for own in self.sets]
            named = [f"{data.name} ({len(data)} frames)" for data in some if data]
            return "; ".join(named) or "none"

        return {part: of(part) for part in ("training", "validation")}

    def _report(self) -> dict[str, float]:
        """Append a line to the learning curve."""
        row = {
            "step": float(self.step),
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": sum(self._losses) / len(self._losses) if self._losses else math.nan,
        }
        self._losses = []
        errors = self.errors()
        if self._keeps_best:
            self._keep_if_best(errors)
        for kind, comparisons in errors.items():
            for name, found in comparisons.items():
                row[f"{kind}_rmse_{name}"] = found.rmse
                row[f"{kind}_mae_{name}"] = found.mae
        self._curve.append(row)
        logger.info("step %d%s: %s", self.step, self._clock.left(self.step), brief(row))
        return row

    @property
    def _keeps_best(self) -> bool:
        run = self.config.training
        return run.keep_best or run.patience is not None

    def _exhausted(self) -> bool:
        """Return whether errors have not fallen for long; the same on all processes."""
        patience = self.config.training.patience
        stale = patience is not None and self._stale >= patience
        (any_,) = mean_over_processes(float(stale))
        if any_ > 0.0:
            logger.info(
                "no smaller loss in %d validations: stopped at step %d",
                self._stale,
                self.step,
            )
        return any_ > 0.0

    def _keep_if_best(self, errors: dict[str, Errors]) -> None:
        """Keep the present weights if their errors mean the least loss so far."""
        kind = "validation" if self._validation else "training"
        score = self._score(errors[kind], self._validation or self._training)
        self._stale += 1
        if self._best is None or score < self._best[0]:
            self._stale = 0
            state = self._averaged.module.state_dict()
            self._best = score, {k: v.clone() for k, v in state.items()}

    def _comparable(self, part: str, member: int | None = None) -> list[Batch]:
        """Return the frames of a data set, or of all, without offsets of energies."""
        return [
            batch.replace(energy=batch.energy - self.references.offset_of(batch))
            for batch in (self.frames if part == "training" else self.validation_frames)
            if member in (None, int(batch.sets))
        ]

    def _refit_linear_term(self) -> None:
        """Fit the linear term once more, now that the rest is trained.

        In closed form, to what the rest leaves of the labels: a Newton step in those
        coefficients. Kept if the loss of validation frames becomes smaller.
        """
        network = self._trained()
        linear = network.linear_term()
        if linear is None or not self._validation:
            return
        validation = subtract_baseline(self.validation_frames, self.baseline)
        before = self._loss(network, validation, self.references)
        alone = copy.deepcopy(network)
        alone.start_from_zero()
        linear.zero_()
        left = subtract_baseline(self.frames, self.baseline)
        left = subtract_baseline(left, network)
        weights = loss_weights(self.config.loss, 0.0)
        ridge = self.config.training.ridge
        found = fit_linear_term(alone, left, weights, self._columns, ridge=ridge)
        linear.copy_(cast(Tensor, alone.linear_term()))
        after = self._loss(network, validation, found.references)
        if after < before:
            self.references = found.references
            self._best = after, network.state_dict()
            logger.info(
                "the linear term, fitted once more, lowers the loss of validation "
                "frames to %.3e from %.3e",
                after,
                before,
            )

    def _loss(
        self,
        network: Trainable,
        batches: Sequence[Batch],
        references: ReferenceEnergies,
    ) -> float:
        """Return the mean loss that errors about given reference energies mean."""
        frames = [b.replace(energy=b.energy - references.of(b)) for b in batches]
        return self._score(compare(network, collect(frames)), frames)

    def _score(self, errors: Errors, frames: Sequence[Batch]) -> float:
        """Return the mean loss that errors of frames mean."""
        n_atoms = sum(b.system.n_atoms for b in frames) / len(frames)
        return loss_of_errors(errors, loss_weights(self.config.loss, 0.0), n_atoms)

    def _finish(self) -> None:
        """Write the model with its card, and the figures."""
        if self._keeps_best and self.step > 0:
            self._refit_linear_term()
        potential = self.potential
        kept_back = self._comparable("validation")
        fit_error_model(potential, self.frames, kept_back)
        self._error_model = trainable_parts(potential)[-1].error_model
        assert potential.training_range is not None
        self.training_range = potential.training_range
        kind = "validation" if kept_back else "training"
        comparisons = compare(
            potential, collect(self._comparable(kind)), deviations=bool(kept_back)
        )
        sets = {}
        for k, own in enumerate(self.sets):
            part = "validation" if own.validation else "training"
            some = self._comparable(part, k)
            found = compare(potential, collect(some))
            sets[own.name] = card_entry(own, self.scales[k], self.references, k) | {
                "errors": _summary(found, part)
            }
        if len(sets) > 1:
            for line in table_of_sets(sets):
                logger.info("%s", line)
        card = {
            "training": self.config.to_dict() | {"data": self._sources},
            "sets": sets,
            "baseline": None if self.baseline is None else type(self.baseline).__name__,
            "errors": _summary(comparisons, kind),
            "parameters": sum(p.numel() for p in potential.parameters()),
        }
        save_potential(self.output / "model.pt", potential, card=card)
        save_figures(self.output, self._curve.columns(), comparisons)

    def _write_config(self) -> None:
        with atomic_write(self.output / "config.yaml") as temporary:
            text = yaml.safe_dump(self.config.to_dict(), sort_keys=False)
            temporary.write_text(text, encoding="utf-8")

    def save_checkpoint(self) -> None:
        """Write ``checkpoint.pt``: all that a bit-for-bit continuation needs."""
        state = {
            "step": self.step,
            "run": self._identity(),
            "references": dataclasses.asdict(self.references),
            "scales": self.scales,
            "network": self.network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state(),
            "losses": self._losses,
            "best": self._best,
            "curve": self._curve.state_dict(),
            "stale": self._stale,
        }
        save_plain(self.output / "checkpoint.pt", state)

    def restore(self) -> None:
        """Continue from the checkpoint in the output folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is damaged, or belongs to another configuration or other data.
        """
        state = read_checkpoint(
            self.output / "checkpoint.pt", run=self._identity(), device=self.device
        )
        self.step = state["step"]
        self.references = ReferenceEnergies(**state["references"])
        self.scales = state["scales"]
        self.network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.restore(state["sampler"])
        self._losses = state["losses"]
        self._best = state["best"]
        if "curve" in state:
            self._curve.load_state_dict(state["curve"])
        else:
            self._curve.load_file(self.step)
        self._stale = state["stale"]

    def _identity(self) -> dict[str, Any]:
        config = self.config.to_dict()
        del config["data"], config["output"]
        for name in ("disp_freq", "save_freq", "tensorboard"):
            del config["training"][name]
        return config | {"data": self._fingerprint}


def _as_sets(
    training: Dataset | Sequence[TrainingSet], validation: Dataset | None
) -> list[TrainingSet]:
    """Return the data sets, whose names differ and which all have frames and labels."""
    if isinstance(training, Dataset):
        validation = validation or Dataset([])
        sets = [TrainingSet(training, validation, name=training.name)]
    elif validation is not None:
        raise ValueError("validation data of several sets are given with the sets")
    else:
        sets = list(training)
    names_of(sets)
    known = ", ".join(label_table())
    for own in sets:
        of = f" of {own.name}" if len(sets) > 1 else ""
        if not len(own.training):
            raise ValueError(f"there are no training frames{of}")
        parts = {"training": own.training, "validation": own.validation}
        for kind, dataset in parts.items():
            labelled = any(dataset.has(label) for label in label_table())
            if len(dataset) and not labelled and own.moments != "self-consistent":
                raise ValueError(f"the {kind} data{of} carry none of {known}")
    return sets


def _summary(comparisons: Errors, kind: str) -> dict[str, Any]:
    """Return errors as plain data."""
    return {
        "on": kind,
        **{
            name: {"rmse": found.rmse, "mae": found.mae}
            for name, found in comparisons.items()
        },
    }


def _check_predictions(
    config: TrainingConfig, network: Trainable, batch: Batch
) -> None:
    """Raise ValueError if the loss weighs a label that the network does not predict."""
    predicted = network.evaluate(batch.system, batch.pairs).quantities()
    weighted = [name for name, ends in config.loss.ends.items() if max(ends) > 0.0]
    missing = [name for name in weighted if name not in predicted]
    if missing:
        raise ValueError(
            f"the loss weighs {', '.join(missing)}, but {type(network).__name__} "
            "predicts only "
            f"{', '.join(predicted)}: set loss.weights of the former to [0, 0]"
        )


def _check_closed_form(config: TrainingConfig, network: Trainable) -> None:
    """Raise ValueError if a fit in closed form is asked for, and there is none."""
    run, name = config.training, type(network).__name__
    if network.linear_term() is None:
        if run.ridge is not None:
            raise ValueError(
                f"training.ridge is that of a linear term, which {name} lacks: leave "
                "it out"
            )
        if run.numb_steps == 0:
            raise ValueError(
                f"training.numb_steps is 0, and {name} has no linear term that could "
                "be fitted in closed form: give a number of steps"
            )
    elif config.init_model is not None and run.numb_steps == 0:
        raise ValueError(
            "training.numb_steps is 0, and the linear term of init_model is not fitted "
            "again: give a number of steps, or leave out init_model"
        )


def _new_network(config: TrainingConfig) -> Trainable:
    _, architecture = architecture_of(config.model)
    return architecture(config.model, seed=config.training.seed)


def _initial_network(config: TrainingConfig) -> Trainable:
    network = _new_network(config)
    if config.init_model is None:
        return network
    start = load_potential(config.init_model)
    parts = trainable_parts(start)
    if len(parts) != 1 or type(parts[0]) is not type(network):
        kinds = ", ".join(type(part).__name__ for part in parts) or "none"
        raise ValueError(
            f"init_model {config.init_model} is no single {type(network).__name__}, as "
            f"the section model is; networks in it: {kinds}"
        )
    different = differences(
        parts[0].config.meaning(), config.model.meaning(), where="model"
    )
    if different:
        raise ValueError(
            f"init_model {config.init_model} differs from the section model in "
            f"{', '.join(different)}; 'deepspin info {config.init_model}' shows what "
            "to write there"
        )
    network.load_state_dict(parts[0].state_dict())
    network.training_range = start.training_range
    return network


def _tensorboard(folder: Path) -> Any:
    require("tensorboard", "TensorBoard logs (training.tensorboard)")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
