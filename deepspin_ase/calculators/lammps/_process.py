"""LAMMPS processes in their own environment: start, requests and termination."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from io import BufferedRWPair
from pathlib import Path

from ase.calculators.calculator import CalculationFailed

from ._worker import Message, receive, send

logger = logging.getLogger(__name__)

#: Names the Python of the environment that has LAMMPS and DeePMD-kit.
PYTHON_VARIABLE = "DEEPSPIN_LAMMPS_PYTHON"

_WORKER = Path(__file__).with_name("_worker.py")

#: Seconds for a clean end, and between looks whether a starting process lives.
_PATIENCE, _LOOK = 2.0, 0.1

#: Lines of the output of a process that died that are shown.
_SHOWN = 15


def environment_python(python: str | os.PathLike[str] | None = None) -> str:
    """Return the Python of LAMMPS' environment, by default the one that is named.

    Raises
    ------
    ValueError
        If none is given, or there is no such program.
    """
    given = os.environ.get(PYTHON_VARIABLE) if python is None else os.fspath(python)
    if not given:
        raise ValueError(
            "name the Python of the environment with LAMMPS and DeePMD-kit: python=... "
            f"or the variable {PYTHON_VARIABLE}; scripts/lammps_environment.sh sets "
            "such an environment up"
        )
    found = shutil.which(given)
    if found is None:
        raise ValueError(f"there is no program {given} (the Python for LAMMPS)")
    return found


class LammpsProcess:
    """LAMMPS on one or many ranks, with one model.

    Parameters
    ----------
    model : path
        Frozen model.
    elements : sequence of str
        Its elements in their order.
    python, ranks, mpiexec
        As for :class:`~deepspin_ase.calculators.lammps.DeepSpinLammps`.

    Raises
    ------
    ValueError
        If a program is missing, or the ranks do not find each other.
    ImportError
        If the environment cannot run LAMMPS with DeePMD-kit: says why.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        elements: Sequence[str],
        *,
        python: str | os.PathLike[str] | None = None,
        ranks: int = 1,
        mpiexec: str | os.PathLike[str] | None = None,
    ) -> None:
        python = environment_python(python)
        launcher = _launcher(python, ranks, mpiexec)
        self._folder = Path(tempfile.mkdtemp(prefix="deepspin-"))
        address = self._folder / "socket"
        command = [
            *(*launcher, python, str(_WORKER), str(address)),
            *(str(Path(model).resolve()), " ".join(elements)),
        ]
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(address))
            listening.listen(ranks)
            self._process = self._start(command)
            streams: list[BufferedRWPair] = []
            self.close = weakref.finalize(
                self, _end, self._process, streams, self._folder
            )
            try:
                streams.append(self._accept(listening))
                self._stream = streams[0]
                about = json.loads(str(receive(self._stream)["about"]))
            except EOFError:
                raise self._cannot_start(python) from None
            except BaseException:
                self.close()
                raise
        if about["ranks"] != ranks:
            self.close()
            raise ValueError(
                f"{command[0]} started {ranks} programs that do not see each other: it "
                "belongs to another MPI than mpi4py and LAMMPS of the environment; "
                "name its own with mpiexec=..."
            )
        logger.info("LAMMPS runs: %s", about)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.close.alive and self._process.poll() is None

    def ask(self, request: Message) -> Message:
        """Return the answer to a request (see ``worker.Lammps.evaluate``).

        Raises
        ------
        CalculationFailed
            If LAMMPS reports an error, or the process died: says why.
        """
        try:
            send(self._stream, request)
            answer = receive(self._stream)
        except (EOFError, OSError) as error:
            said = self._last_words()
            self.close()
            raise CalculationFailed(f"the LAMMPS process died: {said}") from error
        except BaseException:  # interrupted: an answer would come to no question
            self.close()
            raise
        if "error" in answer:
            raise CalculationFailed(f"LAMMPS: {str(answer['error']).strip()}")
        return answer

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with open(self._folder / "output", "wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": "1", **os.environ},
                start_new_session=True,  # Ctrl-C is for the program that asks
            )

    def _accept(self, listening: socket.socket) -> BufferedRWPair:
        """Return the connection to rank 0; EOFError if it ends before."""
        listening.settimeout(_LOOK)
        while True:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                if self._process.poll() is not None:
                    raise EOFError from None
                continue
            connection.settimeout(None)
            with connection:
                return connection.makefile("rwb")

    def _cannot_start(self, python: str) -> ImportError:
        said = self._last_words()
        self.close()
        return ImportError(
            f"{python} cannot run LAMMPS with DeePMD-kit; it needs the packages "
            "deepmd-kit[torch,lmp] and mpi4py (scripts/lammps_environment.sh installs "
            f"versions that fit): {said}"
        )

    def _last_words(self) -> str:
        """Return the end of what a process that died wrote, and its exit status."""
        try:
            status = str(self._process.wait(_PATIENCE))
        except subprocess.TimeoutExpired:
            status = "none yet"
        text = (self._folder / "output").read_text("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()][-_SHOWN:]
        return "\n".join([f"exit status {status}", *lines])


def _launcher(
    python: str, ranks: int, mpiexec: str | os.PathLike[str] | None
) -> list[str]:
    """Return the words that start the ranks; none for one rank without MPI."""
    if ranks < 1:
        raise ValueError(f"ranks must be at least 1, got {ranks}")
    if ranks == 1 and mpiexec is None:
        return []
    bundled = Path(python).with_name("mpiexec")
    default = str(bundled) if bundled.exists() else "mpiexec"
    found = shutil.which(default if mpiexec is None else os.fspath(mpiexec))
    if found is None:
        raise ValueError(
            f"there is no program {mpiexec or default} to start {ranks} ranks"
        )
    return [found, "-n", str(ranks)]


def _end(
    process: subprocess.Popen[bytes], streams: Sequence[BufferedRWPair], folder: Path
) -> None:
    """End a process, kindly if it is connected, and remove its folder."""
    for stream in streams:
        with contextlib.suppress(OSError):  # what is unsent has nobody to read it
            stream.close()
    kinds = iter((signal.SIGTERM, signal.SIGKILL))
    patience = _PATIENCE if streams else 0.0
    while True:
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, next(kinds, signal.SIGKILL))
            patience = _PATIENCE
    shutil.rmtree(folder, ignore_errors=True)
