"""Models by name: fetched from servers, found in the folder of models, described."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins, write_extxyz
from deepspin_ase.cli import main
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    available_models,
    get_model,
    load_potential,
    models_folder,
    save_potential,
    shipped_models,
)
from deepspin_ase.potentials._library import resolve

MAGNET = Heisenberg(CubicCut(0.05, 3.5))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models, empty."""
    folder = tmp_path / "models"
    monkeypatch.setenv("DEEPSPIN_MODELS", str(folder))
    monkeypatch.delenv("DEEPSPIN_INDEX", raising=False)
    return folder


class Handler(SimpleHTTPRequestHandler):
    """Serves files; of those whose name begins with half, half."""

    def log_message(self, *_: Any) -> None:
        """Write no log."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        if Path(self.path).name.startswith("half"):
            content = content[: len(content) // 2]
        outputfile.write(content)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with a model, and its URL."""
    files = tmp_path / "served"
    files.mkdir()
    save_potential(files / "Magnet.safetensors", MAGNET, card={"citation": "nobody"})
    handler = partial(Handler, directory=str(files))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield files, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_get(
    served: tuple[Path, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, url = served
    checksum = digest(files / "Magnet.safetensors")
    command = ["get", f"{url}/Magnet.safetensors", "--sha256", checksum.upper()]
    assert main(command) == 0
    assert str(folder / "Magnet.safetensors") in capsys.readouterr().out
    assert digest(folder / "Magnet.safetensors") == checksum
    assert isinstance(load_potential("Magnet"), Heisenberg)
    assert isinstance(DeepSpinCalculator("Magnet").potential, Heisenberg)
    assert available_models()["Magnet"] == folder / "Magnet.safetensors"
    assert {"NiO", "Magnet"} <= set(available_models())
    (files / "Magnet.safetensors").unlink()
    assert main(command) == 0  # it is there: nothing is fetched
    assert main(["get", url + "/Magnet.safetensors"]) == 2
    assert "a model Magnet already" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["Magnet.safetensors"]


def test_get_by_path_and_under_other_names(
    served: tuple[Path, str], folder: Path
) -> None:
    files, url = served
    file = files / "Magnet.safetensors"
    assert get_model(file) == folder / "Magnet.safetensors"
    assert get_model(file.as_uri(), name="b-2.0") == folder / "b-2.0.safetensors"
    (files / "content").write_bytes(file.read_bytes())
    assert get_model(f"{url}/content?download=1") == folder / "content.safetensors"
    save_potential(files / "old.pt", MAGNET)
    assert get_model(f"{url}/old.pt") == folder / "old.pt"
    for name in ("Magnet", "b-2.0", "content", "old"):
        assert isinstance(load_potential(name), Heisenberg)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SERVER/none.safetensors"], "SERVER/none.safetensors cannot be read (404"),
        (["SERVER/half.safetensors"], "SERVER/half.safetensors broke off after"),
        (
            ["SERVER/other.safetensors"],
            "SERVER/other.safetensors is truncated, damaged or",
        ),
        (["SERVER/other.pt"], "SERVER/other.pt is truncated or something else"),
        (
            ["SERVER/changed.safetensors"],
            "SERVER/changed.safetensors is truncated, or was",
        ),
        (["SERVER/Magnet.safetensors", "--sha256", 64 * "0"], "not 0000"),
        (["SERVER/Magnet.safetensors", "--sha256", "123"], "must be 64 hexadecimal"),
        (["SERVER/Magnet.safetensors", "--name", "NiO"], "a model NiO already"),
        (
            ["SERVER/Magnet.safetensors", "--name", "../a"],
            "cannot be the name of a model",
        ),
        (
            ["SERVER/Magnet.safetensors", "--name", ".a"],
            "cannot be the name of a model",
        ),
        (["SERVER/"], "cannot be the name of a model"),
        (["SERVER/model.pth"], "store a model of DeePMD-kit yourself"),
        (["http://127.0.0.1:1/a.pt"], "http://127.0.0.1:1/a.pt cannot be read ("),
        (["http://:0/a.pt"], "cannot be read"),
        (["ftp://127.0.0.1/a.pt"], "must begin with https://, http://, file://"),
        (["file:///no/such/a.pt"], "file:///no/such/a.pt cannot be read"),
        (["Magnet"], "no URL and no file, and there is no index"),
        (["./no/such.pt"], "no URL and no file, and there is no index"),
    ],
)
def test_what_is_not_kept(
    served: tuple[Path, str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    files, url = served
    whole = (files / "Magnet.safetensors").read_bytes()
    (files / "half.safetensors").write_bytes(whole)
    (files / "changed.safetensors").write_bytes(whole.replace(b"nobody", b"anyone"))
    for name in ("other.safetensors", "other.pt", "index.html"):
        (files / name).write_text("<html>Please log in</html>")
    assert main(["get", *(word.replace("SERVER", url) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message.replace("SERVER", url) in error
    assert "Traceback" not in error and ".tmp." not in error
    assert not folder.exists() or not list(folder.iterdir())


def test_get_by_names_of_an_index(
    served: tuple[Path, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, url = served
    checksum = digest(files / "Magnet.safetensors")
    (files / "sub").mkdir()
    entries = {
        "Iron": {"url": "../Magnet.safetensors", "sha256": checksum},
        "Cobalt": {"url": f"{url}/Magnet.safetensors", "sha256": 64 * "0"},
    }
    (files / "sub" / "index.json").write_text(json.dumps(entries))
    for index in (f"{url}/sub/index.json", str(files / "sub" / "index.json")):
        monkeypatch.setenv("DEEPSPIN_INDEX", index)
        assert main(["get", "Iron"]) == 0
        assert digest(folder / "Iron.safetensors") == checksum
        (folder / "Iron.safetensors").unlink()
    capsys.readouterr()
    assert main(["get", "Cobalt"]) == 2
    assert f"has the SHA-256 {checksum}, not 0000" in capsys.readouterr().err
    assert main(["get", "Nickel"]) == 2
    assert "there are Cobalt, Iron" in capsys.readouterr().err
    for text in (
        "[]",
        "{",
        '{"Iron": {"url": "a.pt"}}',
        '{"a": {"url": 1, "sha256": 1}}',
    ):
        (files / "sub" / "index.json").write_text(text)
        assert main(["get", "Iron"]) == 2
        assert "is no index of models; expected JSON" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    save_potential(folder / "Magnet.pt", MAGNET)
    with pytest.raises(
        FileNotFoundError,
        match=r"'Iron' is neither .* \(BiFeO3, .*models \(Magnet; DEEP",
    ):
        load_potential("Iron")
    save_potential(folder / "NiO.safetensors", MAGNET)
    with pytest.raises(
        ValueError, match=r"'NiO' is a model of the package and .*NiO.saf"
    ):
        load_potential("NiO")
    monkeypatch.chdir(folder)
    assert resolve("NiO.safetensors") == Path("NiO.safetensors")
    monkeypatch.setenv("DEEPSPIN_MODELS", "/no/such/folder")
    assert "Magnet" not in available_models()
    assert resolve("NiO").parent != folder


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEEPSPIN_MODELS")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "deepspin" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_folder() == tmp_path / ".cache" / "deepspin" / "models"
    monkeypatch.setattr("sys.platform", "darwin")
    expected = tmp_path / "Library" / "Caches" / "deepspin" / "models"
    assert models_folder() == expected


def test_info_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """It is JSON that others read, without infinities, and says what the text says."""
    assert main(["info", "NiO", "--json"]) == 0

    def refuse(word: str) -> None:
        raise AssertionError(word)

    facts = json.loads(capsys.readouterr().out, parse_constant=refuse)
    path = resolve("NiO")
    assert facts["sha256"] == digest(path)
    assert facts["bytes"] == path.stat().st_size
    assert facts["elements"] == ["O", "Ni"] and facts["magnetic"] == ["Ni"]
    assert facts["units"]["moments"] == "mu_B"
    assert "LGPL" in facts["card"]["licence"]
    bounds = facts["ranges"][""]["bounds"]
    assert bounds["moment Ni"] == pytest.approx([1.1, 1.46], abs=0.03)
    assert bounds["distance Ni-O"][1] is None
    assert main(["info", "NiO"]) == 0
    text = capsys.readouterr().out
    for part in (
        facts["sha256"],
        "licence     model: MIT",
        "citation    DeepSPIN",
        "forces                           0.4",
        "shortest distance Ni-O      1.",
    ):
        assert part in text


def test_what_no_command_takes_for_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names the file, whatever it is and whoever opens it."""
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    atoms.calc = DeepSpinCalculator(MAGNET)
    atoms.get_forces()
    write_extxyz(structure := tmp_path / "fe.extxyz", atoms)
    save_potential(tmp_path / "a.safetensors", MAGNET)
    whole = (tmp_path / "a.safetensors").read_bytes()
    foreign = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    contents = {
        "empty.pt": b"",
        "empty.pth": b"",
        "page.safetensors": b"<!DOCTYPE html><html>404</html>",
        "page.pt": b"<!DOCTYPE html><html>404</html>",
        "half.safetensors": whole[: len(whole) // 2],
        "edited.safetensors": whole.replace(b'"3.5', b'"3.4').replace(b" 3.5", b" 3.4"),
        "checksum.safetensors": whole.replace(b'"sha256":"', b'"sha256":"0', 1),
        "foreign.safetensors": len(foreign).to_bytes(8, "little") + foreign + bytes(4),
    }
    for name, content in contents.items():
        assert content != whole
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.pt").mkdir()
    for name in (*contents, "folder.pt"):
        model = str(tmp_path / name)
        for command in (
            ["info", model],
            ["relax", str(structure), "--model", model],
            ["test", model, str(structure)],
            ["convert", model, str(tmp_path / "out.pt")],
            ["get", model],
        ):
            assert main(command) == 2
            error = capsys.readouterr().err
            assert model in error and error.count("\n") == 1, error
        with pytest.raises((ValueError, FileNotFoundError), match=name):
            DeepSpinCalculator(model)
    left = {path.name for path in tmp_path.iterdir()} - {"models"}
    assert left == {*contents, "folder.pt", "a.safetensors", "fe.extxyz"}
    assert list(available_models()) == sorted(shipped_models())


def test_list_of_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    save_potential(folder / "Magnet.safetensors", MAGNET)
    (folder / "Broken.safetensors").write_bytes(b"abc")
    (folder / "notes.txt").write_text("of models")
    (folder / ".Left.safetensors").write_bytes(b"")
    (folder / "Folder.safetensors").mkdir()
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "BiFeO3",
        "Broken",
        "Fe",
        "Magnet",
        "NiO",
    ]
    assert "is truncated, damaged" in lines[1] and " any " in lines[3]
    assert lines[-1] == f"folder of models: {folder}"
    assert main(["info", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    names = [model["name"] for model in models]
    assert names == sorted(names) and len(names) == 5


def test_info_of_cards_of_other_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"errors": {"energy": {"rmse": [0.3], "mae": 0.2}}}
    for card in (
        {},
        odd,
        {"errors": {"energy": 0.3}},
        {"errors": "small", "data": [1, 2]},
    ):
        save_potential(tmp_path / "model.safetensors", MAGNET, card=card)
        assert main(["info", str(tmp_path / "model.safetensors")]) == 0
        text = capsys.readouterr().out
        assert "Heisenberg" in text and ("small" in text) == ("data" in card)


def test_folder_that_cannot_be_made(
    served: tuple[Path, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("a file")
    assert main(["get", f"{served[1]}/Magnet.safetensors"]) == 2
    assert f"cannot make the folder {folder}" in capsys.readouterr().err
    assert folder.read_text() == "a file"
    assert set(available_models()) >= {"NiO"}
