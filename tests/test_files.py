"""Files of runs: whole or not at all, of one process, and checked when read."""

from __future__ import annotations

import ast
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from processes import other_process

from deepspin_ase import _files
from deepspin_ase._files import append_text, atomic_write, locked, make_folder
from deepspin_ase._plain_data import load_plain, save_plain

# --- locks -----------------------------------------------------------------------


def test_a_second_process_is_refused_and_told_whom(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with other_process(path) as owner:
        with pytest.raises(BlockingIOError) as found, locked(path):
            pass
        assert f"{path} is being written by process {owner.pid} on " in str(found.value)
        with locked(tmp_path / "other.h5"):  # other files are free
            pass
    with locked(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_folder(tmp_path: Path) -> None:
    with (
        other_process(tmp_path),
        pytest.raises(BlockingIOError, match="being written"),
        locked(tmp_path),
    ):
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_killed_process_leaves_neither_lock_nor_temporary_files(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.npz"
    with other_process(path) as owner:
        owner.kill()
        owner.wait()
    assert (tmp_path / ".run.npz.lock").exists()
    ours, others = (tmp_path / f".0123abcd.tmp.{n}" for n in ("run.npz", "other.npz"))
    for left in (ours, others):
        left.write_text("half")
    with locked(path):
        assert others.exists() and not ours.exists()
    with locked(tmp_path):
        assert not others.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_thread_may_lock_again_another_may_not(tmp_path: Path) -> None:
    refused = []

    def lock() -> None:
        try:
            with locked(tmp_path / "a"):
                pass
        except BlockingIOError as error:
            refused.append(error)

    with locked(tmp_path / "a"):
        with locked(tmp_path / "b", tmp_path / "a"):
            pass
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()
    assert len(refused) == 1
    lock()
    assert len(refused) == 1


def test_a_lock_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"cannot write to .*nowhere"),
        locked(tmp_path / "nowhere" / "run.h5"),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot make the folder .*file/new .*choose"):
        make_folder(tmp_path / "file" / "new")


# --- writing ---------------------------------------------------------------------


def test_content_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power leaves the old file or the new one, never an empty one."""
    events = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(
        os, "replace", lambda a, b: (events.append("replace"), replace(a, b))
    )
    with atomic_write(tmp_path / "new") as temporary:
        temporary.write_text("content")
    assert events == [temporary.name, "replace", tmp_path.name]


def test_text_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "größe"
    append_text(path, "Å\n")
    append_text(path, "μ\n")
    assert path.read_bytes() == "Å\nμ\n".encode()
    with pytest.raises(OSError, match=r"cannot write to .*nowhere/a .*then go on"):
        append_text(tmp_path / "nowhere" / "a", "text")


# --- checksums -------------------------------------------------------------------


def test_every_changed_byte_of_tensors_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    tensor = torch.arange(64.0, dtype=torch.float64)
    save_plain(path, {"tensor": tensor, "text": "content"})
    whole = path.read_bytes()
    where = whole.index(tensor.numpy().tobytes())
    for k in range(where, where + 512, 37):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])
        with pytest.raises(ValueError, match=r"data\.pt is damaged: the checksum of"):
            load_plain(path, expected="numbers")


@pytest.mark.parametrize("content", [b"", b"PK", b"text", bytes(100)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.pt is truncated .* expected numbers"):
        load_plain(path, expected="numbers")
    with pytest.raises(FileNotFoundError, match="does not exist; expected numbers"):
        load_plain(tmp_path / "nothing.pt", expected="numbers")


def test_file_systems_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_files.fcntl, "flock", refuses)
    with locked(tmp_path / "run.h5"):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text("before")

    def fill(errno: int, *about: object) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno, "No space left on device", *about)

    with pytest.raises(OSError, match=r"cannot write to .*run\.txt \(No space left"):
        fill(28)
    with pytest.raises(OSError, match=r"No space left on device: 'elsewhere'$"):
        fill(28, "elsewhere")
    with (
        pytest.raises(OSError, match=r"cannot write to .*nowhere/a \(No such file"),
        atomic_write(tmp_path / "nowhere" / "a") as temporary,
    ):
        temporary.write_text("text")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(OSError, match="pipe is a device or pipe: choose a file"),
        atomic_write(tmp_path / "pipe") as temporary,
    ):
        temporary.write_text("text")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_every_text_file_is_opened_as_utf8() -> None:
    """The locale decides nothing: each call names its encoding."""
    root = Path(__file__).parents[1]
    silent = []
    for path in (
        p
        for f in ("deepspin_ase", "dynamics", "analysis")
        for p in (root / f).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(
                node.func, ast.Attribute
            ):
                continue
            named = {keyword.arg for keyword in node.keywords}
            least = {"read_text": 1, "write_text": 2}.get(node.func.attr)
            if least and "encoding" not in named and len(node.args) < least:
                silent.append(f"{path.name}:{node.lineno}")
    assert silent == []
