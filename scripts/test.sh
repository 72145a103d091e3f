#!/usr/bin/env bash
# All checks, cheapest first: lint, types, then one pytest run whose summary is the last line.
#   scripts/test.sh [PYTEST ARGUMENT ...]       default: everything
set -euo pipefail
cd "$(dirname "$0")/.."

sources=(src tests packaging)
[ -d bench ] && sources+=(bench)
echo "== ruff check" && .venv/bin/ruff check -q "${sources[@]}"
echo "== ruff format" && .venv/bin/ruff format -q --check "${sources[@]}"
echo "== mypy" && .venv/bin/mypy
echo "== pytest"
arguments=()
if [ "$(id -u)" != 0 ]; then
  # root must not leave files here that a user cannot remove
  arguments=(-p no:cacheprovider)
  HYPOTHESIS_STORAGE_DIRECTORY=$(mktemp -d)
  export HYPOTHESIS_STORAGE_DIRECTORY
fi
exec scripts/as-root.sh .venv/bin/python -m pytest "${arguments[@]}" "$@"
