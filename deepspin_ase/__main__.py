"""``python -m deepspin_ase``: the same as the command ``deepspin``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
