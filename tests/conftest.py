"""Settings of the tests: set before torch is imported, and passed on to children.

The tests are so small that threads wait for each other longer than they compute;
where other programs run too, several times longer. Triton's kernels are interpreted
where there is no CUDA device, which Triton must know before it is imported.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
