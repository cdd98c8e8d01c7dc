"""Offline web pages of structures with their moments as arrows.

The page holds the viewer (chemiscope, BSD licence) and the structures: it can be sent
by mail and opened in any browser with WebGL, years later too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from importlib.metadata import files as files_of
from importlib.resources import files
from itertools import islice
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..._extras import require
from ..._files import atomic_write
from ..._validate import positive
from ...io._extxyz import current_results
from ...spins import get_spins
from .._trajectories import Frames, frames_of, spins_of
from ._arrows import arrow_scale, direction_colors

#: Where 3Dmol has its camera, A, and how wide it sees, degrees from the middle.
_CAMERA, _HALF_ANGLE = 150.0, 20.0

#: Radius of an arrow's shaft as a part of the longest arrow.
_SLENDER = 0.06


def write_html(
    path: str | os.PathLike[str],
    source: Frames,
    *,
    every: int = 1,
    scale: float | None = None,
    axis: str | ArrayLike | None = None,
    title: str | None = None,
    replica: int = 0,
) -> int:
    """Write a web page with the moments as arrows; return the number of frames in it.

    Several frames get a slider and can be played. Arrows begin at the atoms.

    Parameters
    ----------
    path : path
        The page appears complete or not at all.
    source : Atoms, iterable of Atoms, or path
    every : int
        Take one frame of so many: all frames of a page are in the browser's memory.
    scale : float, A/mu_B, optional
        Length of the arrows; by default fit to the distances between the atoms.
    axis : (3,) array or str, optional
        Colours red along it and blue against it; by default as
        :func:`~deepspin_ase.analysis.direction_colors` chooses.
    title : str, optional
        Heading of the page.
    replica : int
        Of an HDF5 trajectory with several.

    Raises
    ------
    ImportError
        If chemiscope is missing.
    ValueError
        If there are no frames, moments are missing, all of the first are zero, or
        ``scale`` is not positive.
    """
    if every < 1:
        raise ValueError(f"every must be 1 or more, got {every}")
    frames = list(islice(frames_of(source, replica=replica), 0, None, every))
    name = title or f"{frames[0].get_chemical_formula(empirical=True)} with moments"
    data = _dataset(frames, scale, axis, name)
    # Nothing may end a script element early.
    page = _PAGE.format(
        title=escape(name),
        licences=_licences().replace("</", "<\\/"),
        viewer=_viewer().replace("</script", "<\\/script"),
        data=json.dumps(data, separators=(",", ":")).replace("</", "<\\/"),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return len(frames)


def _chemiscope() -> Any:
    return require("chemiscope", "web pages of structures")


def _viewer() -> str:
    """Return chemiscope's JavaScript, with all that it needs."""
    _chemiscope()
    script = files("chemiscope") / "sphinx" / "static" / "chemiscope.min.js"
    return script.read_text(encoding="utf-8")


def _licences() -> str:
    """Return the licences of chemiscope and of what its script holds."""
    own = [file for file in files_of("chemiscope") or [] if file.name == "LICENSE"]
    bundled = files("chemiscope") / "static" / "chemiscope-widget.mjs.LICENSE.txt"
    texts = [file.read_text(encoding="utf-8") for file in own]
    return "\n".join([*texts, bundled.read_text(encoding="utf-8")])


def _dataset(
    frames: Sequence[Atoms],
    scale: float | None,
    axis: str | ArrayLike | None,
    name: str,
) -> dict[str, Any]:
    """Return the data of chemiscope's page."""
    from matplotlib.colors import to_hex

    first = spins_of(frames[0])
    scale = arrow_scale(frames[0], first) if scale is None else positive("scale", scale)
    longest = scale * np.linalg.norm(first, axis=1).max()
    shape = {
        "baseRadius": _SLENDER * longest,
        "headRadius": 2.2 * _SLENDER * longest,
        "headLength": 0.35 * longest,
    }
    arrows: list[dict[str, Any]] = []
    for frame in frames:
        moments = get_spins(frame)
        colors = direction_colors(moments, axis)
        arrows += [
            {"vector": np.round(scale * m, 4).tolist(), "color": to_hex(color)}
            for m, color in zip(moments, colors, strict=True)
        ]
    camera = _camera(frames[0], longest)
    bare = [_bare(frame) for frame in frames]
    dataset: dict[str, Any] = _chemiscope().create_input(
        structures=bare,
        metadata={"name": name},
        properties=_properties(frames),
        shapes={
            "moments": {
                "kind": "arrow",
                "parameters": {"global": shape, "atom": arrows},
            }
        },
        settings={
            "structure": [
                {
                    "shape": "moments",
                    "bonds": False,
                    "unitCell": bool(frames[0].cell.rank == 3),
                    "axes": "xyz",
                    "keepOrientation": True,
                    "playbackDelay": 100,
                    "camera": camera,
                }
            ]
        },
    )
    return dataset


def _bare(frame: Atoms) -> Atoms:
    """Return positions, elements and cell alone."""
    periodic = frame.cell.rank == 3
    return Atoms(
        frame.numbers,
        positions=np.round(frame.positions, 5),
        cell=frame.cell if periodic else None,
        pbc=periodic,
    )


def _properties(frames: Sequence[Atoms]) -> dict[str, Any]:
    """Return the numbers shown next to each frame."""
    columns: dict[str, tuple[str, list[float]]] = {
        "time": ("fs", [f.info.get("time_fs", np.nan) for f in frames]),
        "energy": ("eV", [current_results(f).get("energy", np.nan) for f in frames]),
        "mean moment per atom": (
            "μ_B",
            [float(np.linalg.norm(get_spins(f).mean(axis=0))) for f in frames],
        ),
    }
    return {
        name: {"target": "structure", "units": unit, "values": values}
        for name, (unit, values) in columns.items()
        if np.isfinite(values).all()
    }


def _camera(atoms: Atoms, longest: float) -> dict[str, Any]:
    """Return a view from the side and above, z up, that holds all atoms and arrows."""
    points = atoms.positions
    if atoms.cell.rank == 3:
        corners = np.indices((2, 2, 2)).reshape(3, -1).T @ atoms.cell.array
        points = np.concatenate([points, corners])
    center = 0.5 * (points.max(axis=0) + points.min(axis=0))
    radius = np.linalg.norm(points - center, axis=1).max() + longest
    distance = radius / np.tan(np.radians(_HALF_ANGLE))
    # Columns: where the viewer sees x, y and z (to the right, up, and nearer).
    seen = Rotation.from_euler("zx", [-65.0, -70.0], degrees=True).as_matrix()
    keys = ("x", "y", "z")
    # The centre is where the scene moves to, hence its sign.
    return {
        "center": dict(zip(keys, (-center).tolist(), strict=True)),
        "eye": dict(zip(keys, (-center + seen[:, 2]).tolist(), strict=True)),
        "up": dict(zip(keys, seen[:, 1].tolist(), strict=True)),
        "zoom": _CAMERA - float(distance),
    }


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  html, body {{ height: 100%; margin: 0; font-family: sans-serif; }}
  body {{ display: flex; flex-direction: column; overflow-x: hidden; }}
  #structure {{ flex: 1; min-height: 0; position: relative; }}
  #problem {{ color: #a00; padding: 0 1em; white-space: pre-wrap; }}
</style>
</head>
<body>
<div id="meta"></div>
<div id="problem"></div>
<div id="structure"></div>
<div id="info"></div>
<script type="text/plain" id="licences">{licences}</script>
<script>{viewer}</script>
<script>
  const problem = document.getElementById("problem");
  const warnings = new Chemiscope.Warnings();
  warnings.addHandler((message) => {{ problem.textContent = message; }});
  const places = {{ meta: "meta", structure: "structure", info: "info" }};
  Chemiscope.StructureVisualizer.load(places, {data}, warnings)
    .then(() => {{ document.body.dataset.state = "shown"; }})
    .catch((error) => {{
      document.body.dataset.state = "failed";
      problem.textContent = "The structures cannot be shown: " + error;
    }});
</script>
</body>
</html>
"""
