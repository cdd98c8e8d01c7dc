"""Page of a transition temperature."""

from __future__ import annotations

from ase import Atoms

from .._report import Report
from ..analysis.transitions import TransitionResult, plot_transition
from ..analysis.validation._property import with_error

#: Quantities that are drawn, and what is said of them.
DRAWN = {
    "binder": "Binder cumulants; corrected for size, those of all sizes meet at the "
    "transition (grey).",
    "order": "Ordered moment.",
    "susceptibility": "Susceptibility of the order.",
    "heat_capacity": "Heat capacity, of the potential energy.",
}

#: Drift between the halves of a run that is still chance, in standard errors.
_DRIFT = 4.0


def transition_page(found: TransitionResult, atoms: Atoms) -> Report:
    """Return the page of a transition temperature of the cell ``atoms``."""
    report = Report(f"Magnetic transition of {atoms.get_chemical_formula()}")
    report.text(f"Infinite crystal: {with_error(*found.temperature_K)} K.")
    if found.drift > _DRIFT:
        report.text(
            "Not in equilibrium: the order in both halves of a run differs by "
            f"{found.drift:.1f} standard errors. Take more steps."
        )
    vectors = "; ".join(", ".join(f"{x:.4g}" for x in q) for q in found.q)
    report.text(
        f"Propagation vectors of the order and of its domains, in reciprocal lattice "
        f"units of the cell: ({vectors})."
    )
    rows = []
    for size, crossing, susceptibility, heat_capacity in zip(
        found.sizes,
        [*found.crossings_K, None],
        found.susceptibility_peaks_K,
        found.heat_capacity_peaks_K,
        strict=True,
    ):
        rows.append(
            [
                "×".join(map(str, size.size)),
                str(size.n_magnetic),
                "" if crossing is None else with_error(*crossing),
                with_error(*susceptibility),
                with_error(*heat_capacity),
                f"{size.drift.max():.1f}",
            ]
        )
    report.table(
        [
            "cells",
            "moments",
            "crossing with the next (K)",
            "peak of susceptibility (K)",
            "peak of heat capacity (K)",
            "drift",
        ],
        rows,
    )
    report.text(
        "Drift: largest difference of the order in both halves of a run, in standard "
        "errors. A dash: no crossing, or a peak at an end of the temperatures."
    )
    realizations = {len(x) for s in found.sizes for x in s.realizations.values()}
    if realizations:
        report.text(
            f"Averages are over {max(realizations)} realizations of the disorder; "
            "errors are of samples and of realizations."
        )
    for quantity, caption in DRAWN.items():
        report.figure(plot_transition(found, quantity=quantity), caption)
    return report
