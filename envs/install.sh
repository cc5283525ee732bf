#!/usr/bin/env bash
# Create .venv and install a full lock into it, without resolving anything:  envs/install.sh run|test
# Idempotent: a second call with an unchanged lock takes no time. VENV and PYTHON override the places.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:?usage: envs/install.sh run|test}
venv=${VENV:-.venv} python=${PYTHON:-python3}
case $kind in run) lock=envs/cpu.lock ;; test) lock=envs/cpu-test.lock ;; *) echo "unknown environment '$kind': use run or test" >&2; exit 2 ;; esac
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $python is $("$python" -V): set PYTHON=..." >&2; exit 1; }
digest=$(cat "$lock" pyproject.toml "$0" | "$python" -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
# The test environment holds the run environment, so it serves both.
for done in "$venv/.installed-$kind" "$venv/.installed-test"; do
  if [ "$kind" = run ] && [ "$done" = "$venv/.installed-test" ] && [ -f "$done" ]; then exit 0; fi
  if [ -f "$done" ] && [ "$(cat "$done")" = "$digest" ]; then exit 0; fi
done
[ -x "$venv/bin/python" ] || { echo "Creating $venv"; "$python" -m venv "$venv"; }
pip=("$venv/bin/python" -m pip install --disable-pip-version-check -q --no-deps)
torch=$(grep -E '^torch==' "$lock")
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo "Installing $torch (CPU build)"
  case $(uname -s) in
    Darwin) "${pip[@]}" "$torch" ;;
    *) "${pip[@]}" "$torch+cpu" 2>/dev/null || "${pip[@]}" --index-url https://download.pytorch.org/whl/cpu "$torch+cpu" ;;
  esac
fi
echo "Installing $(wc -l < "$lock") pinned packages from $lock (about 3 minutes)"
"${pip[@]}" -r "$lock"
"${pip[@]}" --no-build-isolation -e .
echo "$digest" > "$venv/.installed-$kind"
echo "Ready: $venv"
