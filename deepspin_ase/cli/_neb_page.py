"""Page of a minimum energy path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ase import Atoms

from .._report import Report
from ..analysis.paths import NEBPath, plot_path
from ._reports import RESIDUALS, add_moments


def path_page(
    path: NEBPath,
    images: Sequence[Atoms],
    *,
    converged: bool,
    n_calls: int,
    residuals: Mapping[str, float],
) -> Report:
    """Return the page of a path and its images.

    Parameters
    ----------
    path : NEBPath
    images : sequence of Atoms
    converged : bool
    n_calls : int
        Model calls.
    residuals : dict
        Largest force (eV/A), torque (eV) and stress (eV/A^3) across the path.
    """
    report = Report(f"Minimum energy path of {images[0].get_chemical_formula()}")
    left = ", ".join(f"{k} {x:.1e} {RESIDUALS[k]}" for k, x in residuals.items())
    report.text(
        f"{'Converged' if converged else 'Not converged'} after {n_calls} model calls. "
        f"Left across the path: {left}."
    )
    barriers = {
        "forward barrier": (path.barrier_forward, path.barrier_forward_image),
        "reverse barrier": (path.barrier_reverse, path.barrier_reverse_image),
        "last image above the first": (path.reaction_energy,) * 2,
    }
    report.table(
        ["meV", "by the fit", "by the highest image"],
        [[name, *(f"{1e3 * x:.4f}" for x in both)] for name, both in barriers.items()],
    )
    report.figure(
        plot_path(path, parts=True),
        "Energy along the path, and the work of the parts of the structure.",
    )
    parts = ", ".join(f"{name} {part:.0%}" for name, part in path.fractions.items())
    report.text(
        f"Length {path.length:.4f} Å in the metric of the band, {path.detour:.3f} "
        f"times the distance of the ends; shares of the squared steps: {parts}. A "
        f"rotation of a moment by one radian counts as {path.spin_scale:g} Å."
    )
    top = path.highest
    ends = {"first image": images[0], "last image": images[-1]}
    if 0 < top < len(images) - 1:
        last = ends.popitem()
        ends |= {f"highest image ({top})": images[top]} | dict([last])
    add_moments(report, ends)
    report.heading("Images")
    _add_images(report, path)
    return report


def _add_images(report: Report, path: NEBPath) -> None:
    work = {**path.work, "residual": path.residual}
    rows = []
    for k, energy in enumerate(path.energies - path.energies[0]):
        name = f"{k}, climbing" if k in path.climbing else str(k)
        values = [energy, path.slopes[k], *(done[k] for done in work.values())]
        millis = [f"{1e3 * value:.4f}" for value in values]
        rows.append([name, f"{path.coordinate[k]:.4f}", *millis])
    parts = [f"{name} (meV)" for name in work]
    report.table(["image", "path (Å)", "E − E₀ (meV)", "dE/ds (meV/Å)", *parts], rows)
    report.text(
        "The columns after the slope are what each part of the structure has done to "
        "the energy up to the image. The residual is what these integrals lack, shared "
        "out among them; more images make it less."
    )
