#!/usr/bin/env bash
# Create .venv and install a full lock into it, without resolving anything:  envs/install.sh run|test
# Idempotent: a call with unchanged locks takes no time. VENV and PYTHON override the places.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:?usage: envs/install.sh run|test}
venv=${VENV:-.venv} python=${PYTHON:-python3}
case $kind in
  run) lock=envs/cpu.lock what="the run environment" ;;
  test) lock=envs/cpu-test.lock what="the test environment (the run environment, vLLM for CPU, pytest)" ;;
  *) echo "unknown environment '$kind': use run or test" >&2; exit 2 ;;
esac
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' ||
  { echo "Python 3.11 or 3.12 is needed, $python is $("$python" -V): set PYTHON=..." >&2; exit 1; }

# What an environment was made from. The test environment holds the run environment, so where it is up to date it serves both.
digest=$(cat envs/cpu.lock envs/cpu-test.lock pyproject.toml "$0" |
  "$python" -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
for done in "$venv/.installed-test" "$venv/.installed-$kind"; do
  if [ "$(cat "$done" 2>/dev/null)" = "$digest" ]; then exit 0; fi
done

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
# pip warns about each configured place that is not there, once a package; everything else that it says stays.
quietly() { "$venv/bin/python" -m pip install --disable-pip-version-check -q --no-deps "$@" 2> >(grep -v "^WARNING: Location .* is ignored" >&2 || true); }

echo "Installing $what from $lock into $venv: $(wc -l <"$lock") pinned packages, about $([ "$kind" = run ] && echo 1.5 || echo 2.5) GB, 2 to 5 minutes"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
rm -f "$venv/.installed-$kind"
torch=$(grep -E '^torch==' "$lock")
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo "  $torch, CPU build"
  case $(uname -s) in
    Darwin) quietly "$torch" ;;
    *) quietly "$torch+cpu" 2>"$errors" || quietly --index-url https://download.pytorch.org/whl/cpu "$torch+cpu" || { cat "$errors" >&2; exit 1; } ;;
  esac
fi
echo "  all other packages"
quietly -r "$lock"
quietly --no-build-isolation -e .
echo "$digest" >"$venv/.installed-$kind"
echo "Ready after $SECONDS s: $venv"
