#!/usr/bin/env bash
# All checks, cheapest first: lint, types, what needs no rack on all processors, then the rack, whose
# hosts want the machine to themselves.
#   scripts/test.sh [PYTEST ARGUMENT ...]       default: everything
set -euo pipefail
cd "$(dirname "$0")/.."

sources=(src tests packaging)
for room in bench lab; do [ -d "$room" ] && sources+=("$room"); done
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
pytest=(scripts/as-root.sh .venv/bin/python -m pytest "${arguments[@]}")
[ $# -gt 0 ] && exec "${pytest[@]}" "$@"
"${pytest[@]}" -m "not rack" -n auto --dist loadfile
echo "== pytest, the rack"
exec "${pytest[@]}" -m rack
