#!/usr/bin/env bash
# Tests and benchmarks of the kernels on a machine with a CUDA device; about five
# minutes. Tables are printed, JSON goes to benchmarks/results/*_device.json, or to the
# folder that is given.
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-benchmarks/results}
export OMP_WAIT_POLICY=passive
python - <<'PYTHON'
import torch

if not torch.cuda.is_available():
    raise SystemExit("torch finds no CUDA device: is it a CUDA build?")
import triton

print(torch.cuda.get_device_name(), "torch", torch.__version__, "triton", triton.__version__)
PYTHON
python -m pytest -q --durations=5 tests/kernels/test_cuda_kernels.py
python benchmarks/evaluate.py --device cuda --output "$results/evaluate_device.json"
python benchmarks/md.py --device cuda --output "$results/md_device.json"
