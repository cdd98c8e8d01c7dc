"""What a command found, and its form as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._json import plain


@dataclass(frozen=True)
class Outcome:
    """What a command returns.

    Attributes
    ----------
    found : dict
        What ``--json`` writes: numbers, texts, arrays, paths, dataclasses. Units are in
        the names.
    exit_code : int
        0, or 3 where the result is not what was asked for.
    """

    found: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def as_json(command: str, exit_code: int, found: Mapping[str, Any]) -> str:
    """Return the object that ``--json`` writes."""
    whole = {"command": command, "exit_code": exit_code, **found}
    return json.dumps(plain(whole), indent=2, ensure_ascii=False, allow_nan=False)
