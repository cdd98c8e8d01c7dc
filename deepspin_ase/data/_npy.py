"""DeePMD-kit's npy folders, standard and of mixed type.

A system is a folder with ``type.raw`` (a type index per atom), ``type_map.raw``
(the names of the types), optionally ``nopbc``, and sets ``set.*`` of
``<name>.npy`` with one row per frame. In the mixed type every frame has its own
``real_atom_types.npy``, where -1 marks padding. Data of the TensorFlow back end have
pseudo-atoms instead of ``spin.npy`` and ``force_mag.npy``. Units and signs are ours: A,
eV, mu_B, ``force_mag`` = -dE/dm and ``virial`` = -dE/dstrain.

Plain numpy reads these folders because dpdata (1.1) shifts labels to other
frames where some sets lack them, and drops spins of the mixed type unless
another format was loaded before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from .._files import reading
from ..quantities import label_table
from ._frames import Dataset, Frame
from ._pseudo_atoms import PseudoAtoms

logger = logging.getLogger(__name__)

#: Stems of the .npy files of the structure, by the names in Frame.
_STRUCTURE = {"positions": "coord", "spins": "spin", "cell": "box"}
_TYPES = "real_atom_types"


def _files() -> dict[str, str]:
    """Return the stems of all .npy files by the names in Frame."""
    named = {name: q.deepmd_file for name, q in label_table().items()}
    return _STRUCTURE | {name: stem for name, stem in named.items() if stem}


def find_systems(root: Path, patterns: Sequence[str] | None = None) -> list[Path]:
    """Return the folders with a ``type.raw`` in or below ``root``, sorted.

    With ``patterns``, only those below it that fit one of these, as in
    :meth:`pathlib.Path.rglob`.
    """
    if patterns is None:
        return sorted(path.parent for path in root.rglob("type.raw"))
    fitting = {path for pattern in patterns for path in root.rglob(pattern)}
    return sorted(path for path in fitting if (path / "type.raw").is_file())


def number_of_atoms(folder: Path) -> int:
    """Return the number of atoms, or of slots, of a frame of the system."""
    return len(_read_types(folder / "type.raw"))


def number_of_frames(folder: Path) -> int:
    """Return the number of frames of the system."""
    files = folder.glob("set.*/coord.npy")
    return sum(len(np.load(file, mmap_mode="r")) for file in files)


def is_mixed(folder: Path) -> bool:
    """Return whether the system in ``folder`` is of mixed type."""
    return any(folder.glob(f"set.*/{_TYPES}.npy"))


def read_system(
    folder: Path,
    *,
    type_map: Sequence[str] | None = None,
    default_type_map: Sequence[str] | None = None,
    virtual_scale: Mapping[str, float] | None = None,
) -> list[Frame]:
    """Read all frames of one system, of either type.

    Parameters
    ----------
    folder : Path
        A folder with ``type.raw`` and ``set.*``.
    type_map : sequence of str, optional
        Symbols of types 0, 1, ...; needed where ``type_map.raw`` is missing or
        names no elements.
    default_type_map : sequence of str, optional
        The same where neither says it; it may disagree with ``type_map.raw``.
    virtual_scale : {symbol: float}, optional
        Distance of pseudo-atoms per moment, A/mu_B, where they are further atoms.

    Raises
    ------
    ValueError
        If a file is missing, damaged, or disagrees with the others.
    """
    sets = sorted(path for path in folder.glob("set.*") if path.is_dir())
    if not sets:
        raise ValueError(f"{folder} has no folder 'set.*' with .npy files")
    types = _read_types(folder / "type.raw")
    numbers_of_type = _read_type_map(
        folder / "type_map.raw", type_map, default_type_map
    )
    periodic = not (folder / "nopbc").exists()
    pseudo = None
    if types.max() >= len(numbers_of_type) and not any(folder.glob("set.*/spin.npy")):
        pseudo = PseudoAtoms.of_types(folder, types, numbers_of_type, virtual_scale)
    frames: list[Frame] = []
    for path in sets:
        frames += _read_set(path, types, numbers_of_type, periodic, pseudo)
    return frames


def write_systems(
    folder: Path, dataset: Dataset, *, mixed: bool, type_map: Sequence[str]
) -> None:
    """Write a dataset as one system in ``folder``, or several in subfolders.

    Frames share a system when they have the same atoms in the same order (mixed
    type: the same number of atoms), periodicity and labels.
    """
    groups: dict[tuple[object, ...], list[Frame]] = {}
    for frame in dataset:
        if frame.pbc.any() != frame.pbc.all():
            raise ValueError(
                f"DeePMD's format has no partial periodicity (pbc = {frame.pbc}); "
                "write extxyz, or set pbc to all or none"
            )
        if not frame.longitudinal:
            raise ValueError(
                "DeePMD's format has no torques without magnetic forces; write extxyz"
            )
        labels = tuple(getattr(frame, label) is not None for label in label_table())
        kind = frame.n_atoms if mixed else tuple(frame.numbers.tolist())
        groups.setdefault((kind, bool(frame.pbc.all()), labels), []).append(frame)
    if any(frame.weights for frame in dataset):
        logger.warning("%s: DeePMD's format has no weights of frames", folder)
    taken: dict[str, int] = {}
    for frames in groups.values():
        name = str(frames[0].n_atoms) if mixed else _formula(frames[0])
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            name = f"{name}_{taken[name]}"
        target = folder if len(groups) == 1 else folder / name
        _write_system(target, frames, mixed=mixed, type_map=type_map)


def _read_types(path: Path) -> np.ndarray:
    try:
        types = np.array([int(word) for word in path.read_text("utf-8").split()])
    except ValueError as error:
        raise ValueError(f"{path} must hold one type index per atom: {error}") from None
    if not len(types):
        raise ValueError(f"{path} is empty; it must hold one type index per atom")
    return types


def _read_type_map(
    path: Path, type_map: Sequence[str] | None, default: Sequence[str] | None
) -> np.ndarray:
    """Return the atomic number of every type; zero where the name is not an element.

    Names of pseudo-atoms (Ni_spin) that follow the elements are left out.
    """
    names = path.read_text("utf-8").split() if path.is_file() else []
    while names and names[-1].endswith("_spin"):
        names.pop()
    stored = _numbers(names)
    if type_map is None and default is not None and not (names and stored.all()):
        type_map = default
    if type_map is None:
        if not names:
            raise ValueError(
                f"{path} is missing: write the elements of types 0, 1, ... there, or "
                "give type_map (e.g. type_map=['Ni', 'O'], --type-map Ni O)"
            )
        return stored
    given = _numbers(type_map)
    if not given.all():
        unknown = [name for name in type_map if name not in atomic_numbers]
        raise ValueError(f"type_map names no elements: {', '.join(unknown)}")
    both = min(len(stored), len(given))
    if stored.all() and not np.array_equal(stored[:both], given[:both]):
        raise ValueError(
            f"{path} says the types are {', '.join(names)}, but type_map is "
            f"{', '.join(type_map)}; leave type_map out, or correct one of them"
        )
    return given if len(given) > len(stored) or not stored.all() else stored


def _numbers(names: Iterable[str]) -> np.ndarray:
    return np.array([atomic_numbers.get(name, 0) for name in names], dtype=np.int64)


def _read_set(
    folder: Path,
    types: np.ndarray,
    numbers_of_type: np.ndarray,
    periodic: bool,
    pseudo: PseudoAtoms | None,
) -> list[Frame]:
    """Read the frames of one ``set.*``."""
    arrays = _load_set(folder, len(types), periodic, has_spins=pseudo is None)
    if pseudo is not None:
        arrays = pseudo.split(folder, arrays, periodic=periodic)
        types = types[pseudo.atoms]
    n_frames = len(arrays["positions"])
    all_types = _load(folder / f"{_TYPES}.npy", n_frames, (len(types),))
    if all_types is None:
        all_types = np.broadcast_to(types, (n_frames, len(types)))
    elif not np.array_equal(all_types, np.rint(all_types)):
        raise ValueError(f"{folder / _TYPES}.npy must hold whole numbers")
    all_types = all_types.astype(np.int64)
    frames = []
    per_atom = {"positions", "spins"}
    per_atom |= {name for name, q in label_table().items() if q.per_atom}
    for k, row in enumerate(all_types):
        real = row >= 0
        numbers = _look_up(folder, row[real], numbers_of_type)
        values = {
            name: array[k][real] if name in per_atom else array[k]
            for name, array in arrays.items()
        }
        try:
            frames.append(Frame(numbers=numbers, pbc=np.full(3, periodic), **values))
        except ValueError as error:
            raise ValueError(f"{folder}, frame {k}: {error}") from None
    return frames


def _load_set(
    folder: Path, n_atoms: int, periodic: bool, *, has_spins: bool
) -> dict[str, np.ndarray]:
    """Load the arrays of a set by their names in Frame, (n_frames, ...)."""
    first = _load(folder / "coord.npy", None, (n_atoms, 3))
    if first is None:
        raise ValueError(f"{folder / 'coord.npy'} is missing; every set needs one")
    shapes: dict[str, tuple[int, ...]] = {"spins": (n_atoms, 3), "cell": (3, 3)}
    shapes |= {name: q.shape_of(n_atoms) for name, q in label_table().items()}
    arrays = {"positions": first}
    for name, shape in shapes.items():
        array = _load(folder / f"{_files()[name]}.npy", len(first), shape)
        if array is not None:
            arrays[name] = array
    if has_spins and "spins" not in arrays:
        raise ValueError(
            f"{folder / 'spin.npy'} is missing; write the moments in mu_B there, "
            "zeros if nothing is magnetic"
        )
    if "cell" not in arrays:
        if periodic:
            raise ValueError(
                f"{folder / 'box.npy'} is missing; without periodicity put an empty "
                "file 'nopbc' beside type.raw"
            )
        arrays["cell"] = np.zeros((len(first), 3, 3))
    known = {*_files().values(), _TYPES}
    ignored = sorted(p.name for p in folder.glob("*.npy") if p.stem not in known)
    if ignored:
        logger.warning("%s: ignored %s", folder, ", ".join(ignored))
    return arrays


def _load(
    path: Path, n_frames: int | None, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Load ``path`` as (n_frames, *shape), or return None if there is no file."""
    if not path.is_file():
        return None
    with reading(path, "an array of numbers (npy)"):
        array = np.load(path, allow_pickle=False)
    if array.dtype.kind not in "fiu" or array.ndim == 0:
        raise ValueError(f"{path} must hold an array of numbers, one row per frame")
    if n_frames is not None and len(array) != n_frames:
        raise ValueError(
            f"{path} holds {len(array)} frames but coord.npy beside it {n_frames}; "
            "write the set again, or remove the file if it is not its label"
        )
    expected = int(np.prod(shape))
    if array.size != len(array) * expected:
        raise ValueError(
            f"{path} has {array.size / max(len(array), 1):g} numbers per frame; "
            f"expected {expected}: check it and the number of atoms in type.raw"
        )
    return array.reshape(len(array), *shape)


def _look_up(
    folder: Path, types: np.ndarray, numbers_of_type: np.ndarray
) -> np.ndarray:
    """Return the atomic numbers of ``types``."""
    outside = types[(types < 0) | (types >= len(numbers_of_type))]
    if len(outside):
        raise ValueError(
            f"{folder}: type {outside[0]} is not among the {len(numbers_of_type)} "
            "types of the type map; complete type_map.raw, or give type_map"
        )
    numbers = numbers_of_type[types]
    if not numbers.all():
        raise ValueError(
            f"{folder.parent / 'type_map.raw'}: type {types[numbers == 0][0]} names no "
            "element; give type_map, the elements of types 0, 1, ..."
        )
    return numbers


def _write_system(
    folder: Path, frames: Sequence[Frame], *, mixed: bool, type_map: Sequence[str]
) -> None:
    type_of_number = {atomic_numbers[name]: k for k, name in enumerate(type_map)}
    types = np.array([[type_of_number[z] for z in f.numbers] for f in frames])
    first, chunk = frames[0], folder / "set.000"
    chunk.mkdir(parents=True)
    np.savetxt(folder / "type.raw", 0 * types[0] if mixed else types[0], fmt="%d")
    np.savetxt(folder / "type_map.raw", list(type_map), fmt="%s")
    if mixed:
        np.save(chunk / f"{_TYPES}.npy", types.astype(np.int32))
    if not first.pbc.any():
        (folder / "nopbc").touch()
    for name, stem in _files().items():
        if getattr(first, name) is None:
            continue
        values = np.array([getattr(f, name) for f in frames])
        flat = values if values.ndim == 1 else values.reshape(len(frames), -1)
        np.save(chunk / f"{stem}.npy", flat)
        if np.isnan(flat).any():
            logger.warning(
                "%s: NaN marks what has no label; DeePMD-kit itself cannot train on it",
                folder / f"{stem}.npy",
            )


def _formula(frame: Frame) -> str:
    """Return the formula with elements by atomic number, e.g. O16Ni16."""
    numbers, counts = np.unique(frame.numbers, return_counts=True)
    return "".join(
        f"{chemical_symbols[z]}{n}" for z, n in zip(numbers, counts, strict=True)
    )
