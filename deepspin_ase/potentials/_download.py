"""Models from servers, into the folder of models."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import Request, urlopen

from .._files import atomic_write, locked, make_folder
from .._progress import bar
from .._version import __version__
from ._files import load_potential
from ._library import SUFFIXES, available_models, models_folder

#: Environment variable that names an index of models.
INDEX_VARIABLE = "DEEPSPIN_INDEX"

_SCHEMES = ("https", "http", "file")

#: Suffixes of DeePMD-kit, whose models hold no checksums or are programs.
_DEEPMD = (".pth", ".pt2", ".yaml", ".yml", ".dp", ".pb")

#: Seconds to wait for a server, and bytes that are read at once.
_TIMEOUT, _PIECE = 30.0, 1 << 18


def get_model(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    sha256: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Fetch a model into the folder of models, where it is found by name.

    It appears there once it is complete, its checksums are right, and it was loaded.

    Parameters
    ----------
    source : str or path
        URL (``https``, ``http`` or ``file``) or path of a ``.safetensors`` or ``.pt``
        file; or a name in the index that the environment variable ``DEEPSPIN_INDEX``
        names, the URL or path of a JSON file ``{name: {"url": ..., "sha256": ...}}``
        with URLs relative to its own.
    name : str, optional
        Under which it is found; by default that of the file, or that in the index.
    sha256 : str, optional
        What the checksum of the file must be: 64 hexadecimal digits, as ``sha256sum``
        and ``deepspin info`` print them.
    progress : bool, optional
        Show a progress bar; by default where the output is a terminal.

    Returns
    -------
    Path
        Of the file. One with this name and checksum that is there is not fetched again.

    Raises
    ------
    ValueError
        If the source is no model, its checksum is another, or its name is taken.
    OSError
        If it cannot be read to its end, or not be written.
    """
    given = None if sha256 is None else _digits(sha256)
    remote = _located(os.fspath(source))
    expected = given or remote.sha256
    target = models_folder() / f"{name or remote.name}{remote.suffix}"
    _check_name(target)
    make_folder(target.parent)
    with locked(target):
        there = available_models().get(target.stem)
        if there is not None:
            if hashlib.sha256(there.read_bytes()).hexdigest() == expected:
                return there
            raise ValueError(
                f"there is a model {target.stem} already, {there}: choose another name "
                "(--name), or remove that file"
            )
        with atomic_write(target) as temporary:
            found = _download(remote.url, temporary, progress)
            if expected is not None and found != expected:
                raise ValueError(
                    f"{remote.url} has the SHA-256 {found}, not {expected}: it is "
                    "damaged, or another file than was meant; it was not kept"
                )
            try:
                load_potential(temporary)
            except ValueError as error:
                message = str(error).replace(str(temporary), remote.url)
                raise ValueError(message) from error
    return target


@dataclass(frozen=True)
class _Remote:
    """A file on a server.

    Attributes
    ----------
    url : str
    name : str
        Of the model.
    sha256 : str, optional
    """

    url: str
    name: str
    sha256: str | None = None

    @property
    def suffix(self) -> str:
        """Suffix of the model file; that of models to share where the URL has none."""
        suffix = _file_name(self.url).suffix
        return suffix if suffix in SUFFIXES else SUFFIXES[0]


def _file_name(url: str) -> PurePosixPath:
    return PurePosixPath(unquote(urlsplit(url).path))


def _located(source: str) -> _Remote:
    """Return where a model is, by URL, path, or name in the index."""
    if Path(source).is_file():
        source = Path(source).resolve().as_uri()
    if "://" not in source:
        return _in_index(source)
    _check_scheme(source)
    file = _file_name(source)
    if file.suffix in _DEEPMD:
        raise ValueError(
            f"{source}: the folder of models holds {' and '.join(SUFFIXES)} files; "
            "store a model of DeePMD-kit yourself, and give its path"
        )
    return _Remote(source, file.stem if file.suffix in SUFFIXES else file.name)


def _in_index(name: str) -> _Remote:
    """Return where a model is by its name in the index."""
    index = os.environ.get(INDEX_VARIABLE)
    if not index:
        known = ", ".join(available_models())
        raise ValueError(
            f"{name!r} is no URL and no file, and there is no index to look it up: "
            f"{INDEX_VARIABLE} is not set; models that are there: {known}"
        )
    if "://" not in index:
        index = Path(index).expanduser().resolve().as_uri()
    _check_scheme(index)
    with _open(index) as response:
        content = b"".join(_pieces(index, response))
    try:
        entries = {
            name: _Remote(urljoin(index, of["url"]), name, _digits(of["sha256"]))
            for name, of in json.loads(content).items()
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(
            f"{index} ({INDEX_VARIABLE}) is no index of models; expected JSON: "
            '{name: {"url": ..., "sha256": ...}, ...}'
        ) from None
    if name not in entries:
        raise ValueError(
            f"{name!r} is not in the index {index}; there are "
            f"{', '.join(sorted(entries)) or 'none'}"
        )
    _check_scheme(entries[name].url)
    return entries[name]


def _digits(sha256: str) -> str:
    """Return a checksum in lower case, or raise ValueError where it is none."""
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}")
    return sha256.lower()


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in _SCHEMES:
        raise ValueError(f"{url} must begin with {'://, '.join(_SCHEMES)}://")


def _check_name(target: Path) -> None:
    """Raise ValueError unless a file in the folder of models may have this name."""
    if target.parent != models_folder() or not re.fullmatch(r"\w[\w.+-]*", target.name):
        raise ValueError(
            f"{target.stem!r} cannot be the name of a model: give one (--name) of "
            "letters and digits, with - + . _ within"
        )


def _open(url: str) -> Any:
    """Return the answer of a server."""
    agent = {"User-Agent": f"deepspin-ase/{__version__}"}
    try:
        return urlopen(Request(url, headers=agent), timeout=_TIMEOUT)
    except (OSError, HTTPException) as error:
        raise _unreadable(url, error) from error


def _pieces(url: str, response: Any) -> Iterator[bytes]:
    """Yield the content of an answer."""
    while True:
        try:
            piece = response.read(_PIECE)
        except (OSError, HTTPException) as error:
            raise _unreadable(url, error) from error
        if not piece:
            return
        yield piece


def _unreadable(url: str, error: Exception) -> OSError:
    code, reason = getattr(error, "code", ""), getattr(error, "reason", None) or error
    said = f"{code} {reason}".strip()
    return OSError(f"{url} cannot be read ({said}): is the address right?")


def _download(url: str, path: Path, progress: bool | None) -> str:
    """Write what is at a URL to a file; return its SHA-256."""
    checksum = hashlib.sha256()
    with _open(url) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        name = _file_name(url).name
        with bar(
            progress=progress, total=total, desc=name, unit="B", unit_scale=True
        ) as shown:
            for piece in _pieces(url, response):
                file.write(piece)
                checksum.update(piece)
                shown.update(len(piece))
        if total is not None and file.tell() != total:
            raise ValueError(
                f"{url} broke off after {file.tell()} of {total} bytes: try again"
            )
    return checksum.hexdigest()
