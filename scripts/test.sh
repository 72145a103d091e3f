#!/usr/bin/env bash
# All checks, cheapest first: lint, types, what needs no rack on all processors, then the rack, whose
# hosts want the machine to themselves.
#   scripts/test.sh [PYTEST ARGUMENT ...]       default: everything
#
# Real processes on a busy machine lose a race now and then. So up to FEW tests that failed are run
# once more, alone, and what fails twice has failed. A run of random faults gets no second chance:
# what it found is a bug, whether it comes again or not.
set -euo pipefail
cd "$(dirname "$0")/.."
FEW=4
NEVER_TWICE='chaos|soak|sim/|model/|mutants'

sources=(src tests packaging)
for room in bench lab; do [ -d "$room" ] && sources+=("$room"); done
echo "== ruff check" && .venv/bin/ruff check -q "${sources[@]}"
echo "== ruff format" && .venv/bin/ruff format -q --check "${sources[@]}"
echo "== mypy" && .venv/bin/mypy
echo "== pytest"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" 2>/dev/null || scripts/as-root.sh rm -rf "$scratch"' EXIT
if [ "$(id -u)" != 0 ]; then
  # root must not leave files here that a user cannot remove
  export HYPOTHESIS_STORAGE_DIRECTORY=$scratch/hypothesis
fi
pytest=(scripts/as-root.sh .venv/bin/python -m pytest --durations 12)
if [ $# -gt 0 ]; then
  "${pytest[@]}" -p no:cacheprovider "$@"
  exit
fi

# part NAME MARK [ARGUMENT ...]: the tests of one mark, and the few that failed once more
part() {
  local cache=$scratch/$1 mark=$2 status=0 failed
  shift 2
  "${pytest[@]}" -o cache_dir="$cache" -m "$mark" "$@" || status=$?
  [ $status = 1 ] || return $status
  failed=$(grep -c '": true' "$cache/v/cache/lastfailed")
  if [ "$failed" -gt $FEW ] || grep -qE "$NEVER_TWICE" "$cache/v/cache/lastfailed"; then
    return 1
  fi
  echo "== pytest, $failed that failed, once more and alone"
  "${pytest[@]}" -o cache_dir="$cache" -m "$mark" --last-failed
}
part quick "not rack" -n auto --dist loadfile
echo "== pytest, the rack"
part rack rack
