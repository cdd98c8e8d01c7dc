#!/bin/sh
# Set up the environment in which deepspin_ase.lammps runs LAMMPS.
#
#     sh scripts/lammps_environment.sh FOLDER
#     export DEEPSPIN_LAMMPS_PYTHON=FOLDER/bin/python
#
# LAMMPS, DeePMD-kit with its plugin, PyTorch, MPICH and mpi4py as wheels of PyPI:
# 6 GB, nothing compiled, no root. They are apart from this package since DeePMD-kit
# fits one release of PyTorch and one of LAMMPS. PYTHON names another Python than
# python3 (3.10 to 3.13).
set -eu

if [ $# -ne 1 ]; then
    echo "usage: sh $0 FOLDER" >&2
    exit 2
fi

"${PYTHON:-python3}" -m venv "$1"
# The plugin of DeePMD-kit wants the runtime of CUDA 12, also without a GPU.
"$1/bin/pip" install \
    "deepmd-kit[torch,lmp]==3.2.0" \
    "nvidia-cuda-runtime-cu12" \
    "mpi4py>=4.1"

"$1/bin/python" - <<'END'
from importlib import metadata

for package in ("deepmd-kit", "lammps", "torch", "mpich", "mpi4py"):
    print(f"{package:<12}{metadata.version(package)}")
END
echo "export DEEPSPIN_LAMMPS_PYTHON=$(cd "$1" && pwd)/bin/python"
